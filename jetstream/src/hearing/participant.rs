//! A participant: a service that takes one step of an order.
//!
//! The protocol is the same for all of them and stands here once: whose turn it is, the
//! hold and its states, tombstones, answers, answers again. A participant brings only
//! what is its own: what it loads, and how it holds, releases and settles it.

use std::collections::{BTreeSet, HashMap};

use events::body;
use events::catalog::{Entry, Kind};
use events::hold::{self, Hold, Move, Signal};
use events::outcome::{self, Outcome, Resource};
use events::step::{self, Route, Turn};
use events::{Envelope, Flow, OrderContext, Refusal, Step};
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::database::Tx;
use crate::database::bulk::{Column, Rows};
use crate::event::{Delivery, Emission};
use crate::failpoint::is_off;
use crate::fault::Fault;
use crate::hearing::reaction;
use crate::hearing::subscription::{Handler, Proof, Subscription};

/// What is a participant's own.
///
/// `hold`, `release` and `settle` are pure: they change what was loaded, in memory;
/// `save` writes the changes. All of a batch share one load and one save.
pub trait Participant: Send + Sync + 'static {
    /// The step that it takes.
    const STEP: Step;
    /// Whether settling changes what is loaded; where it does not, nothing is loaded for it.
    const SETTLING_CHANGES: bool = true;
    /// What is held for one order; kept with the hold, so that compensation gives back
    /// exactly that (R5).
    type Held: Serialize + DeserializeOwned + Send + Sync;
    /// What is loaded for a batch of orders.
    type Resources: Send;

    /// Loads, and locks in sorted key order (R10), what these orders touch.
    fn load(
        &self,
        tx: &Tx,
        orders: &[&OrderContext],
    ) -> impl Future<Output = Result<Self::Resources, Fault>> + Send;

    /// Takes the step: what is held from now on, or why not.
    ///
    /// # Errors
    /// A [`Refusal`]: a business no. Nothing may have changed then.
    fn hold(
        &self,
        resources: &mut Self::Resources,
        order: &OrderContext,
        now: i64,
    ) -> Result<Self::Held, Refusal>;

    /// Gives back what is held (`from` is HELD), or what was settled already (SETTLED).
    fn release(
        &self,
        resources: &mut Self::Resources,
        order: &OrderContext,
        held: &Self::Held,
        from: Hold,
    );

    /// What is held is gone for good.
    fn settle(&self, resources: &mut Self::Resources, order: &OrderContext, held: &Self::Held);

    /// Writes what has changed.
    fn save(
        &self,
        tx: &Tx,
        resources: Self::Resources,
    ) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// The subscription of a participant: its triggers for the allowed flows, proven by its
/// hold. It says its step's three answers.
pub fn subscription<P: Participant>(participant: P, flows: &[Flow]) -> Subscription {
    let triggers = step::triggers(P::STEP, flows);
    Subscription::new(triggers, Proof::NaturalRow(TABLE), Protocol(participant))
        .reacting(|heard| reaction::of_participant(P::STEP, flows, heard))
}

/// The table of holds, for a participant's migration. It is also its ledger: each
/// transition has its time, and what it moved is `held`.
pub const HOLDS: &str = "CREATE TABLE holds (
    order_id {id} PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('HELD', 'REFUSED', 'VOID', 'RELEASED', 'SETTLED')),
    user_id TEXT NOT NULL,
    held TEXT NOT NULL,
    refusal TEXT NOT NULL,
    answered BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    settled_at BIGINT NOT NULL DEFAULT 0,
    released_at BIGINT NOT NULL DEFAULT 0,
    CHECK ((state = 'SETTLED') <= (settled_at > 0)),
    CHECK ((state = 'RELEASED') = (released_at > 0)),
    CHECK ((state = 'REFUSED') = (refusal <> ''))
) {room}";

/// Where they are kept.
pub(crate) const TABLE: &str = "holds";

struct Protocol<P>(P);

/// Keeps a refusal as it was recorded, where what the participant had then is not known.
pub(crate) async fn refuse_as_recorded(tx: &Tx, refused: &Envelope) -> Result<(), Fault> {
    let context = body::context(refused.body.clone())?;
    let refusal = body::refusal(refused.body.clone())?;
    let sql = "INSERT INTO holds (order_id, state, user_id, held, refusal, answered, deadline,
                   created_at)
               VALUES ($1, 'REFUSED', $2, '', $3, 1, $4, $5) ON CONFLICT DO NOTHING";
    let values = vec![
        context.order_id.0.into(),
        context.user_id.as_str().into(),
        serde_json::to_string(&refusal)?.into(),
        context.deadline.into(),
        tx.now().into(),
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

/// A hold, as loaded and as changed.
struct Row<H> {
    // None: there is no row, and what was asked has not made one yet.
    outcome: Option<Outcome<H>>,
    // State and count of answers as they were loaded; none: it is not stored yet.
    loaded: Option<(String, i64)>,
    changed: bool,
}

/// An event, and what it asks of the hold.
struct Asked<'a> {
    signal: Signal,
    context: OrderContext,
    cause: &'a Delivery,
}

