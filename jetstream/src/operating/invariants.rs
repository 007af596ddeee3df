//! Invariants: what holds in one service's database at every moment, as queries for what
//! breaks them.
//!
//! What a service writes in one transaction can be held to all of this in any snapshot,
//! while the service works. What needs several databases is `ensemble check`'s.

use events::Step;
use sea_orm::DbBackend;
use serde::Serialize;
use uuid::Uuid;

use crate::database::snapshot::Snapshot;
use crate::fault::Fault;

/// Something that always holds in a service's database.
#[derive(Clone, Copy)]
pub struct Invariant {
    /// Which invariant of the system it belongs to, like `I2`.
    pub name: &'static str,
    /// What must hold, in words.
    pub rule: &'static str,
    /// What a row is about: `order`, `product`, `user`, …
    pub about: &'static str,
    /// Finds what breaks it: rows of `id` (a UUID or a text) and `found`, a text. It is
    /// given the database, and the name of the service.
    pub sql: fn(DbBackend, &str) -> String,
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Violation {
    /// Which invariant, like `I2`.
    pub invariant: &'static str,
    /// In whose database it was seen.
    pub service: String,
    /// What `id` is the id of: `order`, `product`, `user`, …
    pub about: &'static str,
    /// Of what.
    pub id: String,
    /// What was found, and what should be.
    pub found: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            invariant,
            service,
            about,
            id,
            found,
        } = self;
        write!(f, "{invariant} {service}: {about} {id}: {found}")
    }
}

impl Invariant {
    /// What breaks it in a service's database.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn broken(
        &self,
        service: &str,
        snapshot: &Snapshot,
    ) -> Result<Vec<Violation>, Fault> {
        let rows = snapshot
            .query_whole_tables(&(self.sql)(snapshot.backend(), service))
            .await?;
        let violation = |row: &sea_orm::QueryResult| {
            let id = match row.try_get::<Uuid>("", "id") {
                Ok(id) => id.to_string(),
                Err(_) => row.try_get::<String>("", "id")?,
            };
            let found: String = row.try_get("", "found")?;
            Ok(Violation {
                invariant: self.name,
                service: service.to_owned(),
                about: self.about,
                id,
                found: format!("{}: {found}", self.rule),
            })
        };
        rows.iter().map(violation).collect()
    }
}

/// What holds in the runtime's own tables, in every service.
pub const OF_EVERY_SERVICE: &[Invariant] = &[
    Invariant {
        name: "I10",
        rule: "events are numbered without gaps",
        about: "producer",
        sql: |_, _| {
            // Numbers of events that were accepted when a fence was lifted have no row, and
            // the oldest rows have been pruned.
            "SELECT 'outbox' AS id, 'numbers ' || lowest || ' to ' || highest || ' in ' || n
                 || ' rows and ' || accepted || ' accepted events' AS found
             FROM (SELECT lowest, highest, n,
                       (SELECT count(*) FROM accepted_events a WHERE a.pseq >= lowest AND NOT EXISTS
                           (SELECT 1 FROM outbox x WHERE x.pseq = a.pseq)) AS accepted
                   FROM (SELECT coalesce(min(pseq), (SELECT pseq + 1 FROM producer)) AS lowest,
                             (SELECT pseq FROM producer) AS highest, count(*) AS n
                         FROM outbox) AS kept) AS numbers
             WHERE highest - lowest + 1 <> n + accepted"
                .to_owned()
        },
    },
    Invariant {
        name: "I18",
        rule: "what was done with a dead letter was done by one person, who is named",
        about: "dead letter",
        sql: |backend, _| {
            let id = uuid_text(backend, "l.id");
            format!(
                "SELECT l.id AS id, l.state || ' with ' || count(a.id) || ' rows of the audit' AS found
                 FROM dead_letters l LEFT JOIN audit a
                     ON a.target = {id} AND a.action IN ('redrive', 'discard')
                 WHERE l.state <> 'OPEN' GROUP BY l.id, l.state HAVING count(a.id) <> 1"
            )
        },
    },
];

/// What holds in a participant's holds and outbox: each transition is said once, but for
/// repeats that were asked for.
pub const OF_PARTICIPANTS: &[Invariant] = &[
    Invariant {
        name: "I9",
        rule: "each transition is said once",
        about: "order",
        sql: |_, service| {
            let [taken, refused, undone] = answers(service);
            format!(
                "SELECT id, state || ', asked ' || answered || ' times, said ' || taken
                     || ' times that it is taken, ' || refused || ' refused, ' || undone
                     || ' undone' AS found
                 FROM (SELECT h.order_id AS id, h.state AS state, h.held AS held,
                           h.answered AS answered, coalesce(s.taken, 0) AS taken,
                           coalesce(s.refused, 0) AS refused, coalesce(s.undone, 0) AS undone
                       FROM holds h LEFT JOIN
                           (SELECT correlation,
                                sum(CASE WHEN subject = '{taken}' THEN 1 ELSE 0 END) AS taken,
                                sum(CASE WHEN subject = '{refused}' THEN 1 ELSE 0 END) AS refused,
                                sum(CASE WHEN subject = '{undone}' THEN 1 ELSE 0 END) AS undone
                            FROM outbox WHERE subject IN ('{taken}', '{refused}', '{undone}')
                            GROUP BY correlation) s ON s.correlation = h.order_id
                       WHERE h.created_at >= (SELECT coalesce(min(decided_at), 0) FROM outbox))
                     AS told
                 WHERE taken <> CASE WHEN held <> '' THEN 1 ELSE 0 END
                     OR refused NOT BETWEEN CASE WHEN state = 'REFUSED' THEN 1 ELSE 0 END
                         AND CASE WHEN state = 'REFUSED' THEN answered ELSE 0 END
                     OR undone NOT BETWEEN
                         CASE WHEN state IN ('RELEASED', 'VOID') THEN 1 ELSE 0 END
                         AND CASE WHEN state IN ('RELEASED', 'VOID') THEN answered ELSE 0 END"
            )
        },
    },
    Invariant {
        name: "I9",
        rule: "nothing is said without a transition",
        about: "order",
        sql: |_, service| {
            let [taken, refused, undone] = answers(service);
            format!(
                "SELECT DISTINCT o.correlation AS id, o.subject AS found FROM outbox o
                 WHERE o.subject IN ('{taken}', '{refused}', '{undone}')
                     AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.order_id = o.correlation)"
            )
        },
    },
];

/// The subjects of a participant's answers; of who takes no step, none.
fn answers(service: &str) -> [&'static str; 3] {
    Step::named(service).map_or([""; 3], |step| {
        let entry = step.entry();
        [&entry.taken, &entry.refused, &entry.undone].map(|answer| answer.subject)
    })
}

/// A column of UUIDs as text, as people and other tables write them.
#[must_use]
pub fn uuid_text(backend: DbBackend, column: &str) -> String {
    match backend {
        DbBackend::Postgres => format!("CAST({column} AS TEXT)"),
        _ => {
            let part = |from, length| format!("substr(hex({column}), {from}, {length})");
            let parts = [(1, 8), (9, 4), (13, 4), (17, 4), (21, 12)];
            let parts = parts.map(|(from, length)| part(from, length));
            format!("lower({})", parts.join(" || '-' || "))
        }
    }
}

/// A text of a UUID as a column of UUIDs has it.
#[must_use]
pub fn text_uuid(backend: DbBackend, text: &str) -> String {
    match backend {
        DbBackend::Postgres => format!("CAST({text} AS UUID)"),
        _ => format!("unhex(replace({text}, '-', ''))"),
    }
}
