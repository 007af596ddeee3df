//! Each rule, switched off: something breaks, and here is the shortest way.

// The figures and the stories are what one runs it for.
#![allow(clippy::print_stdout)]

use events::{Flow, Step};
use model::invariants::finally;
use model::search::{Broken, search};
use model::shop::{Supply, order};
use model::{Action, Bounds, Off, Rule, Shop, World, story};

const BOUNDS: Bounds = Bounds {
    losses: 0,
    cancel: true,
    deadline: true,
    deadlines: 1,
    retries: 0,
};

const THREE: [Step; 3] = [Step::STOCK, Step::POINT, Step::COUPON];
const TWO: [Step; 2] = [Step::STOCK, Step::COUPON];

/// A shop in which alice has a coupon, and points as many as given.
fn shop(units: i64, points: i64) -> Shop {
    Shop::with(Supply {
        units,
        points,
        coupon: true,
        in_cart: 0,
    })
}

fn one(points: i64, needed: &[Step], bounds: Bounds, off: &[Rule]) -> World {
    let order = order(0, Flow::Parallel, needed, 1);
    World::new(shop(1, points), vec![order], bounds, Off::rules(off))
}

fn two(units: i64, off: &[Rule]) -> World {
    let orders = [0, 1].map(|number| order(number, Flow::Parallel, &TWO, 1));
    let bounds = Bounds {
        cancel: true,
        deadline: false,
        ..BOUNDS
    };
    World::new(shop(units, 0), orders.to_vec(), bounds, Off::rules(off))
}

#[track_caller]
fn breaks(start: World) -> Broken {
    let found = search(vec![start]);
    let broken = found.broken.expect("it breaks");
    println!(
        "{}\n({} states looked at)",
        story::tell(&broken),
        found.states
    );
    broken
}

#[track_caller]
fn holds(start: World) {
    let found = search(vec![start]);
    assert!(
        found.broken.is_none(),
        "\n{}",
        found.broken.as_ref().map(story::tell).unwrap_or_default()
    );
}

const POOR: i64 = 1;
const RICH: i64 = 1_000;

#[test]
fn an_inbox_that_forgets_asks_again_without_end() {
    let broken = breaks(one(RICH, &TWO, BOUNDS, &[Rule::Inbox]));
    assert!(broken.what.contains("comes again"), "{}", broken.what);
}

#[test]
fn a_participant_that_does_not_look_at_its_row_takes_twice() {
    breaks(one(RICH, &[Step::POINT], BOUNDS, &[Rule::NaturalRow]));
}

#[test]
fn an_outcome_that_flips_takes_what_was_given_back() {
    breaks(one(RICH, &TWO, BOUNDS, &[Rule::Outcome]));
}

#[test]
fn giving_back_twice_makes_units_out_of_nothing() {
    let broken = breaks(one(POOR, &THREE, BOUNDS, &[Rule::ReleaseOnce]));
    assert!(broken.what.contains("moved twice"), "{}", broken.what);
}

#[test]
fn what_was_sold_never_comes_back_when_a_confirmed_order_is_canceled() {
    breaks(one(RICH, &TWO, BOUNDS, &[Rule::GiveBackSold]));
}

#[test]
fn a_decision_that_overwrites_another_cancels_a_confirmed_order() {
    let broken = breaks(one(RICH, &[Step::STOCK], BOUNDS, &[Rule::Conditional]));
    assert!(
        broken.what.contains("canceled by nobody"),
        "{}",
        broken.what
    );
}

#[test]
fn a_timer_that_does_more_than_attempt_cancels_a_confirmed_order() {
    let broken = breaks(one(RICH, &[Step::STOCK], BOUNDS, &[Rule::TimerAttempts]));
    assert!(
        broken.what.contains("canceled by nobody"),
        "{}",
        broken.what
    );
}

