//! What the check found.

use std::collections::BTreeMap;

use jetstream::operating::evidence::{Letter, Overdue};
use serde::Serialize;

use super::Violation;

// Of each invariant; the rest is counted.
const SHOWN: usize = 100;

/// What the check found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing moved: then everything was judged.
    pub quiet: bool,
    /// What was still to be done when it ended.
    pub restless: Vec<String>,
    /// Orders by state.
    pub orders: BTreeMap<&'static str, u64>,
    /// Final orders that were not judged, because what they said has not been heard by all.
    pub on_their_way: u64,
    /// Messages in the stream.
    pub messages: u64,
    /// Different events in the stream.
    pub events: u64,
    /// Times that compensation was asked for again.
    pub asked_again: u64,
    /// Steps that were canceled before they were taken.
    pub voids: u64,
    /// What is held past the deadline of its order, by service: of each the first hundred. No
    /// violation: the order's cancel may be on its way, or wait for a person.
    pub overdue_holds: BTreeMap<&'static str, Vec<Overdue>>,
    /// How many such holds there are, by service.
    pub overdue_hold_counts: BTreeMap<&'static str, usize>,
    /// What is not as it must be: of each invariant the first hundred.
    pub violations: Vec<Violation>,
    /// How many violations there are of each invariant.
    pub counts: BTreeMap<&'static str, u64>,
    /// Dead letters that nobody has seen to, by service.
    pub open_letters: BTreeMap<String, Vec<Letter>>,
    /// How many dead letters there were, open or not.
    pub letters: u64,
}

impl Report {
    pub(super) fn add(&mut self, found: Vec<Violation>) {
        for violation in found {
            let count = self.counts.entry(violation.invariant).or_default();
            *count += 1;
            if *count <= SHOWN as u64 {
                self.violations.push(violation);
            }
        }
    }

    pub(super) fn letters(&mut self, service: &str, letters: Vec<Letter>) {
        self.letters += letters.len() as u64;
        let open: Vec<Letter> = letters.into_iter().filter(|letter| letter.open).collect();
        if !open.is_empty() {
            self.open_letters.insert(service.to_owned(), open);
        }
    }

    pub(super) fn overdue(&mut self, service: &'static str, mut holds: Vec<Overdue>) {
        if !holds.is_empty() {
            self.overdue_hold_counts.insert(service, holds.len());
            holds.truncate(SHOWN);
            self.overdue_holds.insert(service, holds);
        }
    }

    /// A line for each hold past the deadline of its order.
    #[must_use]
    pub fn overdue_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (service, holds) in &self.overdue_holds {
            for hold in holds {
                let seconds = hold.overdue_ms / 1000;
                lines.push(format!(
                    "overdue     {service} holds for order {}, whose deadline passed {seconds} s ago",
                    hold.order
                ));
            }
            let count = self.overdue_hold_counts[service];
            if count > holds.len() {
                lines.push(format!("            {service}: {count} in all"));
            }
        }
        lines
    }

    pub(super) fn finish(&mut self) {
        self.violations.sort();
    }

    /// How many violations there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Orders that are not decided, or whose compensation is not complete.
    #[must_use]
    pub fn open_orders(&self) -> u64 {
        let open = ["PENDING", "COMPENSATING"];
        open.iter().filter_map(|state| self.orders.get(state)).sum()
    }

    /// How many dead letters nobody has seen to.
    #[must_use]
    pub fn open_letter_count(&self) -> usize {
        self.open_letters.values().map(Vec::len).sum()
    }

    /// Whether a dead letter that nobody has seen to names an order.
    pub(super) fn is_named(&self, order: &str) -> bool {
        let mut letters = self.open_letters.values().flatten();
        letters.any(|letter| letter.order == order)
    }

    pub(super) fn print(&self) {
        let all: u64 = self.orders.values().sum();
        let states: Vec<_> = self
            .orders
            .iter()
            .map(|(state, n)| format!("{n} {state}"))
            .collect();
        println!("orders      {all}: {}", states.join(", "));
        println!("events      {} in {} messages", self.events, self.messages);
        println!(
            "rare paths  {} void steps, compensation asked for again {} times, {} dead letters",
            self.voids, self.asked_again, self.letters
        );
        match self.quiet && self.open_orders() == 0 {
            true => println!("judged      everything: nothing moves"),
            false => {
                println!(
                    "judged      what has come to rest; not {} open orders, and {} that not all have heard of",
                    self.open_orders(),
                    self.on_their_way
                );
                for what in &self.restless {
                    println!("            {what}");
                }
            }
        }
        for (service, letters) in &self.open_letters {
            for letter in letters {
                println!(
                    "open letter {service}: {} {} {}",
                    letter.subject, letter.order, letter.reason
                );
            }
        }
        for line in self.overdue_lines() {
            println!("{line}");
        }
        for violation in &self.violations {
            println!("VIOLATION   {violation}");
        }
        for (invariant, count) in &self.counts {
            if *count > SHOWN as u64 {
                println!("            {invariant}: {count} in all");
            }
        }
        if self.count() == 0 {
            println!("violations  none");
        }
    }
}
