//! The laws of a participant, as one suite that every implementation passes on a real
//! database: who adds a step proves it with a sample of two orders.

use std::time::Duration;

use events::body::{self, Canceled, Reason};
use events::catalog::{self, Entry};
use events::context::NewOrder;
use events::{Envelope, EventId, OrderContext, OrderId, Step};
use sea_orm::{DbBackend, QueryResult};

use crate::clock;
use crate::database::bulk::Rows;
use crate::database::fixture::on_each_database;
use crate::database::{Database, Tx};
use crate::event::{Delivery, Emission};
use crate::fault::Fault;
use crate::hearing::subscription::Subscription;
use crate::saying::outbox;
use crate::shell::service::Service;

/// What a participant is tried with.
pub struct Sample<'a> {
    /// Whose tables are made.
    pub service: &'a Service,
    /// The participant, as it is subscribed.
    pub subscription: Subscription,
    /// The step that it takes.
    pub step: Step,
    /// A query of one text column, `seen`: everything that taking the step changes,
    /// besides the hold.
    pub seen: &'a str,
    /// An order in the parallel flow, with another step beside this one, that can be held.
    pub held: OrderContext,
    /// The same, but refused.
    pub refused: OrderContext,
}

// A transaction that waits for another one's locks still does then.
const OVERLAP: Duration = Duration::from_millis(300);

/// One law on one database.
struct Trial<'a> {
    sample: &'a Sample<'a>,
    database: &'a Database,
    law: &'static str,
    // Whether its transactions lock what they load.
    locks: bool,
}

const LAWS: [&str; 10] = [
    "idempotent",
    "unwinds",
    "unwinds with a peer",
    "tombstone",
    "late action",
    "answers again",
    "refuses",
    "settles",
    "one batch",
    "two at once",
];

/// Holds every law against a participant, each on new databases that `fill` has filled, with
/// transactions that lock and with those that do not.
///
/// # Panics
/// When a law is broken.
pub async fn participant_laws(sample: &Sample<'_>, fill: impl AsyncFn(&Tx)) {
    let trials = LAWS.into_iter().flat_map(|law| [(law, false), (law, true)]);
    for (law, locks) in trials {
        on_each_database(sample.service, async |database| {
            if locks && database.backend() == DbBackend::Sqlite {
                // All of its transactions do.
                return;
            }
            let tx = database.begin().await.expect("begun");
            fill(&tx).await;
            tx.commit().await.expect("filled");
            let trial = Trial {
                sample,
                database,
                law,
                locks,
            };
            trial.run().await;
        })
        .await;
    }
}