/// The inbox covers this one: with it, no success is counted twice.
#[test]
fn a_join_that_counts_confirms_an_order_that_is_refused() {
    let off = [Rule::SetInclusion, Rule::Inbox];
    let broken = breaks(one(RICH, &TWO, BOUNDS, &off));
    assert!(broken.what.contains("CONFIRMED"), "{}", broken.what);
    holds(one(RICH, &TWO, BOUNDS, &[Rule::SetInclusion]));
}

#[test]
fn without_a_tombstone_a_canceled_order_takes() {
    let broken = breaks(one(RICH, &[Step::STOCK], BOUNDS, &[Rule::Tombstone]));
    assert!(broken.what.contains("CANCELED"), "{}", broken.what);
}

fn with_a_loss() -> Bounds {
    Bounds {
        losses: 1,
        deadlines: 1,
        retries: 1,
        ..BOUNDS
    }
}

#[test]
fn who_does_not_ask_again_waits_for_ever_for_what_was_lost() {
    holds(one(RICH, &[Step::STOCK], with_a_loss(), &[]));
    breaks(one(RICH, &[Step::STOCK], with_a_loss(), &[Rule::AskAgain]));
}

#[test]
fn who_does_not_answer_again_is_waited_for_for_ever() {
    breaks(one(
        RICH,
        &[Step::STOCK],
        with_a_loss(),
        &[Rule::AnswerAgain],
    ));
}

#[test]
fn who_takes_without_looking_sells_the_same_unit_twice() {
    let broken = breaks(two(1, &[Rule::Bound]));
    assert!(broken.what.contains("-1 available"), "{}", broken.what);
}

#[test]
fn a_coupon_for_whoever_takes_it_is_used_twice() {
    breaks(two(2, &[Rule::CouponOnce]));
}

/// A peer's refusal saves a hop, and no more: `order.canceled` alone is safe.
#[test]
fn hearing_a_peers_refusal_is_for_speed() {
    holds(one(POOR, &THREE, CALM, &[Rule::PeerRefusal]));
}

const CALM: Bounds = Bounds {
    deadlines: 0,
    ..BOUNDS
};

/// Stock ok, point fails, coupon hears the cancel first and has nothing to undo, then
/// hears the order, takes the coupon, and leaks it for ever. Two rules prevent it, so both
/// are off: the tombstone, and asking again when a success arrives late.
#[test]
fn a_late_action_leaks_the_coupon() {
    let off = [Rule::Tombstone, Rule::LateSuccess];
    let bounds = Bounds {
        cancel: false,
        deadline: false,
        ..CALM
    };
    let start = one(POOR, &THREE, bounds, &off);
    let (stock, point, coupon, order) = (0, 1, 2, model::world::ORDER);
    let path = path(
        &start,
        &[
            ("order.created.pending", stock),
            ("order.created.pending", point),
            ("point.use.failed", order),
            ("order.canceled", coupon),
            ("point.use.failed", coupon),
            ("order.canceled", stock),
            ("product.reserved", order),
            ("product.released", order),
            ("coupon.restored", order),
            ("order.created.pending", coupon),
            ("coupon.used", order),
            ("point.use.failed", stock),
        ],
    );
    let end = path.iter().fold(start.clone(), |world, action| {
        world.after(*action).unwrap_or(world)
    });
    assert!(end.is_quiet(), "nobody will ever look at it again");
    let what = finally(&end).expect_err("the coupon is gone");
    assert!(what.contains("CANCELED, and coupon is HELD"), "{what}");
    // With the tombstone, nothing breaks where the other is off.
    holds(one(POOR, &THREE, bounds, &[Rule::LateSuccess]));
    insta::assert_snapshot!(story::events(&start, &path));
}

/// The actions of a story that is told as who hears which subject.
fn path(start: &World, heard: &[(&str, u8)]) -> Vec<Action> {
    let mut world = start.clone();
    let mut path = Vec::new();
    for (subject, who) in heard {
        let said = &world.sides[0].said;
        let is = |m: &&model::world::Message| story::subject(m.word).starts_with(subject);
        let message = said.iter().find(is).expect("it was said");
        let action = Action::Hear(0, message.word, *who);
        world = world.after(action).unwrap_or(world);
        path.push(action);
    }
    path
}
