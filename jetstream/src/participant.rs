//! A participant: a service that takes one step of an order.
//!
//! The protocol is the same for all of them and stands here once: whose turn it is, the
//! hold and its states, tombstones, answers, answers again. A participant brings only
//! what is its own: what it loads, and how it holds, releases and settles it.

use std::collections::{BTreeSet, HashMap};

use events::body::{self, Undone};
use events::catalog::{Entry, Kind};
use events::hold::{self, Hold, Move, Signal};
use events::step::{self, Route, Turn};
use events::{Envelope, Flow, OrderContext, Refusal, Step};
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::bulk::{Column, Rows};
use crate::database::Tx;
use crate::event::{Delivery, Emission};
use crate::fault::Fault;
use crate::reaction;
use crate::subscription::{Handler, Proof, Subscription};

/// What is a participant's own.
///
/// `hold`, `release` and `settle` are pure: they change what was loaded, in memory;
/// `save` writes the changes. All of a batch share one load and one save.
pub trait Participant: Send + Sync + 'static {
    /// The step that it takes.
    const STEP: Step;
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
    Subscription::new(triggers, Proof::NaturalRow("holds"), Protocol(participant))
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
)";

struct Protocol<P>(P);

/// A hold, as loaded and as changed.
struct Row<H> {
    state: Hold,
    held: Option<H>,
    refusal: Option<Refusal>,
    answered: u32,
    settled_at: i64,
    released_at: i64,
    stored: bool,
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
        let ids: BTreeSet<Uuid> = asked.iter().map(|a| a.context.order_id.0).collect();
        let mut holds: HashMap<Uuid, Row<P::Held>> = load_holds(tx, ids).await?;

        let moved = |a: &&Asked| {
            let row = holds.get(&a.context.order_id.0);
            let answered = row.map_or(0, |row| row.answered);
            hold::decide(row.map(|row| row.state), answered, a.signal) != Move::Silent
        };
        let orders: Vec<&OrderContext> = asked.iter().filter(moved).map(|a| &a.context).collect();
        if orders.is_empty() {
            return Ok(vec![]);
        }
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
        let row = holds.get(&id);
        let answered = row.map_or(0, |row| row.answered);
        let attempt = match signal {
            Signal::Canceled { attempt } => *attempt,
            _ => 1,
        };
        match hold::decide(row.map(|row| row.state), answered, *signal) {
            Move::Silent => return Ok(None),
            Move::Contradiction(what) => {
                return Err(Fault::Permanent(format!(
                    "{what} (order {id}, step {})",
                    P::STEP
                )));
            }
            Move::Take => {
                let row = match self.0.hold(resources, context, now) {
                    Ok(held) => Row::new(Hold::Held, Some(held), None),
                    Err(refusal) => Row::new(Hold::Refused, None, Some(refusal)),
                };
                holds.insert(id, row);
            }
            Move::Void => {
                holds.insert(id, Row::new(Hold::Void, None, None));
            }
            Move::Release => {
                let row = held_row(holds, id)?;
                let held = row.held.as_ref().ok_or_else(|| nothing_held(id))?;
                self.0.release(resources, context, held, row.state);
                row.become_state(Hold::Released);
                row.released_at = now;
            }
            Move::Settle => {
                let row = held_row(holds, id)?;
                let held = row.held.as_ref().ok_or_else(|| nothing_held(id))?;
                self.0.settle(resources, context, held);
                row.become_state(Hold::Settled);
                row.settled_at = now;
                return Ok(None);
            }
            Move::AnswerAgain => {}
        }
        let row = held_row(holds, id)?;
        row.answered = row.answered.max(attempt);
        row.changed = true;
        Ok(answer::<P>(row, asked, attempt))
    }
}

impl<H> Row<H> {
    fn new(state: Hold, held: Option<H>, refusal: Option<Refusal>) -> Self {
        Self {
            state,
            held,
            refusal,
            answered: 0,
            settled_at: 0,
            released_at: 0,
            stored: false,
            changed: true,
        }
    }

    fn become_state(&mut self, state: Hold) {
        self.state = state;
        self.changed = true;
    }
}

fn held_row<H>(holds: &mut HashMap<Uuid, Row<H>>, id: Uuid) -> Result<&mut Row<H>, Fault> {
    holds.get_mut(&id).ok_or_else(|| nothing_held(id))
}

fn nothing_held(id: Uuid) -> Fault {
    Fault::Permanent(format!("the hold of order {id} does not say what is held"))
}

