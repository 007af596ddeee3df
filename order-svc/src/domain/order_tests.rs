use super::*;
use events::context::NewOrder;
use events::{Flow, Money, OrderId, OrderLine, ProductId, UserId};
use uuid::Uuid;

const RULES: [i64; 3] = [5_000, 15_000, 45_000];

fn rules() -> Rules {
    Rules {
        cancel_window: 600_000,
        compensation_deadlines: RULES.to_vec(),
    }
}

fn order(needed: &[Step]) -> Order {
    let line = OrderLine {
        product_id: ProductId(Uuid::from_u128(7)),
        quantity: 2,
        unit_price: Money(500),
        price_version: 1,
    };
    let context = OrderContext::new(NewOrder {
        order_id: OrderId(Uuid::from_u128(1)),
        user_id: UserId::new("alice").expect("valid"),
        flow: Flow::Parallel,
        needed: needed.iter().copied().collect(),
        lines: vec![line],
        discount: Money(0),
        coupon_id: None,
        placed_at: 0,
        deadline: 20_000,
    });
    Order::new(context.expect("valid"))
}

fn taken(step: Step) -> Input {
    Input::Answer(step, Answer::Taken)
}

fn refused(step: Step) -> Input {
    Input::Answer(step, Answer::Refused(Refusal::new("NO")))
}

fn undone(step: Step, nothing_to_undo: bool) -> Input {
    Input::Answer(step, Answer::Undone { nothing_to_undo })
}

/// Hears all of it, a millisecond apart; what was said, in words.
fn hear(order: &mut Order, inputs: impl IntoIterator<Item = Input>) -> Vec<String> {
    let mut said = vec![];
    for (now, input) in (1..).zip(inputs) {
        for say in order.hear(input, now, &rules()).expect("no contradiction") {
            said.push(match say {
                Say::Confirmed => "confirmed".to_owned(),
                Say::Canceled(c) => format!("canceled {} {}", c.reason.code(), c.attempt),
                Say::Compensated => "compensated".to_owned(),
                Say::CompensationFailed(steps) => format!("failed {steps:?}"),
            });
        }
    }
    said
}

const BOTH: [Step; 2] = [Step::STOCK, Step::POINT];

#[test]
fn it_is_confirmed_when_every_needed_step_succeeded_in_any_order() {
    for steps in [[Step::STOCK, Step::POINT], [Step::POINT, Step::STOCK]] {
        let mut o = order(&BOTH);
        assert_eq!(hear(&mut o, steps.map(taken)), ["confirmed"]);
        assert_eq!(o.state, State::Confirmed);
    }
}

#[test]
fn one_success_heard_three_times_is_one_success() {
    let mut o = order(&BOTH);
    assert!(
        hear(
            &mut o,
            [taken(Step::STOCK), taken(Step::STOCK), taken(Step::STOCK)]
        )
        .is_empty()
    );
    assert_eq!(o.state, State::Pending);
}

#[test]
fn the_first_refusal_cancels_and_the_answers_complete_the_compensation() {
    let mut o = order(&BOTH);
    let said = hear(
        &mut o,
        [
            taken(Step::STOCK),
            refused(Step::POINT),
            undone(Step::STOCK, false),
        ],
    );
    assert_eq!(said, ["canceled REFUSED 1", "compensated"]);
    assert_eq!(o.state, State::Canceled);
    assert_eq!(o.flags[&Step::STOCK], Flag::Compensated);
    assert_eq!(o.refusals.len(), 1);
}

#[test]
fn two_steps_refused_together_cancel_once() {
    let mut o = order(&BOTH);
    let said = hear(&mut o, [refused(Step::STOCK), refused(Step::POINT)]);
    assert_eq!(said, ["canceled REFUSED 1", "compensated"]);
    assert_eq!(o.refusals.len(), 2);
}

#[test]
fn an_order_with_one_step_is_compensated_by_its_refusal() {
    let mut o = order(&[Step::STOCK]);
    assert_eq!(
        hear(&mut o, [refused(Step::STOCK)]),
        ["canceled REFUSED 1", "compensated"]
    );
}

#[test]
fn a_compensation_heard_before_its_cause_cancels() {
    let mut o = order(&BOTH);
    let said = hear(&mut o, [undone(Step::STOCK, true), refused(Step::POINT)]);
    assert_eq!(said, ["canceled REFUSED 1", "compensated"]);
    assert_eq!(o.flags[&Step::STOCK], Flag::Void);
}

#[test]
fn a_cancel_that_loses_against_the_last_success_changes_nothing_but_inside_the_window_undoes() {
    let mut o = order(&[Step::STOCK]);
    hear(&mut o, [taken(Step::STOCK)]);
    assert!(o.can_cancel(1 + 600_000, &rules()).is_err());
    assert_eq!(
        hear(&mut o, [Input::UserCancel]),
        ["canceled CANCELED_BY_USER 1"]
    );
    assert_eq!(hear(&mut o, [undone(Step::STOCK, false)]), ["compensated"]);
}

