//! A path as something to read.

use std::fmt::Write as _;

use events::hold::Hold;

use crate::search::Broken;
use crate::shop::STEPS;
use crate::world::{Action, ORDER, Side, Who, Word, World};

/// Tells a counterexample.
#[must_use]
pub fn tell(broken: &Broken) -> String {
    let mut text = opening(&broken.start);
    text += &events(&broken.start, &broken.path);
    let _ = writeln!(text, "broken: {}", broken.what);
    text
}

fn opening(world: &World) -> String {
    let mut text = String::new();
    for (number, side) in world.sides.iter().enumerate() {
        let context = &side.order.context;
        let _ = writeln!(
            text,
            "order {number}: {} of a mug, {} {:?}",
            context.lines[0].quantity, context.flow, context.needed
        );
    }
    let shop = &world.shop;
    let coupon = match shop.coupon() {
        Some(_) => "a coupon",
        None => "no coupon",
    };
    let _ = writeln!(
        text,
        "there are {} units, {} points, {coupon}, {} in the cart",
        shop.units()[0],
        shop.points()[0],
        shop.in_cart()
    );
    text
}

/// Tells what happened on a path; actions that change nothing are left out.
#[must_use]
pub fn events(start: &World, path: &[Action]) -> String {
    let mut text = String::new();
    let mut world = start.clone();
    for action in path {
        let Some(next) = world.after(*action) else {
            continue;
        };
        let number = usize::from(order_of(*action));
        let (before, after) = (&world.sides[number], &next.sides[number]);
        let _ = write!(text, "{}", headline(&world, *action));
        let _ = writeln!(text, "{}", change(before, after));
        for message in after
            .said
            .iter()
            .filter(|m| before.message(m.word).is_none())
        {
            let _ = writeln!(text, "    → {}", subject(message.word));
        }
        world = next;
    }
    text
}

fn order_of(action: Action) -> u8 {
    match action {
        Action::Hear(number, ..)
        | Action::Lose(number, ..)
        | Action::Cancel(number)
        | Action::Ring(number)
        | Action::RingStale(number)
        | Action::Retry(number) => number,
    }
}

fn headline(world: &World, action: Action) -> String {
    let several = world.sides.len() > 1;
    let number = order_of(action);
    let of = match several {
        true => format!("order {number}: "),
        false => String::new(),
    };
    let what = match action {
        Action::Hear(_, word, who) => {
            let side = &world.sides[usize::from(number)];
            let again = side.message(word).is_some_and(|m| m.heard & 1 << who != 0);
            let again = if again { " again" } else { "" };
            format!("{} hears {}{again}", name(who), subject(word))
        }
        Action::Lose(_, word, who) => format!("{} never hears {}", name(who), subject(word)),
        Action::Cancel(_) => "the user cancels".to_owned(),
        Action::Ring(_) => "the timer rings".to_owned(),
        Action::RingStale(_) => "the timer rings, for the order as it was before".to_owned(),
        Action::Retry(_) => "an operator has it tried again".to_owned(),
    };
    format!("{of}{what}")
}

fn name(who: Who) -> &'static str {
    match who {
        ORDER => "order",
        step => STEPS[usize::from(step)].name(),
    }
}

/// What changed, in the words of the states.
fn change(before: &Side, after: &Side) -> String {
    let mut text = String::new();
    if before.order.state != after.order.state {
        let _ = write!(text, "; the order is {}", after.order.state.name());
    }
    for (place, step) in STEPS.iter().enumerate() {
        let state = |side: &Side| side.rows[place].as_ref().map(|row| row.state);
        let moved = before.moves[place] != after.moves[place];
        if let Some(now) = state(after).filter(|_| state(before) != state(after) || moved) {
            let _ = write!(text, "; {step} is {}", Hold::name(now));
        }
    }
    text
}

/// An event, by its subject.
#[must_use]
pub fn subject(word: Word) -> String {
    match word {
        Word::Created => "order.created.pending".to_owned(),
        Word::Confirmed => "order.confirmed".to_owned(),
        Word::Canceled { attempt: 1 } => "order.canceled".to_owned(),
        Word::Canceled { attempt } => format!("order.canceled (attempt {attempt})"),
        Word::Compensated => "order.compensated".to_owned(),
        Word::CompensationFailed { .. } => "order.compensation.failed".to_owned(),
        Word::Taken(step) => step.entry().taken.subject.to_owned(),
        Word::Refused(step, attempt) => numbered(step.entry().refused.subject, attempt),
        Word::Undone(step, attempt, nothing) => {
            let subject = numbered(step.entry().undone.subject, attempt);
            match nothing {
                true => format!("{subject} (nothing to undo)"),
                false => subject,
            }
        }
    }
}

fn numbered(subject: &str, attempt: u32) -> String {
    match attempt {
        1 => subject.to_owned(),
        attempt => format!("{subject} (attempt {attempt})"),
    }
}
