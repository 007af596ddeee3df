//! `ensemble resolve`: ends an order whose compensation was given up.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::api;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble resolve 01890a5d-ac96-774b-bcce-b302099a8057 retry --reason 'stock is back'
  ensemble resolve 01890a5d-ac96-774b-bcce-b302099a8057 mark-undone point --reason 'refunded by hand'

The work list: ensemble why --stuck";

const RETRY: &str = "\
Examples:
  ensemble resolve 01890a5d-ac96-774b-bcce-b302099a8057 retry --reason 'stock is back'";
const MARK_UNDONE: &str = "\
Examples:
  ensemble resolve 01890a5d-ac96-774b-bcce-b302099a8057 mark-undone point --reason 'refunded by hand'

Nothing is given back by this: it says that a person has seen to it.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The order
    order_id: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Ask the steps that have not answered once more
    #[command(after_help = RETRY)]
    Retry(Why),
    /// You have undone the step by hand, or seen that there is nothing to undo
    #[command(after_help = MARK_UNDONE)]
    MarkUndone {
        /// The step, like `point`
        step: String,
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Debug, clap::Args)]
struct Why {
    /// Why; kept in the audit
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    api: api::OperatorArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), String> {
    let (why, body) = match &args.action {
        Action::Retry(why) => (why, json!({ "action": "retry", "reason": why.reason })),
        Action::MarkUndone { step, why } => (
            why,
            json!({ "action": "mark_undone", "step": step, "reason": why.reason }),
        ),
    };
    let path = format!("/orders/{}/resolve", args.order_id);
    let order = why.api.operator()?.post_to_owner(&path, &body).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    println!(
        "order {} is {}",
        text(&order["order_id"]),
        text(&order["state"])
    );
    Ok(())
}