impl<P: Participant> Handler for Protocol<P> {
    fn handle<'a>(
        &'a self,
        tx: &'a Tx,
        slice: &'a [Delivery],
    ) -> BoxFuture<'a, Result<Vec<Emission>, Fault>> {
        Box::pin(self.take_turns(tx, slice))
    }

    fn is_turn(&self, entry: &Entry, route: Option<Route>) -> bool {
        // An event without the header is judged by its body, when it is handled.
        route.is_none_or(|route| step::turn(P::STEP, route, entry.kind) != Turn::NotMine)
    }
}

impl<P: Participant> Protocol<P> {
    async fn take_turns(&self, tx: &Tx, slice: &[Delivery]) -> Result<Vec<Emission>, Fault> {
        let mut asked = Vec::with_capacity(slice.len());
        for cause in slice {
            asked.extend(ask::<P>(cause)?);
        }
        #[cfg(feature = "slow-steps")]
        if asked.iter().any(|asked| asked.signal == Signal::Take) {
            super::slow_steps::pause().await;
        }
        let ids: BTreeSet<Uuid> = asked.iter().map(|a| a.context.order_id.0).collect();
        let mut holds: HashMap<Uuid, Row<P::Held>> = load_holds(tx, ids).await?;

        let moves = |a: &Asked| {
            let row = holds.get(&a.context.order_id.0);
            decide(row.and_then(|row| row.outcome.as_ref()), a.signal)
        };
        if asked.iter().all(|a| moves(a) == Move::Silent) {
            return Ok(vec![]);
        }
        let touched = asked.iter().filter(|a| match moves(a) {
            Move::Silent => false,
            Move::Settle => P::SETTLING_CHANGES,
            _ => true,
        });
        let orders: Vec<&OrderContext> = touched.map(|a| &a.context).collect();
        let mut resources = self.0.load(tx, &orders).await?;
        let mut emissions = Vec::new();
        for a in &asked {
            emissions.extend(self.take_turn(tx.now(), a, &mut holds, &mut resources)?);
        }
        save_holds(tx, &asked, &holds).await?;
        self.0.save(tx, resources).await?;
        Ok(emissions)
    }

    /// One event: the move, its effect on hold and resources, and the answer.
    fn take_turn(
        &self,
        now: i64,
        asked: &Asked<'_>,
        holds: &mut HashMap<Uuid, Row<P::Held>>,
        resources: &mut P::Resources,
    ) -> Result<Option<Emission>, Fault> {
        let Asked {
            signal, context, ..
        } = asked;
        let id = context.order_id.0;
        let row = holds.entry(id).or_insert(Row {
            outcome: None,
            loaded: None,
            changed: false,
        });
        let what = decide(row.outcome.as_ref(), *signal);
        row.changed |= what != Move::Silent;
        let mut own = Own {
            participant: &self.0,
            resources,
            context,
            now,
        };
        let answer = outcome::make(&mut row.outcome, what, *signal, now, &mut own);
        if what == Move::Void && is_off("R5") {
            // It says that there was nothing to undo, and leaves no tombstone.
            (row.outcome, row.changed) = (None, false);
        }
        let impossible = |what| Fault::Permanent(format!("{what} (order {id}, step {})", P::STEP));
        Ok(answer.map_err(impossible)?.map(|answer| {
            let (entry, body) = outcome::words(P::STEP, context, &answer);
            Emission::of_order(entry, context, body, asked.cause, signal.attempt())
        }))
    }
}

fn decide<H>(outcome: Option<&Outcome<H>>, signal: Signal) -> Move {
    let answered = outcome.map_or(0, |outcome| outcome.answered);
    let state = outcome.map(|outcome| outcome.state);
    // Only fault runs switch rules off: with R1 off the row proves nothing, with R2 off an
    // outcome flips, with R6 off nobody answers again.
    match (state, signal) {
        (Some(Hold::Held | Hold::Settled), Signal::Take) if is_off("R1") => return Move::Take,
        (Some(Hold::Refused | Hold::Released), Signal::Take) if is_off("R2") => return Move::Take,
        _ => {}
    }
    match hold::decide(state, answered, signal) {
        Move::AnswerAgain if is_off("R6") => Move::Silent,
        what => what,
    }
}

/// A participant with what it loaded, for one order.
struct Own<'a, P: Participant> {
    participant: &'a P,
    resources: &'a mut P::Resources,
    context: &'a OrderContext,
    now: i64,
}

impl<P: Participant> Resource<P::Held> for Own<'_, P> {
    fn hold(&mut self) -> Result<P::Held, Refusal> {
        self.participant
            .hold(self.resources, self.context, self.now)
    }

    fn release(&mut self, held: &P::Held, from: Hold) {
        self.participant
            .release(self.resources, self.context, held, from);
    }

    fn settle(&mut self, held: &P::Held) {
        self.participant.settle(self.resources, self.context, held);
    }
}

