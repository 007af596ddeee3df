//! The steps of an order, the two flows, and whose turn it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Malformed;
use crate::catalog::{Kind, STEPS, StepEntry};

/// A step that an order may need: an index into the list of steps.
///
/// There is deliberately no enum to match on: whoever handles steps iterates over
/// [`STEPS`], so a new step is one more entry there and nothing else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step(pub(crate) u8);

impl Step {
    /// Units of the ordered products.
    pub const STOCK: Self = Self(0);
    /// The user's points, which pay the total.
    pub const POINT: Self = Self(1);
    /// The coupon that the order is priced with.
    pub const COUPON: Self = Self(2);
    /// The cart that the order comes from.
    pub const CART: Self = Self(3);
    /// The entry that proves that a fifth step is one more entry.
    #[cfg(feature = "gift-wrap")]
    pub const GIFT_WRAP: Self = Self(4);

    /// All steps, in the order in which the sequential flow takes them.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..STEPS.len()).map(|i| Self(u8::try_from(i).unwrap_or(u8::MAX)))
    }

    /// Its row in the list of steps.
    #[must_use]
    pub fn entry(self) -> &'static StepEntry {
        &STEPS[usize::from(self.0)]
    }

    /// Its name: the name of the service that takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The step of this name.
    ///
    /// # Errors
    /// When this build knows no such step.
    pub fn named(name: &str) -> Result<Self, Malformed> {
        Self::all()
            .find(|step| step.name() == name)
            .ok_or_else(|| Malformed::unknown("step", name))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Step {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).map_err(serde::de::Error::custom)
    }
}

/// The steps that an order needs; iterates in the order of the list of steps.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct StepSet(u32);

impl StepSet {
    /// Adds a step.
    #[must_use]
    pub fn with(self, step: Step) -> Self {
        Self(self.0 | 1 << step.0)
    }

    /// Whether the step is needed.
    #[must_use]
    pub fn contains(self, step: Step) -> bool {
        self.0 & (1 << step.0) != 0
    }

    /// The needed steps, in the order of the list of steps.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Step> {
        Step::all().filter(move |step| self.contains(*step))
    }

    /// The first needed step.
    #[must_use]
    pub fn first(self) -> Option<Step> {
        self.iter().next()
    }

    /// The needed step before this one.
    #[must_use]
    pub fn before(self, step: Step) -> Option<Step> {
        self.iter().rfind(|other| *other < step)
    }

    /// Whether no step is needed.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Step> for StepSet {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        steps.into_iter().fold(Self::default(), Self::with)
    }
}

impl fmt::Debug for StepSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// How the needed steps of an order start. Stamped on each order when it is placed,
/// so that a change of the default never hurts orders in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flow {
    /// Every needed step starts at once.
    Parallel,
    /// Each step starts on the success of the needed step before it.
    Sequential,
}

impl Flow {
    /// Both flows.
    pub const ALL: [Self; 2] = [Self::Parallel, Self::Sequential];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parallel => "parallel",
            Self::Sequential => "sequential",
        }
    }

    /// The flow of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<Self, Malformed> {
        Self::ALL
            .into_iter()
            .find(|flow| flow.name() == name)
            .ok_or_else(|| Malformed::unknown("flow", name))
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an event of an order asks of one participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing: it is acked without being decoded.
    NotMine,
    /// Take the step.
    Take,
    /// The order is confirmed: settle what is held.
    Settle,
    /// Give back what is held, because of a peer's refusal or the order's word.
    Undo,
}

/// Whose turn it is: the whole difference between the two flows.
///
/// Both flows share every line but those of [`Turn::Take`].
#[must_use]
pub fn turn(me: Step, route: Route, event: Kind) -> Turn {
    if !route.needed.contains(me) {
        return Turn::NotMine;
    }
    match event {
        Kind::Created => match route.flow {
            Flow::Parallel => Turn::Take,
            Flow::Sequential if route.needed.first() == Some(me) => Turn::Take,
            Flow::Sequential => Turn::NotMine,
        },
        Kind::Taken(step)
            if route.flow == Flow::Sequential && route.needed.before(me) == Some(step) =>
        {
            Turn::Take
        }
        Kind::Confirmed => Turn::Settle,
        Kind::Canceled => Turn::Undo,
        Kind::Refused(step) if step != me => Turn::Undo,
        _ => Turn::NotMine,
    }
}

/// The subjects whose events can be a participant's turn, for the flows that a
/// deployment allows. A deployment with one flow does not hear the other's triggers.
#[must_use]
pub fn triggers(me: Step, flows: &[Flow]) -> Vec<&'static str> {
    let mut subjects = vec![
        crate::catalog::ORDER_CREATED.subject,
        crate::catalog::ORDER_CONFIRMED.subject,
        crate::catalog::ORDER_CANCELED.subject,
        crate::catalog::EVERY_REFUSAL,
    ];
    if flows.contains(&Flow::Sequential) {
        let earlier = Step::all().filter(|step| *step < me);
        subjects.extend(earlier.map(|step| step.entry().taken.subject));
    }
    subjects
}

