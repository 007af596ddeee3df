//! Every state that can be reached.

// The figures and the stories are what one runs it for.
#![allow(clippy::print_stdout)]

use events::{Flow, Step};
use model::search::{Searched, search};
use model::shop::{STEPS, Supply, order};
use model::{Bounds, Off, Shop, World, story};

fn report(what: &str, found: &Searched) {
    println!(
        "{what}: {} states, {} transitions, {} quiet, depth {}, {:.1} s, {:?}",
        found.states,
        found.transitions,
        found.quiet,
        found.depth,
        found.time.as_secs_f64(),
        found.seen
    );
    if let Some(broken) = &found.broken {
        panic!("\n{}", story::tell(broken));
    }
    // A search that never came to the rare paths has proven nothing about them.
    let seen = found.seen;
    for rare in [
        seen.voids,
        seen.asked_again,
        seen.given_up,
        seen.given_back,
        seen.confirmed,
    ] {
        assert!(rare > 0, "{what}: {seen:?}");
    }
}

/// A shop in which the steps of a mask refuse.
fn refusing(mask: u8) -> Shop {
    let refuses = |step: u8| mask & 1 << step != 0;
    Shop::with(Supply {
        units: if refuses(0) { 0 } else { 1 },
        points: if refuses(1) { 1 } else { 1_000 },
        coupon: !refuses(2),
        in_cart: if refuses(3) { 0 } else { 1 },
    })
}

fn one_order(flow: Flow, steps: &[Step], bounds: Bounds) -> Vec<World> {
    // In the sequential flow nobody comes after the first refusal.
    let masks =
        (0..1_u8 << steps.len()).filter(|mask| flow == Flow::Parallel || mask.count_ones() < 2);
    masks
        .map(|mask| {
            World::new(
                refusing(mask),
                vec![order(0, flow, steps, 1)],
                bounds,
                Off::default(),
            )
        })
        .collect()
}

/// Whether the larger searches are asked for, which take minutes.
fn whole() -> bool {
    std::env::var("ENSEMBLE_MODEL").is_ok_and(|size| size == "whole")
}

const CALM: Bounds = Bounds {
    losses: 0,
    cancel: true,
    deadline: true,
    deadlines: 0,
    retries: 0,
};

#[test]
fn one_order_with_four_steps_in_the_parallel_flow() {
    report(
        "one order, 4 steps, parallel",
        &search(one_order(Flow::Parallel, &STEPS, CALM)),
    );
}

#[test]
fn one_order_with_three_steps_in_the_sequential_flow() {
    report(
        "one order, 3 steps, sequential",
        &search(one_order(Flow::Sequential, &STEPS[..3], CALM)),
    );
}

// Steps cannot be exchanged here, so there are far more states: the deadline is left out,
// which cancels like the user does.
#[test]
fn one_order_with_four_steps_in_the_sequential_flow_and_a_user_who_cancels() {
    if whole() {
        let bounds = Bounds {
            deadline: false,
            ..CALM
        };
        report(
            "one order, 4 steps, sequential, user",
            &search(one_order(Flow::Sequential, &STEPS, bounds)),
        );
    }
}

#[test]
fn one_order_with_two_steps_a_lost_delivery_and_an_operator() {
    let bounds = Bounds {
        losses: 1,
        deadlines: 1,
        retries: 1,
        ..CALM
    };
    for flow in Flow::ALL {
        report(
            &format!("one order, 2 steps, {flow}, 1 loss"),
            &search(one_order(flow, &STEPS[..2], bounds)),
        );
    }
}

#[test]
fn two_orders_for_one_unit_and_one_coupon() {
    let needed = [Step::STOCK, Step::COUPON];
    for flow in Flow::ALL {
        let orders = vec![order(0, flow, &needed, 1), order(1, flow, &needed, 1)];
        let shop = Shop::with(Supply {
            units: 1,
            points: 0,
            coupon: true,
            in_cart: 0,
        });
        let bounds = Bounds {
            deadline: whole(),
            ..CALM
        };
        let start = World::new(shop, orders, bounds, Off::default());
        report(
            &format!("two orders, 2 steps, {flow}"),
            &search(vec![start]),
        );
    }
}
