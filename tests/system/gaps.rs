//! What is read of a stream that has lost messages in between.

use async_nats::jetstream::stream::Stream;
use events::catalog;
use futures::TryStreamExt as _;
use integration_tests::{Backend, World};
use jetstream::stream::reader::{Reader, Start};

// More than what the reader asks for at once, so that a gap swallows whole batches.
const WIDE: u64 = 10_000;
// So many are read by a consumer, and the rest by direct gets.
const MANY: u64 = 30_000;
const KEPT: &str = "cart.changed";
const GONE: &str = "cart.cleared";

/// The stream as it is declared, but that messages may be taken out of it.
async fn one_that_forgets(world: &World) -> Stream {
    let broker = world.broker();
    let declared = broker
        .get_stream(catalog::STREAM)
        .await
        .expect("the stream");
    let mut config = declared.cached_info().config.clone();
    (config.deny_delete, config.deny_purge) = (false, false);
    let deleted = broker.delete_stream(catalog::STREAM).await;
    deleted.expect("deleted");
    broker.create_stream(config).await.expect("a stream")
}

/// Puts so many messages into the stream; the broker has stored them when this returns.
async fn fill(world: &World, subject: &'static str, count: u64) {
    let client = world.broker().client();
    for left in (0..count).rev() {
        let message = "filler".into();
        if left % 2_000 > 0 {
            client.publish(subject, message).await.expect("sent");
            continue;
        }
        let last = world.broker().publish(subject, message).await;
        last.expect("sent").await.expect("stored");
    }
}

async fn read(world: &World, from: u64) -> Vec<u64> {
    let mut reader = Reader::start(world.broker(), ">", Start::Sequence(from));
    let mut read = Vec::new();
    while let Some(page) = reader.next().await.expect("the stream") {
        assert!(page.iter().all(|stored| stored.subject == KEPT));
        read.extend(page.iter().map(|stored| stored.sequence));
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_around_gaps_is_read_once_and_in_order() {
    let world = World::empty(Backend::Sqlite).await;
    let stream = one_that_forgets(&world).await;
    let mut kept = Vec::new();
    let mut last = 0;
    for (subject, count) in [
        (GONE, 3),
        (KEPT, MANY),
        (GONE, WIDE),
        (KEPT, 1),
        (GONE, WIDE),
        (KEPT, 3_000),
        (GONE, 7),
        (KEPT, 2_048),
    ] {
        fill(&world, subject, count).await;
        if subject == KEPT {
            kept.extend(last + 1..=last + count);
        }
        last += count;
    }
    let purged = stream.purge().filter(GONE).await.expect("purged");
    assert_eq!(purged.purged, 2 * WIDE + 10);
    // And some that stood alone.
    for sequence in [4, 2_051, 2_052, last - 1] {
        stream.delete_message(sequence).await.expect("deleted");
        kept.retain(|kept| *kept != sequence);
    }
    let gap = MANY + 3;
    for from in [1, 4, 5_000, gap - 9_000, gap, gap + 3_000, gap + WIDE, last] {
        let expected: Vec<u64> = kept.iter().copied().filter(|s| *s >= from).collect();
        assert!(read(&world, from).await == expected, "from {from}");
    }
    assert!(read(&world, last + 1).await.is_empty());
    let left: Vec<_> = stream.consumer_names().try_collect().await.expect("names");
    let own = ensemble::SERVICES.map(|service| service.name);
    let strange = |name: &&String| !own.contains(&name.as_str());
    assert_eq!(left.iter().find(strange), None, "no consumer is left");
}