/// What an event asks of this participant; nothing when it is not its turn.
fn ask<P: Participant>(cause: &Delivery) -> Result<Option<Asked<'_>>, Fault> {
    let Envelope {
        entry, body: bytes, ..
    } = &cause.envelope;
    let context = body::context(bytes.clone())?;
    let signal = match step::turn(P::STEP, context.route(), entry.kind) {
        Turn::NotMine => return Ok(None),
        Turn::Take => Signal::Take,
        Turn::Settle => Signal::Settle,
        Turn::Undo if entry.kind == Kind::Canceled => Signal::Canceled {
            attempt: body::read_canceled(bytes.clone())?.attempt,
        },
        Turn::Undo => Signal::PeerRefused,
    };
    Ok(Some(Asked {
        signal,
        context,
        cause,
    }))
}

/// What the row says, as an event.
fn answer<P: Participant>(row: &Row<P::Held>, asked: &Asked<'_>, attempt: u32) -> Option<Emission> {
    let entry = reaction::answer(P::STEP, row.state)?;
    let body = match row.state {
        Hold::Held => body::plain(&asked.context),
        Hold::Refused => body::refused(&asked.context, row.refusal.as_ref()?),
        Hold::Void | Hold::Released => {
            let nothing_to_undo = row.state == Hold::Void;
            let undone = Undone {
                nothing_to_undo,
                attempt,
            };
            body::undone(&asked.context, undone)
        }
        Hold::Settled => return None,
    };
    Some(Emission::of_order(
        entry,
        &asked.context,
        body,
        asked.cause,
        attempt,
    ))
}

async fn load_holds<H: DeserializeOwned>(
    tx: &Tx,
    ids: BTreeSet<Uuid>,
) -> Result<HashMap<Uuid, Row<H>>, Fault> {
    let sql = format!(
        "SELECT order_id, state, held, refusal, answered, settled_at, released_at FROM holds
         WHERE order_id IN (SELECT id FROM v) ORDER BY order_id {}",
        tx.for_update()
    );
    let mut holds = HashMap::new();
    for row in tx.fetch(Rows::ids(ids), &sql, vec![]).await? {
        let state: String = row.try_get("", "state")?;
        let held: String = row.try_get("", "held")?;
        let refusal: String = row.try_get("", "refusal")?;
        let answered: i64 = row.try_get("", "answered")?;
        let read = Row {
            state: Hold::named(&state)
                .ok_or_else(|| Fault::Permanent(format!("a hold has the state {state}")))?,
            held: parse(&held)?,
            refusal: parse(&refusal)?,
            answered: u32::try_from(answered).unwrap_or(u32::MAX),
            settled_at: row.try_get("", "settled_at")?,
            released_at: row.try_get("", "released_at")?,
            stored: true,
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
    ]);
    let contexts: HashMap<Uuid, &OrderContext> = asked
        .iter()
        .map(|a| (a.context.order_id.0, &a.context))
        .collect();
    let mut changed: Vec<_> = holds.iter().filter(|(_, row)| row.changed).collect();
    changed.sort_unstable_by_key(|(id, _)| **id);
    for (id, row) in changed {
        let state = row.state.name();
        let answered = i64::from(row.answered);
        if row.stored {
            let (settled, released) = (row.settled_at.into(), row.released_at.into());
            updates.push([
                (*id).into(),
                state.into(),
                answered.into(),
                settled,
                released,
            ]);
        } else if let Some(context) = contexts.get(id) {
            inserts.push([
                (*id).into(),
                state.into(),
                context.user_id.as_str().into(),
                text(row.held.as_ref())?.into(),
                text(row.refusal.as_ref())?.into(),
                answered.into(),
                context.deadline.into(),
                row.settled_at.into(),
                row.released_at.into(),
            ]);
        }
    }
    let sql = "INSERT INTO holds (order_id, state, user_id, held, refusal, answered, deadline,
                   settled_at, released_at, created_at)
               SELECT order_id, state, user_id, held, refusal, answered, deadline,
                   settled_at, released_at, CAST($1 AS BIGINT) FROM v";
    tx.run(inserts, sql, vec![tx.now().into()]).await?;
    let sql = "UPDATE holds SET state = v.state, answered = v.answered,
                   settled_at = v.settled_at, released_at = v.released_at
               FROM v WHERE holds.order_id = v.order_id";
    tx.run(updates, sql, vec![]).await?;
    Ok(())
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
