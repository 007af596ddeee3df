//! Random orders, random supplies, random arrivals.

use events::{Flow, Step};
use model::invariants::{always, finally};
use model::shop::{STEPS, Supply, order};
use model::{Action, Bounds, Off, Shop, World, story};
use proptest::prelude::*;

/// What is drawn for one run.
#[derive(Debug, Clone)]
struct Plan {
    supply: Supply,
    // Needed steps as bits, quantity, and whether the flow is sequential.
    orders: Vec<(u8, i64, bool)>,
    losses: u8,
    choices: Vec<u16>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let supply = (0..4_i64, 0..500_i64, any::<bool>(), 0..4_i64);
    let supply = supply.prop_map(|(units, points, coupon, in_cart)| Supply {
        units,
        points,
        coupon,
        in_cart,
    });
    let orders = prop::collection::vec((1..16_u8, 1..3_i64, any::<bool>()), 1..5);
    let choices = prop::collection::vec(any::<u16>(), 0..300);
    (supply, orders, 0..3_u8, choices).prop_map(|(supply, orders, losses, choices)| Plan {
        supply,
        orders,
        losses,
        choices,
    })
}

fn start(plan: &Plan) -> World {
    let orders = plan.orders.iter().enumerate().map(|(number, drawn)| {
        let (mask, quantity, sequential) = *drawn;
        let needed: Vec<Step> = (0..4)
            .filter(|step| mask & 1 << step != 0)
            .map(|step: usize| STEPS[step])
            .collect();
        let flow = match sequential {
            true => Flow::Sequential,
            false => Flow::Parallel,
        };
        order(number, flow, &needed, quantity)
    });
    let bounds = Bounds {
        losses: plan.losses,
        cancel: true,
        deadline: true,
        deadlines: 3,
        retries: plan.losses,
    };
    World::new(
        Shop::with(plan.supply),
        orders.collect(),
        bounds,
        Off::default(),
    )
}

/// Goes the drawn way, then delivers what is left until all is quiet.
fn run(plan: &Plan) -> Result<(), String> {
    let start = start(plan);
    let (mut world, mut path) = (start.clone(), Vec::new());
    let told = |what: String, path: &[Action]| {
        let story = story::events(&start, path);
        Err(format!("{story}broken: {what}"))
    };
    let mut choices = plan.choices.iter();
    for _ in 0..10_000 {
        let mut actions = Vec::new();
        world.actions(&mut actions);
        let action = match choices.next() {
            Some(choice) if !actions.is_empty() => actions[usize::from(*choice) % actions.len()],
            _ => match next_in_peace(&world, &actions) {
                Some(action) => action,
                None => break,
            },
        };
        path.push(action);
        if let Some(next) = world.after(action) {
            world = next;
        }
        if let Err(what) = always(&world) {
            return told(what, &path);
        }
    }
    if !world.is_quiet() {
        return told("it does not come to an end".to_owned(), &path);
    }
    finally(&world).or_else(|what| told(what, &path))
}

/// First what is to be heard, then the timers, then the operator.
fn next_in_peace(world: &World, actions: &[Action]) -> Option<Action> {
    let first_time = |action: &&Action| match **action {
        Action::Hear(number, word, who) => world.sides[usize::from(number)]
            .message(word)
            .is_some_and(|m| m.heard & 1 << who == 0),
        _ => false,
    };
    let timer = |action: &&Action| matches!(action, Action::Ring(_) | Action::Retry(_));
    let next = actions.iter().find(first_time);
    next.or_else(|| actions.iter().find(timer)).copied()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_arrives_when_all_comes_to_a_clean_end(plan in plan()) {
        run(&plan).map_err(|story| TestCaseError::fail(format!("\n{story}")))?;
    }
}
