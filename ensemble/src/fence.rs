//! `ensemble fence`: lifts the fence of a service whose database was set back.

use clap::Subcommand;
use serde_json::json;

use crate::api;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble reconcile                         which events the database does not know
  ensemble fence lift stock --reason 'restored from 03:00, repaired by hand'

Lifting accepts those events as they are: their effect on the database is not repeated.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Let the service listen and write again
    #[command(after_help = EXAMPLES)]
    Lift {
        /// The service
        service: String,
        /// Why; kept in the audit
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        api: api::OperatorArgs,
    },
}

pub(crate) async fn run(args: Args) -> Result<(), String> {
    let Action::Lift {
        service,
        reason,
        api,
    } = args.action;
    let body = json!({ "service": service, "reason": reason });
    let answer = api.operator()?.post_to_owner("/fence/lift", &body).await?;
    println!(
        "{service} works again; {} event(s) were accepted",
        answer["accepted_events"]
    );
    Ok(())
}
