//! Pulling: messages of a durable consumer, asked for before they are needed.
//!
//! Pull requests and their answers are plain NATS messages (ADR-13), so one subscription
//! takes what comes, and a message costs no more than that. The next request goes out
//! while the messages of the last one still come in, so the broker never waits for it.
//!
//! One instance of a service is preferred, and others hear what it cannot take; see [`Rank`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::AckKind;
use async_nats::{Client, Message, Statistics, StatusCode, Subscriber};
use bytes::Bytes;
use events::catalog;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::hearing::rank::Rank;
use crate::stream::topology::{INSTANCES, MAX_ACK_PENDING};

// Messages that are asked for: at least a batch, and where more are handled in a second, so
// many, so that the preferred instance hears all of a burst. The ack clock of those that have
// come is running, and others need room below the bound of what is not acked.
const AHEAD: usize = 512;
const MOST_AHEAD: usize = MAX_ACK_PENDING as usize / 2;
// An instance that hangs is preferred for no longer than this.
const EXPIRES: Duration = Duration::from_secs(10);
// The broker says this often that a request is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);
const LOST_AFTER: Duration = Duration::from_secs(11);
// A reconnect is noticed within this time.
const LOOK_EVERY: Duration = Duration::from_millis(250);
// What was on its way when asking ended has come when nothing comes for this long.
const SILENCE: Duration = Duration::from_millis(100);
const LONGEST_END: Duration = Duration::from_secs(1);

/// A durable consumer that is pulled from.
pub(crate) struct Pull {
    client: Client,
    statistics: Arc<Statistics>,
    connects: u64,
    subject: String,
    inbox: String,
    incoming: Subscriber,
    rank: Rank,
    ahead: usize,
    // Messages that were asked for and have not been taken.
    asked: usize,
    heard: Instant,
    look: Interval,
}

impl Pull {
    /// Begins to pull from a durable consumer of the stream.
    pub(crate) async fn start(client: Client, durable: &str, rank: Rank) -> Result<Self, String> {
        let inbox = client.new_inbox();
        let incoming = client.subscribe(inbox.clone()).await;
        let statistics = client.statistics();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            connects: statistics.connects.load(Ordering::Relaxed),
            statistics,
            subject: format!("$JS.API.CONSUMER.MSG.NEXT.{}.{durable}", catalog::STREAM),
            inbox,
            incoming: incoming.map_err(|error| error.to_string())?,
            rank,
            ahead: AHEAD,
            asked: 0,
            heard: Instant::now(),
            look,
            client,
        })
    }

    /// The next message, however long it takes. While the broker is away, it waits. May be
    /// dropped at any time; nothing is lost by it.
    ///
    /// # Errors
    /// What the broker says when the consumer cannot be used.
    pub(crate) async fn next(&mut self) -> Result<Message, String> {
        loop {
            self.ask().await?;
            tokio::select! {
                biased;
                message = self.incoming.next() => {
                    let message = message.ok_or("the connection is closed")?;
                    if let Some(message) = self.take(message)? {
                        return Ok(message);
                    }
                }
                _ = self.look.tick() => {}
            }
        }
    }

    /// A message that has come already.
    pub(crate) fn ready(&mut self) -> Option<Message> {
        while let Some(Some(message)) = self.incoming.next().now_or_never() {
            match self.take(message) {
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                // It is asked again, and says so again.
                Err(_) => return None,
            }
        }
        None
    }

    /// So many messages were handled within a time: by that it asks for more ahead, or less.
    pub(crate) fn keep_up(&mut self, handled: usize, took: Duration) {
        self.ahead = ahead(handled, took);
    }

    /// Asks for no more, and gives back what has come and was not begun, so that another
    /// instance has it at once.
    pub(crate) async fn end(mut self) {
        let end = Instant::now() + LONGEST_END;
        let mut begun_by_nobody = Vec::new();
        // The broker goes on sending until it has sent what it was asked for.
        while self.asked > 0 {
            let patience = (Instant::now() + SILENCE).min(end);
            match tokio::time::timeout_at(patience, self.incoming.next()).await {
                Ok(Some(message)) => begun_by_nobody.extend(self.take(message).ok().flatten()),
                _ => break,
            }
        }
        // First the broker forgets this instance: as long as it is known to wait for
        // messages, what it gives back comes to it again, and is lost until `ack_wait`.
        let _ = self.incoming.unsubscribe().await;
        let _ = self.client.flush().await;
        for message in begun_by_nobody {
            answer(&self.client, &message, AckKind::Nak(None)).await;
        }
    }

    /// Asks for more once half of what was asked for has come, or when the broker cannot
    /// know any more what it was asked for.
    async fn ask(&mut self) -> Result<(), String> {
        let connects = self.statistics.connects.load(Ordering::Relaxed);
        if connects != self.connects || self.heard.elapsed() > LOST_AFTER {
            self.connects = connects;
            self.heard = Instant::now();
            self.asked = 0;
        }
        // A request into a lost connection may swallow messages until `ack_wait`.
        if self.asked > self.ahead / 2 || self.client.connection_state() != State::Connected {
            return Ok(());
        }
        let batch = self.ahead - self.asked;
        let request = json!({
            "batch": batch,
            "expires": EXPIRES.as_nanos() as u64,
            "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
            "group": INSTANCES,
            "priority": self.rank.now(),
        });
        let (subject, inbox) = (self.subject.clone(), self.inbox.clone());
        let request = Bytes::from(request.to_string());
        let sent = self.client.publish_with_reply(subject, inbox, request);
        sent.await.map_err(|error| error.to_string())?;
        self.asked += batch;
        Ok(())
    }

    /// Takes what has come: a message, or what the broker says about a request.
    fn take(&mut self, message: Message) -> Result<Option<Message>, String> {
        self.heard = Instant::now();
        let Some(status) = message.status else {
            self.asked = self.asked.saturating_sub(1);
            return Ok(Some(message));
        };
        match status {
            StatusCode::IDLE_HEARTBEAT => {}
            // A request has expired; it says how much of it was not answered.
            StatusCode::TIMEOUT => {
                let headers = message.headers.as_ref();
                let rest = headers.and_then(|headers| headers.get("Nats-Pending-Messages"));
                let rest = rest.and_then(|rest| rest.as_str().parse().ok());
                self.asked = self.asked.saturating_sub(rest.unwrap_or(self.asked));
            }
            status => {
                self.asked = 0;
                let why = message.description;
                return Err(why.unwrap_or_else(|| format!("the broker answers {status}")));
            }
        }
        Ok(None)
    }
}

