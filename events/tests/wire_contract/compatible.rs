//! Which changes of the protos would strand bytes or readers that are out there.

use std::fmt;

use crate::schema::{Definition, Kind, Member, PACKAGE, Schema};

/// A change that must not be, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    what: String,
    instead: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.instead)
    }
}

fn finding(what: impl Into<String>, instead: impl Into<String>) -> Finding {
    Finding {
        what: what.into(),
        instead: instead.into(),
    }
}

/// Every incompatible change between two schemas. Members, messages and enums may
/// be added; a member may be removed when its number and name are reserved.
pub(crate) fn findings(old: &Schema, new: &Schema) -> Vec<Finding> {
    let judge = |(name, was): (&String, &Definition)| {
        let owner = short(name);
        match new.0.get(name) {
            Some(is) if is.kind == was.kind => definition(owner, was, is),
            _ => vec![removed_definition(owner, was.kind)],
        }
    };
    old.0.iter().flat_map(judge).collect()
}

// The package says nothing in a text about one package.
fn short(name: &str) -> &str {
    let rest = name.strip_prefix(PACKAGE);
    rest.and_then(|rest| rest.strip_prefix('.')).unwrap_or(name)
}

fn removed_definition(owner: &str, kind: Kind) -> Finding {
    let kind = match kind {
        Kind::Message => "message",
        Kind::Enum => "enum",
    };
    finding(
        format!("the {kind} {owner} was removed"),
        "put it back, and keep it as long as a stream, a backup or a dead letter may hold it; \
         when none can, take its lines out of the snapshot in the same commit",
    )
}

fn definition(owner: &str, old: &Definition, new: &Definition) -> Vec<Finding> {
    let kept = old.members.iter().flat_map(|was| member(owner, was, new));
    let used_again = new.members.iter().flat_map(|is| used_again(owner, is, old));
    kept.chain(used_again)
        .chain(given_up(owner, old, new))
        .collect()
}

/// What became of one field or value.
fn member(owner: &str, was: &Member, new: &Definition) -> Vec<Finding> {
    let place = format!("{owner}.{} ({})", was.name, was.number);
    let named = new.members.iter().find(|is| is.name == was.name);
    let numbered = new.members.iter().find(|is| is.number == was.number);
    match (named, numbered) {
        (Some(is), _) if is.number == was.number => reshaped(&place, was, is),
        (Some(is), _) => vec![renumbered(&place, was, is)],
        (None, Some(is)) if is.shape == was.shape => vec![renamed(&place, was, is)],
        (None, Some(is)) => vec![taken_over(&place, was, is)],
        (None, None) => removed(&place, owner, was, new).into_iter().collect(),
    }
}

fn renumbered(place: &str, was: &Member, is: &Member) -> Finding {
    finding(
        format!("{place} now has the number {}", is.number),
        format!(
            "give it back the number {}, which recorded bytes carry it under",
            was.number
        ),
    )
}

fn renamed(place: &str, was: &Member, is: &Member) -> Finding {
    finding(
        format!("{place} is now named `{}`", is.name),
        format!(
            "keep the name `{}`, which JSON and documents carry it under",
            was.name
        ),
    )
}

fn taken_over(place: &str, was: &Member, is: &Member) -> Finding {
    finding(
        format!("the number of {place} was given to `{}`", is.name),
        format!(
            "give `{}` a number that was never used, and keep `{}` or reserve its number and name",
            is.name, was.name
        ),
    )
}

fn removed(place: &str, owner: &str, was: &Member, new: &Definition) -> Option<Finding> {
    let number = (!new.reserved.holds(was.number)).then(|| format!("reserved {};", was.number));
    let name =
        (!new.reserved.names.contains(&was.name)).then(|| format!("reserved \"{}\";", was.name));
    let lines: Vec<_> = [number, name].into_iter().flatten().collect();
    if lines.is_empty() {
        return None;
    }
    let lines = lines.join(" ");
    let version = match was.shape {
        Some(_) => ", or say a new version of the message beside the old one",
        None => "",
    };
    Some(finding(
        format!("{place} was removed"),
        format!("keep it, or add `{lines}` to {owner} so that nothing takes its place{version}"),
    ))
}

/// A field that kept number and name, but not its shape.
fn reshaped(place: &str, was: &Member, is: &Member) -> Vec<Finding> {
    let (Some(was), Some(is)) = (&was.shape, &is.shape) else {
        return Vec::new();
    };
    let oneof = |oneof: &Option<String>| match oneof {
        Some(name) => format!("the oneof `{name}`"),
        None => "no oneof".to_owned(),
    };
    let changes = [
        ("changed its type", was.of.clone(), is.of.clone()),
        (
            "changed its cardinality",
            was.cardinality.clone(),
            is.cardinality.clone(),
        ),
        ("moved", oneof(&was.oneof), oneof(&is.oneof)),
    ];
    let changed = changes.into_iter().filter(|(_, was, is)| was != is);
    let judge = |(how, was, is)| {
        finding(
            format!("{place} {how} from {was} to {is}"),
            "change it back, and add a field with a new number and name for what is new, \
             or say a new version of the message beside the old one",
        )
    };
    changed.map(judge).collect()
}

/// A member with a number or name that was reserved.
fn used_again(owner: &str, is: &Member, old: &Definition) -> Vec<Finding> {
    let place = format!("{owner}.{} ({})", is.name, is.number);
    let number = old.reserved.holds(is.number);
    let name = old.reserved.names.contains(&is.name);
    let number = number.then(|| {
        finding(
            format!("{place} has a reserved number"),
            "give it a number that was never used",
        )
    });
    let name = name.then(|| {
        finding(
            format!("{place} has a reserved name"),
            "give it a name that was never used",
        )
    });
    number.into_iter().chain(name).collect()
}

/// Reservations that are no more: the next change could use them again unseen.
fn given_up(owner: &str, old: &Definition, new: &Definition) -> Vec<Finding> {
    let back = |what: String| {
        finding(
            format!("{owner} reserves {what} no longer"),
            format!("put `reserved {what};` back, for good"),
        )
    };
    let covered = |(first, last): &(i32, i32)| {
        let mut ranges = new.reserved.ranges.iter();
        ranges.any(|(from, to)| from <= first && last <= to)
    };
    let ranges = old.reserved.ranges.iter().filter(|range| !covered(range));
    let ranges = ranges.map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first} to {last}"),
    });
    let names = old.reserved.names.difference(&new.reserved.names);
    ranges
        .chain(names.map(|name| format!("\"{name}\"")))
        .map(back)
        .collect()
}
