//! What the API document says of a route, read off the types of its handler: what it
//! takes and what it answers. A route adds a summary, and the refusals of its own.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::{Extension, Json};
use serde_json::{Value, json};
use utoipa::openapi::path::ParameterIn;
use utoipa::{IntoParams, ToSchema};

use crate::http::answers::{Accepted, Created, NoContent};
use crate::http::auth::Caller;
use crate::http::body::{Body, Id, Named, Nothing, Query};
use crate::http::idempotency::{Answered, Once};
use crate::http::limits::Place;
use crate::http::owner::{Operator, Owner, Reader};
use crate::http::problem::Problem;
use crate::http::ticket::Presented;

/// What a client must send to be let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Entry {
    #[default]
    Anybody,
    Token,
    TokenOrTicket,
    OperatorToken,
}

/// What the API document says of a route.
#[derive(Debug, Default)]
pub struct Doc {
    pub(crate) summary: &'static str,
    pub(crate) description: &'static str,
    pub(crate) entry: Entry,
    /// Whether it is about what somebody owns.
    pub(crate) owned: bool,
    reads: bool,
    /// Of what the path is about: the schema of its last parameter.
    pub(crate) id: Option<Value>,
    pub(crate) parameters: Vec<Value>,
    pub(crate) body: Option<Value>,
    pub(crate) answers: BTreeMap<u16, Answer>,
    pub(crate) refusals: BTreeMap<u16, BTreeSet<&'static str>>,
    pub(crate) schemas: BTreeMap<String, Value>,
}

/// A success.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) says: &'static str,
    pub(crate) content: Option<(&'static str, Value)>,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
}

/// The document of a route, begun with what the route does in a few words.
#[must_use]
pub fn doc(summary: &'static str) -> Doc {
    Doc {
        summary,
        ..Doc::default()
    }
}

impl From<&'static str> for Doc {
    fn from(summary: &'static str) -> Self {
        doc(summary)
    }
}

impl Doc {
    /// Says more than the summary.
    #[must_use]
    pub fn more(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// A success that the handler's type does not tell: with a body of JSON.
    #[must_use]
    pub fn answers<T: ToSchema>(self, status: u16, says: &'static str) -> Self {
        self.answers_as::<T>(status, says, "application/json")
    }

    /// A success with a body of another media type.
    #[must_use]
    pub fn answers_as<T: ToSchema>(
        mut self,
        status: u16,
        says: &'static str,
        media: &'static str,
    ) -> Self {
        let schema = self.schema::<T>();
        let answer = self.answers.entry(status).or_default();
        (answer.says, answer.content) = (says, Some((media, schema)));
        self
    }

    /// A success without a body.
    #[must_use]
    pub fn answers_empty(mut self, status: u16, says: &'static str) -> Self {
        self.answers.entry(status).or_default().says = says;
        self
    }

    /// A header of a success.
    #[must_use]
    pub fn with_header(mut self, status: u16, name: &'static str, says: &'static str) -> Self {
        self.answers
            .entry(status)
            .or_default()
            .headers
            .push((name, says));
        self
    }

    /// A problem that is the route's own, by its code. Those that come from what the
    /// handler takes are known.
    #[must_use]
    pub fn refuses(mut self, status: u16, codes: &[&'static str]) -> Self {
        self.refusals.entry(status).or_default().extend(codes);
        self
    }

    /// A header that may be sent.
    #[must_use]
    pub fn takes_header(mut self, name: &'static str, says: &'static str, schema: Value) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "header", "description": says, "schema": schema,
        }));
        self
    }

    /// The media types that the route answers with.
    pub(crate) fn media(&self) -> Vec<&'static str> {
        let contents = self
            .answers
            .values()
            .filter_map(|answer| answer.content.as_ref());
        let media: BTreeSet<_> = contents.map(|(media, _)| *media).collect();
        match media.is_empty() {
            true => vec!["application/json"],
            false => media.into_iter().collect(),
        }
    }

    /// What may happen to every request, before its handler has it.
    pub(crate) fn may_not_arrive(&mut self) {
        self.refuse(406, "NOT_ACCEPTABLE");
        for code in ["BUSY", "STARTING", "TIMEOUT"] {
            self.refuse(503, code);
        }
    }

    fn refuse(&mut self, status: u16, code: &'static str) {
        self.refusals.entry(status).or_default().insert(code);
    }

    /// A reference to the schema of a type, which is put into the document.
    fn schema<T: ToSchema>(&mut self) -> Value {
        let mut schemas = Vec::new();
        T::schemas(&mut schemas);
        schemas.push((T::name().into_owned(), T::schema()));
        for (name, schema) in schemas {
            let mut schema = serde_json::to_value(schema).unwrap_or_default();
            say_in_place(&mut schema);
            self.schemas.insert(name, schema);
        }
        json!({ "$ref": format!("#/components/schemas/{}", T::name()) })
    }

    fn takes_body<T: ToSchema>(&mut self, required: bool) {
        let schema = self.schema::<T>();
        let content = json!({ "application/json": { "schema": schema } });
        self.body = Some(json!({ "required": required, "content": content }));
        for (status, code) in [
            (400, "BAD_REQUEST"),
            (400, "BAD_JSON"),
            (413, "TOO_LARGE"),
            (415, "NOT_JSON"),
            (422, "INVALID"),
        ] {
            self.refuse(status, code);
        }
    }

    fn enters(&mut self, entry: Entry) {
        self.entry = entry;
        self.refuse(401, "UNAUTHORIZED");
        self.refuse(503, "NO_KEYS");
        if entry == Entry::OperatorToken {
            self.refuse(403, "FORBIDDEN");
        }
    }
}

