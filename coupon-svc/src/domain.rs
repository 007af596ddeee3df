//! What coupon decides: no clock, no IO.

use std::collections::BTreeMap;

use events::context::subtotal;
use events::fact::CouponIssued;
use events::{CampaignId, Coupon, CouponId, OrderContext, OrderId, Refusal, UserId};

/// The code of the refusal of a coupon; its reason says more.
pub const NOT_USABLE: &str = "COUPON_NOT_USABLE";

/// Whether a coupon can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// By its owner, until it expires.
    Available,
    /// It is held for an order that is not decided.
    Held(OrderId),
    /// An order was confirmed with it.
    Used(OrderId),
}

/// A coupon that was given to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Whose it is.
    pub owner: UserId,
    /// What it takes off, and from which subtotal on.
    pub terms: Coupon,
    /// Milliseconds since the Unix epoch; 0: never.
    pub expires_at: i64,
    /// Whether it can be used.
    pub state: State,
}

/// The coupons that a batch of orders touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drawer {
    /// By id; a coupon that is not here does not exist.
    pub coupons: BTreeMap<CouponId, Given>,
}

impl Drawer {
    /// Holds the coupon of an order; which one.
    ///
    /// # Errors
    /// A refusal whose reason is `unknown`, `foreign`, `used`, `expired`, or `terms` when
    /// the order was priced with another discount than the coupon gives.
    pub fn hold(&mut self, order: &OrderContext, now: i64) -> Result<CouponId, Refusal> {
        let refused = |reason| Refusal::because(NOT_USABLE, reason);
        // An order that needs the step names a coupon; one that does not is malformed,
        // and its coupon as unknown as any that was never issued.
        let id = order.coupon_id.ok_or_else(|| refused("unknown"))?;
        let coupon = self
            .coupons
            .get_mut(&id)
            .ok_or_else(|| refused("unknown"))?;
        coupon.usable(order, now).map_err(refused)?;
        coupon.state = State::Held(order.order_id);
        Ok(id)
    }

    /// Gives the coupon back, held or used; one that another order has stays as it is.
    pub fn release(&mut self, order: OrderId, id: CouponId) {
        if let Some(coupon) = self.of_order(order, id) {
            coupon.state = State::Available;
        }
    }

    /// Uses the coupon up.
    pub fn settle(&mut self, order: OrderId, id: CouponId) {
        if let Some(coupon) = self.of_order(order, id) {
            coupon.state = State::Used(order);
        }
    }

    fn of_order(&mut self, order: OrderId, id: CouponId) -> Option<&mut Given> {
        let taken = [State::Held(order), State::Used(order)];
        let coupon = self.coupons.get_mut(&id)?;
        taken.contains(&coupon.state).then_some(coupon)
    }
}

impl Given {
    /// Whether the order can use it; if not, why.
    fn usable(&self, order: &OrderContext, now: i64) -> Result<(), &'static str> {
        if self.owner != order.user_id {
            return Err("foreign");
        }
        if self.state != State::Available {
            return Err("used");
        }
        if has_expired(self.expires_at, now) {
            return Err("expired");
        }
        let off = subtotal(&order.lines).map(|subtotal| self.terms.off(subtotal));
        match off {
            Ok(Ok(off)) if off == order.discount => Ok(()),
            _ => Err("terms"),
        }
    }
}

fn has_expired(expires_at: i64, now: i64) -> bool {
    expires_at != 0 && expires_at <= now
}

/// A campaign, as far as giving its coupons out touches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// What its coupons take off, and from which subtotal on.
    pub terms: Coupon,
    /// How many coupons there are.
    pub quantity: i64,
    /// How many of them were given out.
    pub issued: i64,
    /// Milliseconds since the Unix epoch; 0: never.
    pub expires_at: i64,
    /// Who has one already, among those who ask.
    pub holders: BTreeMap<UserId, CouponId>,
}

/// Why a user gets no coupon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotIssued {
    /// There is no such campaign.
    Unknown,
    /// The user has this one already.
    Already(CouponId),
    /// The campaign is over.
    Expired,
    /// All are gone.
    SoldOut,
}

/// The campaigns that a group of users asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Campaigns {
    /// By id; a campaign that is not here does not exist.
    pub of: BTreeMap<CampaignId, Campaign>,
}

impl Campaigns {
    /// Gives a user a coupon of a campaign; `coupon_id` is the id that it gets.
    ///
    /// # Errors
    /// [`NotIssued`]. Nothing has changed then.
    pub fn issue(
        &mut self,
        campaign_id: CampaignId,
        user: &UserId,
        coupon_id: CouponId,
        now: i64,
    ) -> Result<CouponIssued, NotIssued> {
        let campaign = self.of.get_mut(&campaign_id).ok_or(NotIssued::Unknown)?;
        // First of all, so that who asks again learns which coupon it is, even afterwards.
        if let Some(has) = campaign.holders.get(user) {
            return Err(NotIssued::Already(*has));
        }
        if has_expired(campaign.expires_at, now) {
            return Err(NotIssued::Expired);
        }
        if campaign.issued >= campaign.quantity {
            return Err(NotIssued::SoldOut);
        }
        campaign.issued += 1;
        campaign.holders.insert(user.clone(), coupon_id);
        Ok(CouponIssued {
            coupon_id,
            campaign_id,
            user_id: user.clone(),
            terms: campaign.terms,
            expires_at: (campaign.expires_at != 0).then_some(campaign.expires_at),
        })
    }
}

#[cfg(test)]
mod tests;
