//! How fast the stream is read and decoded, beside what the client can do.

use std::time::{Duration, Instant};

use jetstream::stream::bare::{self, Bare};
use jetstream::stream::broker::Context;
use jetstream::stream::reader::Reader;
use serde_json::json;

use super::range::Range;
use crate::failure::Failure;

// The readers take turns, so that none has the warmer cache; the best turn of each counts.
const TURNS: usize = 5;

#[derive(Clone, Copy, Default)]
struct Pace {
    events: u64,
    time: Duration,
}

impl Pace {
    fn per_second(self) -> f64 {
        self.events as f64 / self.time.as_secs_f64().max(f64::EPSILON)
    }
}

pub(super) async fn run(broker: &Context, range: &Range, json: bool) -> Result<(), Failure> {
    range.check(broker).await?;
    let mut replay = Vec::new();
    let mut by_get = Vec::new();
    let mut by_consumer = Vec::new();
    for _ in 0..TURNS {
        replay.push(decoded(broker, range).await?);
        by_get.push(timed(bare::read(broker, range.start(), Bare::DirectGet)).await?);
        by_consumer.push(timed(bare::read(broker, range.start(), Bare::Consumer)).await?);
    }
    let best = |paces: &[Pace]| {
        paces
            .iter()
            .map(|pace| pace.per_second())
            .fold(0.0, f64::max)
    };
    let events = replay.first().map_or(0, |pace| pace.events);
    let (replay, by_get, by_consumer) = (best(&replay), best(&by_get), best(&by_consumer));
    if events == 0 {
        return Err(range.is_empty().into());
    }
    let ratio = replay / by_get.max(by_consumer);
    match json {
        true => println!(
            "{}",
            json!({
                "events": events,
                "replay_per_second": replay.round(),
                "bare_direct_get_per_second": by_get.round(),
                "bare_consumer_per_second": by_consumer.round(),
                "ratio": (ratio * 1000.0).round() / 1000.0,
            })
        ),
        false => {
            println!("{events} events, the best of {TURNS} turns each, per second:");
            println!("{replay:>12.0}  replay, decoding included");
            println!(
                "{by_get:>12.0}  a bare reader by direct get, {:.0} %",
                100.0 * replay / by_get
            );
            println!(
                "{by_consumer:>12.0}  a bare reader by an ordered consumer, {:.0} %",
                100.0 * replay / by_consumer
            );
        }
    }
    Ok(())
}

async fn timed(read: impl Future<Output = Result<u64, jetstream::Fault>>) -> Result<Pace, String> {
    let begun = Instant::now();
    let events = read.await?;
    Ok(Pace {
        events,
        time: begun.elapsed(),
    })
}

async fn decoded(broker: &Context, range: &Range) -> Result<Pace, String> {
    timed(async {
        let mut reader = Reader::start(broker, ">", range.start());
        let mut events = 0;
        while let Some(page) = reader.next().await? {
            for stored in page {
                let event = stored.decode()?;
                std::hint::black_box(event.envelope);
                events += 1;
            }
        }
        Ok(events)
    })
    .await
}
