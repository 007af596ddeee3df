//! What point listens to.

use jetstream::Settings;
use jetstream::hearing::participant;
use jetstream::hearing::subscription::Subscription;

use crate::store::Point;

// order.created.pending   ─┐
// product.reserved         │  (sequential flow: stock is sure, so it is point's turn)
// order.confirmed          ├─► hold, settle or release points
// order.canceled           │   → point.used, point.use.failed, point.refunded
// *.*.failed              ─┘
pub(crate) fn all(settings: &Settings) -> Vec<Subscription> {
    vec![participant::subscription(Point, &settings.flows)]
}
