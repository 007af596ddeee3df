//! Values with limits. A body that breaks one cannot be read, the problem names the field
//! and the limit, and the API document says the same: the limit is written once, in the
//! type.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

const LONGEST: usize = 200;

/// A whole number from `LEAST` to `MOST`. Where one is a field, it has a name of its own:
/// `type Price = Number<0, MAX_PRICE>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<const LEAST: i64, const MOST: i64>(i64);

impl<const LEAST: i64, const MOST: i64> Number<LEAST, MOST> {
    /// Checks a number.
    #[must_use]
    pub fn new(value: i64) -> Option<Self> {
        (LEAST..=MOST).contains(&value).then_some(Self(value))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

struct Whole<const LEAST: i64, const MOST: i64>;

impl<const LEAST: i64, const MOST: i64> Visitor<'_> for Whole<LEAST, MOST> {
    type Value = Number<LEAST, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {LEAST} to {MOST}")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        let rule = || E::custom(format!("must be {LEAST} to {MOST}"));
        Number::new(value).ok_or_else(rule)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        self.visit_i64(value.try_into().unwrap_or(i64::MAX))
    }
}

impl<'de, const LEAST: i64, const MOST: i64> Deserialize<'de> for Number<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(Whole)
    }
}

impl<const LEAST: i64, const MOST: i64> PartialSchema for Number<LEAST, MOST> {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(LEAST))
            .maximum(Some(MOST));
        number.into()
    }
}

impl<const LEAST: i64, const MOST: i64> ToSchema for Number<LEAST, MOST> {}

/// A text of 1 to 200 characters, none of them control: a name, a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Text(String);

impl Text {
    /// Checks a text.
    #[must_use]
    pub fn new(text: String) -> Option<Self> {
        let length = (1..=LONGEST).contains(&text.chars().count());
        (length && !text.chars().any(char::is_control)).then_some(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(text).ok_or_else(|| {
            let rule = format!("must be 1 to {LONGEST} characters, none of them control");
            de::Error::custom(rule)
        })
    }
}

impl PartialSchema for Text {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(LONGEST))
            .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]*$"));
        text.into()
    }
}

impl ToSchema for Text {}

#[cfg(test)]
mod tests {
    use crate::http::body::parse;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // only read
    struct Wish {
        units: Vec<Number<1, 10>>,
        name: Option<Text>,
    }

    #[test]
    fn what_breaks_a_limit_is_named_with_it() {
        let long = format!(r#"{{"units": [], "name": "{}"}}"#, "x".repeat(201));
        for (body, detail) in [
            (r#"{"units": [1, 10], "name": "a"}"#, ""),
            (r#"{"units": [1, 11]}"#, "units[1] must be 1 to 10"),
            (r#"{"units": [0]}"#, "units[0] must be 1 to 10"),
            (
                r#"{"units": [18446744073709551615]}"#,
                "units[0] must be 1 to 10",
            ),
            (
                r#"{"units": ["1"]}"#,
                "units[0] must be a whole number from 1 to 10, and is string \"1\"",
            ),
            (
                r#"{"units": [], "name": ""}"#,
                "name must be 1 to 200 characters, none of them control",
            ),
            (
                &long,
                "name must be 1 to 200 characters, none of them control",
            ),
            (
                r#"{"units": [], "name": "a\u0000b"}"#,
                "name must be 1 to 200 characters, none of them control",
            ),
        ] {
            let said = parse::<Wish>(body.as_bytes())
                .map_or_else(|p| p.detail().to_owned(), |_| String::new());
            assert_eq!(said, detail, "{body}");
        }
    }
}
