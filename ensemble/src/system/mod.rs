//! The system as far as it can be seen: what the services say of themselves, and what the
//! broker says of their consumers.

pub(crate) mod service;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use jetstream::clock;
use jetstream::stream::broker::Context;
use jetstream::stream::inspect::{self, Consumer};
use serde_json::Value;

use crate::SERVICES;
use crate::api::Operator;
use crate::reach::{Flags, Reach};
use service::Seen;

// How often, and how long after each other, a service is looked at that asks for nothing.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// The services and the broker.
pub(crate) struct System {
    pub(crate) services: BTreeMap<String, Seen>,
    pub(crate) operator: Result<Operator, String>,
    pub(crate) broker: Option<Context>,
    /// What cannot be seen, a sentence each.
    pub(crate) unseen: Vec<String>,
    /// How commands to copy reach the same system.
    pub(crate) flags: Flags,
    // Where order is.
    pub(crate) order_url: Option<String>,
}

impl System {
    pub(crate) async fn look(reach: &Reach, name: &str) -> Self {
        let (operator, broker) = (reach.services(), reach.broker(name));
        let (internals, broker) = futures::join!(all_internals(operator.as_ref().ok()), broker);
        let (internals, mut unseen) = internals;
        if let Err(error) = &operator {
            unseen.push(format!("the services cannot be asked: {error}"));
        }
        let broker = broker.map_err(|error| unseen.push(error)).ok();
        let services = SERVICES.iter().map(async |service| {
            let internals = internals.get(service.name).map(|(_, told)| told.clone());
            let seen = look_at(service.name, internals, broker.as_ref()).await;
            (service.name.to_owned(), seen)
        });
        let services: BTreeMap<String, Seen> = join_all(services).await.into_iter().collect();
        // Where nobody answers at all, that has been said.
        let nobody = broker.is_none() && services.values().all(Seen::is_unseen);
        for seen in services.values().filter(|seen| seen.is_unseen() && !nobody) {
            unseen.push(format!("how {} is cannot be seen", seen.name));
        }
        Self {
            services,
            operator,
            unseen,
            flags: reach.flags(),
            broker,
            order_url: internals.get("order").map(|(url, _)| url.clone()),
        }
    }

    /// Asks order something.
    pub(crate) async fn ask_order(&self, path: &str) -> Option<Result<Value, String>> {
        let (operator, url) = (self.operator.as_ref().ok()?, self.order_url.as_ref()?);
        let answer = operator.get(url, path).await;
        Some(answer.map_err(|refused| refused.text))
    }
}

/// What each service says of itself, and where; and who does not answer.
async fn all_internals(
    operator: Option<&Operator>,
) -> (BTreeMap<String, (String, Value)>, Vec<String>) {
    let (mut all, mut unseen) = (BTreeMap::new(), Vec::new());
    let Some(operator) = operator else {
        return (all, unseen);
    };
    let asked = operator.urls.iter().map(async |url| {
        let asked_from = clock::wall();
        let answer = operator.get(url, "/internals").await;
        (url, answer, [asked_from, clock::wall()])
    });
    for (url, answer, between) in join_all(asked).await {
        match answer {
            Ok(answer) => {
                for told in answer["services"].as_array().into_iter().flatten() {
                    let name = told["service"].as_str().unwrap_or_default();
                    let mut told = told.clone();
                    // For clocks to be compared: it was told between these times.
                    told["between"] = between.to_vec().into();
                    all.insert(name.to_owned(), (url.clone(), told));
                }
            }
            Err(refused) => unseen.push(refused.text),
        }
    }
    (all, unseen)
}

async fn look_at(name: &str, internals: Option<Value>, broker: Option<&Context>) -> Seen {
    let mut seen = Seen {
        name: name.to_owned(),
        internals,
        consumer: None,
        oldest: None,
        acks: false,
    };
    let Some(broker) = broker else { return seen };
    let mut consumer = inspect::consumer(broker, name).await;
    // A service that is busy asks for more when it is done with what it has: it is looked at
    // again before it is said to be down.
    for _ in 0..LOOKS {
        let asks = |consumer: &Consumer| consumer.num_waiting > 0;
        if seen.internals.is_some() || !consumer.as_ref().is_ok_and(|consumer| !asks(consumer)) {
            break;
        }
        let before = consumer.as_ref().map(Consumer::acked_until).unwrap_or(0);
        tokio::time::sleep(BETWEEN_LOOKS).await;
        consumer = inspect::consumer(broker, name).await;
        if let Ok(consumer) = &consumer
            && consumer.acked_until() > before
        {
            seen.acks = true;
            break;
        }
    }
    if let Ok(consumer) = &consumer {
        let stored = inspect::oldest_unacked(broker, consumer).await;
        seen.oldest = stored.map(|at| (clock::wall() - at).max(0));
    }
    seen.consumer = Some(consumer);
    seen
}
