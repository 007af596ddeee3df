//! The window: events on their way to the broker, until it has acknowledged them.
//!
//! One subscription hears all acknowledgments. An event has a slot of the window, and its
//! acknowledgment comes on the subject of the slot. These subjects are few and used again,
//! so the broker finds their subscriber in its cache; one whose acknowledgment did not come
//! is given up, so that a late one is never taken for that of another event.

use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Message, Subject, Subscriber};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::time::Instant;

/// Events in flight at most. Far more starve consumers; far fewer leave the wire idle.
pub(crate) const WINDOW: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(5);
// What was stored before the broker has forbidden its subject is acknowledged by then.
const REFUSED_AFTER: Duration = Duration::from_secs(1);
// The code of the broker for a message that is larger than the stream takes.
const TOO_LARGE: u64 = 10054;

/// Events in flight.
pub(crate) struct Window {
    client: Client,
    acks: Subscriber,
    inbox: String,
    slots: Vec<Slot>,
    // The last that became free is used first: so few are in use.
    free: Vec<usize>,
    // Subjects that were given up; makes new ones differ.
    given_up: u64,
}

struct Slot {
    reply: Subject,
    flying: Option<Flying>,
}

struct Flying {
    pseq: i64,
    subject: &'static str,
    since: Instant,
    // Since when it is known that its subject is forbidden.
    forbidden: Option<Instant>,
}

impl Flying {
    fn given_up(self) -> Landed {
        let (pseq, subject) = (self.pseq, self.subject);
        match self.forbidden {
            None => Landed::Unknown {
                pseq,
                why: "no acknowledgment came".to_owned(),
            },
            Some(_) => Landed::Refused {
                pseq,
                why: format!(
                    "this service may not publish to {subject}: let its user of the broker, \
                     then redrive"
                ),
            },
        }
    }

    fn is_late(&self) -> bool {
        self.since.elapsed() > PATIENCE
            || self
                .forbidden
                .is_some_and(|at| at.elapsed() > REFUSED_AFTER)
    }
}

/// What became of an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Landed {
    /// The broker has it, at a sequence of the stream.
    Stored {
        pseq: i64,
        sequence: u64,
        duplicate: bool,
    },
    /// Not acknowledged, and why: it may or may not be stored.
    Unknown { pseq: i64, why: String },
    /// The broker will never take it, and why.
    Refused { pseq: i64, why: String },
}

/// An event could not be sent.
pub(crate) enum NotSent {
    /// The broker will never take it.
    Never(String),
    /// The broker is away.
    Away,
}

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<Refused>,
}

#[derive(Deserialize)]
struct Refused {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Window {
    /// An empty window, or nothing when the connection is closed.
    pub(crate) async fn open(client: Client) -> Option<Self> {
        let inbox = client.new_inbox();
        let acks = client.subscribe(format!("{inbox}.*")).await.ok()?;
        let slot = |n| Slot {
            reply: format!("{inbox}.{n}").into(),
            flying: None,
        };
        Some(Self {
            slots: (0..WINDOW).map(slot).collect(),
            free: (0..WINDOW).rev().collect(),
            client,
            acks,
            inbox,
            given_up: 0,
        })
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == WINDOW
    }

    /// Whether there is no room for another event.
    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Sends an event. There must be room.
    pub(crate) async fn send(
        &mut self,
        pseq: i64,
        subject: &'static str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), NotSent> {
        let Some(&slot) = self.free.last() else {
            return Err(NotSent::Away);
        };
        // While it is disconnected, the client keeps what it is given until it is full.
        if self.client.connection_state() != State::Connected {
            return Err(NotSent::Away);
        }
        let reply = self.slots[slot].reply.clone();
        let to = Subject::from_static(subject);
        let sent = self
            .client
            .publish_with_reply_and_headers(to, reply, headers, payload);
        match tokio::time::timeout(PATIENCE, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                return Err(NotSent::Never(error.to_string()));
            }
            _ => return Err(NotSent::Away),
        }
        self.free.pop();
        self.slots[slot].flying = Some(Flying {
            pseq,
            subject,
            since: Instant::now(),
            forbidden: None,
        });
        Ok(())
    }