/// Flow and needed steps: what decides whose turn an event is. It travels as a
/// header too, so that most events need not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// How the steps start.
    pub flow: Flow,
    /// The steps that the order needs.
    pub needed: StepSet,
}

impl Route {
    /// As a header's value, like `parallel stock,point`.
    #[must_use]
    pub fn to_header(self) -> String {
        let steps: Vec<_> = self.needed.iter().map(Step::name).collect();
        format!("{} {}", self.flow, steps.join(","))
    }

    /// Reads a header's value.
    ///
    /// # Errors
    /// When it names a flow or step that this build does not know.
    pub fn from_header(value: &str) -> Result<Self, Malformed> {
        let (flow, steps) = value
            .split_once(' ')
            .ok_or_else(|| Malformed::field("turn header", "must be a flow and its steps"))?;
        Ok(Self {
            flow: Flow::named(flow)?,
            needed: steps
                .split(',')
                .map(Step::named)
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(flow: Flow, needed: &[Step]) -> Route {
        Route {
            flow,
            needed: needed.iter().copied().collect(),
        }
    }

    #[test]
    fn in_the_parallel_flow_everyone_starts_on_created() {
        let r = route(Flow::Parallel, &[Step::STOCK, Step::POINT, Step::CART]);
        assert_eq!(turn(Step::STOCK, r, Kind::Created), Turn::Take);
        assert_eq!(turn(Step::CART, r, Kind::Created), Turn::Take);
        assert_eq!(turn(Step::COUPON, r, Kind::Created), Turn::NotMine);
        assert_eq!(
            turn(Step::POINT, r, Kind::Taken(Step::STOCK)),
            Turn::NotMine
        );
    }

    #[test]
    fn in_the_sequential_flow_each_starts_on_the_needed_step_before_it() {
        let r = route(Flow::Sequential, &[Step::STOCK, Step::POINT, Step::CART]);
        assert_eq!(turn(Step::STOCK, r, Kind::Created), Turn::Take);
        assert_eq!(turn(Step::POINT, r, Kind::Created), Turn::NotMine);
        assert_eq!(turn(Step::POINT, r, Kind::Taken(Step::STOCK)), Turn::Take);
        assert_eq!(turn(Step::CART, r, Kind::Taken(Step::STOCK)), Turn::NotMine);
        assert_eq!(turn(Step::CART, r, Kind::Taken(Step::POINT)), Turn::Take);
    }

    #[test]
    fn everyone_needed_compensates_on_a_peers_refusal_but_not_on_its_own() {
        for flow in Flow::ALL {
            let r = route(flow, &[Step::STOCK, Step::POINT]);
            assert_eq!(turn(Step::STOCK, r, Kind::Refused(Step::POINT)), Turn::Undo);
            assert_eq!(
                turn(Step::POINT, r, Kind::Refused(Step::POINT)),
                Turn::NotMine
            );
            assert_eq!(
                turn(Step::CART, r, Kind::Refused(Step::POINT)),
                Turn::NotMine
            );
            assert_eq!(turn(Step::POINT, r, Kind::Canceled), Turn::Undo);
            assert_eq!(turn(Step::POINT, r, Kind::Confirmed), Turn::Settle);
        }
    }

    #[test]
    fn every_turn_reaches_its_participant_through_its_triggers() {
        let events = [Kind::Created, Kind::Confirmed, Kind::Canceled]
            .into_iter()
            .chain(Step::all().flat_map(|s| [Kind::Taken(s), Kind::Refused(s), Kind::Undone(s)]));
        let needed = Step::all().collect();
        for event in events {
            for (me, flow) in Step::all().flat_map(|s| Flow::ALL.map(|f| (s, f))) {
                let subject = crate::catalog::all()
                    .find(|entry| entry.kind == event)
                    .expect("every kind has a subject")
                    .subject;
                let heard = triggers(me, &[flow])
                    .iter()
                    .any(|filter| crate::catalog::matches(filter, subject));
                if turn(me, Route { flow, needed }, event) != Turn::NotMine {
                    assert!(heard, "{me} must hear {subject} in the {flow} flow");
                }
            }
        }
    }

    #[test]
    fn the_header_reads_back() {
        let r = route(Flow::Sequential, &[Step::STOCK, Step::COUPON]);
        assert_eq!(r.to_header(), "sequential stock,coupon");
        assert_eq!(Route::from_header(&r.to_header()), Ok(r));
        assert!(Route::from_header("zigzag stock").is_err());
        assert!(Route::from_header("parallel stock,laundry").is_err());
    }
}
