//! Which states are the same: those with the same future.
//!
//! Left out are times and versions (the model says itself what comes when). A delivery
//! that can have no effect any more counts as made. Where steps, or orders, can be
//! exchanged, they are sorted first: an exchanged state has the same future with other
//! names. The sorting need not be perfect: states that it leaves apart are both visited.

use std::hash::{DefaultHasher, Hash, Hasher};

use coupon_svc::domain::State as CouponState;
use order_svc::domain::Order;

use crate::shop::STEPS;
use crate::world::{ORDER, Side, Word, World};

impl World {
    /// The state as 128 bits.
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        let mut sides: Vec<u128> = self.sides.iter().map(|side| self.of_side(side)).collect();
        if self.same_orders {
            sides.sort_unstable();
        }
        wide(|hasher| {
            (&sides, self.losses, self.broken.is_some()).hash(hasher);
            // One order's rows say what has left the shop.
            if sides.len() > 1 {
                (self.shop.units(), self.shop.points(), self.shop.in_cart()).hash(hasher);
            }
        })
    }

    fn of_side(&self, side: &Side) -> u128 {
        let mut steps: Vec<(u64, usize)> = (0..STEPS.len())
            .map(|step| (self.of_step(side, step), step))
            .collect();
        if self.same_steps {
            steps.sort_unstable();
        }
        wide(|hasher| {
            of_order(&side.order, hasher);
            if let Some(before) = &side.before {
                of_order(before, hasher);
            }
            (side.successes, side.may_cancel, side.retries).hash(hasher);
            for (step, place) in &steps {
                step.hash(hasher);
                self.of_refusals(side, *place, &steps, hasher);
            }
            for message in &side.said {
                if matches!(message.word, Word::Confirmed | Word::Canceled { .. }) {
                    message.word.hash(hasher);
                }
            }
        })
    }

    /// Everything about one step but what it has heard of its peers.
    fn of_step(&self, side: &Side, place: usize) -> u64 {
        let mut hasher = DefaultHasher::new();
        let row = side.rows[place].as_ref();
        row.map(|row| (row.state, row.answered)).hash(&mut hasher);
        side.order.flags.get(&STEPS[place]).hash(&mut hasher);
        (side.moves[place], self.supply(side, place)).hash(&mut hasher);
        let mut refusals = 0_u8;
        for message in &side.said {
            let (word, who) = match message.word {
                Word::Taken(step) if self.same_steps && step != STEPS[place] => continue,
                Word::Taken(_) if !self.same_steps => {
                    let open = self.open(side, message.word, place as u8);
                    (message.word, message.hearers, open).hash(&mut hasher);
                    ((0, 0, false), ORDER)
                }
                Word::Taken(_) => ((1, 0, false), ORDER),
                Word::Refused(step, attempt) if step == STEPS[place] => {
                    ((2, attempt, false), ORDER)
                }
                Word::Undone(step, attempt, nothing) if step == STEPS[place] => {
                    ((3, attempt, nothing), ORDER)
                }
                Word::Refused(..) => {
                    let open = self.open(side, message.word, place as u8);
                    refusals += u8::from(open.0) + u8::from(open.1) * 16;
                    continue;
                }
                Word::Created => ((4, 0, false), place as u8),
                Word::Confirmed => ((5, 0, false), place as u8),
                Word::Canceled { attempt } => ((6, attempt, false), place as u8),
                _ => continue,
            };
            (word, self.open(side, message.word, who)).hash(&mut hasher);
        }
        refusals.hash(&mut hasher);
        hasher.finish()
    }

    /// Which peers' refusals a step has still to hear, by the peers' places.
    fn of_refusals(
        &self,
        side: &Side,
        place: usize,
        steps: &[(u64, usize)],
        hasher: &mut DefaultHasher,
    ) {
        for (number, (_, peer)) in steps.iter().enumerate() {
            for message in &side.said {
                if matches!(message.word, Word::Refused(step, _) if step == STEPS[*peer]) {
                    let open = self.open(side, message.word, place as u8);
                    (number, open).hash(hasher);
                }
            }
        }
    }

    /// Whether somebody has still to hear an event, and whether it is lost for them.
    fn open(&self, side: &Side, word: Word, who: u8) -> (bool, bool) {
        let Some(message) = side.message(word) else {
            return (false, false);
        };
        let bit = 1 << who;
        let missing = message.hearers & !message.heard & bit != 0;
        let alive = missing && !side.is_dead(self.off, word, who);
        (alive, alive && message.lost & bit != 0)
    }

    /// Whether a step will refuse one order, or what of the shop one of several has.
    fn supply(&self, side: &Side, place: usize) -> bool {
        let filled = &self.filled;
        let quantity = side.order.context.lines[0].quantity;
        match (self.sides.len(), place) {
            (1, 0) => filled.units()[0] < quantity,
            (1, 1) => filled.points()[0] < side.order.context.total.0,
            (1, 2) => filled.coupon().is_none(),
            (1, _) => filled.in_cart() < quantity,
            (_, 2) => matches!(
                self.shop.coupon(),
                Some(CouponState::Held(order) | CouponState::Used(order))
                    if order == side.order.context.order_id
            ),
            _ => false,
        }
    }
}

fn of_order(order: &Order, hasher: &mut DefaultHasher) {
    let reason = order.reason.map(events::body::Reason::code);
    (order.state, reason, order.attempt).hash(hasher);
    (order.overdue, order.due_at > 0).hash(hasher);
}

fn wide(hash: impl Fn(&mut DefaultHasher)) -> u128 {
    let mut hasher = DefaultHasher::new();
    hash(&mut hasher);
    let low = hasher.finish();
    0xa5_u8.hash(&mut hasher);
    u128::from(low) << 64 | u128::from(hasher.finish())
}
