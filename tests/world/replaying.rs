//! The stream of a world, replayed by this build.

use std::path::{Path, PathBuf};

use jetstream::Service;
use jetstream::replay::{self, Before, Report, Tape, file};
use jetstream::stream::reader::{Reader, Start};

use crate::World;

impl World {
    /// Everything that was said in this world.
    ///
    /// # Panics
    /// When it cannot be read.
    pub async fn tape(&self) -> Tape {
        let mut reader = Reader::start(self.broker(), ">", Start::Sequence(1));
        let mut events = Vec::new();
        while let Some(page) = reader.next().await.expect("the stream answers") {
            let page = page.into_iter().map(|stored| stored.decode());
            events.extend(page.map(|event| event.expect("an event")));
        }
        Tape::new(events, Before::Everything)
    }

    /// Replays the stream, and holds this build to what it has said. Where
    /// `ENSEMBLE_UPDATE_CAPTURES` is set, it is captured under this name.
    ///
    /// # Panics
    /// When this build says anything else now.
    pub async fn replays_equal(&self, name: &str) {
        let tape = self.tape().await;
        let report = replayed(&tape, &ensemble::SERVICES).await;
        assert!(report.differences.is_empty(), "{:#?}", report.differences);
        let unknown = &report.not_comparable;
        assert!(unknown.is_empty(), "{unknown:#?}");
        if std::env::var_os("ENSEMBLE_UPDATE_CAPTURES").is_some() {
            let path = captures().join(format!("{name}.jsonl"));
            file::write(&tape, &path).expect("written");
        }
    }
}

/// The folder of captured stories.
#[must_use]
pub fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures")
}

/// Replays a tape in a folder that is gone afterwards.
///
/// # Panics
/// When it cannot be replayed.
pub async fn replayed(tape: &Tape, services: &[Service]) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let into = folder.path().join("replay");
    let report = replay::replay(services, tape, &into, None).await;
    report.unwrap_or_else(|error| panic!("{error}"))
}
