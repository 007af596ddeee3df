//! YAML as JSON values, with what `<<` merges.

use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// Reads a document.
pub(crate) fn read(text: &str) -> Result<Value, String> {
    let documents = YamlLoader::load_from_str(text).map_err(|error| error.to_string())?;
    match documents.as_slice() {
        [document] => value(document),
        all => Err(format!("{} documents", all.len())),
    }
}

fn value(yaml: &Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Real(text) => text.parse::<f64>().map_err(|e| e.to_string())?.into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::String(text) => text.as_str().into(),
        Yaml::Boolean(yes) => (*yes).into(),
        Yaml::Null => Value::Null,
        Yaml::Array(all) => all.iter().map(value).collect::<Result<Vec<_>, _>>()?.into(),
        Yaml::Hash(hash) => {
            let (mut own, mut merged) = (Map::new(), Map::new());
            for (key, member) in hash {
                let key = key.as_str().ok_or("a key that is no text")?;
                match (key, value(member)?) {
                    ("<<", Value::Object(members)) => merged.extend(members),
                    ("<<", other) => return Err(format!("<< merges {other}")),
                    (key, member) => drop(own.insert(key.to_owned(), member)),
                }
            }
            // What an object says itself goes before what is merged into it.
            merged.extend(own);
            Value::Object(merged)
        }
        Yaml::Alias(_) | Yaml::BadValue => return Err("a value that cannot be read".to_owned()),
    })
}

#[test]
fn what_is_merged_gives_way() {
    let text = "a: &a { x: 1, y: 2 }\nb:\n  <<: *a\n  y: 3\n";
    let read = read(text).expect("YAML");
    assert_eq!(read["b"], serde_json::json!({ "x": 1, "y": 3 }));
}