/// What a handler takes, and what the document says of it.
pub trait Takes {
    /// Says it.
    fn describe(doc: &mut Doc);
}

/// What a handler answers, and what the document says of it.
pub trait Answers {
    /// Says it.
    fn describe(doc: &mut Doc);
}

/// A handler whose arguments and answer describe themselves. `T` is what tells axum's
/// handlers apart, too.
pub trait Described<T> {
    /// Says what it takes and answers.
    fn describe(doc: &mut Doc);
}

macro_rules! described {
    ($($input:ident)*) => {
        impl<F, Fut, R, M, $($input),*> Described<(M, $($input,)*)> for F
        where
            F: FnOnce($($input),*) -> Fut,
            Fut: Future<Output = R>,
            R: Answers,
            $($input: Takes),*
        {
            fn describe(doc: &mut Doc) {
                $(<$input as Takes>::describe(doc);)*
                R::describe(doc);
            }
        }
    };
}

described!();
described!(A);
described!(A B);
described!(A B C);
described!(A B C D);
described!(A B C D E);
described!(A B C D E G);

macro_rules! says_nothing {
    ($($takes:ty),*) => {$(
        impl Takes for $takes {
            fn describe(_: &mut Doc) {}
        }
    )*};
}

says_nothing!(HeaderMap, WebSocketUpgrade, Place);

impl<T> Takes for State<T> {
    fn describe(_: &mut Doc) {}
}

impl<T> Takes for Extension<T> {
    fn describe(_: &mut Doc) {}
}

impl<T: Takes, E> Takes for Result<T, E> {
    fn describe(doc: &mut Doc) {
        T::describe(doc);
    }
}

impl Takes for Caller {
    fn describe(doc: &mut Doc) {
        doc.enters(Entry::Token);
    }
}

impl Takes for Reader {
    fn describe(doc: &mut Doc) {
        doc.enters(Entry::Token);
        doc.reads = true;
        doc.owned |= doc.id.is_some();
    }
}

impl Takes for Presented {
    fn describe(doc: &mut Doc) {
        doc.enters(Entry::TokenOrTicket);
        doc.refuse(400, "BAD_QUERY");
        doc.reads = true;
        doc.owned |= doc.id.is_some();
    }
}

impl Takes for Owner {
    fn describe(doc: &mut Doc) {
        doc.enters(Entry::Token);
        doc.owned = true;
        doc.refuse(404, "NOT_FOUND");
    }
}

impl Takes for Operator {
    fn describe(doc: &mut Doc) {
        doc.enters(Entry::OperatorToken);
    }
}

impl<T: Named> Takes for Id<T> {
    fn describe(doc: &mut Doc) {
        doc.id = Some(T::schema());
        doc.owned |= doc.reads;
        doc.refuse(404, "NOT_FOUND");
    }
}

impl<T: IntoParams> Takes for Query<T> {
    fn describe(doc: &mut Doc) {
        let params = T::into_params(|| Some(ParameterIn::Query));
        let params = params.into_iter().map(serde_json::to_value);
        doc.parameters.extend(params.filter_map(Result::ok));
        doc.refuse(400, "BAD_QUERY");
        doc.refuse(422, "INVALID");
    }
}

