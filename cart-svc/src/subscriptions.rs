//! What cart listens to.

use jetstream::Settings;
use jetstream::hearing::participant;
use jetstream::hearing::subscription::Subscription;

use crate::store::Carts;

// order.created.pending                        ─┐
// product.reserved, point.used, coupon.used     │  (sequential: the needed step before it)
// order.confirmed                               ├─► take ordered quantities out, or put back
// order.canceled                                │   → cart.cleared, cart.clear.failed,
// *.*.failed                                   ─┘     cart.restored
pub(crate) fn all(settings: &Settings) -> Vec<Subscription> {
    vec![participant::subscription(Carts, &settings.flows)]
}
