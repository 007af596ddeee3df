//! The messages as JSON Schema, read off the descriptors of the protos.

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet,
};
use serde_json::{Map, Value, json};

/// The package of the contract.
const PACKAGE: &str = "ensemble.v1";

/// A reference to a schema of the document.
pub(crate) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Every message and enum of the contract, by name, as events are written in JSON: ids as
/// UUIDs, enums as their last word, numbers as numbers.
pub(crate) fn all() -> Result<Map<String, Value>, String> {
    let protos = FileDescriptorSet::decode(events::DESCRIPTORS).map_err(|e| e.to_string())?;
    let ours = |file: &&FileDescriptorProto| file.package() == PACKAGE;
    let mut schemas = Map::new();
    for file in protos.file.iter().filter(ours) {
        for item in &file.message_type {
            schemas.insert(item.name().to_owned(), message(item));
        }
        for item in &file.enum_type {
            schemas.insert(item.name().to_owned(), enumeration(item));
        }
    }
    Ok(schemas)
}

fn message(message: &DescriptorProto) -> Value {
    let fields = message.field.iter();
    let properties: Map<String, Value> = fields
        .map(|field| (field.name().to_owned(), property(field)))
        .collect();
    json!({ "type": "object", "properties": properties })
}

fn property(field: &FieldDescriptorProto) -> Value {
    let mut schema = match field.r#type() {
        Type::Message | Type::Group | Type::Enum => {
            // A reference has no room for anything else.
            let name = field.type_name().rsplit('.').next().unwrap_or_default();
            json!({ "allOf": [reference(name)] })
        }
        // All that is bytes in the contract is an id.
        Type::Bytes => json!({ "type": "string", "format": "uuid" }),
        Type::String => json!({ "type": "string" }),
        Type::Bool => json!({ "type": "boolean" }),
        Type::Double | Type::Float => json!({ "type": "number" }),
        Type::Int64 | Type::Sint64 | Type::Sfixed64 => json!({ "type": "integer" }),
        Type::Int32 | Type::Sint32 | Type::Sfixed32 => json!({ "type": "integer" }),
        Type::Uint64 | Type::Fixed64 | Type::Uint32 | Type::Fixed32 => {
            json!({ "type": "integer", "minimum": 0 })
        }
    };
    if field.label() == Label::Repeated {
        schema = json!({ "type": "array", "items": schema });
    }
    let scalar = field.r#type().as_str_name().trim_start_matches("TYPE_");
    schema["x-protobuf"] = json!({ "type": scalar.to_lowercase(), "number": field.number() });
    schema
}

/// The values without the name of the enum before them; the first means that none was given.
fn enumeration(values: &EnumDescriptorProto) -> Value {
    let prefix = format!("{}_", values.name().to_uppercase());
    let given = values.value.iter().filter(|value| value.number() != 0);
    let word = |name: &str| name.trim_start_matches(&prefix).to_lowercase();
    let words: Vec<_> = given.map(|value| word(value.name())).collect();
    json!({ "type": "string", "enum": words })
}
