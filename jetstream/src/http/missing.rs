//! Which field of a body is missing.
//!
//! serde tells the name of a missing field to the error type alone, and serde_json's puts
//! it into a sentence. So a body that was refused is read once more, with an error type
//! that keeps the name.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

/// The path of the field for lack of which a body cannot be read, if that is the reason.
pub(crate) fn field<T: DeserializeOwned>(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let refused = serde_path_to_error::deserialize::<_, T>(Json(value)).err()?;
    let field = refused.inner().0?;
    let path = refused.path().to_string();
    Some(match path.as_str() {
        "." => field.to_owned(),
        path => format!("{path}.{field}"),
    })
}

#[derive(Debug)]
struct Refused(Option<&'static str>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body cannot be read")
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(None)
    }

    fn missing_field(field: &'static str) -> Self {
        Self(Some(field))
    }
}

struct Json(Value);

impl<'de> Deserializer<'de> for Json {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(value) => match (value.as_u64(), value.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Some(value)) => visitor.visit_i64(value),
                (None, None) => visitor.visit_f64(value.as_f64().unwrap_or_default()),
            },
            Value::String(value) => visitor.visit_string(value),
            Value::Array(values) => {
                visitor.visit_seq(SeqDeserializer::new(values.into_iter().map(Json)))
            }
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| (name, Json(value)));
                visitor.visit_map(MapDeserializer::new(fields))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(name.into_deserializer()),
            _ => Err(Refused(None)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl IntoDeserializer<'_, Refused> for Json {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // only read
    struct Order {
        items: Vec<Item>,
        coupon: Option<uuid::Uuid>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)] // only read
    struct Item {
        product: uuid::Uuid,
        quantity: i64,
    }

    #[test]
    fn a_missing_field_is_named_by_its_path() {
        let id = uuid::Uuid::nil();
        for (body, field) in [
            ("{}".to_owned(), Some("items")),
            (r#"{"coupon": null}"#.to_owned(), Some("items")),
            (
                r#"{"items": [{"quantity": 1}]}"#.to_owned(),
                Some("items[0].product"),
            ),
            (
                format!(
                    r#"{{"items": [{{"product": "{id}", "quantity": 1}}, {{"product": "{id}"}}]}}"#
                ),
                Some("items[1].quantity"),
            ),
            (r#"{"items": 1}"#.to_owned(), None),
            (r#"{"wrong": 1}"#.to_owned(), None),
            (r#"{"items": []}"#.to_owned(), None),
        ] {
            assert_eq!(
                super::field::<Order>(body.as_bytes()).as_deref(),
                field,
                "{body}"
            );
        }
    }
}
