//! The state of the world, and all that can happen next.

use std::sync::Arc;

use events::body::Canceled;
use events::catalog::Kind;
use events::hold::{Hold, Move, Signal, signal};
use events::outcome::{self, Outcome};
use events::{Flow, OrderContext, Step};
use order_svc::domain::{Answer, Flag, Input, Order, Rules, Say, State};

use crate::rules::{Off, Rule};
use crate::shop::{Hand, Held, STEPS, Shop, index};

/// Who hears: a step by its place in [`STEPS`], or order.
pub type Who = u8;
/// Order, as one who hears.
pub const ORDER: Who = 4;

/// What is said. An event is said once, so what it says is its identity; that nothing is
/// said twice is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Word {
    Created,
    Confirmed,
    Canceled { attempt: u32 },
    Compensated,
    CompensationFailed { overdue: u32 },
    Taken(Step),
    Refused(Step, u32),
    Undone(Step, u32, bool),
}

/// An event, and who has heard it. It stays in the stream: it can be heard again at any
/// time, any number of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// What it says.
    pub word: Word,
    /// Who is to hear it, one bit each.
    pub hearers: u8,
    /// Who has.
    pub heard: u8,
    /// Who never will: for them it is lost for good.
    pub lost: u8,
}

/// Everything about one order: order's row, and the row of each step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// As order has it.
    pub order: Order,
    /// As order had it before its last change.
    pub before: Option<Box<Order>>,
    /// As the steps have it.
    pub rows: [Option<Outcome<Held>>; 4],
    /// How often each step has taken, given back and settled.
    pub moves: [[u8; 3]; 4],
    /// What was said, sorted.
    pub said: Vec<Message>,
    /// Successes that a counting join has counted.
    pub successes: usize,
    /// Whether its user may still cancel.
    pub may_cancel: bool,
    /// How often an operator may still have compensation asked for again.
    pub retries: u8,
    deadlines: u8,
}

/// What can happen, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Deliveries that may be lost for good. Never of `order.confirmed`: nothing asks for
    /// that again, so settling relies on the stream.
    pub losses: u8,
    /// Users may cancel, once each.
    pub cancel: bool,
    /// Deadlines of orders may pass.
    pub deadline: bool,
    /// How often the deadline of a compensation passes before it is given up.
    pub deadlines: u8,
    /// How often an operator has compensation asked for again.
    pub retries: u8,
}

/// The state of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// The orders.
    pub sides: Vec<Arc<Side>>,
    /// What the steps take from.
    pub shop: Arc<Shop>,
    /// How it was filled.
    pub filled: Arc<Shop>,
    /// Deliveries that may still be lost.
    pub losses: u8,
    /// What should be impossible, and happened.
    pub broken: Option<String>,
    pub(crate) off: Off,
    pub(crate) same_steps: bool,
    pub(crate) same_orders: bool,
    deadline: bool,
}

/// What happens next. The first number is the order's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Somebody hears an event, for the first time or again.
    Hear(u8, Word, Who),
    /// An event is lost for somebody.
    Lose(u8, Word, Who),
    /// The user cancels.
    Cancel(u8),
    /// The order's timer rings.
    Ring(u8),
    /// The order's timer rings in an instance that read the order before its last change.
    RingStale(u8),
    /// An operator has compensation asked for again.
    Retry(u8),
}

impl Word {
    /// What it means.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Created => Kind::Created,
            Self::Confirmed => Kind::Confirmed,
            Self::Canceled { .. } => Kind::Canceled,
            Self::Compensated => Kind::Compensated,
            Self::CompensationFailed { .. } => Kind::CompensationFailed,
            Self::Taken(step) => Kind::Taken(step),
            Self::Refused(step, _) => Kind::Refused(step),
            Self::Undone(step, ..) => Kind::Undone(step),
        }
    }

    fn signal(self, me: Step, context: &OrderContext) -> Option<Signal> {
        let attempt = match self {
            Self::Canceled { attempt } => attempt,
            _ => 1,
        };
        signal(me, context.route(), self.kind(), attempt)
    }

    fn hearers(self, context: &OrderContext) -> u8 {
        let order = match self {
            Self::Taken(_) | Self::Refused(..) | Self::Undone(..) => 1 << ORDER,
            _ => 0,
        };
        STEPS
            .iter()
            .enumerate()
            .fold(order, |hearers, (who, step)| {
                hearers | u8::from(self.signal(*step, context).is_some()) << who
            })
    }
}

