//! Events come twice, in any order, late, again from the start, or are poison.

use std::time::Duration;

use futures::future::try_join_all;
use reqwest::Method;
use serde_json::json;

use crate::again::Again;
use crate::scenario::{SCENARIO, Scenario};
use crate::shop::Mix;
use crate::stage::{Outcome, Stage, Wishes};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        id: "F22",
        what: "30 % of all events are said twice, and every one is heard in another order",
        run: |stage| Box::pin(everything_is_mixed(stage)),
        ci: true,
        reaches: &["duplicates", "redelivered"],
        ..SCENARIO
    },
    Scenario {
        id: "F23",
        what: "compensation is heard before the action",
        wishes: || Wishes {
            mix: Mix {
                cancel: 70,
                ..Mix::default()
            },
            ..Wishes::default()
        },
        run: |stage| Box::pin(cancels_overtake(stage)),
        ..SCENARIO
    },
    Scenario {
        id: "F28",
        what: "a poison message: one nobody can read, and one whose step fails each time",
        run: |stage| Box::pin(poison(stage)),
        dead_letters: true,
        reaches: &["isolated"],
        ..SCENARIO
    },
    Scenario {
        id: "F29",
        what: "a poison event in a batch of 100",
        wishes: || Wishes {
            mix: Mix {
                users: 100,
                orders: Some(100),
                ..Mix::plain()
            },
            ..Wishes::default()
        },
        run: |stage| Box::pin(poison_in_a_batch(stage)),
        dead_letters: true,
        reaches: &["isolated"],
        ..SCENARIO
    },
    Scenario {
        id: "F31",
        what: "consumers are deleted, created again, and hear everything again",
        run: |stage| Box::pin(consumers_are_deleted(stage)),
        reaches: &["duplicates"],
        ..SCENARIO
    },
    Scenario {
        id: "F35",
        what: "handlers of two instances each are slower than ack_wait, with events asked for ahead",
        run: |stage| Box::pin(slower_than_ack_wait(stage)),
        reaches: &["duplicates", "redelivered"],
        ..SCENARIO
    },
];

async fn everything_is_mixed(stage: &mut Stage) -> Outcome {
    for service in ensemble::SERVICES {
        stage.tell(service.name, "late > 0 500")?;
    }
    let again = Again::start(&stage.broker, stage.random.part(22), 30).await?;
    stage.fault("events come twice and out of order");
    stage.load()?.ended().await?;
    stage.figures.faults = again.count();
    Ok(())
}

async fn cancels_overtake(stage: &mut Stage) -> Outcome {
    let late = "late order.created.pending 800 1200";
    for service in ["stock", "point", "coupon", "cart"] {
        stage.tell(service, late)?;
    }
    stage.fault("actions are late");
    stage.load()?.ended().await?;
    let voids = stage.look().await?.voids;
    stage.figures.faults = voids;
    match voids > stage.shop()?.orders / 4 {
        true => Ok(()),
        false => Err(format!("only {voids} compensations came before the action")),
    }
}

const FAILS_FOR_USER0: &str = "
    CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'this row is poison'; END $$;
    CREATE TRIGGER poison BEFORE INSERT ON holds FOR EACH ROW
        WHEN (NEW.user_id = 'user0') EXECUTE FUNCTION poison();";
const REPAIRED: &str = "DROP TRIGGER poison ON holds";

async fn poison(stage: &mut Stage) -> Outcome {
    let load = stage.load()?;
    load.until_placed(20).await?;
    stage.fault("an event that nobody can read");
    let subject = events::catalog::STEPS[0].taken.subject;
    let sent = stage.broker.publish(subject, "no event".into()).await;
    let stored = sent.map_err(|e| e.to_string())?.await;
    stored.map_err(|e| e.to_string())?;
    stage.fault("stock cannot handle what user0 orders");
    stage.execute("stock", FAILS_FOR_USER0).await?;
    until_letters(stage, "stock", 1).await?;
    // Everybody else goes on.
    load.until_decided(60).await?;
    stage.execute("stock", REPAIRED).await?;
    see_to_letters(stage, "redrive").await?;
    stage.recovered().await?;
    load.ended().await?;
    see_to_letters(stage, "redrive").await
}

