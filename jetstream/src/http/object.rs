//! Objects inside a body.
//!
//! serde reads the fields of a struct from an array, too: `["mug", 2]` would be a line of an
//! order. A client that sends that has made a mistake, and should hear of it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Reads a field that is an object, and nothing but an object, in a body that has
/// `#[serde(deserialize_with = "object")]`.
///
/// # Errors
/// When it is anything else, or not what the type takes.
pub fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// As [`object`], for a list of them.
///
/// # Errors
/// When one of them is anything else, or not what the type takes.
pub fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let all = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(all.into_iter().map(|Object(value)| value).collect())
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{object, objects};
    use crate::http::body::parse;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // only read
    struct Order {
        #[serde(deserialize_with = "objects")]
        items: Vec<Item>,
        #[serde(deserialize_with = "object")]
        to: To,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // only read
    struct Item {
        product: String,
        quantity: i64,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // only read
    struct To {
        street: String,
    }

    #[test]
    fn an_object_is_no_list_of_its_values() {
        let no_list = "must be an object, and is a list";
        for (body, detail) in [
            (
                r#"{"items": [{"product": "a", "quantity": 1}], "to": {"street": "b"}}"#,
                String::new(),
            ),
            (r#"{"items": [], "to": ["b"]}"#, format!("to {no_list}")),
            (
                r#"{"items": [{"product": "a", "quantity": 1}, ["a", 1]], "to": {"street": "b"}}"#,
                format!("items[1] {no_list}"),
            ),
            (
                r#"{"items": [null], "to": {"street": "b"}}"#,
                "items[0] must be an object, and is null".to_owned(),
            ),
            (
                r#"{"items": [{"product": "a"}], "to": {"street": "b"}}"#,
                "items[0].quantity is missing".to_owned(),
            ),
            (
                r#"{"items": [{"product": "a", "quantity": "1"}], "to": {"street": "b"}}"#,
                "items[0].quantity must be a whole number, and is string \"1\"".to_owned(),
            ),
            (
                r#"{"items": {}, "to": {"street": "b"}}"#,
                "items must be a list, and is an object".to_owned(),
            ),
            (r#"{"items": []}"#, "to is missing".to_owned()),
        ] {
            let said = parse::<Order>(body.as_bytes())
                .map_or_else(|p| p.detail().to_owned(), |_| String::new());
            assert_eq!(said, detail, "{body}");
        }
    }
}