impl Side {
    /// The rules of the order: every deadline is at once, and the window of a cancel after
    /// the confirmation stays open. When something happens is up to the model.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            cancel_window: i64::MAX,
            compensation_deadlines: vec![1; usize::from(self.deadlines)],
        }
    }

    /// The event that says this, if it was said.
    #[must_use]
    pub fn message(&self, word: Word) -> Option<&Message> {
        self.said.iter().find(|message| message.word == word)
    }

    fn say(&mut self, off: Off, word: Word) -> Result<(), String> {
        let Err(place) = self.said.binary_search_by_key(&word, |m| m.word) else {
            // With a rule off, an event that is handled again says the same under the same
            // id, and the broker drops it: no harm in itself.
            return match off == Off::default() {
                true => Err(format!("{word:?} is said twice")),
                false => Ok(()),
            };
        };
        let message = Message {
            word,
            hearers: word.hearers(&self.order.context),
            heard: 0,
            lost: 0,
        };
        self.said.insert(place, message);
        Ok(())
    }

    fn mark(&mut self, word: Word, who: Who, mark: impl Fn(&mut Message) -> &mut u8) {
        for message in self.said.iter_mut().filter(|m| m.word == word) {
            *mark(message) |= 1 << who;
        }
    }

    pub(crate) fn decided(&self, off: Off, step: usize, signal: Signal) -> Move {
        let row = self.rows[step].as_ref();
        let answered = row.map_or(0, |row| row.answered);
        off.decide(row.map(|row| row.state), answered, signal)
    }

    /// Whether nobody has anything to hear any more.
    fn is_heard(&self, off: Off) -> bool {
        self.said.iter().all(|m| {
            let missing = m.hearers & !m.heard & !m.lost;
            (0..=ORDER)
                .filter(|who| missing & (1 << who) != 0)
                .all(|who| self.is_dead(off, m.word, who))
        })
    }

    /// Whether hearing an event would change nothing, now and ever.
    pub(crate) fn is_dead(&self, off: Off, word: Word, who: Who) -> bool {
        if who == ORDER {
            let undone = |step| {
                let flag = self.order.flags.get(&step);
                matches!(flag, Some(Flag::Compensated | Flag::Void | Flag::Refused))
            };
            return match word {
                Word::Undone(step, ..) => undone(step),
                Word::Refused(step, _) => self.order.flags.get(&step) == Some(&Flag::Refused),
                _ => false,
            };
        }
        let Some(signal) = word.signal(STEPS[usize::from(who)], &self.order.context) else {
            return true;
        };
        let last = match self.rows[usize::from(who)].as_ref() {
            Some(row) if signal == Signal::Take && !off.has(Rule::Outcome) => Some(row),
            row => row.filter(|r| !matches!(r.state, Hold::Held | Hold::Settled)),
        };
        last.is_some() && self.decided(off, usize::from(who), signal) == Move::Silent
    }
}

