//! The routes of a service, each with what the API document says of it: there is no way to
//! add one without.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, patch, post, put};

use crate::http::access;
use crate::http::described::{Described, Doc};
use crate::http::problem::Problem;
use crate::shell::Shell;

/// The media types that a route answers with; `*/*` for whatever is asked for.
type Media = Arc<[&'static str]>;

/// The routes of a service, and what the API document says of them. They run once the
/// service does.
pub struct Routes {
    router: Work,
    pub(crate) tag: (&'static str, &'static str),
    pub(crate) described: Vec<Route>,
}

enum Work {
    /// What they work with is there.
    Ready(Router),
    /// It is made when the service starts.
    Later(Box<dyn FnOnce(&Shell) -> Router + Send>),
}

/// A route, described.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) doc: Doc,
}

/// Routes that have not been told yet what they work with.
pub struct Building<S> {
    router: Router<S>,
    tag: (&'static str, &'static str),
    described: Vec<Route>,
}

impl Routes {
    /// Begins a list of routes. In the API document they stand together under a name, with
    /// a sentence on what they are about.
    #[must_use]
    pub fn about<S: Clone + Send + Sync + 'static>(
        name: &'static str,
        sentence: &'static str,
    ) -> Building<S> {
        Building {
            router: Router::new(),
            tag: (name, sentence),
            described: Vec::new(),
        }
    }

    /// A service without routes.
    #[must_use]
    pub fn none() -> Self {
        Self {
            router: Work::Ready(Router::new()),
            tag: ("", ""),
            described: Vec::new(),
        }
    }

    /// The routes of a service that runs.
    pub(crate) fn start(self, shell: &Shell) -> Router {
        match self.router {
            Work::Ready(router) => router,
            Work::Later(start) => start(shell),
        }
    }

    /// The routes of a process, which wait for no service.
    pub(crate) fn router(self) -> Router {
        match self.router {
            Work::Ready(router) => router,
            Work::Later(_) => Router::new(),
        }
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $method:ident),*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $method<H, T>(self, path: &'static str, handler: H, doc: impl Into<Doc>) -> Self
        where
            H: Handler<T, S> + Described<T>,
            T: 'static,
        {
            let mut doc = doc.into();
            H::describe(&mut doc);
            if !access::is_quiet(path) {
                doc.may_not_arrive();
            }
            self.add(stringify!($method), path, $method(handler), doc)
        }
    )*};
}

impl<S: Clone + Send + Sync + 'static> Building<S> {
    methods! {
        /// Adds a route for `GET`.
        get,
        /// Adds a route for `POST`.
        post,
        /// Adds a route for `PUT`.
        put,
        /// Adds a route for `PATCH`.
        patch,
        /// Adds a route for `DELETE`.
        delete
    }

    fn add(
        mut self,
        method: &'static str,
        path: &'static str,
        route: MethodRouter<S>,
        doc: Doc,
    ) -> Self {
        let media: Media = doc.media().into();
        let route = route.layer(from_fn_with_state(media, acceptable));
        self.router = self.router.route(path, route);
        self.described.push(Route { method, path, doc });
        self
    }

    /// What the routes work with, made when the service starts.
    #[must_use]
    pub fn with(self, state: impl FnOnce(&Shell) -> S + Send + 'static) -> Routes {
        let router = self.router;
        Routes {
            router: Work::Later(Box::new(move |shell| router.with_state(state(shell)))),
            tag: self.tag,
            described: self.described,
        }
    }

    /// What the routes of a process work with.
    pub(crate) fn with_state(self, state: S) -> Routes {
        Routes {
            router: Work::Ready(self.router.with_state(state)),
            tag: self.tag,
            described: self.described,
        }
    }
}

/// 406 for a client that takes nothing of what the route answers.
async fn acceptable(State(media): State<Media>, request: Request, next: Next) -> Response {
    if takes(request.headers(), &media) {
        return next.run(request).await;
    }
    let detail = format!(
        "this route answers {}: leave `Accept` out, or name it",
        media.join(" or ")
    );
    Problem::new(StatusCode::NOT_ACCEPTABLE, "NOT_ACCEPTABLE", detail).into_response()
}

/// Whether `Accept` (RFC 9110, 12.5.1) has room for one of the media types.
fn takes(headers: &HeaderMap, media: &[&str]) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return true;
    }
    let ranges = values.filter_map(|value| value.to_str().ok());
    let mut ranges = ranges.flat_map(|value| value.split(','));
    ranges.any(|range| {
        let mut parts = range
            .split(';')
            .map(|part| part.trim().to_ascii_lowercase());
        let range = parts.next().unwrap_or_default();
        let refused = parts.any(|part| {
            let quality = part.strip_prefix("q=").map(str::parse::<f32>);
            matches!(quality, Some(Ok(quality)) if quality <= 0.0)
        });
        let fits = |media: &&str| match range.strip_suffix('*') {
            _ if *media == "*/*" => true,
            Some("*/") => true,
            Some(kind) => media.starts_with(kind),
            None => *media == range,
        };
        !refused && media.iter().any(fits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_accepts_is_read_as_the_rfc_says() {
        for (accept, expected) in [
            (None, true),
            (Some("application/json"), true),
            (Some("*/*"), true),
            (Some("application/*;q=0.1"), true),
            (Some("text/html, application/xhtml+xml, */*;q=0.8"), true),
            (Some("Application/JSON"), true),
            (Some("text/html"), false),
            (Some("application/json;q=0"), false),
            (Some(""), false),
            (Some("nonsense"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            }
            assert_eq!(
                takes(&headers, &["application/json"]),
                expected,
                "{accept:?}"
            );
        }
    }
}
