//! Coupon's HTTP routes.

use axum::Json;
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use events::fact::{CampaignCreated, CouponIssued};
use events::{CampaignId, Coupon, CouponId, Discount, Money, OrderId, catalog};
use jetstream::clock::{self, parse_rfc3339, rfc3339};
use jetstream::http::auth::Caller;
use jetstream::http::idempotency::{Answered, Once};
use jetstream::http::intake::{Call, Intake};
use jetstream::http::limits::PerUser;
use jetstream::http::page::Page;
use jetstream::http::{Created, Id, Nothing, Number, Operator, Owner, Routes, Text, doc, object};
use jetstream::{Body, Emission, Fault, Problem, Query, Shell, telemetry};
use sea_orm::QueryResult;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::domain::NotIssued;
use crate::issuing::{Ask, Issuing};
use crate::store::{expiry, terms};

// Amounts, so that sums are exact in every JSON reader.
const MAX_AMOUNT: i64 = 1_000_000_000_000_000;
const MAX_QUANTITY: i64 = 1_000_000_000;

type Amount = Number<1, MAX_AMOUNT>;
type Percent = Number<1, 100>;
type MinTotal = Number<0, MAX_AMOUNT>;
type Quantity = Number<1, MAX_QUANTITY>;

/// What the routes work with.
#[derive(Clone)]
struct Api {
    shell: Shell,
    issuing: Intake<Issuing>,
    limit: PerUser,
}

impl FromRef<Api> for Shell {
    fn from_ref(api: &Api) -> Self {
        api.shell.clone()
    }
}

pub(crate) fn routes() -> Routes {
    Routes::about(
        "coupons",
        "Campaigns, and the coupons that users have of them",
    )
    .post("/coupons", create, "Begin a campaign")
    .post(
        "/coupons/{campaign_id}/issue",
        issue,
        doc("Take a coupon of a campaign: first come, first served, one per user")
            .answers::<CouponView>(201, "It is the caller's")
            .refuses(409, &["ALREADY_ISSUED", "EXPIRED", "SOLD_OUT"])
            .refuses(429, &["TOO_MANY_REQUESTS"]),
    )
    .get(
        "/users/{user}/coupons",
        list,
        "List a user's coupons, newest first",
    )
    .with(|shell| {
        crate::restate::start(shell);
        Api {
            issuing: shell.intake(Issuing),
            limit: PerUser::new(shell),
            shell: shell.clone(),
        }
    })
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "welcome", "discount": { "percent": 10, "max": 500 }, "quantity": 100,
}))]
struct NewCampaign {
    #[schema(inline)]
    name: Text,
    #[schema(value_type = Off)]
    #[serde(deserialize_with = "object")]
    discount: Terms,
    /// The smallest subtotal that a coupon can be used with
    #[schema(inline)]
    min_total: Option<MinTotal>,
    /// How many coupons there are
    #[schema(inline)]
    quantity: Quantity,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// What a coupon takes off: an amount, or a share of the subtotal.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Terms {
    amount: Option<Amount>,
    percent: Option<Percent>,
    max: Option<Amount>,
}

/// What a coupon takes off.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = Discount, example = json!({ "percent": 10, "max": 500 }))]
#[allow(dead_code)] // it stands for its schema
enum Off {
    Amount(AmountOff),
    Percent(PercentOff),
}

/// A fixed amount, never more than the subtotal.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // it stands for its schema
struct AmountOff {
    #[schema(inline)]
    amount: Amount,
}

/// A share of the subtotal, rounded down.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // it stands for its schema
struct PercentOff {
    #[schema(inline)]
    percent: Percent,
    /// Never more than this
    #[schema(inline)]
    max: Option<Amount>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Campaign)]
struct CampaignView {
    #[schema(value_type = Uuid)]
    campaign_id: CampaignId,
    name: String,
    #[schema(value_type = Off)]
    discount: Discount,
    #[schema(value_type = i64)]
    min_total: Money,
    quantity: i64,
    issued: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
}

