//! Facts: what came from outside and belongs to no order.

use bytes::Bytes;
use prost::Message;

use crate::{CampaignId, Coupon, CouponId, Malformed, Money, ProductId, UserId, wire};

/// A product can be ordered, at this price. A higher version replaces a lower one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductListed {
    /// One sellable option of a product.
    pub product_id: ProductId,
    /// What it is called.
    pub name: String,
    /// Size, colour; may be empty.
    pub option: String,
    /// Price of one unit.
    pub price: Money,
    /// 1 when it is created; one more for each change of the price.
    pub version: i64,
    /// Units that it was created with.
    pub initial_stock: i64,
}

impl ProductListed {
    /// The event's body.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let message = wire::ProductListed {
            product_id: self.product_id.to_wire(),
            name: self.name.clone(),
            option: self.option.clone(),
            price: self.price.0,
            version: self.version,
            initial_stock: self.initial_stock,
        };
        message.encode_to_vec().into()
    }

    /// Reads and checks a body.
    ///
    /// # Errors
    /// When the bytes are no such message or break a rule.
    pub fn decode(body: Bytes) -> Result<Self, Malformed> {
        let m = wire::ProductListed::decode(body)
            .map_err(|e| Malformed::encoding("ProductListed", &e))?;
        if m.price < 0 || m.version < 1 {
            return Err(Malformed::field(
                "ProductListed",
                "price below 0 or version below 1",
            ));
        }
        Ok(Self {
            product_id: ProductId::from_wire(&m.product_id)?,
            name: m.name,
            option: m.option,
            price: Money(m.price),
            version: m.version,
            initial_stock: m.initial_stock,
        })
    }
}

/// The body of `product.restocked`.
#[must_use]
pub fn stock_added(product_id: ProductId, quantity: i64) -> Bytes {
    let product_id = product_id.to_wire();
    wire::StockAdded {
        product_id,
        quantity,
    }
    .encode_to_vec()
    .into()
}

/// Reads `product.restocked`: which product, and how many units came in.
///
/// # Errors
/// When the bytes are no such message or break a rule.
pub fn read_stock_added(body: Bytes) -> Result<(ProductId, i64), Malformed> {
    let m = wire::StockAdded::decode(body).map_err(|e| Malformed::encoding("StockAdded", &e))?;
    if m.quantity < 0 {
        return Err(Malformed::field("StockAdded", "quantity below 0"));
    }
    Ok((ProductId::from_wire(&m.product_id)?, m.quantity))
}

/// The body of `point.charged`.
#[must_use]
pub fn point_charged(user_id: &UserId, amount: Money) -> Bytes {
    let message = wire::PointCharged {
        user_id: user_id.to_string(),
        amount: amount.0,
    };
    message.encode_to_vec().into()
}

/// Reads `point.charged`: whose points, and how many came in.
///
/// # Errors
/// When the bytes are no such message or break a rule.
pub fn read_point_charged(body: Bytes) -> Result<(UserId, Money), Malformed> {
    let m =
        wire::PointCharged::decode(body).map_err(|e| Malformed::encoding("PointCharged", &e))?;
    if m.amount < 0 {
        return Err(Malformed::field("PointCharged", "amount below 0"));
    }
    Ok((UserId::new(m.user_id)?, Money(m.amount)))
}

/// The body of `cart.changed`: the cart now holds this quantity, 0 when removed.
#[must_use]
pub fn cart_changed(user_id: &UserId, product_id: ProductId, quantity: i64) -> Bytes {
    let message = wire::CartChanged {
        user_id: user_id.to_string(),
        product_id: product_id.to_wire(),
        quantity,
    };
    message.encode_to_vec().into()
}

/// Reads `cart.changed`: whose cart, which product, and how many of it are in it now.
///
/// # Errors
/// When the bytes are no such message or break a rule.
pub fn read_cart_changed(body: Bytes) -> Result<(UserId, ProductId, i64), Malformed> {
    let m = wire::CartChanged::decode(body).map_err(|e| Malformed::encoding("CartChanged", &e))?;
    if m.quantity < 0 {
        return Err(Malformed::field("CartChanged", "quantity below 0"));
    }
    let product = ProductId::from_wire(&m.product_id)?;
    Ok((UserId::new(m.user_id)?, product, m.quantity))
}

/// A coupon campaign began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignCreated {
    /// Which campaign.
    pub campaign_id: CampaignId,
    /// What it is called.
    pub name: String,
    /// What its coupons take off, and from which subtotal on.
    pub terms: Coupon,
    /// How many coupons there are.
    pub quantity: i64,
    /// Milliseconds since the Unix epoch; absent: never.
    pub expires_at: Option<i64>,
}

impl CampaignCreated {
    /// The event's body.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let message = wire::CouponCampaignCreated {
            campaign_id: self.campaign_id.to_wire(),
            name: self.name.clone(),
            discount: Some(self.terms.to_wire()),
            quantity: self.quantity,
            expires_at_ms: self.expires_at,
        };
        message.encode_to_vec().into()
    }

    /// Reads and checks a body.
    ///
    /// # Errors
    /// When the bytes are no such message or break a rule.
    pub fn decode(body: Bytes) -> Result<Self, Malformed> {
        let m = wire::CouponCampaignCreated::decode(body)
            .map_err(|e| Malformed::encoding("CouponCampaignCreated", &e))?;
        Ok(Self {
            campaign_id: CampaignId::from_wire(&m.campaign_id)?,
            name: m.name,
            terms: Coupon::from_wire(m.discount)?,
            quantity: m.quantity,
            expires_at: m.expires_at_ms,
        })
    }
}

/// A coupon was given to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CouponIssued {
    /// Which coupon.
    pub coupon_id: CouponId,
    /// Of which campaign.
    pub campaign_id: CampaignId,
    /// Whose it is.
    pub user_id: UserId,
    /// What it takes off, and from which subtotal on.
    pub terms: Coupon,
    /// Milliseconds since the Unix epoch; absent: never.
    pub expires_at: Option<i64>,
}

impl CouponIssued {
    /// The event's body.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let message = wire::CouponIssued {
            coupon_id: self.coupon_id.to_wire(),
            campaign_id: self.campaign_id.to_wire(),
            user_id: self.user_id.to_string(),
            discount: Some(self.terms.to_wire()),
            expires_at_ms: self.expires_at,
        };
        message.encode_to_vec().into()
    }

    /// Reads and checks a body.
    ///
    /// # Errors
    /// When the bytes are no such message or break a rule.
    pub fn decode(body: Bytes) -> Result<Self, Malformed> {
        let m = wire::CouponIssued::decode(body)
            .map_err(|e| Malformed::encoding("CouponIssued", &e))?;
        Ok(Self {
            coupon_id: CouponId::from_wire(&m.coupon_id)?,
            campaign_id: CampaignId::from_wire(&m.campaign_id)?,
            user_id: UserId::new(m.user_id)?,
            terms: Coupon::from_wire(m.discount)?,
            expires_at: m.expires_at_ms,
        })
    }
}
