//! What comes with a request: its body, its query, the ids in its path. Whatever is wrong
//! with it is answered by a problem that names the field and the rule.

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use events::{CampaignId, OrderId, ProductId, UserId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::http::problem::Problem;
use crate::http::{BODY_LIMIT, described, missing};

/// A JSON body; what is wrong with it is named by its path.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Ok(Self(parse(&read(request, state).await?)?))
    }
}

/// What a route without a body takes: nothing, or `{}`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl<S: Send + Sync> FromRequest<S> for Nothing {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = read(request, state).await?;
        parse(or_empty(&bytes))
    }
}

/// No body means `{}`.
pub(crate) fn or_empty(bytes: &[u8]) -> &[u8] {
    if bytes.is_empty() { b"{}" } else { bytes }
}

/// The bytes of a body, if they are JSON by their type and not too many.
pub(crate) async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    let is_json = is_json(request.headers());
    let bytes = Bytes::from_request(request, state)
        .await
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "TOO_LARGE",
                format!("a body may have at most {BODY_LIMIT} bytes"),
            ),
            _ => Problem::new(
                StatusCode::BAD_REQUEST,
                "BAD_REQUEST",
                "the body is cut off",
            ),
        })?;
    match is_json || bytes.is_empty() {
        true => Ok(bytes),
        false => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "NOT_JSON",
            "a body must be JSON: send `Content-Type: application/json`",
        )),
    }
}

/// Whether a body claims to be JSON; one that claims nothing is taken to be.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let essence = value.to_str().unwrap_or_default().split(';').next();
    let essence = essence.unwrap_or_default().trim().to_ascii_lowercase();
    let structured = essence.starts_with("application/") && essence.ends_with("+json");
    essence == "application/json" || structured
}

/// Reads JSON; what is wrong with it is named by its path.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde reads the fields of a struct from an array, too.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::invalid("the body", OBJECT));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let body = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => {
                if let Some(field) = missing::field::<T>(bytes) {
                    return Problem::invalid(&field, "is missing");
                }
                match path.as_str() {
                    "." if !bytes.trim_ascii_start().starts_with(b"{") => {
                        Problem::invalid("the body", OBJECT)
                    }
                    "." => Problem::invalid("the body", &rule(&inner)),
                    path => Problem::invalid(path, &rule(&inner)),
                }
            }
            _ => bad_json(&inner),
        }
    })?;
    json.end().map_err(|error| bad_json(&error))?;
    Ok(body)
}

const OBJECT: &str = "must be a JSON object";

/// The rule that was broken, in JSON's words: a type of ours says it itself. The names of
/// types are nobody's business.
fn rule(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let said = text
        .rsplit_once(" at line ")
        .map_or(&*text, |(said, _)| said);
    if said.starts_with("must ") {
        return said.to_owned();
    }
    let Some((found, expected)) = said
        .strip_prefix("invalid type: ")
        .and_then(|types| types.rsplit_once(", expected "))
    else {
        return format!("is not valid: {said}");
    };
    let found = match found {
        "sequence" => "a list",
        "map" => "an object",
        other => other,
    };
    let expected = match expected {
        "a sequence" => "a list",
        "a map" => "an object",
        "string or map" => "a string or an object",
        "i64" | "u64" | "u32" => "a whole number",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("must be {expected}, and is {found}")
}

fn bad_json(error: &serde_json::Error) -> Problem {
    let detail = format!("the body is not valid JSON: {error}");
    Problem::new(StatusCode::BAD_REQUEST, "BAD_JSON", detail)
}

/// The query parameters; what is wrong with them is said as a problem.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Query::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|rejection| {
                let text = rejection.body_text();
                let said = text.strip_prefix("Failed to deserialize query string: ");
                let detail = format!("the query is not valid: {}", said.unwrap_or(&text));
                Problem::new(StatusCode::BAD_REQUEST, "BAD_QUERY", detail)
            })
    }
}

/// The id that a path is about: its last parameter. What is no id is simply not there.
pub struct Id<T>(pub T);

/// What can be named in a path.
pub trait Named: Sized {
    /// What it is called when there is none: `there is no such order`.
    const WHAT: &'static str;

    /// Reads it, in the one way that it is written.
    fn read(text: &str) -> Option<Self>;

    /// What the API document says of it.
    #[must_use]
    fn schema() -> Value {
        described::uuid_schema()
    }
}

/// Hyphenated, and nothing else: a resource has one address.
fn uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| text.parse().ok()).flatten()
}

macro_rules! named {
    ($($id:ident: $what:literal),*) => {$(
        impl Named for $id {
            const WHAT: &'static str = $what;

            fn read(text: &str) -> Option<Self> {
                uuid(text).map($id)
            }
        }
    )*};
}

named!(OrderId: "order", ProductId: "product", CampaignId: "campaign");

impl Named for Uuid {
    const WHAT: &'static str = "dead letter";

    fn read(text: &str) -> Option<Self> {
        uuid(text)
    }
}

impl Named for UserId {
    const WHAT: &'static str = "user";

    fn read(text: &str) -> Option<Self> {
        Self::new(text).ok()
    }

    fn schema() -> Value {
        described::user_schema()
    }
}

impl<T: Named, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let missing = || Problem::not_found(T::WHAT);
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| missing())?;
        let last = params.iter().last().ok_or_else(missing)?;
        T::read(last.1).map(Self).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_type() {
        for (value, expected) in [
            (Some("application/json"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("application/merge-patch+json"), true),
            (None, true),
            (Some("text/plain"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (Some("application/jsonx"), false),
            (Some(""), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::CONTENT_TYPE, value.parse().expect("a header"));
            }
            assert_eq!(is_json(&headers), expected, "{value:?}");
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = "01890000-0000-7000-8000-0000000000ab";
        assert!(OrderId::read(id).is_some());
        for other in [
            &id.replace('-', ""),
            &format!("urn:uuid:{id}"),
            &format!("{{{id}}}"),
            "",
            "1",
        ] {
            assert!(OrderId::read(other).is_none(), "{other}");
        }
    }
}
