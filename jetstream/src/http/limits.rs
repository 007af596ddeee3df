//! Limits that protect a process from its clients: requests in flight, the time that one
//! may take, what one user may ask for in a while, and how often one may wait at once.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use events::UserId;
use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::{Problem, access};
use crate::shell::Shell;

// Users whose bucket is full again are forgotten this often.
const FORGET: Duration = Duration::from_secs(10);

/// What a process takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight in a process.
    pub requests_in_flight: usize,
    /// A request is given up after this time.
    pub request_timeout: Duration,
    /// Orders, and coupons, that a user may ask for; absent: any number.
    pub rate: Option<Rate>,
    /// Orders that one user may wait for, or follow, at once.
    pub waits_per_user: usize,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second in the long run.
    pub per_second: NonZeroU32,
    /// Requests at once.
    pub burst: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        let number = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            requests_in_flight: 1024,
            request_timeout: Duration::from_secs(40),
            rate: Some(Rate {
                per_second: number(20),
                burst: number(100),
            }),
            waits_per_user: 100,
        }
    }
}

/// Counts what each user asks for on one route, in the memory of this process: with
/// several instances a user may ask each of them this often.
#[derive(Clone)]
pub struct PerUser(Option<Arc<Buckets>>);

type Buckets = RateLimiter<UserId, HashMapStateStore<UserId>, DefaultClock>;

impl PerUser {
    /// By the settings of a service.
    pub fn new(shell: &Shell) -> Self {
        let Some(rate) = shell.settings().limits.rate else {
            return Self(None);
        };
        let buckets = Arc::new(buckets(rate));
        let (kept, stop) = (buckets.clone(), shell.stopping());
        shell.spawn("rate limits", async move {
            // So there are no more buckets than users who asked in the last seconds.
            while stop
                .run_until_cancelled(tokio::time::sleep(FORGET))
                .await
                .is_some()
            {
                kept.retain_recent();
                kept.shrink_to_fit();
            }
        });
        Self(Some(buckets))
    }

    /// Counts one request of a user.
    ///
    /// # Errors
    /// 429 when it is one too many.
    pub fn admit(&self, user: &UserId) -> Result<(), Problem> {
        match &self.0 {
            Some(buckets) => take(buckets, user),
            None => Ok(()),
        }
    }
}

fn buckets(rate: Rate) -> Buckets {
    RateLimiter::hashmap(Quota::per_second(rate.per_second).allow_burst(rate.burst))
}

fn take(buckets: &Buckets, user: &UserId) -> Result<(), Problem> {
    buckets.check_key(user).map_err(|until| {
        let wait = until.wait_time_from(DefaultClock::default().now());
        // Whole seconds, rounded up: one that comes back then is let in.
        let seconds = u32::try_from(wait.as_secs())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let most = until.quota().burst_size().get();
        let detail = format!("you ask too often: come back in {seconds} s");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", detail)
            .retry_after(seconds)
            .header("ratelimit-limit", most)
            .header("ratelimit-remaining", 0)
            .header("ratelimit-reset", seconds)
    })
}

/// What the requests of a process share.
#[derive(Clone)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    timeout: Duration,
}

impl Gate {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.requests_in_flight)),
            timeout: limits.request_timeout,
        }
    }
}

/// The place of a request among those in flight.
#[derive(Clone, Default)]
pub struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Place {
    /// Gives the place to another request. For one whose work is done and that only waits
    /// for something to happen: those have a limit of their own.
    pub fn leave(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl<S: Sync> FromRequestParts<S> for Place {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// Lets a request in if there is a place for it, and gives it up when it takes too long.
/// Health and metrics are always answered: a busy process is not a dead one.
pub(crate) async fn gate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    if access::is_quiet(request.uri().path()) {
        return next.run(request).await;
    }
    let Ok(permit) = gate.places.clone().try_acquire_owned() else {
        let detail = "too many requests are running: come back in a moment";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "BUSY", detail)
            .retry_after(1)
            .into_response();
    };
    // Held until the answer is there, or until the request leaves it.
    let place = Place(Arc::new(Mutex::new(Some(permit))));
    request.extensions_mut().insert(place.clone());
    let answered = tokio::time::timeout(gate.timeout, next.run(request)).await;
    place.leave();
    match answered {
        Ok(response) => response,
        Err(_) => {
            let detail = "this took too long and was given up: look whether it was done before \
                          you send it again, or send it with an Idempotency-Key";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "TIMEOUT", detail)
                .retry_after(1)
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt as _;

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("valid")
    }

    #[test]
    fn a_user_who_asks_too_often_waits_and_others_do_not() {
        let rate = Rate {
            per_second: NonZeroU32::MIN,
            burst: NonZeroU32::MIN.saturating_add(2),
        };
        let buckets = buckets(rate);
        for _ in 0..3 {
            assert!(take(&buckets, &user("alice")).is_ok());
        }
        let refused = take(&buckets, &user("alice")).expect_err("one too many");
        let response = refused.into_response();
        assert_eq!(response.status(), 429);
        for (header, value) in [
            ("ratelimit-limit", "3"),
            ("ratelimit-remaining", "0"),
            ("ratelimit-reset", "1"),
            ("retry-after", "1"),
        ] {
            assert_eq!(response.headers()[header], value, "{header}");
        }
        assert!(take(&buckets, &user("bob")).is_ok());
    }

    async fn answered(limits: Limits, path: &str) -> u16 {
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(60)).await;
        };
        let router = Router::new()
            .route("/slow", get(slow))
            .route("/fast", get(|| async {}))
            .route("/health/live", get(|| async {}))
            .layer(from_fn_with_state(Gate::new(&limits), gate));
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = router.oneshot(request).await.expect("an answer");
        response.status().as_u16()
    }

    #[tokio::test]
    async fn a_request_is_given_up_in_time_and_refused_without_a_place() {
        let limits = Limits {
            request_timeout: Duration::from_millis(50),
            ..Limits::default()
        };
        assert_eq!(answered(limits, "/fast").await, 200);
        assert_eq!(answered(limits, "/slow").await, 503);
        let full = Limits {
            requests_in_flight: 0,
            ..limits
        };
        assert_eq!(answered(full, "/fast").await, 503);
        assert_eq!(answered(full, "/health/live").await, 200);
    }
}
