//! Coupon's HTTP routes.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use events::fact::{CampaignCreated, CouponIssued};
use events::{CampaignId, Coupon, CouponId, Discount, Money, OrderId, catalog};
use jetstream::clock::{self, parse_rfc3339, rfc3339};
use jetstream::http::auth::Caller;
use jetstream::http::idempotency::{Answered, Key, Nothing, Once};
use jetstream::http::intake::{Call, Intake};
use jetstream::http::limits::PerUser;
use jetstream::http::page::Page;
use jetstream::http::{between, text};
use jetstream::{Body, Emission, Fault, Problem, Query, Shell, telemetry};
use sea_orm::QueryResult;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::NotIssued;
use crate::issuing::{Ask, Issuing};
use crate::store::{expiry, terms};

// Amounts, so that sums are exact in every JSON reader.
const MAX_AMOUNT: i64 = 1_000_000_000_000_000;
const MAX_QUANTITY: i64 = 1_000_000_000;

pub(crate) fn routes(shell: &Shell) -> Router {
    crate::restate::start(shell);
    let counter = Counter {
        issuing: shell.intake(Issuing),
        limit: PerUser::new(shell),
    };
    let issue = move |caller: Caller, Path(campaign): Path<String>, once: Once<Nothing>| {
        issue(counter.clone(), caller, campaign, once.key)
    };
    Router::new()
        .route("/coupons", post(create))
        .route("/coupons/{campaign_id}/issue", post(issue))
        .route("/users/{user}/coupons", get(list))
        .with_state(shell.clone())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCampaign {
    name: String,
    discount: Value,
    #[serde(default)]
    min_total: i64,
    quantity: i64,
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct CampaignView {
    campaign_id: CampaignId,
    name: String,
    discount: Discount,
    min_total: Money,
    quantity: i64,
    issued: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    created_at: String,
}

async fn create(
    State(shell): State<Shell>,
    caller: Caller,
    Body(new): Body<NewCampaign>,
) -> Result<(StatusCode, Json<CampaignView>), Problem> {
    caller.require_operator()?;
    text("name", &new.name, 1)?;
    let terms = checked(new.discount, new.min_total)?;
    between("quantity", new.quantity, 1, MAX_QUANTITY)?;
    let tx = shell.begin().await?;
    let campaign = CampaignCreated {
        campaign_id: CampaignId(clock::new_id()),
        name: new.name,
        terms,
        quantity: new.quantity,
        expires_at: in_future(new.expires_at.as_deref(), tx.now())?,
    };
    let sql = "INSERT INTO campaigns (campaign_id, name, discount, min_total, quantity, issued,
                   expires_at, said_at, created_at)
               VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $7)";
    let values = vec![
        campaign.campaign_id.0.into(),
        campaign.name.clone().into(),
        serde_json::to_string(&terms.discount)
            .map_err(Fault::from)?
            .into(),
        terms.min_total.0.into(),
        campaign.quantity.into(),
        campaign.expires_at.unwrap_or(0).into(),
        tx.now().into(),
    ];
    tx.execute(sql, values).await?;
    let id = campaign.campaign_id;
    let said = Emission::fact(&catalog::CAMPAIGN_CREATED, id, campaign.encode());
    let view = CampaignView {
        campaign_id: id,
        name: campaign.name,
        discount: terms.discount,
        min_total: terms.min_total,
        quantity: campaign.quantity,
        issued: 0,
        expires_at: campaign.expires_at.map(rfc3339),
        created_at: rfc3339(tx.now()),
    };
    shell.commit(tx, vec![said]).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// The terms of a campaign, within their limits.
fn checked(discount: Value, min_total: i64) -> Result<Coupon, Problem> {
    let shape = r#"must be {"amount": n} or {"percent": 1 to 100, "max"?: n}"#;
    let discount: Discount =
        serde_json::from_value(discount).map_err(|_| Problem::invalid("discount", shape))?;
    match discount {
        Discount::Amount { amount } => between("discount.amount", amount.0, 1, MAX_AMOUNT)?,
        Discount::Percent { percent, max } => {
            between("discount.percent", percent.into(), 1, 100)?;
            between("discount.max", max.map_or(1, |max| max.0), 1, MAX_AMOUNT)?;
        }
    }
    between("min_total", min_total, 0, MAX_AMOUNT)?;
    let min_total = Money(min_total);
    let terms = Coupon {
        discount,
        min_total,
    };
    // The language has the last word on what terms are.
    terms
        .checked()
        .map_err(|_| Problem::invalid("discount", shape))
}

fn in_future(time: Option<&str>, now: i64) -> Result<Option<i64>, Problem> {
    let Some(time) = time else { return Ok(None) };
    let rule = "must be a time in the future, like 2030-12-31T23:59:59Z";
    match parse_rfc3339(time) {
        Some(time) if time > now => Ok(Some(time)),
        _ => Err(Problem::invalid("expires_at", rule)),
    }
}

#[derive(Serialize)]
struct CouponView {
    coupon_id: CouponId,
    campaign_id: CampaignId,
    status: String,
    discount: Discount,
    min_total: Money,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<OrderId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// Where coupons are asked for.
#[derive(Clone)]
struct Counter {
    issuing: Intake<Issuing>,
    limit: PerUser,
}

async fn issue(
    counter: Counter,
    caller: Caller,
    campaign: String,
    key: Option<Key>,
) -> Result<Answered, Problem> {
    let campaign: CampaignId = campaign
        .parse()
        .map_err(|_| Problem::not_found("campaign"))?;
    let ask = Ask {
        campaign,
        user: caller.user().clone(),
        traceparent: telemetry::current(),
    };
    let call = Call {
        user: caller.user(),
        limit: &counter.limit,
        request: key.map(|key| key.on(&caller, format!("POST /coupons/{campaign}/issue"))),
    };
    let render = |answer: &Result<CouponIssued, NotIssued>| match answer {
        Ok(issued) => Ok(Answered::new(StatusCode::CREATED, &just_issued(issued))?),
        Err(why) => Err(not_issued(why)),
    };
    counter.issuing.answer(call, ask, render).await
}

fn not_issued(why: &NotIssued) -> Problem {
    match why {
        NotIssued::Unknown => Problem::not_found("campaign"),
        NotIssued::Already(coupon) => {
            let detail = "you have a coupon of this campaign already: `coupon_id` names it";
            Problem::conflict("ALREADY_ISSUED", detail).with("coupon_id", coupon.to_string())
        }
        NotIssued::Expired => Problem::conflict(
            "EXPIRED",
            "this campaign is over: there are no more coupons",
        ),
        NotIssued::SoldOut => {
            Problem::conflict("SOLD_OUT", "all coupons of this campaign are gone")
        }
    }
}

fn just_issued(issued: &CouponIssued) -> CouponView {
    CouponView {
        coupon_id: issued.coupon_id,
        campaign_id: issued.campaign_id,
        status: "AVAILABLE".to_owned(),
        discount: issued.terms.discount,
        min_total: issued.terms.min_total,
        order_id: None,
        expires_at: issued.expires_at.map(rfc3339),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    status: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn list(
    State(shell): State<Shell>,
    caller: Caller,
    Path(user): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Problem> {
    let user = caller.owner(&user)?;
    let page = Page::new(query.limit, query.cursor.as_deref())?;
    let status = query.status.unwrap_or_default();
    if !["", "AVAILABLE", "HELD", "USED", "EXPIRED"].contains(&status.as_str()) {
        let rule = "must be AVAILABLE, HELD, USED or EXPIRED";
        return Err(Problem::invalid("status", rule));
    }
    // Ids are in the order of their creation, so the last one seen is the cursor.
    let sql = "SELECT * FROM (
                   SELECT coupon_id, campaign_id, discount, min_total, expires_at, order_id,
                       CASE WHEN state = 'AVAILABLE' AND expires_at <> 0 AND expires_at <= $3
                            THEN 'EXPIRED' ELSE state END AS status
                   FROM coupons WHERE user_id = $1 AND coupon_id < $2) AS mine
               WHERE $4 = '' OR status = $4 ORDER BY coupon_id DESC LIMIT $5";
    let values = vec![
        user.as_str().into(),
        page.before().into(),
        shell.database().clock().now().into(),
        status.into(),
        page.fetch().into(),
    ];
    let rows = shell.database().query(sql, values).await?;
    let views = rows.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    let (coupons, next_cursor) = page.cut(views, |coupon| coupon.coupon_id.0);
    Ok(Json(
        json!({ "coupons": coupons, "next_cursor": next_cursor }),
    ))
}

fn view(row: &QueryResult) -> Result<CouponView, Fault> {
    let terms = terms(row)?;
    let order = OrderId(row.try_get("", "order_id")?);
    Ok(CouponView {
        coupon_id: CouponId(row.try_get("", "coupon_id")?),
        campaign_id: CampaignId(row.try_get("", "campaign_id")?),
        status: row.try_get("", "status")?,
        discount: terms.discount,
        min_total: terms.min_total,
        order_id: (!order.0.is_nil()).then_some(order),
        expires_at: expiry(row)?.map(rfc3339),
    })
}
