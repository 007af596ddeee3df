//! What of the protos the contract is about, as a value and as reviewable text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    OneofDescriptorProto,
};

/// The package of the contract.
pub(crate) const PACKAGE: &str = "ensemble.v1";

/// Every message and enum, by its full name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Schema(pub(crate) BTreeMap<String, Definition>);

/// A message or an enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) kind: Kind,
    /// Fields or values, in the order of their numbers.
    pub(crate) members: Vec<Member>,
    pub(crate) reserved: Reserved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Message,
    Enum,
}

/// A field of a message, or a value of an enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) number: i32,
    pub(crate) name: String,
    /// Only fields have a shape.
    pub(crate) shape: Option<Shape>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// A scalar, or the full name of a message or enum.
    pub(crate) of: String,
    /// `single`, `optional`, `repeated` or `required`.
    pub(crate) cardinality: String,
    pub(crate) oneof: Option<String>,
}

/// Numbers and names that may not be used again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reserved {
    /// First and last numbers of ranges that do not touch.
    pub(crate) ranges: BTreeSet<(i32, i32)>,
    pub(crate) names: BTreeSet<String>,
}

impl Definition {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            members: Vec::new(),
            reserved: Reserved::default(),
        }
    }
}

impl Reserved {
    // Joins what touches: how a range is split means nothing.
    pub(crate) fn add(&mut self, first: i32, last: i32) {
        let touches = |range: &(i32, i32)| {
            range.0 <= last.saturating_add(1) && first <= range.1.saturating_add(1)
        };
        let (joined, apart) = self.ranges.iter().copied().partition(touches);
        let joined: BTreeSet<_> = joined;
        let first = joined
            .iter()
            .map(|range| range.0)
            .min()
            .unwrap_or(first)
            .min(first);
        let last = joined
            .iter()
            .map(|range| range.1)
            .max()
            .unwrap_or(last)
            .max(last);
        self.ranges = apart;
        self.ranges.insert((first, last));
    }

    pub(crate) fn holds(&self, number: i32) -> bool {
        let mut ranges = self.ranges.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&number))
    }
}

// ---- from the protos ---------------------------------------------------------

/// The protos that this build is made of.
pub(crate) fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(events::DESCRIPTORS).expect("the build wrote the descriptors")
}

impl Schema {
    pub(crate) fn today() -> Self {
        Self::of(&descriptors())
    }

    pub(crate) fn of(protos: &FileDescriptorSet) -> Self {
        let mut schema = Self::default();
        for file in &protos.file {
            for message in &file.message_type {
                schema.add_message(file.package(), message);
            }
            for values in &file.enum_type {
                schema.add_enum(file.package(), values);
            }
        }
        schema
    }

    fn add_message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            self.add_message(&name, nested);
        }
        for nested in &message.enum_type {
            self.add_enum(&name, nested);
        }
        let member = |field: &FieldDescriptorProto| Member {
            number: field.number(),
            name: field.name().to_owned(),
            shape: Some(Shape::of(field, &message.oneof_decl)),
        };
        let mut definition = Definition::new(Kind::Message);
        definition.members = message.field.iter().map(member).collect();
        // The end of a message's range is one past the last number.
        for range in &message.reserved_range {
            definition.reserved.add(range.start(), range.end() - 1);
        }
        definition.reserved.names = message.reserved_name.iter().cloned().collect();
        self.add(name, definition);
    }

    fn add_enum(&mut self, scope: &str, values: &EnumDescriptorProto) {
        let mut definition = Definition::new(Kind::Enum);
        let member = |value: &prost_types::EnumValueDescriptorProto| Member {
            number: value.number(),
            name: value.name().to_owned(),
            shape: None,
        };
        definition.members = values.value.iter().map(member).collect();
        // The end of an enum's range is the last number itself.
        for range in &values.reserved_range {
            definition.reserved.add(range.start(), range.end());
        }
        definition.reserved.names = values.reserved_name.iter().cloned().collect();
        self.add(format!("{scope}.{}", values.name()), definition);
    }

    fn add(&mut self, name: String, mut definition: Definition) {
        definition.members.sort_by_key(|member| member.number);
        self.0.insert(name, definition);
    }
}

