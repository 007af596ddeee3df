//! `POST /orders/{id}/stream-ticket`: browsers cannot set headers on a stream, so they
//! show a ticket: for one order, for 30 seconds, once.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use events::OrderId;
use jetstream::http::described::{Answers, Doc};
use jetstream::http::{Created, Id, Nothing, Reader, ticket};
use jetstream::{Problem, clock};
use serde::Serialize;
use utoipa::ToSchema;

use super::read;

/// A ticket.
#[derive(Serialize, ToSchema)]
pub(super) struct StreamTicket {
    /// What the stream is opened with: `?ticket=`
    ticket: String,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// An answer that nobody keeps.
pub(super) struct Secret(Created<StreamTicket>);

impl IntoResponse for Secret {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        let no_store = HeaderValue::from_static("no-store");
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, no_store);
        response
    }
}

impl Answers for Secret {
    fn describe(doc: &mut Doc) {
        Created::<StreamTicket>::describe(doc);
    }
}

pub(super) async fn issue(
    reader: Reader,
    Id(id): Id<OrderId>,
    _: Nothing,
) -> Result<Secret, Problem> {
    read::find(&reader, id).await?;
    let given = ticket::give(&reader, id).await?;
    Ok(Secret(Created(StreamTicket {
        ticket: given.secret,
        expires_at: clock::rfc3339(given.expires_at),
    })))
}
