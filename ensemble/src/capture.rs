//! `ensemble capture`: a range of the stream as a file, with what it depends on.

use std::path::PathBuf;

use jetstream::replay::{Before, file, select};

use crate::failure::Failure;
use crate::reach::Broker;
use crate::replay::range::{self, Range, Reading};

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble capture --order 01890a5d-ac96-774b-bcce-b302099a8057 --out story.jsonl
  ensemble capture --from 15m --out incident.jsonl
  ensemble replay --file incident.jsonl --into DIR";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    range: Range,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    broker: Broker,
}

pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    let broker = args.broker.connect("capture").await?;
    let tape = range::tape(&broker, &args.range, Reading::WithAllBefore).await?;
    let tape = select::needed(tape).map_err(|error| error.to_string())?;
    file::write(&tape, &args.out).map_err(|error| error.to_string())?;
    let compared = tape
        .events()
        .iter()
        .filter(|event| tape.compares(event))
        .count();
    println!(
        "{}: {compared} events from {} to {}, and {} that they depend on",
        args.out.display(),
        tape.first,
        tape.last,
        tape.events().len() - compared
    );
    if tape.before == Before::Missing {
        println!(
            "the stream has lost its beginning: what needs the state from then cannot be compared"
        );
    }
    Ok(())
}