impl World {
    /// Orders that were just placed in a shop.
    #[must_use]
    pub fn new(shop: Shop, orders: Vec<OrderContext>, bounds: Bounds, off: Off) -> Self {
        let side = |context| {
            let mut side = Side {
                order: Order::new(context),
                before: None,
                rows: [const { None }; 4],
                moves: [[0; 3]; 4],
                said: vec![],
                successes: 0,
                may_cancel: bounds.cancel,
                retries: bounds.retries,
                deadlines: bounds.deadlines,
            };
            let said = side.say(off, Word::Created);
            debug_assert!(said.is_ok(), "nothing was said before");
            Arc::new(side)
        };
        let shop = Arc::new(shop);
        // Steps can be exchanged in the parallel flow, where none is before another.
        let same_steps = orders.len() == 1 && orders[0].flow == Flow::Parallel;
        let same = |one: &OrderContext, other: &OrderContext| {
            (one.route(), &one.lines, one.total) == (other.route(), &other.lines, other.total)
        };
        let same_orders = orders.iter().all(|order| same(order, &orders[0]));
        Self {
            same_steps,
            same_orders,
            sides: orders.into_iter().map(side).collect(),
            filled: Arc::clone(&shop),
            shop,
            losses: bounds.losses,
            broken: None,
            off,
            deadline: bounds.deadline,
        }
    }

    /// Everything that can happen next. Hearing an event again is among it where that
    /// might change something.
    pub fn actions(&self, actions: &mut Vec<Action>) {
        for (number, side) in (0_u8..).zip(&self.sides) {
            for message in &side.said {
                self.deliveries(number, side, message, actions);
            }
            let order = &side.order;
            let undecided = matches!(order.state, State::Pending | State::Confirmed);
            if side.may_cancel && undecided {
                actions.push(Action::Cancel(number));
            }
            if self.off.rings(order) && (self.deadline || order.state != State::Pending) {
                actions.push(Action::Ring(number));
            }
            if side.before.as_ref().is_some_and(|before| before.due_at > 0) && self.deadline {
                actions.push(Action::RingStale(number));
            }
            // An operator waits until it is clear that nothing comes by itself.
            let failed = order.state == State::CompensationFailed;
            if side.retries > 0 && failed && side.is_heard(self.off) {
                actions.push(Action::Retry(number));
            }
        }
    }

    fn deliveries(&self, number: u8, side: &Side, message: &Message, actions: &mut Vec<Action>) {
        for who in (0..=ORDER).filter(|who| message.hearers & !message.lost & (1 << who) != 0) {
            let word = message.word;
            let again = message.heard & (1 << who) != 0;
            let useless = match again && who == ORDER {
                true => !self.off.has(Rule::Inbox),
                false => side.is_dead(self.off, word, who),
            };
            if useless {
                continue;
            }
            actions.push(Action::Hear(number, word, who));
            if !again && self.losses > 0 && word != Word::Confirmed {
                actions.push(Action::Lose(number, word, who));
            }
        }
    }

    /// The state after an action; nothing when it changes nothing.
    #[must_use]
    pub fn after(&self, action: Action) -> Option<Self> {
        let (Action::Hear(number, ..)
        | Action::Lose(number, ..)
        | Action::Cancel(number)
        | Action::Ring(number)
        | Action::RingStale(number)
        | Action::Retry(number)) = action;
        let number = usize::from(number);
        if let Action::Hear(_, word, who) = action
            && who != ORDER
            && self.sides[number].message(word)?.heard & (1 << who) != 0
        {
            let side = &self.sides[number];
            let signal = word.signal(STEPS[usize::from(who)], &side.order.context)?;
            if side.decided(self.off, usize::from(who), signal) == Move::Silent {
                return None;
            }
        }
        let mut next = self.clone();
        let happened = next.happens(number, action);
        next.broken = happened.err();
        Some(next)
    }