#[test]
fn canceling_again_is_fine_only_for_who_canceled() {
    let mut o = order(&BOTH);
    hear(&mut o, [Input::UserCancel]);
    assert!(o.can_cancel(10, &rules()).is_ok());
    assert!(
        hear(&mut o, [Input::UserCancel]).is_empty(),
        "it changes nothing"
    );

    let mut refused_one = order(&BOTH);
    hear(&mut refused_one, [refused(Step::STOCK)]);
    assert!(refused_one.can_cancel(10, &rules()).is_err());
}

#[test]
fn the_timer_only_attempts() {
    let mut o = order(&BOTH);
    assert!(
        o.hear(Input::Due, 19_999, &rules())
            .expect("fine")
            .is_empty()
    );
    let said = o.hear(Input::Due, 20_000, &rules()).expect("fine");
    assert!(matches!(said[..], [Say::Canceled(_)]));

    let mut confirmed = order(&[Step::STOCK]);
    hear(&mut confirmed, [taken(Step::STOCK)]);
    assert!(
        confirmed
            .hear(Input::Due, 30_000, &rules())
            .expect("fine")
            .is_empty()
    );
}

#[test]
fn compensation_is_asked_for_again_and_then_given_up_and_heals_by_itself() {
    let mut o = order(&BOTH);
    o.hear(Input::Due, 20_000, &rules()).expect("fine");
    let mut asked = vec![];
    while o.state == State::Compensating {
        let due = o.due_at;
        asked.push(due);
        o.hear(Input::Due, due, &rules()).expect("fine");
    }
    assert_eq!(asked, [25_000, 40_000, 85_000, 130_000]);
    assert_eq!((o.state, o.attempt), (State::CompensationFailed, 4));
    assert_eq!(hear(&mut o, BOTH.map(|s| undone(s, true))), ["compensated"]);
    assert_eq!(o.state, State::Canceled);
}

#[test]
fn a_success_after_compensation_asks_again() {
    let mut o = order(&BOTH);
    let inputs = [
        refused(Step::STOCK),
        undone(Step::POINT, true),
        taken(Step::POINT),
    ];
    assert_eq!(
        hear(&mut o, inputs),
        ["canceled REFUSED 1", "compensated", "canceled REFUSED 2"]
    );
    assert_eq!(
        (o.state, o.flags[&Step::POINT]),
        (State::Canceled, Flag::Void)
    );
}

#[test]
fn an_answer_that_flips_is_a_contradiction_and_changes_nothing() {
    let mut o = order(&[Step::STOCK]);
    hear(&mut o, [taken(Step::STOCK)]);
    for flip in [refused(Step::STOCK), undone(Step::STOCK, false)] {
        let before = o.clone();
        assert!(o.hear(flip, 9, &rules()).is_err());
        assert_eq!(o, before);
    }
    assert!(
        o.hear(taken(Step::CART), 9, &rules()).is_err(),
        "not needed"
    );
}

fn given_up() -> Order {
    let mut o = order(&BOTH);
    hear(&mut o, [taken(Step::STOCK)]);
    o.hear(Input::Due, 20_000, &rules()).expect("fine");
    while o.state == State::Compensating {
        let due = o.due_at;
        o.hear(Input::Due, due, &rules()).expect("fine");
    }
    o
}

#[test]
fn an_operator_can_have_it_asked_for_again_after_it_was_given_up() {
    let mut o = given_up();
    assert_eq!(hear(&mut o, [Input::Retry]), ["canceled DEADLINE_PASSED 5"]);
    assert_eq!((o.state, o.overdue), (State::Compensating, 0));
    assert!(
        hear(&mut o, [Input::Retry]).is_empty(),
        "only when it was given up"
    );
}

#[test]
fn an_operator_can_mark_silent_steps_as_undone() {
    let mut o = given_up();
    assert_eq!(o.silent_steps(), BOTH);
    assert!(hear(&mut o, [Input::MarkUndone(Step::STOCK)]).is_empty());
    assert_eq!(
        hear(&mut o, [Input::MarkUndone(Step::POINT)]),
        ["compensated"]
    );
    assert_eq!(o.flags[&Step::STOCK], Flag::Compensated);
    assert_eq!(o.flags[&Step::POINT], Flag::Void);
    // The step answers after all: it was refused, and nothing is held either way.
    assert!(hear(&mut o, [refused(Step::POINT)]).is_empty());

    let mut pending = order(&BOTH);
    assert!(hear(&mut pending, [Input::MarkUndone(Step::STOCK)]).is_empty());
}
