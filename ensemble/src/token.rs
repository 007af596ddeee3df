//! `ensemble token`: a token for the HTTP API, signed with the development key.

use std::path::PathBuf;
use std::time::Duration;

use events::UserId;
use jetstream::http::auth::DevelopmentKey;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble token --sub alice
  TOKEN=$(ensemble token --sub admin --scope operator)";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The user that the token is for
    #[arg(long)]
    sub: String,
    /// `operator` may read and repair everything
    #[arg(long, value_parser = ["operator"])]
    scope: Option<String>,
    /// Hours that it is valid
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760))]
    hours: u64,
    /// The data directory, which holds the key
    #[arg(long, env = "ENSEMBLE_DATA_DIR", default_value = "data")]
    data_dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), String> {
    let user = UserId::new(args.sub.as_str()).map_err(|error| error.to_string())?;
    let key = DevelopmentKey::of(&args.data_dir)?;
    let valid = Duration::from_secs(args.hours * 60 * 60);
    println!("{}", key.token(&user, args.scope.is_some(), valid)?);
    Ok(())
}
