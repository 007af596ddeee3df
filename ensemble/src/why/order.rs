//! An order as `why` sees it: as order tells it, or, without order, as its events do.

use std::collections::BTreeMap;

use events::Step;
use events::catalog::Kind;
use jetstream::clock;
use serde_json::Value;

use crate::timeline::event::{self, Event};

/// How an order stands. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) flow: String,
    pub(crate) state: String,
    /// Why it was canceled; empty when it was not.
    pub(crate) reason: String,
    /// `waiting`, `succeeded`, `refused`, `compensated` or `void`, in the order of the steps.
    pub(crate) steps: Vec<(String, String)>,
    /// What was refused, by step.
    pub(crate) refusals: BTreeMap<String, String>,
    pub(crate) placed_at: i64,
    pub(crate) deadline: i64,
    /// When it is looked at next; nothing when it is final, or not known.
    pub(crate) due_at: Option<i64>,
    /// How often it was said that it is canceled.
    pub(crate) attempt: u64,
}

impl Order {
    /// As order tells it; `timeline` has the timer.
    pub(crate) fn told(view: &Value, timeline: &Value) -> Option<Self> {
        let text = |name: &str| view[name].as_str().unwrap_or_default().to_owned();
        let time = |value: &Value| clock::parse_rfc3339(value.as_str()?);
        let refusals = view["refusals"].as_array().into_iter().flatten();
        let refusals = refusals.filter_map(|refusal| {
            let mut words = refusal["details"].clone();
            words["code"] = refusal["code"].clone();
            let step = refusal["step"].as_str()?.to_owned();
            Some((step, event::refusal(&words)))
        });
        let flag = |step: Step| {
            let flag = view["steps"][step.name()].as_str()?;
            Some((step.name().to_owned(), flag.to_owned()))
        };
        Some(Self {
            id: text("order_id"),
            user: text("user_id"),
            flow: text("flow"),
            state: text("state"),
            reason: text("reason"),
            steps: Step::all().filter_map(flag).collect(),
            refusals: refusals.collect(),
            placed_at: time(&view["placed_at"])?,
            deadline: time(&view["deadline"])?,
            due_at: time(&timeline["due_at"]),
            attempt: timeline["attempt"].as_u64().unwrap_or(0),
        })
    }

    /// As its events tell it, when order cannot be asked.
    pub(crate) fn from_events(id: &str, events: &[Event]) -> Option<Self> {
        let context = events.iter().map(|event| &event.body["context"]);
        let context = context.into_iter().find(|context| context.is_object())?;
        let text = |name: &str| context[name].as_str().unwrap_or_default().to_owned();
        let needed = context["needed"].as_array().into_iter().flatten();
        let mut order = Self {
            id: id.to_owned(),
            user: text("user_id"),
            flow: text("flow"),
            state: "PENDING".to_owned(),
            reason: String::new(),
            steps: needed
                .filter_map(|step| Some((step.as_str()?.to_owned(), "waiting".to_owned())))
                .collect(),
            refusals: BTreeMap::new(),
            placed_at: context["placed_at_ms"].as_i64()?,
            deadline: context["deadline_ms"].as_i64()?,
            due_at: None,
            attempt: 0,
        };
        for event in events {
            order.hear(event);
        }
        Some(order)
    }

    fn hear(&mut self, event: &Event) {
        let state = match event.entry.kind {
            Kind::Taken(step) => return self.set(step, "succeeded", &["waiting"]),
            Kind::Refused(step) => {
                let words = event::refusal(&event.body["refusal"]);
                self.refusals.insert(step.name().to_owned(), words);
                return self.set(step, "refused", &["waiting"]);
            }
            Kind::Undone(step) if event.body["nothing_to_undo"] == true => {
                return self.set(step, "void", &["waiting"]);
            }
            Kind::Undone(step) => return self.set(step, "compensated", &["waiting", "succeeded"]),
            Kind::Confirmed => "CONFIRMED",
            Kind::Canceled => {
                self.reason = event.body["reason"].as_str().unwrap_or_default().to_owned();
                self.attempt = event.body["attempt"].as_u64().unwrap_or(1);
                "COMPENSATING"
            }
            Kind::Compensated => "CANCELED",
            Kind::CompensationFailed => "COMPENSATION_FAILED",
            Kind::Created | Kind::Fact => return,
        };
        self.state = state.to_owned();
    }

    fn set(&mut self, step: Step, to: &str, from: &[&str]) {
        let mut steps = self.steps.iter_mut();
        if let Some((_, flag)) = steps.find(|(name, _)| name == step.name())
            && from.contains(&flag.as_str())
        {
            to.clone_into(flag);
        }
    }

    /// The steps whose answer is missing now.
    pub(crate) fn missing(&self) -> Vec<&str> {
        let missing: fn(&str) -> bool = match self.state.as_str() {
            "PENDING" => |flag| flag == "waiting",
            "COMPENSATING" | "COMPENSATION_FAILED" => {
                |flag| !matches!(flag, "refused" | "compensated" | "void")
            }
            _ => |_| false,
        };
        let steps = self.steps.iter().filter(|(_, flag)| missing(flag));
        steps.map(|(name, _)| &**name).collect()
    }
}
