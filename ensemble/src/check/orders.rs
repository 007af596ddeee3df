//! Each order beside what every step keeps for it: I5, I6, I7 and I13.
//!
//! Orders are read by the page, and of every step the holds of that page, so that a million
//! of them take no more memory than a few thousand.

use std::collections::HashMap;

use events::hold::Hold;
use events::{OrderContext, Step};
use jetstream::Fault;
use jetstream::database::snapshot::Snapshot;
use jetstream::operating::evidence::{self, Kept};
use order_svc::domain::{Order, State};
use uuid::Uuid;

use super::{OWN, Place, Report, Violation};

/// An order that is not as it must be, unless it has changed meanwhile.
pub(super) struct Suspect {
    // 0: order does not know it.
    version: i64,
    order: Uuid,
    is_open: bool,
    violation: Violation,
}

/// A step's database, and how to know what it must hold.
struct Keeper<'a> {
    step: Step,
    snapshot: &'a Snapshot,
    is_exact: Option<fn(&OrderContext, &str) -> bool>,
}

/// Compares, and counts; what is suspect.
pub(super) async fn compare(
    snapshots: &[(&Place, Snapshot)],
    horizon: i64,
    report: &mut Report,
) -> Result<Vec<Suspect>, Fault> {
    let of = |name: &str| {
        snapshots
            .iter()
            .find(|(place, _)| place.service.name == name)
    };
    let Some((_, orders)) = of("order") else {
        return Ok(vec![]);
    };
    let keepers: Vec<Keeper> = Step::all()
        .filter_map(|step| {
            let (_, snapshot) = of(step.name())?;
            let own = OWN.iter().find(|own| own.service == step.name());
            Some(Keeper {
                step,
                snapshot,
                is_exact: own.and_then(|own| own.is_exact),
            })
        })
        .collect();
    let mut suspects = Vec::new();
    let mut after = Uuid::nil();
    loop {
        let page = order_svc::invariants::page(orders, after).await?;
        let until = match page.last() {
            Some(last) => last.context.order_id.0,
            None => Uuid::max(),
        };
        let mut kept: Vec<HashMap<Uuid, Kept>> = Vec::with_capacity(keepers.len());
        for keeper in &keepers {
            let holds = evidence::holds(keeper.snapshot, after, until).await?;
            report.voids += holds.iter().filter(|kept| kept.state == Hold::Void).count() as u64;
            kept.push(holds.into_iter().map(|kept| (kept.order, kept)).collect());
        }
        for order in &page {
            *report.orders.entry(order.state.name()).or_default() += 1;
            report.asked_again += u64::from(order.attempt.saturating_sub(1));
            let on_its_way = order.updated_at >= horizon;
            for (keeper, kept) in keepers.iter().zip(&mut kept) {
                let kept = kept.remove(&order.context.order_id.0);
                let Some((invariant, found)) = judge_step(order, keeper, kept.as_ref()) else {
                    continue;
                };
                if !on_its_way {
                    suspects.push(suspect(order, keeper.step.name(), invariant, found));
                }
            }
            if order.is_open() {
                let found = format!("it is {} and nothing moves", order.state.name());
                suspects.push(suspect(order, "order", "I5", found));
            } else if on_its_way {
                report.on_their_way += 1;
            }
        }
        for (keeper, kept) in keepers.iter().zip(kept) {
            suspects.extend(kept.into_values().map(|kept| Suspect {
                version: 0,
                order: kept.order,
                is_open: false,
                violation: Violation {
                    invariant: "I5",
                    service: keeper.step.name().to_owned(),
                    about: "order",
                    id: kept.order.to_string(),
                    found: format!("{}, and order does not know it", kept.state.name()),
                },
            }));
        }
        if page.is_empty() {
            return Ok(suspects);
        }
        after = until;
    }
}

/// What is wrong with what a step keeps for an order.
fn judge_step(
    order: &Order,
    keeper: &Keeper<'_>,
    kept: Option<&Kept>,
) -> Option<(&'static str, String)> {
    let context = &order.context;
    let state = kept.map(|kept| kept.state);
    let name = state.map_or("no row", Hold::name);
    if !context.needed.contains(keeper.step) {
        let kept = kept?;
        return Some((
            "I5",
            format!("{} for a step that is not needed", kept.state.name()),
        ));
    }
    // A hold is exact whatever became of it.
    let exact = keeper.is_exact.is_none_or(|is_exact| {
        kept.is_none_or(|kept| kept.held.is_empty() || is_exact(context, &kept.held))
    });
    if !exact {
        let held = kept.map(|kept| kept.held.clone()).unwrap_or_default();
        let invariant = match keeper.step {
            Step::POINT => "I13",
            Step::CART => "I14",
            _ => "I6",
        };
        return Some((
            invariant,
            format!("{name} of {held}, which is not what the order needs"),
        ));
    }
    match (order.state, state) {
        (State::Confirmed, Some(Hold::Settled)) => None,
        (State::Confirmed, _) => Some(("I6", format!("{name}, and the order is CONFIRMED"))),
        (State::Canceled, Some(Hold::Refused | Hold::Void | Hold::Released)) => None,
        (State::Canceled, _) => Some(("I7", format!("{name}, and the order is CANCELED"))),
        _ => None,
    }
}

fn suspect(order: &Order, service: &str, invariant: &'static str, found: String) -> Suspect {
    let id = order.context.order_id.0;
    Suspect {
        version: order.version,
        order: id,
        is_open: order.is_open(),
        violation: Violation {
            invariant,
            service: service.to_owned(),
            about: "order",
            id: id.to_string(),
            found,
        },
    }
}

/// Looks at the suspects again: what has changed meanwhile is on its way. An open order is a
/// violation only where nothing moves, and no dead letter names it.
pub(super) async fn judge(
    suspects: Vec<Suspect>,
    places: &[Place],
    report: &mut Report,
) -> Result<(), Fault> {
    let order = places.iter().find(|place| place.service.name == "order");
    let (Some(order), false) = (order, suspects.is_empty()) else {
        return Ok(());
    };
    let snapshot = order.database.snapshot().await?;
    for suspect in suspects {
        let named = report.is_named(&suspect.violation.id);
        if suspect.is_open && (named || !report.quiet) {
            continue;
        }
        let version = order_svc::invariants::version(&snapshot, suspect.order).await?;
        if version == suspect.version {
            report.add(vec![suspect.violation]);
        }
    }
    Ok(())
}