async fn create(
    operator: Operator,
    State(shell): State<Shell>,
    Body(new): Body<NewCampaign>,
) -> Result<Created<CampaignView>, Problem> {
    let terms = checked(&new.discount, new.min_total)?;
    let tx = operator.begin().await?;
    let campaign = CampaignCreated {
        campaign_id: CampaignId(clock::new_id()),
        name: new.name.into(),
        terms,
        quantity: new.quantity.get(),
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
    Ok(Created(view))
}

/// The terms of a campaign, of one shape or the other.
fn checked(discount: &Terms, min_total: Option<MinTotal>) -> Result<Coupon, Problem> {
    let shape = r#"must be {"amount": n} or {"percent": 1 to 100, "max"?: n}"#;
    let wrong = || Problem::invalid("discount", shape);
    let discount = match (discount.amount, discount.percent, discount.max) {
        (Some(amount), None, None) => Discount::Amount {
            amount: Money(amount.get()),
        },
        (None, Some(percent), max) => Discount::Percent {
            percent: u8::try_from(percent.get()).map_err(|_| wrong())?,
            max: max.map(|max| Money(max.get())),
        },
        _ => return Err(wrong()),
    };
    let min_total = Money(min_total.map_or(0, Number::get));
    let terms = Coupon {
        discount,
        min_total,
    };
    // The language has the last word on what terms are.
    terms.checked().map_err(|_| wrong())
}

fn in_future(time: Option<&str>, now: i64) -> Result<Option<i64>, Problem> {
    let Some(time) = time else { return Ok(None) };
    let rule = "must be a time in the future, like 2030-12-31T23:59:59Z";
    match parse_rfc3339(time) {
        Some(time) if time > now => Ok(Some(time)),
        _ => Err(Problem::invalid("expires_at", rule)),
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = Coupon)]
struct CouponView {
    #[schema(value_type = Uuid)]
    coupon_id: CouponId,
    #[schema(value_type = Uuid)]
    campaign_id: CampaignId,
    /// `AVAILABLE`, `HELD`, `USED` or `EXPIRED`
    #[schema(example = "AVAILABLE")]
    status: String,
    #[schema(value_type = Off)]
    discount: Discount,
    #[schema(value_type = i64)]
    min_total: Money,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    order_id: Option<OrderId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

async fn issue(
    caller: Caller,
    State(api): State<Api>,
    Id(campaign): Id<CampaignId>,
    Once { key, .. }: Once<Nothing>,
) -> Result<Answered, Problem> {
    let ask = Ask {
        campaign,
        user: caller.user().clone(),
        traceparent: telemetry::current(),
    };
    let call = Call {
        user: caller.user(),
        limit: &api.limit,
        request: key.map(|key| key.on(&caller, format!("POST /coupons/{campaign}/issue"))),
    };
    let render = |answer: &Result<CouponIssued, NotIssued>| match answer {
        Ok(issued) => Ok(Answered::new(StatusCode::CREATED, &just_issued(issued))?),
        Err(why) => Err(not_issued(why)),
    };
    api.issuing.answer(call, ask, render).await
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

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// `AVAILABLE`, `HELD`, `USED` or `EXPIRED`: those alone
    status: Option<String>,
    /// How many entries a page has at most
    #[param(value_type = Option<i64>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// The `next_cursor` of the page before
    #[param(value_type = Option<Uuid>)]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Coupons {
    coupons: Vec<CouponView>,
    /// The `cursor` of the next page; null on the last
    next_cursor: Option<Uuid>,
}

async fn list(
    owner: Owner,
    State(shell): State<Shell>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Coupons>, Problem> {
    let page = Page::new(query.limit.as_deref(), query.cursor.as_deref())?;
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
                   FROM coupons WHERE {mine} AND coupon_id < $2) AS mine
               WHERE $4 = '' OR status = $4 ORDER BY coupon_id DESC LIMIT $5";
    let values = vec![
        page.before().into(),
        shell.now().into(),
        status.into(),
        page.fetch().into(),
    ];
    let rows = owner.query(sql, values).await?;
    let views = rows.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    let (coupons, next_cursor) = page.cut(views, |coupon| coupon.coupon_id.0);
    Ok(Json(Coupons {
        coupons,
        next_cursor,
    }))
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