    fn happens(&mut self, number: usize, action: Action) -> Result<(), String> {
        let off = self.off;
        let side = Arc::make_mut(&mut self.sides[number]);
        let now = side.order.due_at.max(1);
        match action {
            Action::Hear(_, word, ORDER) => {
                side.mark(word, ORDER, |message| &mut message.heard);
                let Some(input) = input(side, word) else {
                    return Ok(());
                };
                order_hears(off, side, input, 1)
            }
            Action::Hear(_, word, who) => {
                side.mark(word, who, |message| &mut message.heard);
                step_hears(off, side, Arc::make_mut(&mut self.shop), word, who)
            }
            Action::Lose(_, word, who) => {
                side.mark(word, who, |message| &mut message.lost);
                self.losses -= 1;
                Ok(())
            }
            Action::Cancel(_) => {
                side.may_cancel = false;
                order_hears(off, side, Input::UserCancel, 1)
            }
            Action::Ring(_) => order_hears(off, side, Input::Due, now),
            Action::RingStale(_) => {
                if let Some(before) = side.before.take() {
                    side.order = *before;
                }
                order_hears(off, side, Input::Due, i64::MAX / 2)
            }
            Action::Retry(_) => {
                side.retries -= 1;
                order_hears(off, side, Input::Retry, 1)
            }
        }
    }

    /// Whether nobody has anything to hear any more, and no timer or operator is left.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.sides.iter().all(|side| {
            let failed = side.order.state == State::CompensationFailed && side.retries > 0;
            side.is_heard(self.off) && !failed && !side.order.is_open()
        })
    }
}

/// What an event means to order, as `subscriptions.rs` of order has it.
fn input(side: &Side, word: Word) -> Option<Input> {
    let (step, answer) = match word {
        Word::Taken(step) => (step, Answer::Taken),
        Word::Refused(step, _) => {
            let row = side.rows[index(step)].as_ref();
            (step, Answer::Refused(row?.refusal.clone()?))
        }
        Word::Undone(step, _, nothing_to_undo) => (step, Answer::Undone { nothing_to_undo }),
        _ => return None,
    };
    Some(Input::Answer(step, answer))
}

fn order_hears(off: Off, side: &mut Side, input: Input, now: i64) -> Result<(), String> {
    let before = side.order.clone();
    for say in off.hear(side, input, now)? {
        side.say(
            off,
            match say {
                Say::Confirmed => Word::Confirmed,
                Say::Canceled(Canceled { attempt, .. }) => Word::Canceled { attempt },
                Say::Compensated => Word::Compensated,
                Say::CompensationFailed(_) => Word::CompensationFailed {
                    overdue: u32::from(side.retries),
                },
            },
        )?;
    }
    if off.has(Rule::Conditional) && before.version != side.order.version {
        side.before = Some(Box::new(before));
    }
    Ok(())
}

/// What a participant does with an event, as `participant.rs` of the runtime has it.
fn step_hears(
    off: Off,
    side: &mut Side,
    shop: &mut Shop,
    word: Word,
    who: Who,
) -> Result<(), String> {
    let place = usize::from(who);
    let step = STEPS[place];
    let Some(signal) = word.signal(step, &side.order.context) else {
        return Ok(());
    };
    let what = side.decided(off, place, signal);
    if what == Move::Void && off.has(Rule::Tombstone) {
        return side.say(off, Word::Undone(step, signal.attempt(), true));
    }
    let mut hand = Hand {
        shop,
        step,
        context: &side.order.context,
        off,
    };
    let row = &mut side.rows[place];
    let answer = outcome::make(row, what, signal, 1, &mut hand)
        .map_err(|impossible| format!("{step}: {impossible}"))?;
    let held = row.as_ref().is_some_and(|row| row.state == Hold::Held);
    match what {
        Move::Take if held => side.moves[place][0] += 1,
        Move::Release => side.moves[place][1] += 1,
        Move::Settle => side.moves[place][2] += 1,
        _ => {}
    }
    match answer {
        Some(outcome::Answer::Taken) => side.say(off, Word::Taken(step)),
        Some(outcome::Answer::Refused(_)) => side.say(off, Word::Refused(step, signal.attempt())),
        Some(outcome::Answer::Undone(undone)) => side.say(
            off,
            Word::Undone(step, undone.attempt, undone.nothing_to_undo),
        ),
        None => Ok(()),
    }
}
