//! Two instances of each service on the same databases.

use integration_tests::{Backend, Client, World};
use serde_json::json;

use crate::crowd::{Crowd, count, each, flow, order, refused};

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_the_work_and_stopping_one_loses_nothing() {
    let mut world = World::with(
        Backend::Postgres,
        &ensemble::SERVICES,
        &["--open-orders", "2"],
    )
    .await;
    world.start_together("one").await;
    world.start_together("two").await;
    let mut crowd = Crowd::default();
    let plenty = crowd.product(&world, 100, 10_000).await;
    let hot = crowd.product(&world, 100, 30).await;
    crowd
        .users(&world, 100, |i| if i % 10 == 9 { 50 } else { 2_000 })
        .await;

    let campaign = world
        .operator()
        .campaign(json!({ "amount": 10 }), 100)
        .await;
    crowd
        .place(&world, async |i, user: Client<'_>| {
            let product = if i % 3 == 0 { &hot } else { &plenty };
            let mut new = order(product, 2, flow(i));
            if i % 5 == 0 {
                new["coupon_id"] = user.issue(&campaign).await.into();
            }
            if i % 5 == 1 {
                user.put_in_cart(product, 2).await;
                new["from_cart"] = true.into();
            }
            new
        })
        .await;
    world.stop("one").await;

    let path = format!("/products/{plenty}/restock");
    world
        .operator()
        .post(&path, json!({ "quantity": 500 }))
        .await
        .ok();
    let second = crowd
        .place(&world, async |i, _: Client<'_>| order(&plenty, 1, flow(i)))
        .await;
    each(0..second.len(), async |i| {
        if i % 7 == 0 {
            let path = format!("/orders/{}/cancel", second[i]);
            let answer = world.user(crowd.user(i)).post(&path, json!({})).await;
            assert!(matches!(answer.status, 202 | 409), "{answer:?}");
        }
    })
    .await;

    let orders = crowd.settle(&world).await;
    assert_eq!(orders.len(), 200);
    assert!(count(&orders, "CONFIRMED") >= 100);
    assert!(refused(&orders, "stock") > 0, "the hot product ran out");
    assert!(refused(&orders, "point") > 0, "some have too few points");
    let by_user = orders.iter().filter(|o| o["status"] == "CANCELED").count();
    assert!(by_user > 0, "some users canceled");
    world.end().await;
}
