//! Order's HTTP routes.

mod cancel;
mod messages;
mod place;
mod read;
mod resolve;
mod stream;
mod stuck;
mod tickets;
mod view;
mod wait;
mod watching;

use axum::extract::FromRef;
use jetstream::Shell;
use jetstream::http::intake::Intake;
use jetstream::http::limits::PerUser;
use jetstream::http::{Routes, doc, ticket};
use serde_json::json;

use crate::canceling::Canceling;
use crate::placing::Placing;
use view::{OrderEvent, PlacedView};
use watching::Watching;

/// What the routes work with.
#[derive(Clone)]
pub(crate) struct Api {
    shell: Shell,
    placing: Intake<Placing>,
    canceling: Intake<Canceling>,
    limit: PerUser,
    watching: Watching,
}

impl FromRef<Api> for Shell {
    fn from_ref(api: &Api) -> Self {
        api.shell.clone()
    }
}

impl Api {
    fn start(shell: &Shell) -> Self {
        crate::timers::start(shell);
        ticket::prune(shell);
        Self {
            shell: shell.clone(),
            placing: shell.intake(Placing::new(shell)),
            canceling: shell.intake(Canceling::new(shell)),
            limit: PerUser::new(shell),
            watching: Watching::start(shell),
        }
    }
}

pub(crate) fn routes() -> Routes {
    let wait = json!({ "type": "string", "example": "wait=10" });
    let place = doc("Place an order")
        .more(
            "It is accepted, and decided a moment later. With `Prefer: wait=10` the answer waits \
             for the outcome, 30 seconds at most.",
        )
        .takes_header("Prefer", "Wait for the outcome (RFC 7240)", wait)
        .answers::<PlacedView>(200, "It was waited for, and is decided")
        .answers::<PlacedView>(202, "It is accepted, and not decided yet")
        .with_header(200, "Location", "Its address")
        .with_header(202, "Location", "Its address")
        .with_header(200, "Preference-Applied", "How long it was ready to wait")
        .with_header(
            202,
            "Idempotency-Replayed",
            "`true` when it was answered before",
        )
        .refuses(409, &["TOO_MANY_OPEN_ORDERS"])
        .refuses(
            422,
            &["UNKNOWN_PRODUCT", "UNKNOWN_COUPON", "COUPON_EXPIRED"],
        )
        .refuses(422, &["BELOW_COUPON_MINIMUM", "TOTAL_TOO_LARGE"])
        .refuses(429, &["TOO_MANY_REQUESTS"]);
    let last = json!({ "type": "string", "example": "3" });
    let events = doc("Follow an order: server-sent events, one at each change until it is decided")
        .more("The id of an event is the order's version; its data is the order.")
        .takes_header("Last-Event-ID", "The version that was heard last", last)
        .answers_as::<OrderEvent>(200, "What happens to it", "text/event-stream")
        .answers_empty(204, "It is decided, and the client knows")
        .refuses(429, &["TOO_MANY_STREAMS"])
        .refuses(503, &["TOO_MANY_STREAMS"]);
    let ws = doc("Follow an order: a WebSocket with the order at each change until it is decided")
        .answers_empty(101, "Messages follow; 1000 closes after the outcome")
        .refuses(400, &["NO_WEBSOCKET"])
        .refuses(426, &["NO_WEBSOCKET"])
        .refuses(429, &["TOO_MANY_STREAMS"])
        .refuses(503, &["TOO_MANY_STREAMS"]);
    let cancel = doc("Cancel an order").refuses(409, &["TOO_LATE_TO_CANCEL"]);
    let resolve =
        doc("End an order whose compensation was given up").refuses(409, &["NOT_GIVEN_UP"]);
    Routes::about("orders", "Orders, from the request to the outcome")
        .post("/orders", place::place, place)
        .get(
            "/orders",
            read::list,
            doc("List orders, newest first: one's own, or all for operators")
                .refuses(404, &["NOT_FOUND"]),
        )
        .get(
            "/orders/stuck",
            stuck::stuck,
            "List the orders that are past due, for operators",
        )
        .get("/orders/{id}", read::show, "Show an order")
        .get(
            "/orders/{id}/status",
            read::status,
            "Say how an order stands, in a word",
        )
        .get(
            "/orders/{id}/timeline",
            read::timeline,
            "Show what happened to an order",
        )
        .get("/orders/{id}/events", stream::events, events)
        .get("/orders/{id}/ws", stream::ws, ws)
        .post(
            "/orders/{id}/stream-ticket",
            tickets::issue,
            "Get a ticket that opens a stream once",
        )
        .post("/orders/{id}/cancel", cancel::cancel, cancel)
        .post("/orders/{id}/resolve", resolve::resolve, resolve)
        .with(Api::start)
}
