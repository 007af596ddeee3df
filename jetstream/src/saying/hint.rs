//! Hints: "look again", said on core NATS after a commit, outside the stream.
//!
//! A hint is no event. It may be lost, it says nothing but its subject, and nobody may
//! rely on it: who waits looks again now and then anyway. It only makes waiting short.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc;
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

/// Hears hints until it is stopped. While the broker is away, they are lost.
pub(crate) async fn listen(
    client: Client,
    pattern: String,
    stop: CancellationToken,
    heard: impl Fn(&str) + Send + Sync,
) {
    while !stop.is_cancelled() {
        match client.subscribe(pattern.clone()).await {
            Ok(mut hints) => loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    hint = hints.next() => match hint {
                        Some(hint) => heard(hint.subject.as_str()),
                        None => break,
                    },
                }
            },
            Err(error) => tracing::warn!(%error, pattern, "hints cannot be heard"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LISTEN_AGAIN) => {}
        }
    }
}
