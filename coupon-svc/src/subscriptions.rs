//! What coupon listens to.

use jetstream::Settings;
use jetstream::hearing::participant;
use jetstream::hearing::subscription::Subscription;

use crate::store::Coupons;

// order.created.pending          ─┐
// product.reserved, point.used    │  (sequential flow: the needed step before it)
// order.confirmed                 ├─► hold, use up or give back the order's coupon
// order.canceled                  │   → coupon.used, coupon.use.failed, coupon.restored
// *.*.failed                     ─┘
pub(crate) fn all(settings: &Settings) -> Vec<Subscription> {
    vec![participant::subscription(Coupons, &settings.flows)]
}
