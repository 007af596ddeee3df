//! `GET /orders/{id}/events` and `/ws`: the order at each change, until it is final.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use events::OrderId;
use jetstream::Problem;
use jetstream::http::Id;
use jetstream::http::ticket::Presented;
use tokio::time::{Instant, interval_at, timeout};

use super::watching::{Snapshot, Watch};
use super::{Api, read};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const HEARTBEAT: Duration = Duration::from_secs(15);
// For a client that does not read.
const PATIENCE: Duration = Duration::from_secs(3);
// For one that does not answer a close: nobody's shutdown waits for it long.
const LAST_WORDS: Duration = Duration::from_secs(1);
// Nothing that a client says means anything here.
const LONGEST_MESSAGE: usize = 4096;

pub(super) async fn events(
    State(api): State<Api>,
    presented: Presented,
    Id(id): Id<OrderId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let last = last.and_then(|id| id.parse().ok()).unwrap_or(0);
    let following = Following::open(&api, presented, id, last).await?;
    if following.is_over() {
        // This, and no empty stream, tells a browser not to connect again.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let events = futures::stream::unfold(following, |mut following| async move {
        let snapshot = following.next().await?;
        let id = snapshot.order.version.to_string();
        let event = Event::default().id(id).data(&snapshot.json);
        Some((Ok::<_, Infallible>(event), following))
    });
    let heartbeat = KeepAlive::new().interval(HEARTBEAT);
    Ok(Sse::new(events).keep_alive(heartbeat).into_response())
}

pub(super) async fn ws(
    State(api): State<Api>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    presented: Presented,
    Id(id): Id<OrderId>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| {
        let detail = format!("this route speaks WebSocket: {}", rejection.body_text());
        Problem::new(rejection.status(), "NO_WEBSOCKET", detail)
    })?;
    let following = Following::open(&api, presented, id, 0).await?;
    let shell = api.shell;
    Ok(upgrade
        .max_message_size(LONGEST_MESSAGE)
        .on_upgrade(move |socket| shell.tracked(talk(socket, following))))
}

/// An order that is followed by one client.
struct Following {
    watch: Watch,
    // What is there already and is to be sent first.
    first: Option<Arc<Snapshot>>,
    sent: i64,
    sent_final: bool,
}

impl Following {
    /// Follows an order that the caller, or the ticket, may see. What the client has
    /// had by its version is not sent again.
    async fn open(
        api: &Api,
        presented: Presented,
        id: OrderId,
        last: i64,
    ) -> Result<Self, Problem> {
        let shell = &api.shell;
        let reader = presented.reader(shell, id).await?;
        // Before the order is read, so that no change falls in between.
        let watch = api.watching.watch(id, reader.caller().user())?;
        let (order, traceparent) = read::find(&reader, id).await?;
        // A version that does not exist yet is no version of this order.
        let sent = if last <= order.version { last } else { 0 };
        let news = order.version > sent;
        Ok(Self {
            watch,
            sent,
            sent_final: order.state.is_final() && !news,
            first: news.then(|| Arc::new(Snapshot::new(shell, order, &traceparent))),
        })
    }

    /// Whether the client has had the final state.
    fn is_over(&self) -> bool {
        self.sent_final
    }

    /// The next state to send; nothing after the final one, or when the service is
    /// closing.
    async fn next(&mut self) -> Option<Arc<Snapshot>> {
        if self.is_over() {
            return None;
        }
        let snapshot = match self.first.take() {
            Some(first) => first,
            None => self.watch.newer(self.sent).await?,
        };
        self.sent = snapshot.order.version;
        self.sent_final = snapshot.order.state.is_final();
        Some(snapshot)
    }
}

async fn talk(mut socket: WebSocket, mut following: Following) {
    let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    let mut alive = true;
    let (code, reason) = loop {
        let message = tokio::select! {
            snapshot = following.next() => match snapshot {
                Some(snapshot) => Message::text(snapshot.json.as_str()),
                None if following.is_over() => break (close_code::NORMAL, "the order is decided"),
                None => break (close_code::AWAY, "the service is stopping"),
            },
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {
                    alive = true;
                    continue;
                }
            },
            _ = heartbeat.tick() => match std::mem::take(&mut alive) {
                true => Message::Ping(Default::default()),
                false => return,
            },
        };
        if !send(&mut socket, message).await {
            return;
        }
    };
    let reason = reason.into();
    if send(
        &mut socket,
        Message::Close(Some(CloseFrame { code, reason })),
    )
    .await
    {
        // The client's own close: a connection that is cut before it takes ours with it.
        let closed = async { while let Some(Ok(_)) = socket.recv().await {} };
        let _ = timeout(LAST_WORDS, closed).await;
    }
}

async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(PATIENCE, socket.send(message)).await, Ok(Ok(())))
}