impl Trial<'_> {
    async fn run(&self) {
        match self.law {
            "idempotent" => self.idempotent().await,
            "unwinds" => self.unwinds(self.cancel(1)).await,
            "unwinds with a peer" => self.unwinds(self.peer_refused()).await,
            "tombstone" => self.tombstone().await,
            "late action" => self.late_action().await,
            "answers again" => self.answers_again().await,
            "refuses" => self.refuses().await,
            "settles" => self.settles().await,
            "one batch" => self.one_batch().await,
            "two at once" => self.two_at_once().await,
            law => panic!("there is no law `{law}`"),
        }
    }

    /// The same event twice, and one that says the same, change nothing.
    async fn idempotent(&self) {
        let take = self.take();
        self.says(&[&take], &[self.taken()]).await;
        let after = self.seen().await;
        self.says(&[&take], &[]).await;
        self.says(&[&self.take()], &[]).await;
        self.is_seen(&after, "taken once").await;
        self.is_in("HELD").await;
    }

    /// Taken and undone is as before, however often it is undone.
    async fn unwinds(&self, undo: Delivery) {
        let before = self.seen().await;
        self.says(&[&self.take()], &[self.taken()]).await;
        let answers = self.says(&[&undo], &[self.undone()]).await;
        self.answers(&answers[0], 1, false);
        self.is_seen(&before, "given back").await;
        for again in [undo, self.cancel(1), self.peer_refused()] {
            self.says(&[&again], &[]).await;
        }
        self.is_seen(&before, "given back once").await;
        self.is_in("RELEASED").await;
    }

    /// A cancel that comes before the action stops it.
    async fn tombstone(&self) {
        let before = self.seen().await;
        let answers = self.says(&[&self.cancel(1)], &[self.undone()]).await;
        self.answers(&answers[0], 1, true);
        self.says(&[&self.take()], &[]).await;
        self.is_seen(&before, "nothing taken").await;
        self.is_in("VOID").await;
    }

    /// The action after a peer's refusal and the cancel does nothing, now and later.
    async fn late_action(&self) {
        let before = self.seen().await;
        self.says(&[&self.peer_refused()], &[self.undone()]).await;
        self.says(&[&self.cancel(1)], &[]).await;
        let late = self.take();
        self.says(&[&late], &[]).await;
        let answers = self.says(&[&self.cancel(2)], &[self.undone()]).await;
        self.answers(&answers[0], 2, true);
        self.says(&[&late], &[]).await;
        self.is_seen(&before, "nothing taken").await;
        self.is_in("VOID").await;
    }

    /// Each question is answered once, from the row.
    async fn answers_again(&self) {
        self.says(&[&self.take()], &[self.taken()]).await;
        self.says(&[&self.cancel(1)], &[self.undone()]).await;
        let after = self.seen().await;
        for attempt in [2, 3] {
            let answers = self.says(&[&self.cancel(attempt)], &[self.undone()]).await;
            self.answers(&answers[0], attempt, false);
            self.says(&[&self.cancel(attempt)], &[]).await;
        }
        self.says(&[&self.cancel(2)], &[]).await;
        self.is_seen(&after, "answered, and nothing else").await;
    }

    /// A refusal holds nothing, does not flip, and is said again when it is asked for.
    async fn refuses(&self) {
        let order = &self.sample.refused;
        let take = created(order);
        let before = self.seen().await;
        let refused = &self.sample.step.entry().refused;
        self.says(&[&take], &[refused]).await;
        self.says(&[&take], &[]).await;
        self.says(&[&canceled(order, 1)], &[]).await;
        self.says(&[&canceled(order, 2)], &[refused]).await;
        self.says(&[&canceled(order, 2)], &[]).await;
        self.is_seen(&before, "nothing taken").await;
    }

    /// A settled hold stays settled, and a cancel after the confirmation gives it back.
    async fn settles(&self) {
        let before = self.seen().await;
        let confirmed = self.confirmed();
        let alone = self.handle(&[&confirmed]).await;
        assert!(
            matches!(alone, Err(Fault::Permanent(_))),
            "{}: confirmed, and nothing is held",
            self.law
        );
        self.says(&[&self.take()], &[self.taken()]).await;
        self.says(&[&confirmed], &[]).await;
        let after = self.seen().await;
        self.is_in("SETTLED").await;
        self.says(&[&confirmed], &[]).await;
        self.says(&[&self.take()], &[]).await;
        self.is_seen(&after, "settled once").await;
        let answers = self.says(&[&self.cancel(1)], &[self.undone()]).await;
        self.answers(&answers[0], 1, false);
        self.says(&[&confirmed], &[]).await;
        self.is_seen(&before, "given back").await;
        self.is_in("RELEASED").await;
    }

    /// Events of one batch are handled as if they had come one by one.
    async fn one_batch(&self) {
        let before = self.seen().await;
        let take = self.take();
        let (cancel, again) = (self.cancel(1), self.cancel(2));
        let slice = [&take, &take, &cancel, &take, &again, &cancel];
        let said = [self.taken(), self.undone(), self.undone()];
        self.says(&slice, &said).await;
        self.is_seen(&before, "given back").await;
        self.is_in("RELEASED").await;
    }

    /// Two orders in transactions that overlap come out as one after the other does.
    async fn two_at_once(&self) {
        let before = self.seen().await;
        let orders = [self.another(), self.another()];
        self.overlap(&orders).await;
        let at_once = (self.states(&orders).await, self.seen().await);
        for order in &orders {
            self.handle(&[&canceled(order, 1)]).await.expect("undone");
        }
        self.is_seen(&before, "both given back").await;

        let orders = [self.another(), self.another()];
        for order in &orders {
            self.handle(&[&created(order)]).await.expect("decided");
        }
        let in_turn = (self.states(&orders).await, self.seen().await);
        assert_eq!(at_once, in_turn, "{}", self.law);
    }

    /// Decides the first order, then the second in a transaction of its own, then ends the
    /// first. Who waits for the other does so; who was slower tries again.
    async fn overlap(&self, [first, second]: &[OrderContext; 2]) {
        let [first, second] = [created(first), created(second)];
        let tx = self.begin(self.locks).await.expect("begun");
        let decided = self.decide(&tx, &[&first]).await.expect("decided");
        let slower = [&second];
        let mut slower = std::pin::pin!(self.handle(&slower));
        let in_time = tokio::time::timeout(OVERLAP, &mut slower).await;
        let ended = self.commit(tx, decided).await;
        let others = match in_time {
            Ok(ended) => ended,
            Err(_) => slower.await,
        };
        for (ended, event) in [(ended, &first), (others, &second)] {
            match ended {
                Err(Fault::Conflict(_)) => {
                    let tx = self.begin(true).await.expect("begun");
                    let decided = self.decide(&tx, &[event]).await.expect("decided again");
                    self.commit(tx, decided).await.expect("committed");
                }
                ended => drop(ended.expect("committed")),
            }
        }
    }
}

