//! Rules that can be switched off. A proof that was never seen to fail proves nothing:
//! with each of these off, something breaks, and the model finds it.
//!
//! The real code has no switch. A rule is switched off by what stands between the model
//! and the code: another answer instead of `decide`'s, an order that is changed before it
//! hears, an event that is not said.

use events::hold::{Hold, Move, Signal, decide};
use order_svc::domain::{Flag, Input, Order, Say, State};

use crate::world::Side;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// R1: order hears an event once. Off: whenever it is delivered.
    Inbox,
    /// R1: the row of a participant proves that it has taken. Off: it takes whenever the
    /// event is delivered.
    NaturalRow,
    /// R2: an outcome never flips. Off: a step that was refused or given back is tried
    /// again when the event is delivered again.
    Outcome,
    /// R2: what was given back is not given back again. Off: each cancel gives back.
    ReleaseOnce,
    /// R2: a cancel after the confirmation gives back what was sold. Off: it does nothing.
    GiveBackSold,
    /// R3: a decision is conditional on the version that was read. Off: a timer that has
    /// read the order before its last change overwrites it.
    Conditional,
    /// R4: the join is set inclusion. Off: it counts successes.
    SetInclusion,
    /// R5: a cancel with nothing to undo leaves a tombstone. Off: it says that there was
    /// nothing to undo, and leaves nothing.
    Tombstone,
    /// R6: order asks again when the compensation's deadline passes, and when an operator
    /// wants it. Off: it only waits.
    AskAgain,
    /// R6: order asks again when a success arrives after its compensation. Off: it does not.
    LateSuccess,
    /// R6: a participant answers again from its row. Off: it has answered.
    AnswerAgain,
    /// R9: a timer only attempts. Off: it cancels, whatever was decided.
    TimerAttempts,
    /// R10: what is taken was there. Off: stock takes without looking.
    Bound,
    /// A coupon is one order's. Off: whoever takes it has it.
    CouponOnce,
    /// A peer's refusal is heard. Off: only the order's cancel is. This one is for speed.
    PeerRefusal,
}

/// The rules that are off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Off(u16);

impl Off {
    /// All but these are on.
    #[must_use]
    pub fn rules(rules: &[Rule]) -> Self {
        Self(rules.iter().fold(0, |all, rule| all | 1 << *rule as u16))
    }

    /// Whether this rule is off.
    #[must_use]
    pub fn has(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u16) != 0
    }

    /// What an event does to a hold.
    pub(crate) fn decide(self, hold: Option<Hold>, answered: u32, signal: Signal) -> Move {
        let undo = matches!(signal, Signal::PeerRefused | Signal::Canceled { .. });
        match (hold, signal) {
            (_, Signal::PeerRefused) if self.has(Rule::PeerRefusal) => Move::Silent,
            (Some(Hold::Held), Signal::Take) if self.has(Rule::NaturalRow) => Move::Take,
            (Some(Hold::Refused | Hold::Released | Hold::Void), Signal::Take)
                if self.has(Rule::Outcome) =>
            {
                Move::Take
            }
            (Some(Hold::Released), _) if undo && self.has(Rule::ReleaseOnce) => Move::Release,
            (Some(Hold::Settled), Signal::Canceled { .. }) if self.has(Rule::GiveBackSold) => {
                Move::Silent
            }
            _ => match decide(hold, answered, signal) {
                Move::AnswerAgain if self.has(Rule::AnswerAgain) => Move::Silent,
                what => what,
            },
        }
    }

    /// What order says to an input.
    pub(crate) fn hear(self, side: &mut Side, input: Input, now: i64) -> Result<Vec<Say>, String> {
        let answer = matches!(input, Input::Answer(..));
        let asks = matches!(input, Input::Due | Input::Retry);
        let rules = side.rules();
        self.prepare(side, &input);
        let mut said = side
            .order
            .hear(input, now, &rules)
            .map_err(|contradiction| contradiction.to_string())?;
        let again = |say: &Say| matches!(say, Say::Canceled(canceled) if canceled.attempt > 1);
        if (answer && self.has(Rule::LateSuccess)) || (asks && self.has(Rule::AskAgain)) {
            said.retain(|say| !again(say));
        }
        Ok(said)
    }

    fn prepare(self, side: &mut Side, input: &Input) {
        match input {
            Input::Answer(step, order_svc::domain::Answer::Taken)
                if self.has(Rule::SetInclusion) && side.order.state == State::Pending =>
            {
                side.successes += 1;
                if side.successes >= side.order.flags.len() {
                    for (other, flag) in &mut side.order.flags {
                        *flag = match other == step {
                            true => Flag::Waiting,
                            false => Flag::Succeeded,
                        };
                    }
                }
            }
            Input::Due if self.has(Rule::TimerAttempts) && side.order.state == State::Confirmed => {
                side.order.state = State::Pending;
                side.order.due_at = 1;
            }
            _ => {}
        }
    }

    /// Whether a timer of this order can ring.
    pub(crate) fn rings(self, order: &Order) -> bool {
        order.due_at > 0 || (self.has(Rule::TimerAttempts) && order.state == State::Confirmed)
    }
}
