//! Pages stay correct while entries are added: nothing twice, nothing left out.

use integration_tests::{Backend, Client, World, on_both_databases};
use serde_json::{Value, json};

on_both_databases! {
    pages_of_orders_stay_correct_while_orders_arrive: orders();
    pages_of_products_and_coupons_stay_correct: products_and_coupons();
}

/// Goes through all pages, with something happening in between, and returns the ids.
async fn walk(
    client: &Client<'_>,
    path: &str,
    (list, id): (&str, &str),
    mut between: impl AsyncFnMut(),
) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("{path}limit=7{cursor}")).await.ok();
        let entries = page[list].as_array().expect("entries");
        assert!(entries.len() <= 7, "{page}");
        ids.extend(
            entries
                .iter()
                .map(|e| e[id].as_str().expect("an id").to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
        between().await;
    }
    let mut sorted = ids.clone();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    sorted.dedup();
    assert_eq!(ids, sorted, "newest first, and nothing twice");
    ids
}

async fn orders(backend: Backend) {
    let mut world = World::with(backend, &ensemble::SERVICES, &["--open-orders", "500"]).await;
    world.start_together("all").await;
    let (operator, alice, bob) = (world.operator(), world.user("alice"), world.user("bob"));
    let product = operator.product(1, 10_000).await;
    for user in ["alice", "bob"] {
        operator.charge(user, 10_000).await;
    }
    world.quiet().await;
    let order = json!({ "items": [{ "product_id": product, "quantity": 1 }] });
    let mut before: Vec<(&str, String)> = Vec::new();
    for n in 0..30 {
        let (name, user) = if n % 3 == 0 {
            ("bob", &bob)
        } else {
            ("alice", &alice)
        };
        before.push((name, user.place(order.clone()).await.to_string()));
    }
    let of = |name: Option<&str>| -> Vec<String> {
        let mine = before
            .iter()
            .rev()
            .filter(|(user, _)| name.is_none_or(|name| name == *user));
        mine.map(|(_, id)| id.clone()).collect()
    };
    let more = async || {
        for user in [&alice, &bob] {
            user.place(order.clone()).await;
        }
    };
    let orders = ("orders", "order_id");
    assert_eq!(
        walk(&alice, "/orders?", orders, more).await,
        of(Some("alice"))
    );
    let bobs = walk(&operator, "/orders?user=bob&", orders, async || {}).await;
    assert!(
        bobs.ends_with(&of(Some("bob"))),
        "and those that came since"
    );
    let all = walk(&operator, "/orders?", orders, async || {}).await;
    assert!(all.ends_with(&of(None)), "of all users");
    world.quiet().await;
    let confirmed = walk(&alice, "/orders?state=CONFIRMED&", orders, more).await;
    assert!(confirmed.ends_with(&of(Some("alice"))));
    let canceled = alice.get("/orders?state=CANCELED").await.ok();
    assert_eq!(
        canceled,
        json!({ "orders": [], "next_cursor": Value::Null })
    );
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("cursor=1", "cursor"),
        ("state=LOST", "state"),
    ] {
        let wrong = alice.get(&format!("/orders?{query}")).await;
        assert_eq!(wrong.problem(), (422, "INVALID"), "{query}");
        assert_eq!(wrong.body["field"], field);
    }
    assert_eq!(
        alice.get("/orders?user=bob").await.problem(),
        (404, "NOT_FOUND")
    );
    assert_eq!(
        alice.get("/orders?page=2").await.problem(),
        (400, "BAD_QUERY")
    );
    world.end().await;
}

async fn products_and_coupons(backend: Backend) {
    let world = World::start(backend).await;
    let (operator, alice) = (world.operator(), world.user("alice"));
    let (mut products, mut coupons) = (Vec::new(), Vec::new());
    for _ in 0..16 {
        products.push(operator.product(1, 1).await);
        let campaign = operator.campaign(json!({ "amount": 1 }), 1).await;
        coupons.push(alice.issue(&campaign).await);
    }
    products.reverse();
    coupons.reverse();
    let more = async || {
        operator.product(1, 1).await;
    };
    let listed = walk(&alice, "/products?", ("products", "product_id"), more).await;
    assert_eq!(listed, products);
    let more = async || {
        let campaign = operator.campaign(json!({ "amount": 1 }), 1).await;
        alice.issue(&campaign).await;
    };
    let path = "/users/alice/coupons?status=AVAILABLE&";
    assert_eq!(
        walk(&alice, path, ("coupons", "coupon_id"), more).await,
        coupons
    );
    world.end().await;
}
