//! What an event does to the service that hears it, and what may be said because of it:
//! the declaration that the map is drawn from and that handlers are held to.

use std::collections::BTreeMap;

use events::catalog::{Entry, Kind};
use events::hold::{self, Hold, Move, Signal};
use events::step::{self, Route, Turn};
use events::{Flow, Step, StepSet};

/// What an event does to one of its hearers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    /// What for.
    pub purpose: Purpose,
    /// What may be said because of it.
    pub says: Vec<Saying>,
}

/// What a service hears an event for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// To take its step.
    Take,
    /// To settle what it holds.
    Settle,
    /// To give back what it holds.
    Undo,
    /// To join the answers of the steps.
    Join,
    /// To keep what it says in a table of its own.
    Keep,
}

impl Purpose {
    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::Settle => "settle",
            Self::Undo => "undo",
            Self::Join => "join",
            Self::Keep => "keep",
        }
    }
}

/// An event that may be said because of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saying {
    /// The event.
    pub entry: &'static Entry,
    /// Whether it may be said more than once about one order. What a row of the service
    /// allows only once ends every circle that it is part of.
    pub again: bool,
}

impl Saying {
    /// Said once about an order, whatever is heard and how often.
    #[must_use]
    pub fn once(entry: &'static Entry) -> Self {
        let again = false;
        Self { entry, again }
    }

    /// Said each time that there is a reason.
    #[must_use]
    pub fn again(entry: &'static Entry) -> Self {
        let again = true;
        Self { entry, again }
    }
}

/// What an event does to a participant, for the flows that a deployment allows; nothing
/// when it is never its turn. It is read off the two functions that decide it when the
/// event comes: whose turn it is, and what that does to each state of the hold.
pub(crate) fn of_participant(me: Step, flows: &[Flow], heard: &Entry) -> Option<Reaction> {
    let route = |flow| every_order(me).map(move |needed| Route { flow, needed });
    let mut turns = flows.iter().flat_map(|flow| route(*flow));
    let turn = turns.find_map(|route| match step::turn(me, route, heard.kind) {
        Turn::NotMine => None,
        turn => Some(turn),
    })?;
    let (purpose, signals): (_, &[Signal]) = match turn {
        Turn::NotMine => return None,
        Turn::Take => (Purpose::Take, &[Signal::Take]),
        Turn::Settle => (Purpose::Settle, &[Signal::Settle]),
        Turn::Undo if heard.kind == Kind::Canceled => (
            Purpose::Undo,
            // The decision, and being asked again.
            &[
                Signal::Canceled { attempt: 1 },
                Signal::Canceled { attempt: 2 },
            ],
        ),
        Turn::Undo => (Purpose::Undo, &[Signal::PeerRefused]),
    };
    let mut said: BTreeMap<&str, Saying> = BTreeMap::new();
    for saying in signals.iter().flat_map(|signal| answers(me, *signal)) {
        let known = said.entry(saying.entry.subject).or_insert(saying);
        known.again |= saying.again;
    }
    Some(Reaction {
        purpose,
        says: said.into_values().collect(),
    })
}

/// The sets of needed steps that have this one.
fn every_order(me: Step) -> impl Iterator<Item = StepSet> {
    let others: Vec<Step> = Step::all().filter(|step| *step != me).collect();
    (0..1_usize << others.len()).map(move |chosen| {
        let chosen = |n: &usize| chosen & (1 << n) != 0;
        let others = (0..others.len()).filter(chosen).map(|n| others[n]);
        others.chain([me]).collect()
    })
}

/// What a participant may answer to a signal, whatever it holds.
fn answers(me: Step, signal: Signal) -> Vec<Saying> {
    let holds = [None].into_iter().chain(Hold::ALL.map(Some));
    holds
        // A row has answered once, when it came to be.
        .map(|hold| (hold, hold::decide(hold, u32::from(hold.is_some()), signal)))
        .flat_map(|(hold, decided)| {
            match decided {
                Move::Take => vec![Some(Hold::Held), Some(Hold::Refused)],
                Move::Release => vec![Some(Hold::Released)],
                Move::Void => vec![Some(Hold::Void)],
                Move::AnswerAgain => vec![hold],
                Move::Silent | Move::Settle | Move::Contradiction(_) => vec![],
            }
            .into_iter()
            .flatten()
            .filter_map(move |hold| {
                let again = decided == Move::AnswerAgain;
                answer(me, hold).map(|entry| Saying { entry, again })
            })
            .collect::<Vec<_>>()
        })
        .collect()
}

/// The answer that a hold stands for. One that is settled was answered for before.
pub(crate) fn answer(me: Step, hold: Hold) -> Option<&'static Entry> {
    let step = me.entry();
    match hold {
        Hold::Held => Some(&step.taken),
        Hold::Refused => Some(&step.refused),
        Hold::Void | Hold::Released => Some(&step.undone),
        Hold::Settled => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::catalog;

    fn reaction(me: Step, flow: Flow, subject: &str) -> Option<(Purpose, Vec<(&str, bool)>)> {
        let entry = catalog::by_subject(subject).expect("a subject");
        let reaction = of_participant(me, &[flow], entry)?;
        let says = reaction.says.iter();
        let says = says.map(|saying| (saying.entry.subject, saying.again));
        Some((reaction.purpose, says.collect()))
    }

    #[test]
    fn a_participant_says_what_its_hold_allows() {
        let point = |subject| reaction(Step::POINT, Flow::Parallel, subject);
        let take = vec![("point.use.failed", false), ("point.used", false)];
        assert_eq!(
            point("order.created.pending"),
            Some((Purpose::Take, take.clone()))
        );
        let settle = Some((Purpose::Settle, vec![]));
        assert_eq!(point("order.confirmed"), settle);
        let undo = Some((Purpose::Undo, vec![("point.refunded", false)]));
        assert_eq!(point("product.reserve.failed"), undo);
        // Asked again, it says again what its row says, also that it refused.
        let asked = vec![("point.refunded", true), ("point.use.failed", true)];
        assert_eq!(point("order.canceled"), Some((Purpose::Undo, asked)));
        assert_eq!(point("product.reserved"), None);
        let sequential = reaction(Step::POINT, Flow::Sequential, "product.reserved");
        assert_eq!(sequential, Some((Purpose::Take, take)));
    }

    #[test]
    fn what_is_not_its_turn_does_nothing_to_it() {
        for subject in [
            "point.use.failed",
            "order.compensation.failed",
            "cart.changed",
        ] {
            let heard = reaction(Step::POINT, Flow::Parallel, subject);
            assert_eq!(heard, None, "{subject}");
        }
    }
}
