//! What people did by hand: one row each, in the transaction of what they did, only ever
//! added.

use serde_json::Value;

use crate::clock;
use crate::database::Tx;
use crate::fault::Fault;

/// Something that a person did.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The `sub` of the person's token.
    pub who: &'a str,
    /// What was done: `redrive`, `discard`, …
    pub action: &'a str,
    /// The id of what it was done to.
    pub target: String,
    /// Why, in the person's words.
    pub reason: &'a str,
    /// How it was.
    pub before: Value,
    /// How it is now.
    pub after: Value,
}

/// Adds a row.
///
/// # Errors
/// A fault of the database.
pub async fn append(tx: &Tx, entry: Entry<'_>) -> Result<(), Fault> {
    let sql = "INSERT INTO audit (id, done_at, who, action, target, reason, before, after)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let values = vec![
        clock::new_id().into(),
        tx.now().into(),
        entry.who.into(),
        entry.action.into(),
        entry.target.into(),
        entry.reason.into(),
        entry.before.to_string().into(),
        entry.after.to_string().into(),
    ];
    tx.execute(sql, values).await?;
    Ok(())
}
