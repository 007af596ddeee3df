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

/// The body of `point.charged`.
#[must_use]
pub fn point_charged(user_id: &UserId, amount: Money) -> Bytes {
    let message = wire::PointCharged {
        user_id: user_id.to_string(),
        amount: amount.0,
    };
    message.encode_to_vec().into()
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