// What is said to the participant about the order that can be held.
impl Trial<'_> {
    /// A new order like the one that can be held.
    fn another(&self) -> OrderContext {
        let order = self.sample.held.clone();
        OrderContext::new(NewOrder {
            order_id: OrderId(clock::new_id()),
            user_id: order.user_id,
            flow: order.flow,
            needed: order.needed,
            lines: order.lines,
            discount: order.discount,
            coupon_id: order.coupon_id,
            placed_at: order.placed_at,
            deadline: order.deadline,
        })
        .expect("as valid as the other")
    }

    fn take(&self) -> Delivery {
        created(&self.sample.held)
    }

    fn cancel(&self, attempt: u32) -> Delivery {
        canceled(&self.sample.held, attempt)
    }

    fn confirmed(&self) -> Delivery {
        let order = &self.sample.held;
        delivery(&catalog::ORDER_CONFIRMED, order, body::plain(order))
    }

    fn peer_refused(&self) -> Delivery {
        let order = &self.sample.held;
        let mut peers = order.needed.iter().filter(|step| *step != self.sample.step);
        let peer = peers.next().expect("an order with another step");
        let refusal = events::Refusal::new("NO");
        delivery(&peer.entry().refused, order, body::refused(order, &refusal))
    }

    fn taken(&self) -> &'static Entry {
        &self.sample.step.entry().taken
    }

    fn undone(&self) -> &'static Entry {
        &self.sample.step.entry().undone
    }
}

fn created(order: &OrderContext) -> Delivery {
    delivery(&catalog::ORDER_CREATED, order, body::plain(order))
}

fn canceled(order: &OrderContext, attempt: u32) -> Delivery {
    let reason = Reason::CanceledByUser;
    let body = body::canceled(order, Canceled { reason, attempt });
    delivery(&catalog::ORDER_CANCELED, order, body)
}

/// An event with an id of its own, so that only the row can tell that it was heard.
fn delivery(entry: &'static Entry, order: &OrderContext, body: bytes::Bytes) -> Delivery {
    let envelope = Envelope {
        id: EventId(clock::new_id()),
        entry,
        aggregate: order.order_id.to_string(),
        correlation: order.order_id.0,
        causation: None,
        time: 0,
        pseq: 1,
        traceparent: None,
        body,
    };
    Delivery::new(envelope, 1)
}

impl Trial<'_> {
    /// Handles events in one transaction and commits it, as the runtime does.
    async fn handle(&self, slice: &[&Delivery]) -> Result<Vec<Emission>, Fault> {
        let tx = self.begin(self.locks).await?;
        let emissions = self.decide(&tx, slice).await?;
        self.commit(tx, emissions).await
    }

    async fn begin(&self, locks: bool) -> Result<Tx, Fault> {
        match locks {
            true => self.database.begin().await,
            false => self.database.begin_optimistic().await,
        }
    }

    async fn decide(&self, tx: &Tx, slice: &[&Delivery]) -> Result<Vec<Emission>, Fault> {
        let slice: Vec<Delivery> = slice.iter().map(|delivery| (*delivery).clone()).collect();
        let handler = &self.sample.subscription.handler;
        handler.handle(tx, &slice).await
    }

    async fn commit(&self, tx: Tx, emissions: Vec<Emission>) -> Result<Vec<Emission>, Fault> {
        outbox::append(&tx, emissions.clone()).await?;
        tx.commit().await?;
        Ok(emissions)
    }

    async fn says(&self, slice: &[&Delivery], subjects: &[&Entry]) -> Vec<Emission> {
        let emissions = self.handle(slice).await;
        let emissions = emissions.unwrap_or_else(|fault| panic!("{}: {fault}", self.law));
        let said: Vec<_> = emissions.iter().map(|e| e.entry.subject).collect();
        let expected: Vec<_> = subjects.iter().map(|entry| entry.subject).collect();
        let heard: Vec<_> = slice.iter().map(|d| d.envelope.entry.subject).collect();
        assert_eq!(said, expected, "{}: what it says to {heard:?}", self.law);
        emissions
    }

    fn answers(&self, emission: &Emission, attempt: u32, nothing_to_undo: bool) {
        let undone = body::read_undone(emission.body.clone()).expect("an answer");
        let expected = body::Undone {
            nothing_to_undo,
            attempt,
        };
        assert_eq!(undone, expected, "{}", self.law);
    }

    async fn seen(&self) -> Vec<String> {
        let rows = self.database.query(self.sample.seen, vec![]).await;
        let rows = rows.expect("the query of what is seen");
        let text = |row: &QueryResult| row.try_get("", "seen").expect("a text `seen`");
        rows.iter().map(text).collect()
    }

    async fn is_seen(&self, expected: &[String], why: &str) {
        assert_eq!(self.seen().await, expected, "{}: {why}", self.law);
    }

    async fn is_in(&self, state: &str) {
        let is = self.states(std::slice::from_ref(&self.sample.held)).await;
        assert_eq!(is, [state], "{}", self.law);
    }

    /// The states of the holds of some orders, sorted.
    async fn states(&self, orders: &[OrderContext]) -> Vec<String> {
        let ids = Rows::ids(orders.iter().map(|order| order.order_id.0));
        let sql = "SELECT state FROM holds WHERE order_id IN (SELECT id FROM v) ORDER BY state";
        let rows = self.database.fetch(ids, sql, vec![]).await;
        let rows = rows.expect("the holds");
        let state = |row: &QueryResult| row.try_get("", "state").expect("a text `state`");
        rows.iter().map(state).collect()
    }
}
