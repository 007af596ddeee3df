//! What a participant does with its turn: the whole protocol of a step, as one pure
//! function over the state of its hold.
//!
//! A hold is the one outcome that a participant keeps per order (R2). Its legal moves:
//!
//! ```text
//!            ┌─► HELD ──► SETTLED
//!   (none) ──┼─► REFUSED    │ cancel after confirmation
//!            └─► VOID       ▼
//!        HELD ──────────► RELEASED
//! ```

use serde::{Deserialize, Serialize};

use crate::catalog::Kind;
use crate::step::{Route, Step, Turn, turn};

/// The state of a participant's hold for one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Hold {
    /// Taken for this order: nobody else can have it.
    Held,
    /// The step was refused.
    Refused,
    /// A tombstone: compensation came before the action, which must do nothing (R5).
    Void,
    /// Given back.
    Released,
    /// The order was confirmed: it is gone for good.
    Settled,
}

impl Hold {
    /// All states.
    pub const ALL: [Self; 5] = [
        Self::Held,
        Self::Refused,
        Self::Void,
        Self::Released,
        Self::Settled,
    ];

    /// Its name in databases and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::Refused => "REFUSED",
            Self::Void => "VOID",
            Self::Released => "RELEASED",
            Self::Settled => "SETTLED",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hold| hold.name() == name)
    }
}

/// What an event asks of the hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Take the step.
    Take,
    /// The order is confirmed.
    Settle,
    /// A peer was refused.
    PeerRefused,
    /// The order is canceled; attempts above 1 ask for the answer again (R6).
    Canceled {
        /// 1 for the decision itself.
        attempt: u32,
    },
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// Nothing: it was done before, or came too late.
    Silent,
    /// Ask the domain: HELD and a success, or REFUSED and a refusal.
    Take,
    /// Give back what the row says is held: RELEASED, and say so.
    Release,
    /// Hold nothing and never will: VOID, and say that there was nothing to undo.
    Void,
    /// SETTLED, silently.
    Settle,
    /// Say again what the row says.
    AnswerAgain,
    /// Impossible unless somebody lost data or changed an answer: a person looks.
    Contradiction(&'static str),
}

/// What a signal does to a hold (`None`: there is no row yet).
///
/// `answered` is the highest attempt that the row has answered, so that a repeated
/// question is answered once each time that it is asked, however often it is delivered.
#[must_use]
pub fn decide(hold: Option<Hold>, answered: u32, signal: Signal) -> Move {
    use Hold::{Held, Refused, Released, Settled, Void};
    match (hold, signal) {
        (None, Signal::Take) => Move::Take,
        // Any outcome already there: a duplicate, or a late action on a tombstone.
        (Some(_), Signal::Take) => Move::Silent,

        (Some(Held), Signal::Settle) => Move::Settle,
        // Released: canceled after confirmation, and heard in the other order.
        (Some(Settled | Released), Signal::Settle) => Move::Silent,
        (None, Signal::Settle) => Move::Contradiction("confirmed, but nothing is held"),
        (Some(Refused | Void), Signal::Settle) => {
            Move::Contradiction("confirmed, although the step did not succeed")
        }

        (None, Signal::PeerRefused | Signal::Canceled { .. }) => Move::Void,
        (Some(Held), Signal::PeerRefused | Signal::Canceled { .. }) => Move::Release,
        (Some(Settled), Signal::Canceled { .. }) => Move::Release,
        (Some(Settled), Signal::PeerRefused) => {
            Move::Contradiction("a peer refused an order that is confirmed")
        }
        (Some(Refused | Void | Released), Signal::Canceled { attempt })
            if attempt > 1 && attempt > answered =>
        {
            Move::AnswerAgain
        }
        (Some(Refused | Void | Released), Signal::PeerRefused | Signal::Canceled { .. }) => {
            Move::Silent
        }
    }
}

/// What an event asks of the hold of one participant; nothing when it is not its turn.
///
/// `attempt` is what `order.canceled` says; other events have none.
#[must_use]
pub fn signal(me: Step, route: Route, event: Kind, attempt: u32) -> Option<Signal> {
    match turn(me, route, event) {
        Turn::NotMine => None,
        Turn::Take => Some(Signal::Take),
        Turn::Settle => Some(Signal::Settle),
        Turn::Undo if event == Kind::Canceled => Some(Signal::Canceled { attempt }),
        Turn::Undo => Some(Signal::PeerRefused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANCELED: Signal = Signal::Canceled { attempt: 1 };
    const AGAIN: Signal = Signal::Canceled { attempt: 2 };

    #[test]
    fn a_cancel_before_the_action_leaves_a_tombstone_that_stops_the_action() {
        assert_eq!(decide(None, 0, CANCELED), Move::Void);
        assert_eq!(decide(Some(Hold::Void), 1, Signal::Take), Move::Silent);
    }

    #[test]
    fn whichever_failure_is_heard_first_compensates_and_the_second_changes_nothing() {
        for first in [Signal::PeerRefused, CANCELED] {
            assert_eq!(decide(Some(Hold::Held), 1, first), Move::Release);
            for second in [Signal::PeerRefused, CANCELED] {
                assert_eq!(decide(Some(Hold::Released), 1, second), Move::Silent);
            }
        }
    }

    #[test]
    fn asking_again_is_answered_from_the_row() {
        for hold in [Hold::Refused, Hold::Void, Hold::Released] {
            assert_eq!(decide(Some(hold), 1, CANCELED), Move::Silent, "{hold:?}");
            assert_eq!(decide(Some(hold), 1, AGAIN), Move::AnswerAgain, "{hold:?}");
            assert_eq!(decide(Some(hold), 2, AGAIN), Move::Silent, "{hold:?}");
        }
        assert_eq!(decide(Some(Hold::Held), 1, AGAIN), Move::Release);
    }

    #[test]
    fn a_settled_hold_is_given_back_only_for_a_canceled_order() {
        assert_eq!(decide(Some(Hold::Settled), 1, CANCELED), Move::Release);
        assert!(matches!(
            decide(Some(Hold::Settled), 1, Signal::PeerRefused),
            Move::Contradiction(_)
        ));
        assert_eq!(
            decide(Some(Hold::Released), 1, Signal::Settle),
            Move::Silent
        );
    }

    #[test]
    fn an_outcome_never_flips() {
        for hold in Hold::ALL {
            assert_eq!(
                decide(Some(hold), 1, Signal::Take),
                Move::Silent,
                "{hold:?}"
            );
        }
    }
}