/// What an event asks of this participant; nothing when it is not its turn.
fn ask<P: Participant>(cause: &Delivery) -> Result<Option<Asked<'_>>, Fault> {
    let Envelope {
        entry, body: bytes, ..
    } = &cause.envelope;
    let context = body::context(bytes.clone())?;
    let attempt = match entry.kind {
        Kind::Canceled => body::read_canceled(bytes.clone())?.attempt,
        _ => 1,
    };
    let signal = hold::signal(P::STEP, context.route(), entry.kind, attempt);
    Ok(signal.map(|signal| Asked {
        signal,
        context,
        cause,
    }))
}

async fn load_holds<H: DeserializeOwned>(
    tx: &Tx,
    ids: BTreeSet<Uuid>,
) -> Result<HashMap<Uuid, Row<H>>, Fault> {
    let sql = "SELECT order_id, state, held, refusal, answered, settled_at, released_at FROM holds
               WHERE order_id IN (SELECT id FROM v) ORDER BY order_id";
    let mut holds = HashMap::new();
    for row in tx.load(Rows::ids(ids), sql, vec![]).await? {
        let state: String = row.try_get("", "state")?;
        let held: String = row.try_get("", "held")?;
        let refusal: String = row.try_get("", "refusal")?;
        let answered: i64 = row.try_get("", "answered")?;
        let outcome = Outcome {
            state: Hold::named(&state)
                .ok_or_else(|| Fault::Permanent(format!("a hold has the state {state}")))?,
            held: parse(&held)?,
            refusal: parse(&refusal)?,
            answered: u32::try_from(answered).unwrap_or(u32::MAX),
            settled_at: row.try_get("", "settled_at")?,
            released_at: row.try_get("", "released_at")?,
        };
        let read = Row {
            outcome: Some(outcome),
            loaded: Some((state, answered)),
            changed: false,
        };
        holds.insert(row.try_get("", "order_id")?, read);
    }
    Ok(holds)
}

async fn save_holds<H: Serialize>(
    tx: &Tx,
    asked: &[Asked<'_>],
    holds: &HashMap<Uuid, Row<H>>,
) -> Result<(), Fault> {
    let mut inserts = Rows::of(&[
        ("order_id", Column::Id),
        ("state", Column::Text),
        ("user_id", Column::Text),
        ("held", Column::Text),
        ("refusal", Column::Text),
        ("answered", Column::Int),
        ("deadline", Column::Int),
        ("settled_at", Column::Int),
        ("released_at", Column::Int),
    ]);
    let mut updates = Rows::of(&[
        ("order_id", Column::Id),
        ("state", Column::Text),
        ("answered", Column::Int),
        ("settled_at", Column::Int),
        ("released_at", Column::Int),
        ("was", Column::Text),
        ("had_answered", Column::Int),
    ]);
    let contexts: HashMap<Uuid, &OrderContext> = asked
        .iter()
        .map(|a| (a.context.order_id.0, &a.context))
        .collect();
    let mut changed: Vec<_> = holds.iter().filter(|(_, row)| row.changed).collect();
    changed.sort_unstable_by_key(|(id, _)| **id);
    for (id, row) in changed {
        let Some(outcome) = &row.outcome else {
            continue;
        };
        let state = outcome.state.name();
        let answered = i64::from(outcome.answered);
        if let Some((was, had_answered)) = &row.loaded {
            updates.push([
                (*id).into(),
                state.into(),
                answered.into(),
                outcome.settled_at.into(),
                outcome.released_at.into(),
                was.as_str().into(),
                (*had_answered).into(),
            ]);
        } else if let Some(context) = contexts.get(id) {
            inserts.push([
                (*id).into(),
                state.into(),
                context.user_id.as_str().into(),
                text(outcome.held.as_ref())?.into(),
                text(outcome.refusal.as_ref())?.into(),
                answered.into(),
                context.deadline.into(),
                outcome.settled_at.into(),
                outcome.released_at.into(),
            ]);
        }
    }
    let sql = "INSERT INTO holds (order_id, state, user_id, held, refusal, answered, deadline,
                   settled_at, released_at, created_at)
               SELECT order_id, state, user_id, held, refusal, answered, deadline,
                   settled_at, released_at, CAST($1 AS BIGINT) FROM v";
    tx.write(inserts, sql, vec![tx.now().into()]).await?;
    let sql = "UPDATE holds SET state = v.state, answered = v.answered,
                   settled_at = v.settled_at, released_at = v.released_at
               FROM v WHERE holds.order_id = v.order_id";
    // Each change of a hold changes one of the two.
    let unchanged = "holds.state = v.was AND holds.answered = v.had_answered";
    let sql = tx.as_loaded(sql, unchanged);
    tx.write(updates, &sql, vec![]).await
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<Option<T>, Fault> {
    match text.is_empty() {
        true => Ok(None),
        false => Ok(Some(serde_json::from_str(text)?)),
    }
}

fn text<T: Serialize>(value: Option<&T>) -> Result<String, Fault> {
    match value {
        Some(value) => Ok(serde_json::to_string(value)?),
        None => Ok(String::new()),
    }
}