impl<T: ToSchema> Takes for Body<T> {
    fn describe(doc: &mut Doc) {
        doc.takes_body::<T>(true);
    }
}

impl Takes for Nothing {
    fn describe(doc: &mut Doc) {
        doc.takes_body::<Self>(false);
    }
}

impl<T: ToSchema> Takes for Once<T> {
    fn describe(doc: &mut Doc) {
        // Without a field it needs no body.
        let required = std::mem::size_of::<T>() > 0;
        doc.takes_body::<T>(required);
        let key = json!({ "type": "string", "pattern": "^[!-~]{1,255}$" });
        let says = "A request that comes again with its key and its body has its effect once";
        doc.parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "description": says, "schema": key,
        }));
        doc.refuse(409, "IDEMPOTENCY_IN_PROGRESS");
        doc.refuse(422, "IDEMPOTENCY_KEY_REUSED");
    }
}

impl<T: Answers> Answers for Result<T, Problem> {
    fn describe(doc: &mut Doc) {
        T::describe(doc);
        doc.refuse(500, "INTERNAL");
        doc.refuse(503, "UNAVAILABLE");
        doc.refuse(503, "FENCED");
    }
}

impl<T: ToSchema> Answers for Json<T> {
    fn describe(doc: &mut Doc) {
        success::<T>(doc, 200, "Done");
    }
}

impl<T: ToSchema> Answers for Created<T> {
    fn describe(doc: &mut Doc) {
        success::<T>(doc, 201, "Created");
    }
}

impl<T: ToSchema> Answers for Accepted<T> {
    fn describe(doc: &mut Doc) {
        success::<T>(doc, 202, "Accepted: it is on its way");
    }
}

impl Answers for NoContent {
    fn describe(doc: &mut Doc) {
        doc.answers.entry(204).or_default().says = "Done";
    }
}

fn success<T: ToSchema>(doc: &mut Doc, status: u16, says: &'static str) {
    let schema = doc.schema::<T>();
    let answer = doc.answers.entry(status).or_default();
    answer.content = Some(("application/json", schema));
    if answer.says.is_empty() {
        answer.says = says;
    }
}

/// The route says what it may be.
impl Answers for Response {
    fn describe(_: &mut Doc) {}
}

/// The route says what it is; it may be a replay.
impl Answers for Answered {
    fn describe(doc: &mut Doc) {
        for answer in doc.answers.values_mut() {
            let replayed = "`true` when the request was answered before";
            answer.headers.push(("Idempotency-Replayed", replayed));
        }
    }
}

/// A field whose type stands in its place and that says something is written by utoipa as
/// all of both, the second an object: which nothing is. What is said belongs to the type.
fn say_in_place(schema: &mut Value) {
    match schema {
        Value::Object(fields) => fields.values_mut().for_each(say_in_place),
        Value::Array(values) => values.iter_mut().for_each(say_in_place),
        _ => return,
    }
    let Some([kind, said]) = schema["allOf"].as_array().map(Vec::as_slice) else {
        return;
    };
    let only_says = said
        .as_object()
        .is_some_and(|said| said.get("properties").is_none());
    if kind.get("$ref").is_some() || said.get("$ref").is_some() || !only_says {
        return;
    }
    let mut whole = kind.clone();
    for name in ["description", "example"] {
        if let Some(value) = said.get(name) {
            whole[name] = value.clone();
        }
    }
    *schema = whole;
}

/// The schema of an id.
pub(crate) fn uuid_schema() -> Value {
    json!({ "type": "string", "format": "uuid", "example": "01890000-0000-7000-8000-000000000000" })
}

/// The schema of a user's name.
pub(crate) fn user_schema() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9._@-]{1,64}$", "example": "alice" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_field_stands_beside_its_type() {
        let mut schema = json!({ "properties": { "reason": { "allOf": [
            { "type": "string", "maxLength": 200 },
            { "type": "object", "description": "Why" },
        ] } } });
        say_in_place(&mut schema);
        let expected = json!({ "type": "string", "maxLength": 200, "description": "Why" });
        assert_eq!(schema["properties"]["reason"], expected);
        let mut whole =
            json!({ "allOf": [{ "$ref": "#/x" }, { "type": "object", "properties": {} }] });
        let before = whole.clone();
        say_in_place(&mut whole);
        assert_eq!(whole, before);
    }
}
