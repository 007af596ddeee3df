//! The tasks of a service: they are stopped together and waited for, and the death of one
//! is never overlooked.

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;

/// Tasks that are stopped together.
#[derive(Clone)]
pub(crate) struct Tasks {
    service: &'static str,
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: CancellationToken,
}

impl Tasks {
    /// No tasks yet. `failed` is canceled when one of them panics.
    pub(crate) fn new(service: &'static str, failed: CancellationToken) -> Self {
        Self {
            service,
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            failed,
        }
    }

    /// Canceled when the tasks are to stop.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task. One that panics takes the service down.
    pub(crate) fn spawn(
        &self,
        what: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let (service, failed) = (self.service, self.failed.clone());
        self.tracker.spawn(async move {
            let ended = std::panic::AssertUnwindSafe(task).catch_unwind().await;
            if ended.is_err() {
                tracing::error!(service, task = what, "a task panicked: stopping");
                failed.cancel();
            }
        });
    }

    /// A future that is run elsewhere, and waited for as a task is.
    pub(crate) fn tracked<F: Future>(&self, task: F) -> TrackedFuture<F> {
        self.tracker.track_future(task)
    }

    /// Stops the tasks and waits until they have ended.
    pub(crate) async fn finish(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_noticed() {
        let failed = CancellationToken::new();
        let tasks = Tasks::new("test", failed.clone());
        tasks.spawn("fine", async {});
        tasks.finish().await;
        assert!(!failed.is_cancelled());
        tasks.spawn("not fine", async { panic!("on purpose") });
        failed.cancelled().await;
    }
}
