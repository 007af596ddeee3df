//! The fence: a service whose database was set back neither listens nor writes, until a
//! person has looked. Going on would decide again, otherwise, what was decided already.

use events::EventId;
use serde_json::json;
use tokio::sync::watch;

use crate::database::bulk::{Column, Rows};
use crate::fault::Fault;
use crate::operating::audit;
use crate::shell::Shell;

/// Why a service is fenced: events in the stream that its database does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fenced {
    pub(crate) unknown: Vec<(EventId, i64)>,
}

impl Fenced {
    /// What happened, and what to do.
    pub(crate) fn message(&self, service: &str) -> String {
        let count = self.unknown.len();
        let (first, last) = match (self.unknown.first(), self.unknown.last()) {
            (Some((_, first)), Some((_, last))) => (*first, *last),
            _ => (0, 0),
        };
        format!(
            "{service} is fenced: the stream has {count} event(s) of it that its database does not \
             know (numbers {first} to {last}), so the database was set back. Restore the newest \
             database; or, if it is lost, compare it with those events (`ensemble reconcile`), \
             repair it, and lift the fence with `ensemble fence lift {service} --reason …`"
        )
    }
}

/// Whether a service is fenced; shared by its tasks.
#[derive(Debug, Clone)]
pub(crate) struct Fence(watch::Sender<Option<Fenced>>);

impl Default for Fence {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Fence {
    pub(crate) fn raise(&self, unknown: &[(EventId, i64)]) {
        self.0.send_replace(Some(Fenced {
            unknown: unknown.to_vec(),
        }));
    }

    pub(crate) fn state(&self) -> Option<Fenced> {
        self.0.borrow().clone()
    }

    /// Waits until the service is fenced.
    pub(crate) async fn raised(&self) {
        let mut watch = self.0.subscribe();
        // The sender lives as long as `self`.
        let _ = watch.wait_for(Option::is_some).await;
    }

    /// Waits until the service is not fenced.
    pub(crate) async fn lifted(&self) {
        let mut watch = self.0.subscribe();
        let _ = watch.wait_for(Option::is_none).await;
    }
}

/// Lifts the fence: the unknown events are accepted, and new ones are numbered above them.
/// One transaction with its audit row.
pub(crate) async fn lift(shell: &Shell, who: &str, reason: &str) -> Result<usize, Fault> {
    let Some(fenced) = shell.fence_state().state() else {
        return Ok(0);
    };
    let tx = shell.database().begin().await?;
    let mut rows = Rows::of(&[("event_id", Column::Id), ("pseq", Column::Int)]);
    for (id, pseq) in &fenced.unknown {
        rows.push([id.0.into(), (*pseq).into()]);
    }
    let sql = "INSERT INTO accepted_events (event_id, pseq, accepted_at)
               SELECT event_id, pseq, CAST($1 AS BIGINT) FROM v WHERE true
               ON CONFLICT DO NOTHING";
    tx.run(rows, sql, vec![tx.now().into()]).await?;
    let highest = fenced
        .unknown
        .iter()
        .map(|(_, pseq)| *pseq)
        .max()
        .unwrap_or(0);
    let sql = "UPDATE producer SET pseq = CASE WHEN pseq < $1 THEN $1 ELSE pseq END WHERE one = 1";
    tx.execute(sql, vec![highest.into()]).await?;
    let entry = audit::Entry {
        who,
        action: "lift fence",
        target: shell.name().to_owned(),
        reason,
        before: json!({ "unknown": fenced.unknown.len() }),
        after: json!({ "numbers_above": highest }),
    };
    audit::append(&tx, entry).await?;
    tx.commit().await?;
    shell.fence_state().0.send_replace(None);
    Ok(fenced.unknown.len())
}
