//! Steps that take their time: only with the feature `slow-steps`, which nothing that is
//! shipped has. So it can be measured what the flows do with it.

use std::sync::LazyLock;
use std::time::Duration;

static PAUSE: LazyLock<Duration> = LazyLock::new(|| {
    let millis = std::env::var("ENSEMBLE_SLOW_STEPS").ok();
    let millis = millis.and_then(|millis| millis.parse().ok());
    Duration::from_millis(millis.unwrap_or(0))
});

/// Takes as many milliseconds more as `ENSEMBLE_SLOW_STEPS` says.
pub(super) async fn pause() {
    tokio::time::sleep(*PAUSE).await;
}
