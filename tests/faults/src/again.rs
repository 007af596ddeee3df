//! Events are said again by somebody: other messages, the same events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::context::Context;
use async_nats::{HeaderMap, Message};
use futures::StreamExt as _;
use futures::stream::select_all;
use jetstream::clock::new_id;

use crate::random::Random;

const MARK: &str = "Again";
const LATER: u64 = 1500;

/// Says a part of all events again, a while later, as long as it is there.
pub(crate) struct Again {
    task: tokio::task::JoinHandle<()>,
    count: Arc<AtomicU64>,
}

impl Again {
    /// Begins to say so many events, in percent, again.
    pub(crate) async fn start(
        broker: &Context,
        mut random: Random,
        percent: u64,
    ) -> Result<Self, String> {
        let client = broker.client();
        let mut heard = Vec::new();
        for subject in events::catalog::stream_subjects() {
            let said = client.subscribe(subject).await;
            heard.push(said.map_err(|e| e.to_string())?);
        }
        let mut heard = select_all(heard);
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        let task = tokio::spawn(async move {
            while let Some(message) = heard.next().await {
                if is_mine(&message) || !random.percent(percent) {
                    continue;
                }
                let (client, pause) = (client.clone(), random.within(0..LATER));
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    let headers = headers(&message);
                    let (subject, payload) = (message.subject, message.payload);
                    let said = client.publish_with_headers(subject, headers, payload);
                    let _ = said.await;
                });
            }
        });
        Ok(Self { task, count })
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn is_mine(message: &Message) -> bool {
    let headers = message.headers.as_ref();
    headers.is_some_and(|headers| headers.get(MARK).is_some())
}

/// Those of the event, but for the id of the message: the broker must not know it.
fn headers(message: &Message) -> HeaderMap {
    let mut headers = message.headers.clone().unwrap_or_default();
    headers.insert("Nats-Msg-Id", new_id().to_string());
    headers.insert(MARK, "1");
    headers
}
