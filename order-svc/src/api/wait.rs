//! `Prefer: wait=N` (RFC 7240, 4.3): the answer waits for the outcome.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use events::{OrderId, UserId};

use super::watching::{Watch, Watching};
use crate::domain::Order;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const LONGEST: u64 = 30;
// The version of an order that has not changed since it was placed.
const PLACED: i64 = 1;

/// A client that is ready to wait for the outcome of its order.
pub(super) struct Wait {
    seconds: u64,
    watch: Watch,
}

impl Wait {
    /// Begins to watch, if the client prefers to wait and not too many wait already.
    pub(super) fn asked(
        headers: &HeaderMap,
        watching: &Watching,
        id: OrderId,
        user: &UserId,
    ) -> Option<Self> {
        let seconds = seconds(headers)?;
        let watch = watching.watch(id, user).ok()?;
        Some(Self { seconds, watch })
    }

    /// The newest state of an order that was placed a moment ago: the final one, or the one
    /// that it has when the time is over. Nothing when it has not changed.
    pub(super) async fn outcome(&mut self) -> Option<Order> {
        let watch = &mut self.watch;
        let mut order: Option<Order> = None;
        let until_final = async {
            while !order.as_ref().is_some_and(|order| order.state.is_final()) {
                let version = order.as_ref().map_or(PLACED, |order| order.version);
                match watch.newer(version).await {
                    Some(newest) => order = Some(newest.order.clone()),
                    None => return,
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(self.seconds), until_final).await;
        order
    }

    /// Says that it was waited for: 200 with the outcome, or still 202.
    pub(super) fn applied(&self, order: Option<&Order>, response: &mut Response) {
        if order.is_some_and(|order| order.state.is_final()) {
            *response.status_mut() = StatusCode::OK;
        }
        if let Ok(value) = HeaderValue::from_str(&format!("wait={}", self.seconds)) {
            response.headers_mut().insert(PREFERENCE_APPLIED, value);
        }
    }
}

/// How long the client prefers to wait, at most 30. Of a preference that is given more
/// than once the first counts, and one that cannot be read is ignored (RFC 7240, 2).
fn seconds(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all(PREFER).into_iter();
    let preferences = values.filter_map(|value| value.to_str().ok());
    let mut waits = preferences
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next()?.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .map(|(_, value)| value.trim());
    let digits = waits.next()?;
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Digits that are no u64 are a number that is too large, not a mistake.
    number.then(|| digits.parse().unwrap_or(LONGEST).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_read_as_the_rfc_says() {
        for (values, expected) in [
            (&["wait=10"][..], Some(10)),
            (&["WAIT = 7"], Some(7)),
            (&["respond-async, wait=5;why=\"because\""], Some(5)),
            (&["return=minimal", "wait=3"], Some(3)),
            (&["wait=3, wait=9"], Some(3)),
            (&["wait=0"], Some(0)),
            (&["wait=31"], Some(30)),
            (&["wait=99999999999999999999999"], Some(30)),
            (&["wait"], None),
            (&["wait="], None),
            (&["wait=-1"], None),
            (&["wait=1.5"], None),
            (&["wait=soon"], None),
            (&["waiting=5"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER, HeaderValue::from_static(value));
            }
            assert_eq!(seconds(&headers), expected, "{values:?}");
        }
    }
}
