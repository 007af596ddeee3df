//! What `why` looks at beside the system: the order, its events and its dead letters.

use events::OrderId;
use futures::future::join_all;
use jetstream::clock;
use serde_json::Value;

use super::order::Order;
use crate::reach::Reach;
use crate::system::System;
use crate::timeline::event::Event;
use crate::timeline::source;

/// An order, its events and its dead letters.
pub(crate) struct Facts {
    pub(crate) now: i64,
    pub(crate) order: Order,
    pub(crate) events: Vec<Event>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) notes: Vec<String>,
}

impl Facts {
    /// When something was said last that may want an answer.
    pub(crate) fn asked_at(&self) -> i64 {
        let last = self.events.iter().map(|event| event.time).max();
        last.unwrap_or(0).max(self.order.placed_at)
    }
}

/// An open dead letter of the order.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) id: String,
    pub(crate) service: String,
    pub(crate) subject: String,
    pub(crate) reason: String,
    pub(crate) died_at: i64,
}

/// All that is known of an order.
pub(crate) async fn of_order(id: OrderId, reach: &Reach, system: &System) -> Result<Facts, String> {
    let (path, timeline) = (format!("/orders/{id}"), format!("/orders/{id}/timeline"));
    let (found, view, timeline, letters) = futures::join!(
        source::of_order(id, reach),
        system.ask_order(&path),
        system.ask_order(&timeline),
        letters(system, id),
    );
    let (events, mut notes) = match found {
        Ok(found) => (found.events, found.notes),
        // Order may know what neither stream nor outboxes tell.
        Err(error) if view.as_ref().is_some_and(Result::is_ok) => (vec![], vec![error]),
        Err(error) => return Err(error),
    };
    let told = match (&view, &timeline) {
        (Some(Ok(view)), Some(Ok(timeline))) => Order::told(view, timeline),
        _ => None,
    };
    let order = match told {
        Some(order) => order,
        None => {
            notes.push("order was not asked: how it stands is read from its events".to_owned());
            Order::from_events(&id.to_string(), &events)
                .ok_or_else(|| format!("the events of order {id} do not say what it is"))?
        }
    };
    notes.extend(system.unseen.iter().cloned());
    notes.dedup();
    Ok(Facts {
        now: clock::wall(),
        order,
        events,
        letters,
        notes,
    })
}

async fn letters(system: &System, id: OrderId) -> Vec<Letter> {
    let Ok(operator) = &system.operator else {
        return vec![];
    };
    let path = format!("/dead-letters?order={id}");
    let asked = operator.urls.iter().map(|url| operator.get(url, &path));
    let answers = join_all(asked).await.into_iter().flatten();
    let letters = answers.flat_map(|mut answer| match answer["dead_letters"].take() {
        Value::Array(letters) => letters,
        _ => vec![],
    });
    let read = |letter: Value| {
        let text = |name: &str| letter[name].as_str().unwrap_or_default().to_owned();
        Letter {
            id: text("id"),
            service: text("service"),
            subject: text("subject"),
            reason: text("reason"),
            died_at: clock::parse_rfc3339(&text("died_at")).unwrap_or(0),
        }
    };
    letters.map(read).collect()
}

/// The orders that are past due, the oldest first, and whether there are more.
pub(crate) async fn stuck(system: &System) -> Result<(Vec<OrderId>, bool), String> {
    let answer = match system.ask_order("/orders/stuck").await {
        Some(answer) => answer?,
        None => {
            let notes = system.unseen.join("; ");
            return Err(format!("order does not answer, and only it knows: {notes}"));
        }
    };
    let ids = answer["orders"].as_array().into_iter().flatten();
    let ids = ids.filter_map(|id| id.as_str()?.parse().ok());
    Ok((ids.collect(), answer["more"] == true))
}
