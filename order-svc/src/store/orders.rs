//! How orders are kept.

use std::collections::{BTreeMap, HashMap, HashSet};

use events::body::Reason;
use events::{OrderContext, OrderId};
use jetstream::database::bulk::{Column, Rows};
use jetstream::http::Reader;
use jetstream::telemetry::SpanRef;
use jetstream::{Database, Fault, Shell, Tx};
use sea_orm::QueryResult;
use uuid::Uuid;

use crate::domain::{Order, State};

/// Where a change of an order is hinted at; its id follows.
pub(crate) const HINTS: &str = "notify.order.";

/// The columns that [`read`] needs.
pub(crate) const COLUMNS: &str = "order_id, state, reason, flags, refusals, context, attempt, \
                                  overdue, due_at, version, confirmed_at, updated_at, traceparent";

/// Loads orders that are to be changed.
pub(crate) async fn load(
    tx: &Tx,
    ids: impl IntoIterator<Item = OrderId>,
) -> Result<BTreeMap<OrderId, Order>, Fault> {
    let mut ids: Vec<Uuid> = ids.into_iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    let sql = format!(
        "SELECT {COLUMNS} FROM orders WHERE order_id IN (SELECT id FROM v) ORDER BY order_id"
    );
    let rows = tx.load(Rows::ids(ids), &sql, vec![]).await?;
    let orders = rows
        .iter()
        .map(|row| read(row).map(|order| (order.context.order_id, order)));
    orders.collect()
}

/// Reads, outside a transaction, those of some orders that are newer than the version
/// beside them, with their traces. One that cannot be read leaves the others readable.
pub(crate) async fn newer(
    database: &Database,
    seen: &[(OrderId, i64)],
) -> Result<Vec<Result<(Order, String), Fault>>, Fault> {
    let mut rows = Rows::of(&[("id", Column::Id), ("seen", Column::Int)]);
    for (id, version) in seen {
        rows.push([id.0.into(), (*version).into()]);
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM orders JOIN v ON orders.order_id = v.id
         WHERE orders.version > v.seen"
    );
    let rows = database.fetch(rows, &sql, vec![]).await?;
    let newer = rows
        .iter()
        .map(|row| Ok((read(row)?, row.try_get("", "traceparent")?)));
    Ok(newer.collect())
}

/// Reads a row.
pub(crate) fn read(row: &QueryResult) -> Result<Order, Fault> {
    let state: String = row.try_get("", "state")?;
    let reason: String = row.try_get("", "reason")?;
    let flags: String = row.try_get("", "flags")?;
    let refusals: String = row.try_get("", "refusals")?;
    let context: Vec<u8> = row.try_get("", "context")?;
    let count = |column| {
        row.try_get::<i64>("", column)
            .map(|n| u32::try_from(n).unwrap_or(0))
    };
    Ok(Order {
        context: OrderContext::decode(context.into())?,
        state: State::named(&state)
            .ok_or_else(|| Fault::Permanent(format!("an order has the state {state}")))?,
        reason: match reason.is_empty() {
            true => None,
            false => Some(Reason::from_code(&reason)?),
        },
        flags: serde_json::from_str(&flags)?,
        refusals: serde_json::from_str(&refusals)?,
        attempt: count("attempt")?,
        overdue: count("overdue")?,
        due_at: row.try_get("", "due_at")?,
        version: row.try_get("", "version")?,
        confirmed_at: row.try_get("", "confirmed_at")?,
        updated_at: row.try_get("", "updated_at")?,
    })
}

/// A new order, with the slot that it takes among the open orders of its user.
pub(crate) struct Placed {
    pub(crate) order: Order,
    pub(crate) slot: i64,
    pub(crate) traceparent: Option<String>,
}

/// Inserts new orders.
///
/// # Errors
/// A conflict, now or when the transaction ends, when a slot was taken meanwhile.
pub(crate) async fn insert(tx: &Tx, placed: &[Placed]) -> Result<(), Fault> {
    let mut rows = Rows::of(&[
        ("id", Column::Id),
        ("user_id", Column::Text),
        ("flags", Column::Text),
        ("context", Column::Bytes),
        ("due_at", Column::Int),
        ("slot", Column::Int),
        ("traceparent", Column::Text),
        ("placed_at", Column::Int),
    ]);
    for Placed {
        order,
        slot,
        traceparent,
    } in placed
    {
        rows.push([
            order.context.order_id.0.into(),
            order.context.user_id.as_str().into(),
            serde_json::to_string(&order.flags)?.into(),
            order.context.encoded().to_vec().into(),
            order.due_at.into(),
            (*slot).into(),
            traceparent.clone().unwrap_or_default().into(),
            order.context.placed_at.into(),
        ]);
    }
    let sql = "INSERT INTO orders (order_id, user_id, state, reason, flags, refusals, context,
                   attempt, overdue, due_at, open_slot, traceparent, version, placed_at,
                   confirmed_at, updated_at)
               SELECT id, user_id, 'PENDING', '', flags, '[]', context, 0, 0, due_at, slot,
                   traceparent, 1, placed_at, 0, placed_at
               FROM v WHERE true";
    tx.write(rows, sql, vec![]).await
}

const OPEN_SLOTS: &str = "SELECT user_id, open_slot FROM orders
    WHERE open_slot IS NOT NULL AND user_id IN (SELECT id FROM v)";

/// The slots that open orders have, by user.
pub(crate) type Slots = HashMap<String, HashSet<i64>>;

