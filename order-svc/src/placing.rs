//! Placing orders: requests are priced and committed in groups.

use events::body::Reason;
use events::{EventId, Step, body, catalog};
use futures::future::BoxFuture;
use jetstream::http::intake::{Commands, Decided};
use jetstream::operating::metrics::Ending;
use jetstream::telemetry::SpanRef;
use jetstream::{Database, Delivery, Emission, Fault, Settings, Shell, Tx, clock};

use crate::domain::pricing::{self, Request, Wrong};
use crate::domain::{Flag, Order, Rules, Say};
use crate::store::orders::Placed;
use crate::store::{known, orders};

/// A request to place an order, with the trace that it belongs to.
pub(crate) struct Place {
    pub(crate) request: Request,
    pub(crate) traceparent: Option<String>,
}

/// Why a request did not become an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// The user has as many open orders as are allowed.
    TooManyOpen,
    /// Order knows it to be wrong.
    Wrong(Wrong),
}

/// Decides requests.
pub(crate) struct Placing {
    database: Database,
    deadline: i64,
    open_orders_per_user: i64,
}

impl Placing {
    pub(crate) fn new(shell: &Shell) -> Self {
        let settings = shell.settings();
        Self {
            database: shell.backstage().database().clone(),
            deadline: clock::millis(settings.order_deadline),
            open_orders_per_user: i64::from(settings.open_orders_per_user),
        }
    }

    async fn place(
        &self,
        tx: &Tx,
        asked: &[Place],
    ) -> Result<Decided<Result<Order, Rejected>>, Fault> {
        // Outside the transaction, so that they are read side by side: prices and coupons are
        // what order has heard by now, and a slot that is taken meanwhile is a conflict.
        let database = &self.database;
        let users = asked.iter().map(|p| p.request.user_id.as_str()).collect();
        let requests: Vec<&Request> = asked.iter().map(|place| &place.request).collect();
        let (mut taken, known) = tokio::try_join!(
            orders::open_slots(database, users),
            known::load(database, &requests)
        )?;

        let mut placed = Vec::with_capacity(asked.len());
        let mut answers = Vec::with_capacity(asked.len());
        for Place {
            request,
            traceparent,
        } in asked
        {
            let slots = taken.entry(request.user_id.to_string()).or_default();
            let free = (0..self.open_orders_per_user).find(|slot| !slots.contains(slot));
            let Some(slot) = free else {
                answers.push(Err(Rejected::TooManyOpen));
                continue;
            };
            match pricing::price(request, &known, tx.now(), self.deadline) {
                Ok(context) => {
                    slots.insert(slot);
                    let order = Order::new(context);
                    answers.push(Ok(order.clone()));
                    placed.push(Placed {
                        order,
                        slot,
                        traceparent: traceparent.clone(),
                    });
                }
                Err(wrong) => answers.push(Err(Rejected::Wrong(wrong))),
            }
        }
        orders::insert(tx, &placed).await?;
        let emissions = placed
            .into_iter()
            .map(
                |Placed {
                     order, traceparent, ..
                 }| {
                    let body = body::plain(&order.context);
                    Emission::of_new_order(&order.context, body).traced(traceparent)
                },
            )
            .collect();
        Ok((answers, emissions))
    }
}

impl Commands for Placing {
    type Command = Place;
    type Answer = Result<Order, Rejected>;

    fn decide<'a>(
        &'a self,
        tx: &'a Tx,
        asked: &'a [Place],
    ) -> BoxFuture<'a, Result<Decided<Self::Answer>, Fault>> {
        Box::pin(self.place(tx, asked))
    }
}

/// The rules of the order, from the settings.
pub(crate) fn rules(settings: &Settings) -> Rules {
    let deadlines = settings.compensation_deadlines.iter();
    Rules {
        cancel_window: clock::millis(settings.cancel_window),
        compensation_deadlines: deadlines.map(|d| clock::millis(*d)).collect(),
    }
}

/// Whether an order says it: always, but in a fault run that has it not ask again (R6).
pub(crate) fn is_said(say: &Say) -> bool {
    let again = matches!(say, Say::Canceled(canceled) if canceled.attempt > 1);
    !(again && jetstream::is_off("R6"))
}

/// What an order says because of an event: the answer of a step.
pub(crate) fn because(order: &Order, say: &Say, step: Step, cause: &Delivery) -> Emission {
    let (entry, body, attempt) = words(order, say);
    let emission =
        Emission::of_order(entry, &order.context, body, cause, attempt).ending(ending(order, say));
    match decides(say) {
        true => emission.joining(step.name(), || {
            let mut joined = joined(order);
            joined.retain(|(name, _)| *name != step.name());
            joined.push((step.name(), cause.envelope.id));
            joined
        }),
        false => emission,
    }
}

/// What an order says because of a person or a timer, in the trace of the order.
pub(crate) fn from_outside(
    order: &Order,
    say: &Say,
    trace: Option<SpanRef>,
    set_off_by: &'static str,
) -> Emission {
    let (entry, body, _) = words(order, say);
    let emission = Emission::of_order_from_outside(entry, &order.context, body)
        .continuing(trace, set_off_by)
        .ending(ending(order, say));
    match decides(say) {
        true => emission.joining(set_off_by, || joined(order)),
        false => emission,
    }
}

/// Whether this is the decision about the order; asking again is none.
fn decides(say: &Say) -> bool {
    match say {
        Say::Confirmed => true,
        Say::Canceled(canceled) => canceled.attempt == 1,
        Say::Compensated | Say::CompensationFailed(_) => false,
    }
}

/// The steps that have succeeded by now, with the events that said so. Until an order is
/// decided its flags know nothing else, but for the answer that decides it.
fn joined(order: &Order) -> Vec<(&'static str, EventId)> {
    let succeeded = |step: &Step| order.flags.get(step) == Some(&Flag::Succeeded);
    let successes = order.context.success_ids();
    successes
        .filter(|(step, _)| succeeded(step))
        .map(|(step, id)| (step.name(), id))
        .collect()
}

/// The event that an order says.
pub(crate) fn entry(say: &Say) -> &'static catalog::Entry {
    match say {
        Say::Confirmed => &catalog::ORDER_CONFIRMED,
        Say::Canceled(_) => &catalog::ORDER_CANCELED,
        Say::Compensated => &catalog::ORDER_COMPENSATED,
        Say::CompensationFailed(_) => &catalog::ORDER_COMPENSATION_FAILED,
    }
}

/// How the order ends, if it does.
fn ending(order: &Order, say: &Say) -> Option<Ending> {
    let outcome = match say {
        Say::Confirmed => "confirmed",
        Say::Compensated => "canceled",
        Say::CompensationFailed(_) => "compensation_failed",
        Say::Canceled(_) => return None,
    };
    let refused = order.refusals.first();
    Some(Ending {
        outcome,
        reason: order.reason.map_or("", Reason::code),
        step: refused.map_or("", |heard| heard.step.name()),
        began: order.context.placed_at,
    })
}

fn words(order: &Order, say: &Say) -> (&'static catalog::Entry, bytes::Bytes, u32) {
    let context = &order.context;
    let (body, attempt) = match say {
        Say::Confirmed | Say::Compensated => (body::plain(context), 1),
        Say::Canceled(canceled) => (body::canceled(context, *canceled), canceled.attempt),
        Say::CompensationFailed(silent) => (body::compensation_failed(context, silent), 1),
    };
    (entry(say), body, attempt)
}
