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

/// What replay is held to.
const BARE: [(Bare, &str, &str); 3] = [
    (Bare::DirectGet, "direct_get", "a bare reader by direct get"),
    (
        Bare::DirectGets,
        "direct_gets",
        "a bare reader by several direct gets at once",
    ),
    (
        Bare::Consumer,
        "consumer",
        "a bare reader by an ordered consumer",
    ),
];

pub(super) async fn run(broker: &Context, range: &Range, json: bool) -> Result<(), Failure> {
    range.check(broker).await?;
    let mut replay: f64 = 0.0;
    let mut bare = [0.0_f64; BARE.len()];
    let mut events = 0;
    for _ in 0..TURNS {
        let pace = decoded(broker, range).await?;
        events = pace.events;
        replay = replay.max(pace.per_second());
        for ((how, ..), best) in BARE.into_iter().zip(&mut bare) {
            let pace = timed(bare::read(broker, range.start(), how)).await?;
            *best = best.max(pace.per_second());
        }
    }
    if events == 0 {
        return Err(range.is_empty().into());
    }
    if json {
        let ratio = |of: f64| (replay / of * 1000.0).round() / 1000.0;
        let mut report = json!({ "events": events, "replay_per_second": replay.round() });
        for ((_, name, _), pace) in BARE.into_iter().zip(bare) {
            report[format!("bare_{name}_per_second")] = json!(pace.round());
            report[format!("ratio_to_{name}")] = json!(ratio(pace));
        }
        println!("{report}");
        return Ok(());
    }
    println!("{events} events, the best of {TURNS} turns each, per second:");
    println!("{replay:>12.0}  replay, decoding included");
    for ((.., what), pace) in BARE.into_iter().zip(bare) {
        let ratio = 100.0 * replay / pace;
        println!("{pace:>12.0}  {what}: replay is at {ratio:.0} % of it");
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
