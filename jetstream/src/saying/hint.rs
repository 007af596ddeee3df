//! Hints: "look again", said on core NATS after a commit, outside the stream.
//!
//! A hint is no event. It may be lost, it says nothing but its subject, and nobody may
//! rely on it: who waits looks again now and then anyway. It only makes waiting short.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::tasks::Tasks;

// Transactions whose hints wait to be said; beyond, hints are dropped.
const QUEUE: usize = 1024;
// A client that is about to lose its connection holds a publisher up.
const PATIENCE: Duration = Duration::from_secs(1);
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// Says hints, from a task of its own: no commit waits for one.
#[derive(Clone)]
pub(crate) struct Hints(mpsc::Sender<BTreeSet<String>>);

impl Hints {
    /// Starts the task that says them.
    pub(crate) fn start(client: Client, tasks: &Tasks) -> Self {
        let (queue, hints) = mpsc::channel(QUEUE);
        tasks.spawn("hints", say(client, hints, tasks.stopping()));
        Self(queue)
    }
}

async fn say(client: Client, mut hints: mpsc::Receiver<BTreeSet<String>>, stop: CancellationToken) {
    loop {
        let subjects = tokio::select! {
            biased;
            subjects = hints.recv() => subjects,
            () = stop.cancelled() => None,
        };
        let Some(subjects) = subjects else { return };
        if client.connection_state() != State::Connected {
            continue;
        }
        for subject in subjects {
            let said = client.publish(subject, Bytes::new());
            if !matches!(tokio::time::timeout(PATIENCE, said).await, Ok(Ok(()))) {
                tracing::debug!("hints were dropped");
                break;
            }
        }
    }
}

/// What a transaction hints at, once it has committed.
pub(crate) struct Intended {
    subjects: Mutex<BTreeSet<String>>,
    // None where nobody can listen: a database that belongs to no running service.
    hints: Option<Hints>,
}

impl Intended {
    pub(crate) fn new(hints: Option<Hints>) -> Self {
        Self {
            subjects: Mutex::default(),
            hints,
        }
    }

    pub(crate) fn add(&self, subject: String) {
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        subjects.insert(subject);
    }

    /// Hands them over; never waits.
    pub(crate) fn say(self) {
        let subjects = self.subjects.into_inner();
        let subjects = subjects.unwrap_or_else(PoisonError::into_inner);
        if let (Some(Hints(queue)), false) = (self.hints, subjects.is_empty()) {
            let _ = queue.try_send(subjects);
        }
    }
}

/// What is heard of hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// From now on they are heard; those before were not.
    Begins,
    /// A hint, by its subject.
    Hint(&'a str),
}

/// Hears hints while somebody wants them, until it is stopped: each costs broker and service
/// something, whoever waits. While the broker is away, they are lost.
pub(crate) async fn listen(
    client: Client,
    pattern: String,
    stop: CancellationToken,
    mut wanted: watch::Receiver<bool>,
    heard: impl Fn(Heard<'_>) + Send + Sync,
) {
    let listening = async {
        while wanted.wait_for(|wanted| *wanted).await.is_ok() {
            match client.subscribe(pattern.clone()).await {
                Ok(hints) => hear(&client, hints, &mut wanted, &heard).await,
                Err(error) => {
                    tracing::warn!(%error, pattern, "hints cannot be heard");
                    tokio::time::sleep(LISTEN_AGAIN).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = listening => {}
    }
}

/// Hears a subscription until nobody wants it, or it ends.
async fn hear(
    client: &Client,
    mut hints: Subscriber,
    wanted: &mut watch::Receiver<bool>,
    heard: &impl Fn(Heard<'_>),
) {
    // Sent, so that the broker will soon know; a hint that comes in between is lost.
    let _ = client.flush().await;
    heard(Heard::Begins);
    let unwanted = async { drop(wanted.wait_for(|wanted| !wanted).await) };
    let mut unwanted = std::pin::pin!(unwanted);
    loop {
        let hint = tokio::select! {
            () = &mut unwanted => return,
            hint = hints.next() => hint,
        };
        match hint {
            Some(hint) => heard(Heard::Hint(hint.subject.as_str())),
            // The connection is closed.
            None => return tokio::time::sleep(LISTEN_AGAIN).await,
        }
    }
}