impl Shape {
    fn of(field: &FieldDescriptorProto, oneofs: &[OneofDescriptorProto]) -> Self {
        let of = match field.r#type() {
            Type::Message | Type::Enum | Type::Group => {
                field.type_name().trim_start_matches('.').to_owned()
            }
            scalar => scalar
                .as_str_name()
                .trim_start_matches("TYPE_")
                .to_lowercase(),
        };
        let cardinality = match field.label() {
            Label::Repeated => "repeated",
            Label::Required => "required",
            Label::Optional if field.proto3_optional() => "optional",
            Label::Optional => "single",
        };
        // The compiler wraps an `optional` field in a oneof of its own: no choice.
        let oneof = match field.proto3_optional() {
            true => None,
            false => field.oneof_index.and_then(|i| usize::try_from(i).ok()),
        };
        Self {
            of,
            cardinality: cardinality.to_owned(),
            oneof: oneof.map(|i| oneofs[i].name().to_owned()),
        }
    }
}

// ---- as text -------------------------------------------------------------------

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, definition) in &self.0 {
            match definition.kind {
                Kind::Message => writeln!(f, "message {name}")?,
                Kind::Enum => writeln!(f, "enum {name}")?,
            }
            for member in &definition.members {
                writeln!(f, "{}", member.line(name))?;
            }
            for (first, last) in &definition.reserved.ranges {
                writeln!(f, "reserved {name} number {first} to {last}")?;
            }
            for reserved in &definition.reserved.names {
                writeln!(f, "reserved {name} name {reserved}")?;
            }
        }
        Ok(())
    }
}

impl Member {
    fn line(&self, owner: &str) -> String {
        let Self { number, name, .. } = self;
        let Some(shape) = &self.shape else {
            return format!("value {owner} {number} {name}");
        };
        let mut line = format!("field {owner} {number} {name} {shape}");
        if let Some(oneof) = &shape.oneof {
            let _ = write!(line, " oneof {oneof}");
        }
        line
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.of, self.cardinality)
    }
}

impl Schema {
    /// Reads the text of a schema; lines that begin with `#` are comments.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut schema = Self::default();
        for (index, line) in text.lines().enumerate() {
            if !line.is_empty() && !line.starts_with('#') {
                schema.parse_line(line).ok_or_else(|| {
                    let number = index + 1;
                    format!("line {number} of the snapshot, `{line}`, is no line of a schema: restore the file")
                })?;
            }
        }
        Ok(schema)
    }

    fn parse_line(&mut self, line: &str) -> Option<()> {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["message", name] => self.add(name.to_owned(), Definition::new(Kind::Message)),
            ["enum", name] => self.add(name.to_owned(), Definition::new(Kind::Enum)),
            ["field", owner, number, name, ref shape @ ..] => {
                let shape = Some(parse_shape(shape)?);
                self.parse_member(owner, number, name, shape)?;
            }
            ["value", owner, number, name] => self.parse_member(owner, number, name, None)?,
            ["reserved", owner, "number", first, "to", last] => {
                let reserved = &mut self.0.get_mut(owner)?.reserved;
                reserved.add(first.parse().ok()?, last.parse().ok()?);
            }
            ["reserved", owner, "name", name] => {
                let names = &mut self.0.get_mut(owner)?.reserved.names;
                names.insert(name.to_owned());
            }
            _ => return None,
        }
        Some(())
    }

    fn parse_member(
        &mut self,
        owner: &str,
        number: &str,
        name: &str,
        shape: Option<Shape>,
    ) -> Option<()> {
        let number = number.parse().ok()?;
        let name = name.to_owned();
        let members = &mut self.0.get_mut(owner)?.members;
        members.push(Member {
            number,
            name,
            shape,
        });
        Some(())
    }
}

fn parse_shape(words: &[&str]) -> Option<Shape> {
    let (of, cardinality, oneof) = match *words {
        [of, cardinality] => (of, cardinality, None),
        [of, cardinality, "oneof", oneof] => (of, cardinality, Some(oneof.to_owned())),
        _ => return None,
    };
    Some(Shape {
        of: of.to_owned(),
        cardinality: cardinality.to_owned(),
        oneof,
    })
}

#[test]
fn the_text_of_a_schema_reads_back() {
    let mut schema = Schema::today();
    for definition in schema.0.values_mut() {
        definition.reserved.add(900, 910);
        definition.reserved.names.insert("gone".to_owned());
    }
    assert_eq!(Schema::parse(&schema.to_string()), Ok(schema));
    assert!(Schema::parse("field of.Nobody 1 x int64 single").is_err());
    assert!(Schema::parse("nonsense").is_err());
}

#[test]
fn reserved_ranges_are_joined_however_they_are_split() {
    let mut reserved = Reserved::default();
    for (first, last) in [(7, 7), (1, 2), (3, 4), (20, 30), (25, 26), (6, 8)] {
        reserved.add(first, last);
    }
    assert_eq!(reserved.ranges, BTreeSet::from([(1, 4), (6, 8), (20, 30)]));
}
