//! Order's HTTP routes.

mod cancel;
mod messages;
mod place;
mod read;
mod resolve;
mod stream;
mod tickets;
mod view;
mod wait;
mod watching;

use axum::Router;
use axum::extract::FromRef;
use axum::routing::{get, post};
use jetstream::Shell;
use jetstream::http::intake::Intake;
use jetstream::http::limits::PerUser;

use crate::placing::Placing;
use watching::Watching;

/// What the routes work with.
#[derive(Clone)]
pub(crate) struct Api {
    shell: Shell,
    placing: Intake<Placing>,
    limit: PerUser,
    watching: Watching,
}

impl FromRef<Api> for Shell {
    fn from_ref(api: &Api) -> Self {
        api.shell.clone()
    }
}

pub(crate) fn routes(shell: &Shell) -> Router {
    crate::timers::start(shell);
    tickets::prune(shell);
    let placing = shell.intake(Placing::new(shell.settings()));
    Router::new()
        .route("/orders", post(place::place).get(read::list))
        .route("/orders/{id}", get(read::show))
        .route("/orders/{id}/status", get(read::status))
        .route("/orders/{id}/timeline", get(read::timeline))
        .route("/orders/{id}/events", get(stream::events))
        .route("/orders/{id}/ws", get(stream::ws))
        .route("/orders/{id}/stream-ticket", post(tickets::issue))
        .route("/orders/{id}/cancel", post(cancel::cancel))
        .route("/orders/{id}/resolve", post(resolve::resolve))
        .with_state(Api {
            shell: shell.clone(),
            placing,
            limit: PerUser::new(shell),
            watching: Watching::start(shell),
        })
}