    /// The broker has refused a message on a subject: one of those in flight, which it does
    /// not name. Those that it has taken it acknowledges; the others are soon given up, as
    /// refused.
    pub(crate) fn forbidden(&mut self, subject: &str) {
        for slot in &mut self.slots {
            if let Some(flying) = &mut slot.flying
                && flying.subject == subject
            {
                flying.forbidden.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Waits for acknowledgments: all that have come. Empty when the connection is closed.
    pub(crate) async fn landed(&mut self) -> Vec<Landed> {
        let mut landed = Vec::new();
        while landed.is_empty() {
            let Some(first) = self.acks.next().await else {
                break;
            };
            landed.extend(self.land(&first));
            while let Some(Some(next)) = self.acks.next().now_or_never() {
                landed.extend(self.land(&next));
            }
        }
        landed
    }

    /// Gives up what was not acknowledged in time.
    pub(crate) fn give_up(&mut self) -> Vec<Landed> {
        let mut late = Vec::new();
        for n in 0..WINDOW {
            let flying = self.slots[n].flying.as_ref();
            if flying.is_some_and(Flying::is_late)
                && let Some(flying) = self.slots[n].flying.take()
            {
                self.given_up += 1;
                self.slots[n].reply = format!("{}.{n}-{}", self.inbox, self.given_up).into();
                self.free.push(n);
                late.push(flying.given_up());
            }
        }
        late
    }

    fn land(&mut self, ack: &Message) -> Option<Landed> {
        let token = ack.subject.as_str().rsplit('.').next()?;
        let n: usize = token.split('-').next()?.parse().ok()?;
        let slot = self.slots.get_mut(n)?;
        if slot.reply != ack.subject {
            return None;
        }
        let Flying { pseq, .. } = slot.flying.take()?;
        self.free.push(n);
        Some(read(pseq, ack))
    }
}

/// What the broker answers: where it has stored the event, or why not.
fn read(pseq: i64, ack: &Message) -> Landed {
    let unknown = |why| Landed::Unknown { pseq, why };
    if let Some(status) = ack.status {
        return unknown(format!("no stream takes it (status {status})"));
    }
    match serde_json::from_slice::<Ack>(&ack.payload) {
        Ok(Ack {
            error: Some(error), ..
        }) => match error.err_code {
            TOO_LARGE => Landed::Refused {
                pseq,
                why: error.description,
            },
            _ => unknown(error.description),
        },
        Ok(Ack { seq: 0, .. }) => unknown("the acknowledgment has no sequence".to_owned()),
        Ok(Ack { seq, duplicate, .. }) => Landed::Stored {
            pseq,
            sequence: seq,
            duplicate,
        },
        Err(error) => unknown(format!("the acknowledgment cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(payload: &'static str) -> Landed {
        let ack = Message {
            subject: "_INBOX.a.1".into(),
            reply: None,
            payload: Bytes::from_static(payload.as_bytes()),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        read(7, &ack)
    }

    #[test]
    fn only_an_acknowledgment_with_a_sequence_says_that_an_event_is_stored() {
        let stored = |sequence, duplicate| Landed::Stored {
            pseq: 7,
            sequence,
            duplicate,
        };
        let ack = r#"{"stream":"EVENTS","seq":3}"#;
        assert_eq!(answered(ack), stored(3, false));
        let ack = r#"{"stream":"EVENTS","domain":"d","seq":3,"duplicate":true}"#;
        assert_eq!(answered(ack), stored(3, true));
        for wrong in [
            "",
            "{}",
            "{\"seq\":0}",
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"EVENTS","seq":0}"#,
        ] {
            assert!(matches!(answered(wrong), Landed::Unknown { .. }), "{wrong}");
        }
        let large = r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"EVENTS","seq":0}"#;
        assert!(matches!(answered(large), Landed::Refused { .. }));
    }
}
