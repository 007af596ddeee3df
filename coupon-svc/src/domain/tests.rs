use super::*;
use events::context::{NewOrder, OrderLine};
use events::{Discount, Flow, Money, ProductId, Step};
use uuid::Uuid;

const NOW: i64 = 100_000;

fn user(name: &str) -> UserId {
    UserId::new(name).expect("valid")
}

fn coupon_id(n: u128) -> CouponId {
    CouponId(Uuid::from_u128(n))
}

// 300 off from 1000 on.
fn terms() -> Coupon {
    Coupon {
        discount: Discount::Amount { amount: Money(300) },
        min_total: Money(1000),
    }
}

struct Ordered {
    n: u128,
    user: &'static str,
    subtotal: i64,
    discount: i64,
    coupon: Option<u128>,
}

fn order(ordered: Ordered) -> OrderContext {
    OrderContext::new(NewOrder {
        order_id: OrderId(Uuid::from_u128(ordered.n)),
        user_id: user(ordered.user),
        flow: Flow::Parallel,
        needed: [Step::STOCK, Step::COUPON].into_iter().collect(),
        lines: vec![OrderLine {
            product_id: ProductId(Uuid::from_u128(1)),
            quantity: 1,
            unit_price: Money(ordered.subtotal),
            price_version: 1,
        }],
        discount: Money(ordered.discount),
        coupon_id: ordered.coupon.map(coupon_id),
        placed_at: 0,
        deadline: 0,
    })
    .expect("valid")
}

/// An order of alice that uses coupon 7 as it is meant.
fn good(n: u128) -> OrderContext {
    order(Ordered {
        n,
        user: "alice",
        subtotal: 1000,
        discount: 300,
        coupon: Some(7),
    })
}

/// Alice has coupon 7.
fn drawer(expires_at: i64) -> Drawer {
    let given = Given {
        owner: user("alice"),
        terms: terms(),
        expires_at,
        state: State::Available,
    };
    Drawer {
        coupons: [(coupon_id(7), given)].into(),
    }
}

fn reason(drawer: &mut Drawer, order: &OrderContext, now: i64) -> String {
    let before = drawer.clone();
    let refusal = drawer.hold(order, now).expect_err("it is refused");
    assert_eq!(refusal.code, NOT_USABLE);
    assert_eq!(*drawer, before, "a refusal holds nothing");
    refusal.reason
}

#[test]
fn a_coupon_is_held_for_one_order_of_a_batch() {
    let mut drawer = drawer(0);
    assert_eq!(drawer.hold(&good(1), NOW), Ok(coupon_id(7)));
    assert_eq!(reason(&mut drawer, &good(2), NOW), "used");
    drawer.release(good(1).order_id, coupon_id(7));
    assert_eq!(drawer.hold(&good(2), NOW), Ok(coupon_id(7)));
}

#[test]
fn every_refusal_says_why() {
    let wrong = |user, subtotal, discount, coupon| {
        order(Ordered {
            n: 1,
            user,
            subtotal,
            discount,
            coupon,
        })
    };
    let mut d = drawer(0);
    for (order, why) in [
        (wrong("alice", 1000, 300, None), "unknown"),
        (wrong("alice", 1000, 300, Some(8)), "unknown"),
        (wrong("bob", 1000, 300, Some(7)), "foreign"),
        (wrong("alice", 1000, 299, Some(7)), "terms"),
        (wrong("alice", 1000, 301, Some(7)), "terms"),
        (wrong("alice", 999, 300, Some(7)), "terms"),
    ] {
        assert_eq!(reason(&mut d, &order, NOW), why);
    }
}

#[test]
fn a_coupon_expires_at_the_moment_that_it_says() {
    let mut drawer = drawer(NOW);
    assert_eq!(reason(&mut drawer, &good(1), NOW), "expired");
    assert_eq!(drawer.hold(&good(1), NOW - 1), Ok(coupon_id(7)));
}

#[test]
fn a_released_hold_leaves_no_trace() {
    let mut drawer = drawer(0);
    let before = drawer.clone();
    let held = drawer.hold(&good(1), NOW).expect("usable");
    drawer.release(good(1).order_id, held);
    assert_eq!(drawer, before);
}

#[test]
fn a_used_coupon_can_still_be_given_back() {
    let mut drawer = drawer(0);
    let before = drawer.clone();
    let held = drawer.hold(&good(1), NOW).expect("usable");
    drawer.settle(good(1).order_id, held);
    assert_eq!(drawer.coupons[&held].state, State::Used(good(1).order_id));
    assert_eq!(reason(&mut drawer, &good(2), NOW), "used");
    drawer.release(good(1).order_id, held);
    assert_eq!(drawer, before);
}

#[test]
fn an_order_cannot_give_back_the_coupon_of_another() {
    let mut drawer = drawer(0);
    let held = drawer.hold(&good(1), NOW).expect("usable");
    let before = drawer.clone();
    drawer.release(good(2).order_id, held);
    drawer.settle(good(2).order_id, held);
    assert_eq!(drawer, before);
}

fn campaigns(quantity: i64, expires_at: i64) -> Campaigns {
    let campaign = Campaign {
        terms: terms(),
        quantity,
        issued: 0,
        expires_at,
        holders: BTreeMap::new(),
    };
    Campaigns {
        of: [(CampaignId(Uuid::from_u128(1)), campaign)].into(),
    }
}

fn ask(campaigns: &mut Campaigns, name: &str, n: u128) -> Result<CouponId, NotIssued> {
    let campaign = CampaignId(Uuid::from_u128(1));
    let issued = campaigns.issue(campaign, &user(name), coupon_id(n), NOW)?;
    assert_eq!((issued.terms, issued.campaign_id), (terms(), campaign));
    Ok(issued.coupon_id)
}

#[test]
fn coupons_are_given_out_one_per_user_until_they_are_gone() {
    let mut campaigns = campaigns(2, 0);
    assert_eq!(ask(&mut campaigns, "alice", 1), Ok(coupon_id(1)));
    assert_eq!(
        ask(&mut campaigns, "alice", 2),
        Err(NotIssued::Already(coupon_id(1)))
    );
    assert_eq!(ask(&mut campaigns, "bob", 3), Ok(coupon_id(3)));
    assert_eq!(ask(&mut campaigns, "carol", 4), Err(NotIssued::SoldOut));
    assert_eq!(
        ask(&mut campaigns, "alice", 5),
        Err(NotIssued::Already(coupon_id(1)))
    );
    let issued: Vec<_> = campaigns.of.values().map(|c| c.issued).collect();
    assert_eq!(issued, [2]);
}

#[test]
fn a_campaign_that_is_over_gives_nothing() {
    assert_eq!(
        ask(&mut campaigns(2, NOW), "alice", 1),
        Err(NotIssued::Expired)
    );
    assert_eq!(
        ask(&mut campaigns(2, NOW + 1), "alice", 1),
        Ok(coupon_id(1))
    );
    assert_eq!(
        ask(&mut Campaigns::default(), "alice", 1),
        Err(NotIssued::Unknown)
    );
}
