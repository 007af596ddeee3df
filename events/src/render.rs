//! Events as JSON, for people: timelines, replays, dead letters.

use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};

use crate::catalog::Kind;
use crate::{Envelope, Malformed, OrderContext, body, wire};

/// The body of an event as JSON.
///
/// # Errors
/// When the body is not what the envelope says.
pub fn body(envelope: &Envelope) -> Result<Value, Malformed> {
    let bytes = || envelope.body.clone();
    let mut value = match envelope.entry.kind {
        Kind::Fact => return fact(envelope.entry.message, bytes()),
        Kind::Refused(_) => json!({ "refusal": body::refusal(bytes())? }),
        Kind::Undone(_) => {
            let undone = body::read_undone(bytes())?;
            json!({ "nothing_to_undo": undone.nothing_to_undo, "attempt": undone.attempt })
        }
        Kind::Canceled => {
            let canceled = body::read_canceled(bytes())?;
            json!({ "reason": canceled.reason.code(), "attempt": canceled.attempt })
        }
        Kind::CompensationFailed => json!({ "unanswered": body::read_unanswered(bytes())? }),
        Kind::Created | Kind::Confirmed | Kind::Compensated | Kind::Taken(_) => json!({}),
    };
    value["context"] = context(&body::context(bytes())?);
    Ok(value)
}

fn context(context: &OrderContext) -> Value {
    let lines: Vec<_> = context
        .lines
        .iter()
        .map(|line| {
            json!({
                "product_id": line.product_id,
                "quantity": line.quantity,
                "unit_price": line.unit_price,
                "price_version": line.price_version,
            })
        })
        .collect();
    json!({
        "order_id": context.order_id,
        "user_id": context.user_id,
        "flow": context.flow,
        "needed": context.needed.iter().collect::<Vec<_>>(),
        "lines": lines,
        "discount": context.discount,
        "total": context.total,
        "coupon_id": context.coupon_id,
        "placed_at_ms": context.placed_at,
        "deadline_ms": context.deadline,
    })
}

fn fact(message: &str, bytes: Bytes) -> Result<Value, Malformed> {
    let wrong = |e: prost::DecodeError| Malformed::encoding("fact", &e);
    let id = |bytes: &[u8]| {
        uuid::Uuid::from_slice(bytes).map_err(|_| Malformed::field("id", "must be 16 bytes"))
    };
    Ok(match message {
        "ProductListed" => {
            let m = wire::ProductListed::decode(bytes).map_err(wrong)?;
            json!({ "product_id": id(&m.product_id)?, "name": m.name, "option": m.option,
                "price": m.price, "version": m.version, "initial_stock": m.initial_stock })
        }
        "StockAdded" => {
            let m = wire::StockAdded::decode(bytes).map_err(wrong)?;
            json!({ "product_id": id(&m.product_id)?, "quantity": m.quantity })
        }
        "PointCharged" => {
            let m = wire::PointCharged::decode(bytes).map_err(wrong)?;
            json!({ "user_id": m.user_id, "amount": m.amount })
        }
        "CouponCampaignCreated" => {
            let m = wire::CouponCampaignCreated::decode(bytes).map_err(wrong)?;
            json!({ "campaign_id": id(&m.campaign_id)?, "name": m.name, "quantity": m.quantity,
                "discount": discount(m.discount)?, "expires_at_ms": m.expires_at_ms })
        }
        "CouponIssued" => {
            let m = wire::CouponIssued::decode(bytes).map_err(wrong)?;
            json!({ "coupon_id": id(&m.coupon_id)?, "campaign_id": id(&m.campaign_id)?,
                "user_id": m.user_id, "discount": discount(m.discount)?,
                "expires_at_ms": m.expires_at_ms })
        }
        "CartChanged" => {
            let m = wire::CartChanged::decode(bytes).map_err(wrong)?;
            json!({ "user_id": m.user_id, "product_id": id(&m.product_id)?, "quantity": m.quantity })
        }
        other => return Err(Malformed::unknown("fact", other)),
    })
}

fn discount(message: Option<wire::Discount>) -> Result<Value, Malformed> {
    let terms = crate::Coupon::from_wire(message)?;
    Ok(json!({ "rule": terms.discount, "min_total": terms.min_total }))
}
