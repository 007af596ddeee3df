//! What a broker has, beside what the code says.

use std::collections::BTreeSet;

use events::catalog;
use jetstream::stream::topology::{ConsumerSpec, Found};

/// Where a broker differs from the code: one sentence each, which says what to do.
pub(crate) fn differences(wanted: &[ConsumerSpec], found: &Found) -> Vec<String> {
    let mut findings = Vec::new();
    let code: BTreeSet<&str> = catalog::stream_subjects().into_iter().collect();
    let there: BTreeSet<&str> = found.stream_subjects.iter().map(String::as_str).collect();
    for subject in code.difference(&there) {
        findings.push(format!(
            "the stream does not take {subject}: run `ensemble provision`"
        ));
    }
    for subject in there.difference(&code) {
        findings.push(format!(
            "the stream takes {subject}, which no code says: run `ensemble provision`, or update \
             this program"
        ));
    }
    for subject in &found.subjects_in_stream {
        if !code.contains(subject.as_str()) {
            findings.push(format!(
                "there are messages on {subject}, which no code knows: find out who says them, \
                 or update this program"
            ));
        }
    }
    for spec in wanted {
        findings.extend(consumer(spec, found));
    }
    for other in &found.consumers {
        if !wanted.iter().any(|spec| spec.durable == other.spec.durable) {
            findings.push(format!(
                "the consumer {} is of no service that this program knows: delete it, or run the \
                 program that knows it",
                other.spec.durable
            ));
        }
    }
    findings
}

fn consumer(spec: &ConsumerSpec, found: &Found) -> Vec<String> {
    let durable = &spec.durable;
    let mut consumers = found.consumers.iter();
    let Some(there) = consumers.find(|other| other.spec.durable == *durable) else {
        return vec![format!(
            "the consumer {durable} is missing, so {durable} hears nothing: run \
             `ensemble provision`"
        )];
    };
    let mut findings = Vec::new();
    let not_in = |a: &ConsumerSpec, b: &ConsumerSpec| {
        let other = a
            .filters
            .iter()
            .filter(|filter| !b.filters.contains(*filter));
        other.cloned().collect::<Vec<_>>().join(", ")
    };
    let missing = not_in(spec, &there.spec);
    if !missing.is_empty() {
        findings.push(format!(
            "the consumer {durable} does not hear {missing}: run `ensemble provision` with the \
             --flows of the services"
        ));
    }
    let strange = not_in(&there.spec, spec);
    if !strange.is_empty() {
        findings.push(format!(
            "the consumer {durable} hears {strange}, which {durable} does not handle: run \
             `ensemble provision` with the --flows of the services"
        ));
    }
    if there.max_deliver > 0 {
        findings.push(format!(
            "the consumer {durable} gives up an event after {} deliveries, and would park it \
             unseen: run `ensemble provision`",
            there.max_deliver
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use jetstream::Settings;
    use jetstream::stream::topology::FoundConsumer;

    use super::*;
    use crate::SERVICES;

    fn wanted() -> Vec<ConsumerSpec> {
        let settings = Settings::default();
        SERVICES.iter().map(|s| s.consumer(&settings)).collect()
    }

    fn provisioned() -> Found {
        let subjects = catalog::stream_subjects().into_iter().map(str::to_owned);
        let consumer = |spec| FoundConsumer {
            spec,
            max_deliver: -1,
        };
        Found {
            stream_subjects: subjects.collect(),
            consumers: wanted().into_iter().map(consumer).collect(),
            subjects_in_stream: vec!["order.confirmed".to_owned()],
        }
    }

    #[test]
    fn what_was_provisioned_does_not_differ() {
        assert_eq!(differences(&wanted(), &provisioned()), Vec::<String>::new());
    }

    #[test]
    fn whatever_differs_is_found() {
        type Break = fn(&mut Found);
        let cases: [(Break, &str); 8] = [
            (|f| drop(f.consumers.remove(0)), "consumer order is missing"),
            (
                |f| f.consumers[0].spec.durable = "orders".to_owned(),
                "consumer orders is of no service",
            ),
            (
                |f| drop(f.consumers[1].spec.filters.pop()),
                "consumer stock does not hear",
            ),
            (
                |f| f.consumers[1].spec.filters.push("cart.changed".to_owned()),
                "consumer stock hears cart.changed",
            ),
            (|f| f.consumers[2].max_deliver = 5, "after 5 deliveries"),
            (
                |f| f.stream_subjects.retain(|s| s != "cart.changed"),
                "does not take cart.changed",
            ),
            (
                |f| f.stream_subjects.push("cart.burned".to_owned()),
                "takes cart.burned",
            ),
            (
                |f| f.subjects_in_stream.push("cart.burned".to_owned()),
                "messages on cart.burned",
            ),
        ];
        for (break_it, words) in cases {
            let mut found = provisioned();
            break_it(&mut found);
            let findings = differences(&wanted(), &found);
            let hit = findings.iter().any(|finding| finding.contains(words));
            assert!(hit, "{words} in {findings:?}");
        }
    }
}
