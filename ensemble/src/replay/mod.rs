//! `ensemble replay`: the stream read again, printed, or handled again by this build.

mod into;
mod measure;
mod print;
pub(crate) mod range;

use std::path::PathBuf;

use jetstream::replay::file;

use crate::failure::Failure;
use crate::reach::Broker;
use range::{Range, Reading};

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble replay --order 01890a5d-ac96-774b-bcce-b302099a8057
  ensemble replay --from 15m --subject 'product.*'
  ensemble replay --from 2026-11-25T10:00:00Z --until 2026-11-25T10:05:00Z --json | jq .subject
  ensemble replay --follow                          what is said from now on, until Ctrl-C
  ensemble replay --into DIR                        handle all of it again, and compare
  ensemble replay --from-seq 5000 --into DIR        compare from there on
  ensemble replay --order ORDER --into DIR --at 17  the databases as they were at 17
  ensemble replay --file story.jsonl --into DIR     a file from `ensemble capture`

With --into it exits with 3 when this build says otherwise than what was recorded.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    range: Range,
    /// Only subjects that match, with * for one token and > for all that follow
    #[arg(long, conflicts_with_all = ["into", "measure"])]
    subject: Option<String>,
    /// Go on with what is said, until Ctrl-C
    #[arg(long, conflicts_with_all = ["into", "file", "order", "until", "to_seq", "measure"])]
    follow: bool,
    /// Read a file from `ensemble capture` instead of the stream
    #[arg(long, value_name = "FILE", conflicts_with_all = ["order", "from", "until", "from_seq", "to_seq", "measure"])]
    file: Option<PathBuf>,
    /// Handle the range again with this build's services, in new databases in an empty
    /// directory, and compare what they say with what was recorded
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Stop after this sequence, so that the databases are as they were then
    #[arg(long, value_name = "SEQ", requires = "into")]
    at: Option<u64>,
    /// Begin with a copy of the databases (SQLite), made when the range begins or before
    #[arg(long, value_name = "DIR", requires = "into", conflicts_with_all = ["file", "order"])]
    base: Option<PathBuf>,
    /// Begin with empty databases where the range begins: what needs more is not compared
    #[arg(long, requires = "into", conflicts_with_all = ["base", "file"])]
    cold: bool,
    /// Only measure how fast the range is read and decoded, beside a bare reader
    #[arg(long, conflicts_with = "into")]
    measure: bool,
    /// As JSON: a line per event, or the report of --into
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: Broker,
}

pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    if let Some(path) = &args.file {
        let tape = file::read(path).map_err(|error| error.to_string())?;
        return match &args.into {
            Some(into) => into::play(args, tape, into).await,
            None => print::tape(args, &tape),
        };
    }
    if let Some(into) = &args.into {
        // Before anything is read, which may take a while.
        into::check(into)?;
    }
    let broker = args.broker.connect("replay").await?;
    if args.measure {
        return measure::run(&broker, &args.range, args.json).await;
    }
    match &args.into {
        Some(into) => {
            let reading = match (args.cold, &args.base) {
                (false, None) => Reading::WithAllBefore,
                _ => Reading::Range,
            };
            let mut tape = range::tape(&broker, &args.range, reading).await?;
            if args.cold {
                tape.before = jetstream::replay::Before::Missing;
            }
            into::play(args, tape, into).await
        }
        None => print::stream(args, &broker).await,
    }
}
