//! What must hold.

use coupon_svc::domain::State as CouponState;
use events::body::Reason;
use events::hold::Hold;
use events::outcome::Outcome;
use order_svc::domain::State;

use crate::shop::{Held, STEPS, exact, index};
use crate::world::{Side, Word, World};

/// What holds at every moment.
///
/// # Errors
/// What does not.
pub fn always(world: &World) -> Result<(), String> {
    if let Some(broken) = &world.broken {
        return Err(broken.clone());
    }
    for (number, side) in world.sides.iter().enumerate() {
        decided_once(side).map_err(|what| format!("order {number}: {what}"))?;
        rows(side).map_err(|what| format!("order {number}: {what}"))?;
    }
    sums(world)
}

/// What holds when all is quiet.
///
/// # Errors
/// What does not.
pub fn finally(world: &World) -> Result<(), String> {
    for (number, side) in world.sides.iter().enumerate() {
        ended(side).map_err(|what| format!("order {number}, in the end: {what}"))?;
    }
    let mut actions = Vec::new();
    world.actions(&mut actions);
    let hears = |action: &&crate::Action| matches!(action, crate::Action::Hear(..));
    for action in actions.iter().filter(hears) {
        if let Some(next) = world.after(*action)
            && next.fingerprint() != world.fingerprint()
        {
            return Err(format!(
                "it is over, and an event that comes again changes it: {action:?}"
            ));
        }
    }
    Ok(())
}

/// One decision (I8); questions and answers belong together.
fn decided_once(side: &Side) -> Result<(), String> {
    let order = &side.order;
    let said = |word| side.message(word).is_some();
    let canceled = said(Word::Canceled { attempt: 1 });
    if said(Word::Confirmed) && canceled && order.reason != Some(Reason::CanceledByUser) {
        return Err("it was confirmed, and canceled by nobody".to_owned());
    }
    // Asked again: once for each deadline and operator, once for each late success.
    let bound = 1 + order.overdue + order.flags.len() as u32 + 4;
    if order.attempt > bound {
        return Err(format!("asked {} times", order.attempt));
    }
    let answers = side.said.iter().filter_map(|m| match m.word {
        Word::Undone(_, attempt, _) | Word::Refused(_, attempt) => Some(attempt),
        _ => None,
    });
    match answers.max() > Some(order.attempt.max(1)) {
        true => Err("an answer to a question that was not asked".to_owned()),
        false => Ok(()),
    }
}

/// The rows of the steps agree with the decision, at every moment.
fn rows(side: &Side) -> Result<(), String> {
    let order = &side.order;
    for step in order.context.needed.iter() {
        let place = index(step);
        let row = side.rows[place].as_ref();
        let state = row.map(|row| row.state);
        if side.moves[place].iter().any(|times| *times > 1) {
            return Err(format!("{step} moved twice: {:?}", side.moves[place]));
        }
        let confirmed = matches!(state, Some(Hold::Held | Hold::Settled));
        if order.state == State::Confirmed && !confirmed {
            return Err(format!("it is CONFIRMED, and {step} is {}", name(row)));
        }
        let undone = matches!(state, Some(Hold::Refused | Hold::Void | Hold::Released));
        if order.state == State::Canceled && !undone {
            return Err(format!("it is CANCELED, and {step} is {}", name(row)));
        }
        let held = row.filter(|row| row.state != Hold::Refused && row.state != Hold::Void);
        if let Some(row) = held
            && row.held.as_ref() != Some(&exact(step, &order.context))
        {
            return Err(format!("{step} holds {:?}", row.held));
        }
    }
    Ok(())
}

fn name(row: Option<&Outcome<Held>>) -> &'static str {
    row.map_or("nothing", |row| row.state.name())
}

/// Nothing is lost, nothing is below zero, and the counters are the sums of the rows.
fn sums(world: &World) -> Result<(), String> {
    let amount = |step: usize, state: Hold| -> i64 {
        let rows = world.sides.iter().filter_map(|side| {
            let row = side.rows[step].as_ref()?;
            (row.state == state).then_some(row.held.as_ref()?)
        });
        rows.map(units).sum()
    };
    let check = |what: &str, now: [i64; 3], filled: i64, step: usize| {
        let [available, held, settled] = now;
        let sums = [amount(step, Hold::Held), amount(step, Hold::Settled)];
        let holds = now.iter().all(|number| *number >= 0)
            && available + held + settled == filled
            && sums == [held, settled];
        match holds {
            true => Ok(()),
            false => Err(format!(
                "{what}: {available} available, {held} held, {settled} settled; \
                 the rows hold {} and have settled {}; there were {filled}",
                sums[0], sums[1]
            )),
        }
    };
    let (shop, filled) = (&world.shop, &world.filled);
    check("units", shop.units(), filled.units()[0], 0)?;
    check("points", shop.points(), filled.points()[0], 1)?;
    let taken = amount(3, Hold::Held) + amount(3, Hold::Settled);
    if shop.in_cart() < 0 || shop.in_cart() + taken != filled.in_cart() {
        let left = shop.in_cart();
        return Err(format!("cart: {left} left, {taken} taken out"));
    }
    coupon(world)
}

fn units(held: &Held) -> i64 {
    match held {
        Held::Units(lines) => lines.iter().map(|line| line.quantity).sum(),
        Held::Points(points) => points.0,
        Held::Coupon(_) => 1,
        Held::Lines(lines) => lines.iter().map(|line| line.quantity).sum(),
    }
}

/// The coupon and the rows name the same order, and at most one (I4).
fn coupon(world: &World) -> Result<(), String> {
    let of = |state: Hold| {
        let mut sides = world.sides.iter();
        let one = sides.find(|s| s.rows[2].as_ref().is_some_and(|row| row.state == state));
        one.map(|side| side.order.context.order_id)
    };
    let taken = world.sides.iter().filter(|side| {
        let state = side.rows[2].as_ref().map(|row| row.state);
        matches!(state, Some(Hold::Held | Hold::Settled))
    });
    if taken.count() > 1 {
        return Err("two orders have the coupon".to_owned());
    }
    let (held, used) = match world.shop.coupon() {
        Some(CouponState::Held(order)) => (Some(order), None),
        Some(CouponState::Used(order)) => (None, Some(order)),
        _ => (None, None),
    };
    match (of(Hold::Held), of(Hold::Settled)) == (held, used) {
        true => Ok(()),
        false => Err("the coupon and the rows name different orders".to_owned()),
    }
}

/// Every order is decided for good and leaves nothing behind (I5, I6, I7).
fn ended(side: &Side) -> Result<(), String> {
    let state = side.order.state;
    if !matches!(state, State::Confirmed | State::Canceled) {
        return Err(format!("it is {}", state.name()));
    }
    for step in STEPS
        .iter()
        .filter(|s| side.order.context.needed.contains(**s))
    {
        let row = side.rows[index(*step)].as_ref();
        let held = row.is_none_or(|row| row.state == Hold::Held);
        if held {
            return Err(format!(
                "it is {}, and {step} is {}",
                state.name(),
                name(row)
            ));
        }
    }
    Ok(())
}