async fn poison_in_a_batch(stage: &mut Stage) -> Outcome {
    stage.execute("stock", FAILS_FOR_USER0).await?;
    stage.terminate("stock").await?;
    let load = stage.load()?;
    load.until_placed(100).await?;
    stage.fault("one of the events that wait for stock is poison");
    stage.start("stock")?;
    load.until_decided(99).await?;
    until_letters(stage, "stock", 1).await?;
    let isolated = stage.notes().get("isolated").copied().unwrap_or(0);
    if isolated < 100 {
        return Err(format!("the batch had {isolated} events"));
    }
    stage.execute("stock", REPAIRED).await?;
    see_to_letters(stage, "redrive").await?;
    stage.recovered().await?;
    load.ended().await?;
    see_to_letters(stage, "redrive").await
}

async fn until_letters(stage: &Stage, service: &str, count: usize) -> Outcome {
    let look = async |stage: &Stage| {
        let letters = stage.look().await?.open_letters;
        let open = letters.get(service).map_or(0, Vec::len);
        let found = open >= count;
        found.then_some(()).ok_or(format!("{open} dead letters"))
    };
    stage
        .until("a dead letter", Duration::from_secs(30), look)
        .await
}

/// An operator redrives what can be read, and discards the rest. A redriven order may be
/// canceled meanwhile, and what it says fails again: so until nothing is left.
async fn see_to_letters(stage: &Stage, action: &str) -> Outcome {
    let operator = stage.shop()?.operator.clone();
    loop {
        let open = stage.look().await?.open_letters;
        if open.is_empty() {
            return Ok(());
        }
        let letters = open.iter().flat_map(|(service, letters)| {
            let letters = letters.iter();
            letters.map(move |letter| (service.as_str(), letter))
        });
        let all = letters.map(async |(service, letter)| {
            let action = if letter.order.is_empty() {
                "discard"
            } else {
                action
            };
            let path = format!("/dead-letters/{}/{action}", letter.id);
            let body = json!({ "reason": "repaired" });
            let answer = operator
                .insist(service, Method::POST, &path, None, &body)
                .await?;
            match answer.status {
                200 | 409 => Ok(()),
                _ => Err(format!("{action} is answered {answer:?}")),
            }
        });
        try_join_all(all).await?;
    }
}

async fn consumers_are_deleted(stage: &mut Stage) -> Outcome {
    let load = stage.load()?;
    for (turn, service) in ["order", "stock", "point"].into_iter().enumerate() {
        load.until_placed(25 + turn as u64 * 25).await?;
        stage.fault(&format!("the consumer {service} is deleted"));
        let stream = events::catalog::STREAM;
        let deleted = stage.broker.delete_consumer_from_stream(service, stream);
        deleted.await.map_err(|e| e.to_string())?;
        stage.recovered().await?;
    }
    load.ended().await
}

async fn slower_than_ack_wait(stage: &mut Stage) -> Outcome {
    for service in ["stock", "order"] {
        let second = format!("{service}-2");
        stage.add(&second, service)?;
        stage.start(&second)?;
    }
    let load = stage.load()?;
    load.until_placed(20).await?;
    for service in ["stock", "order"] {
        stage.fault(&format!("{service} is slow"));
        for instance in [service, &format!("{service}-2")] {
            stage.tell(instance, "at deciding slow 6000 1")?;
        }
        tokio::time::sleep(Duration::from_secs(15)).await;
        for instance in [service, &format!("{service}-2")] {
            stage.tell(instance, "")?;
        }
        stage.recovered().await?;
    }
    load.ended().await
}
