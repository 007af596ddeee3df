//! What stock listens to.

use jetstream::Settings;
use jetstream::hearing::participant;
use jetstream::hearing::subscription::Subscription;

use crate::store::Stock;

// order.created.pending   ─┐
// order.confirmed          ├─► hold, settle or release units
// order.canceled           │   → product.reserved, product.reserve.failed, product.released
// *.*.failed              ─┘
pub(crate) fn all(settings: &Settings) -> Vec<Subscription> {
    let stock = Stock::new(settings.order_deadline);
    vec![participant::subscription(stock, &settings.flows)]
}