/// The slots that the open orders of these users have, outside a transaction: whoever
/// takes one finds out when the order is inserted.
pub(crate) async fn open_slots(database: &Database, users: HashSet<&str>) -> Result<Slots, Fault> {
    slots(
        &database
            .fetch(Rows::texts(users), OPEN_SLOTS, vec![])
            .await?,
    )
}

/// The slots that the open orders of a user have.
pub(crate) async fn open_slots_within(tx: &Tx, user: &str) -> Result<HashSet<i64>, Fault> {
    let mut all = slots(&tx.fetch(Rows::texts([user]), OPEN_SLOTS, vec![]).await?)?;
    Ok(all.remove(user).unwrap_or_default())
}

fn slots(rows: &[QueryResult]) -> Result<Slots, Fault> {
    let mut slots = Slots::new();
    for row in rows {
        let user: String = row.try_get("", "user_id")?;
        let taken = slots.entry(user).or_default();
        taken.insert(row.try_get("", "open_slot")?);
    }
    Ok(slots)
}

/// The traces of orders that were sampled when they were placed, to go on with.
pub(crate) async fn traces(
    tx: &Tx,
    shell: &Shell,
    ids: impl IntoIterator<Item = OrderId>,
) -> Result<HashMap<OrderId, SpanRef>, Fault> {
    let ids = Rows::ids(ids.into_iter().map(|id| id.0));
    let sql = "SELECT order_id, traceparent FROM orders
               WHERE traceparent <> '' AND order_id IN (SELECT id FROM v)";
    let mut traces = HashMap::new();
    for row in tx.fetch(ids, sql, vec![]).await? {
        let traceparent: String = row.try_get("", "traceparent")?;
        if let Some(trace) = shell.trace(&traceparent) {
            traces.insert(OrderId(row.try_get("", "order_id")?), trace);
        }
    }
    Ok(traces)
}

/// An order to be saved.
pub(crate) struct Change<'a> {
    pub(crate) order: &'a Order,
    /// The version that was loaded.
    pub(crate) loaded: i64,
    /// Where the events that it heard stand in the stream.
    pub(crate) heard: &'a [u64],
}

impl<'a> From<(&'a Order, i64)> for Change<'a> {
    fn from((order, loaded): (&'a Order, i64)) -> Self {
        let heard = &[];
        Self {
            order,
            loaded,
            heard,
        }
    }
}

/// Saves orders that have changed. The update is conditional on the version that was
/// loaded (R3): the row is the only decider.
pub(crate) async fn save<'a, C: Into<Change<'a>>>(
    tx: &Tx,
    changed: impl IntoIterator<Item = C>,
) -> Result<(), Fault> {
    let mut rows = Rows::of(&[
        ("id", Column::Id),
        ("loaded", Column::Int),
        ("state", Column::Text),
        ("reason", Column::Text),
        ("flags", Column::Text),
        ("refusals", Column::Text),
        ("attempt", Column::Int),
        ("overdue", Column::Int),
        ("due_at", Column::Int),
        ("open", Column::Int),
        ("version", Column::Int),
        ("confirmed_at", Column::Int),
        ("updated_at", Column::Int),
        ("heard", Column::Text),
    ]);
    for change in changed {
        let Change {
            order,
            loaded,
            heard,
        } = change.into();
        // The one place where an order changes: so every change is hinted at.
        if order.version != loaded {
            tx.hint(format!("{HINTS}{}", order.context.order_id));
        }
        rows.push([
            order.context.order_id.0.into(),
            loaded.into(),
            order.state.name().into(),
            order.reason.map(Reason::code).unwrap_or_default().into(),
            serde_json::to_string(&order.flags)?.into(),
            serde_json::to_string(&order.refusals)?.into(),
            i64::from(order.attempt).into(),
            i64::from(order.overdue).into(),
            order.due_at.into(),
            i64::from(order.is_open()).into(),
            order.version.into(),
            order.confirmed_at.into(),
            order.updated_at.into(),
            sequences(heard).into(),
        ]);
    }
    // A confirmed order that is canceled has given its slot away and takes none again.
    let sql = "UPDATE orders SET state = v.state, reason = v.reason, flags = v.flags,
                   refusals = v.refusals, attempt = v.attempt, overdue = v.overdue,
                   due_at = v.due_at, version = v.version, confirmed_at = v.confirmed_at,
                   updated_at = v.updated_at, heard = orders.heard || v.heard,
                   open_slot = CASE WHEN v.open = 1 THEN orders.open_slot END
               FROM v WHERE orders.order_id = v.id AND orders.version = v.loaded";
    let sql = match jetstream::is_off("R3") {
        true => sql.replace(" AND orders.version = v.loaded", ""),
        false => sql.to_owned(),
    };
    tx.write(rows, &sql, vec![]).await
}

fn sequences(heard: &[u64]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for sequence in heard {
        // A String takes everything.
        let _ = write!(text, "{sequence} ");
    }
    text
}

/// Where the events that an order has heard stand in the stream, one for each event.
pub(crate) async fn heard(reader: &Reader, id: OrderId) -> Result<Vec<u64>, Fault> {
    let sql = "SELECT heard FROM orders WHERE {mine} AND order_id = $2";
    let rows = reader.query(sql, vec![id.0.into()]).await?;
    let text: String = match rows.first() {
        Some(row) => row.try_get("", "heard")?,
        None => String::new(),
    };
    let sequences = text.split_whitespace();
    Ok(sequences.filter_map(|s| s.parse().ok()).collect())
}