/// How much to ask for ahead where so many messages were handled within a time.
fn ahead(handled: usize, took: Duration) -> usize {
    let per_second = handled as f64 / took.as_secs_f64().max(0.001);
    (per_second as usize).clamp(AHEAD, MOST_AHEAD)
}

/// Acks a message, or says that it is not done. What is lost is harmless: the event comes
/// again, and its effect is known.
pub(crate) async fn answer(client: &Client, message: &Message, kind: AckKind) {
    let Some(reply) = message.reply.clone() else {
        return;
    };
    if let Err(error) = client.publish(reply, kind.into()).await {
        tracing::debug!(%error, "ack");
    }
}

/// What the ack subject of a message says of it (ADR-15); zeroes when it does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// How often it was delivered, this time included.
    pub(crate) deliveries: u64,
    /// Where it stands in the stream.
    pub(crate) sequence: u64,
    /// How many the consumer has still to deliver.
    pub(crate) pending: u64,
}

/// Where a message stands.
pub(crate) fn place(message: &Message) -> Place {
    let Some(reply) = &message.reply else {
        return Place::default();
    };
    // $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>…, and in the newer form domain and
    // account come before the stream.
    let tokens = reply.as_str().split('.');
    let at = match tokens.clone().count() {
        9 => 4,
        _ => 6,
    };
    let mut tokens = tokens.skip(at);
    let mut number = || tokens.next().and_then(|token| token.parse().ok());
    let mut place = Place {
        deliveries: number().unwrap_or(0),
        sequence: number().unwrap_or(0),
        pending: 0,
    };
    // The consumer's own sequence and the time come before.
    place.pending = tokens
        .nth(2)
        .and_then(|token| token.parse().ok())
        .unwrap_or(0);
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(reply: &str) -> Message {
        Message {
            subject: "order.confirmed".into(),
            reply: Some(reply.into()),
            payload: Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn what_is_handled_in_a_second_is_asked_for_ahead_between_bounds() {
        let ms = Duration::from_millis;
        assert_eq!(ahead(100, ms(100)), 1000);
        assert_eq!(ahead(64, ms(300)), AHEAD, "at least a batch");
        assert_eq!(ahead(512, ms(10)), MOST_AHEAD);
        assert_eq!(ahead(1, ms(0)), 1000, "no time at all");
        let others = MAX_ACK_PENDING as usize - MOST_AHEAD - 512;
        assert!(others >= 1024, "others have room while a batch is in hand");
    }

    #[test]
    fn both_forms_of_ack_subjects_say_where_a_message_stands() {
        let third = Place {
            deliveries: 3,
            sequence: 42,
            pending: 9,
        };
        for (reply, expected) in [
            ("$JS.ACK.EVENTS.order.3.42.7.1700000000000.9", third),
            ("$JS.ACK._.h.EVENTS.order.3.42.7.1700000000000.9", third),
            ("$JS.ACK._.h.EVENTS.order.3.42.7.1700000000000.9.x", third),
            ("_INBOX.a", Place::default()),
        ] {
            assert_eq!(place(&message(reply)), expected, "{reply}");
        }
    }
}
