//! What can be configured for every service.

use std::time::Duration;

use axum::http::HeaderValue;
use events::Flow;

use crate::http::limits::Limits;

/// What can be configured for every service; the defaults are those of production.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The flows that orders may ask for; the first is the default.
    pub flows: Vec<Flow>,
    /// An order that is not decided by then is canceled.
    pub order_deadline: Duration,
    /// Compensation is asked for again after these times, then given up.
    pub compensation_deadlines: Vec<Duration>,
    /// How long a confirmed order can be canceled.
    pub cancel_window: Duration,
    /// PENDING or COMPENSATING orders that a user may have at once.
    pub open_orders_per_user: u32,
    /// Facts that outlive an order are said again when they are this old: well before
    /// they age out of the stream.
    pub facts_again_after: Duration,
    /// How long the stream keeps events.
    pub stream_max_age: Duration,
    /// How long it is known what was said and heard: longer than the stream keeps events,
    /// and than a backup is old when it is restored.
    pub keep: Duration,
    /// The address of Jaeger's user interface, for links.
    pub jaeger_url: Option<String>,
    /// What a process takes on.
    pub limits: Limits,
    /// Origins whose pages may use the API from a browser.
    pub cors_origins: Vec<HeaderValue>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flows: Flow::ALL.to_vec(),
            order_deadline: Duration::from_secs(20),
            compensation_deadlines: [5, 15, 45].map(Duration::from_secs).to_vec(),
            cancel_window: Duration::from_secs(600),
            open_orders_per_user: 1,
            facts_again_after: Duration::from_secs(7 * 24 * 60 * 60),
            stream_max_age: Duration::from_secs(14 * 24 * 60 * 60),
            keep: Duration::from_secs(30 * 24 * 60 * 60),
            jaeger_url: None,
            limits: Limits::default(),
            cors_origins: Vec::new(),
        }
    }
}
