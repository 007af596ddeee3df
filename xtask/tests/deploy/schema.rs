//! Holds a document against a JSON schema, as far as the schema of the Compose Specification
//! goes. A keyword or a pattern that is not known here stops the test, so that nothing is
//! passed over.

use serde_json::{Map, Value};

/// Keywords that say nothing about what is valid.
const REMARKS: &[&str] = &[
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "title",
];

/// What is wrong with a document: the path and the reason of each finding.
pub(crate) fn findings(schema: &Value, document: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    Schema(schema).check(schema, document, "", &mut findings);
    findings
}

struct Schema<'a>(&'a Value);

impl Schema<'_> {
    fn check(&self, rules: &Value, value: &Value, at: &str, findings: &mut Vec<String>) {
        let Some(rules) = rules.as_object() else {
            if *rules == Value::Bool(false) {
                findings.push(format!("{at}: nothing may be here"));
            }
            return;
        };
        for (keyword, rule) in rules {
            self.hold(keyword, rule, rules, value, at, findings);
        }
    }

    fn hold(
        &self,
        keyword: &str,
        rule: &Value,
        rules: &Map<String, Value>,
        value: &Value,
        at: &str,
        findings: &mut Vec<String>,
    ) {
        let mut wrong = |what: String| findings.push(format!("{at}: {what}"));
        match keyword {
            "$ref" => {
                let path = rule.as_str().and_then(|path| path.strip_prefix('#'));
                let target = path.and_then(|path| self.0.pointer(path));
                self.check(target.expect("a definition"), value, at, findings);
            }
            "type" => {
                let types = rule
                    .as_array()
                    .cloned()
                    .unwrap_or_else(|| vec![rule.clone()]);
                if !types.iter().any(|t| is(t.as_str().expect("a type"), value)) {
                    wrong(format!("{value} is not {rule}"));
                }
            }
            "enum" => {
                if !rule.as_array().expect("a list").contains(value) {
                    wrong(format!("{value} is none of {rule}"));
                }
            }
            "minimum" | "maximum" => {
                let (limit, number) = (rule.as_f64().expect("a number"), value.as_f64());
                let fine = |n: f64| {
                    if keyword == "minimum" {
                        n >= limit
                    } else {
                        n <= limit
                    }
                };
                if !number.is_none_or(fine) {
                    wrong(format!("{value} is beyond {rule}"));
                }
            }
            "pattern" => {
                let pattern = rule.as_str().expect("a pattern");
                if !value.as_str().is_none_or(|text| matches(pattern, text)) {
                    wrong(format!("{value} does not look like {pattern}"));
                }
            }
            "uniqueItems" => {
                let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
                if (1..all.len()).any(|i| all[..i].contains(&all[i])) {
                    wrong("something is listed twice".to_owned());
                }
            }
            "required" => {
                for key in rule.as_array().expect("a list") {
                    if value.is_object() && value.get(key.as_str().expect("a key")).is_none() {
                        wrong(format!("{key} is missing"));
                    }
                }
            }
            "oneOf" => {
                let mut nearest: Option<Vec<String>> = None;
                let mut hits = 0;
                for choice in rule.as_array().expect("a list") {
                    let mut inner = Vec::new();
                    self.check(choice, value, at, &mut inner);
                    hits += usize::from(inner.is_empty());
                    // What goes deepest was meant.
                    let depth = |all: &[String]| all.iter().map(|f| f.matches('/').count()).max();
                    if nearest
                        .as_deref()
                        .is_none_or(|known| depth(known) < depth(&inner))
                    {
                        nearest = Some(inner);
                    }
                }
                match hits {
                    1 => {}
                    0 => findings.extend(nearest.unwrap_or_default()),
                    _ => wrong(format!("{value} can be read in {hits} ways")),
                }
            }
            "items" => {
                let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
                for (i, item) in all.iter().enumerate() {
                    self.check(rule, item, &format!("{at}/{i}"), findings);
                }
            }
            // The three of them divide the members of an object among each other.
            "properties" | "patternProperties" => {}
            "additionalProperties"
                if rules.contains_key("properties") || rules.contains_key("patternProperties") => {}
            "additionalProperties" => self.members(rules, value, at, findings),
            remark => assert!(
                REMARKS.contains(&remark),
                "the schema has the keyword {remark}"
            ),
        }
        if matches!(keyword, "properties" | "patternProperties")
            && (keyword == "properties" || !rules.contains_key("properties"))
        {
            self.members(rules, value, at, findings);
        }
    }

    fn members(
        &self,
        rules: &Map<String, Value>,
        value: &Value,
        at: &str,
        findings: &mut Vec<String>,
    ) {
        let Some(members) = value.as_object() else {
            return;
        };
        let of = |keyword: &str| rules.get(keyword).and_then(Value::as_object);
        for (name, member) in members {
            let at = format!("{at}/{name}");
            let mut known = false;
            if let Some(rule) = of("properties").and_then(|all| all.get(name)) {
                known = true;
                self.check(rule, member, &at, findings);
            }
            for (pattern, rule) in of("patternProperties").into_iter().flatten() {
                if matches(pattern, name) {
                    known = true;
                    self.check(rule, member, &at, findings);
                }
            }
            if let (false, Some(rule)) = (known, rules.get("additionalProperties")) {
                self.check(rule, member, &at, findings);
            }
        }
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("the schema has the type {other}"),
    }
}

/// The few patterns that the schema has.
fn matches(pattern: &str, text: &str) -> bool {
    let all = |fine: fn(char) -> bool| !text.is_empty() && text.chars().all(fine);
    match pattern {
        "^x-" => text.starts_with("x-"),
        ".+" | "^.+$" => !text.is_empty(),
        "^[a-z]+$" => all(|c| c.is_ascii_lowercase()),
        "^[a-zA-Z0-9._-]+$" => all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)),
        other => panic!("the schema has the pattern {other}"),
    }
}
