//! The connection to NATS.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerError};
use tokio::sync::broadcast;

use crate::stream::access::{Access, Proof};

/// A connection to the broker.
#[derive(Clone, Debug)]
pub struct Context {
    jetstream: jetstream::Context,
    refusals: broadcast::Sender<Arc<str>>,
}

// Who is slow to hear of refusals misses some; what is published again is refused again.
const REFUSALS: usize = 1024;

impl Context {
    /// Hears, from now on, the subjects to which this connection may not publish, each time
    /// that it has tried. The broker answers such a message with nothing else.
    pub(crate) fn refusals(&self) -> broadcast::Receiver<Arc<str>> {
        self.refusals.subscribe()
    }
}

impl Deref for Context {
    type Target = jetstream::Context;

    fn deref(&self) -> &Self::Target {
        &self.jetstream
    }
}

/// The configuration of a pull consumer, as the broker has it.
pub type PullConfig = jetstream::consumer::pull::Config;

/// The broker cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to NATS at {url}: {detail}; {advice}")]
pub struct ConnectError {
    url: String,
    detail: String,
    advice: Cow<'static, str>,
}

impl ConnectError {
    /// Advises something else when nobody answered there.
    #[must_use]
    pub fn if_nobody_is_there(mut self, advice: impl FnOnce() -> String) -> Self {
        if self.advice == NOT_THERE {
            self.advice = advice().into();
        }
        self
    }
}

const NOT_THERE: &str = "check --nats-url, and that nats-server runs with JetStream (-js)";
const NOT_LET_IN: &str = "check --nats-user and what proves who it is: --nats-password-file, \
                          --nats-nkey-file or --nats-creds-file";
const NOT_TRUSTED: &str = "check --nats-ca, and --nats-cert where the broker asks for one";

/// What to do about an error of the client.
fn advice(error: &async_nats::ConnectError) -> &'static str {
    let source = std::error::Error::source(error);
    let io = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    // What TLS refuses is data that is not valid, in the words of the system.
    let refused = io.is_some_and(|io| io.kind() == std::io::ErrorKind::InvalidData);
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => NOT_LET_IN,
        ConnectErrorKind::Tls => NOT_TRUSTED,
        _ if refused => NOT_TRUSTED,
        _ => NOT_THERE,
    }
}

/// Where the inboxes of a user, or of a process without one, are. With permissions, nobody
/// else may listen there.
#[must_use]
pub fn inbox(name: &str) -> String {
    format!("_INBOX_{name}")
}

/// Connects to the broker. Once connected, it reconnects for ever, with a backoff. `name`
/// names the connection, and the inboxes of one that has no user.
///
/// # Errors
/// When the first connection fails.
pub async fn connect(access: impl Into<Access>, name: &str) -> Result<Context, ConnectError> {
    let access = access.into();
    let failed = |detail: String, advice: &'static str| ConnectError {
        url: access.shown(),
        detail,
        advice: advice.into(),
    };
    let refusals = broadcast::Sender::new(REFUSALS);
    let refused = refusals.clone();
    let mut options = ConnectOptions::new()
        .name(format!("ensemble-{name}"))
        .custom_inbox_prefix(inbox(access.user.as_deref().unwrap_or(name)))
        .connection_timeout(Duration::from_secs(3))
        .request_timeout(Some(Duration::from_secs(3)))
        // A half-open connection is noticed within two intervals.
        .ping_interval(Duration::from_secs(5))
        .reconnect_delay_callback(backoff)
        .event_callback(move |event| {
            if let Some(subject) = forbidden(&event) {
                // Nobody has to listen.
                let _ = refused.send(subject.into());
            }
            log(event)
        })
        .subscription_capacity(65_536);
    options = match &access.proof {
        Proof::None => options,
        Proof::Password(user, password) => {
            options.user_and_password(user.clone(), password.expose().to_owned())
        }
        Proof::Nkey(seed) => {
            // The client would find it out in the middle of the handshake.
            if nkeys::KeyPair::from_seed(seed.expose()).is_err() {
                let detail = "--nats-nkey-file has no seed of an nkey".to_owned();
                return Err(failed(detail, NOT_LET_IN));
            }
            options.nkey(seed.expose().to_owned())
        }
        Proof::Creds(creds) => {
            // The client finds the end of the seed by the line that ends there.
            let creds = format!("{}\n", creds.expose());
            options.credentials(&creds).map_err(|error| {
                let detail = format!("--nats-creds-file has no credentials: {error}");
                failed(detail, NOT_LET_IN)
            })?
        }
    };
    if let Some(ca) = &access.ca {
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let Some((certificate, key)) = &access.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    let client = options
        .connect(&access.url)
        .await
        .map_err(|error| failed(error.to_string(), advice(&error)))?;
    let jetstream = jetstream::ContextBuilder::new()
        .timeout(Duration::from_secs(5))
        .ack_timeout(Duration::from_secs(5))
        .build(client);
    Ok(Context {
        jetstream,
        refusals,
    })
}

/// The subject to which the broker did not let this connection publish. The protocol has no
/// code for it, only this text.
fn forbidden(event: &Event) -> Option<&str> {
    let Event::ServerError(ServerError::Other(text)) = event else {
        return None;
    };
    text.strip_prefix("Permissions Violation for Publish to \"")?
        .strip_suffix('"')
}

async fn log(event: Event) {
    match event {
        // The broker says no: usually to something that this user may not do.
        Event::ServerError(_) | Event::ClientError(_) => tracing::warn!(%event, "nats"),
        event => tracing::info!(%event, "nats"),
    }
}

fn backoff(attempts: usize) -> Duration {
    let exponent = u32::try_from(attempts.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(5);
    Duration::from_millis(50 << exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_not_be_published_is_refused() {
        let said = |text: &str| Event::ServerError(ServerError::Other(text.to_owned()));
        let publish = said("Permissions Violation for Publish to \"order.confirmed\"");
        assert_eq!(forbidden(&publish), Some("order.confirmed"));
        let subscribe = said("Permissions Violation for Subscription to \"order.confirmed\"");
        assert_eq!(forbidden(&subscribe), None);
        assert_eq!(forbidden(&said("Maximum Payload Violation")), None);
        assert_eq!(forbidden(&Event::Connected), None);
    }
}
