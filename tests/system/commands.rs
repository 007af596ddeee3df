//! Commands of the command line on a world.

use integration_tests::{Finished, Process, World};
use serde_json::Value;

/// Runs a command that looks into the system: at all services that run, and the broker.
pub(crate) async fn run(world: &World, arguments: &[&str]) -> Finished {
    let urls: Vec<String> = world
        .hosts()
        .map(|host| format!("http://{}", host.address()))
        .collect();
    let urls = urls.join(",");
    let mut reach = vec!["--nats-url", world.nats_url()];
    if !urls.is_empty() {
        reach.extend(["--url", &urls]);
    }
    on(world, arguments, &reach).await
}

/// Runs a command on the world's folder, with the flags that say what it reaches.
pub(crate) async fn on(world: &World, arguments: &[&str], reach: &[&str]) -> Finished {
    let folder = world.folder().display().to_string();
    let data_dir = ["--data-dir", &folder];
    start(world, arguments.iter().chain(reach).chain(&data_dir)).await
}

/// Runs a command as it was printed, to be copied.
pub(crate) async fn copied(world: &World, command: &str) -> Finished {
    let words = words(command);
    let (program, arguments) = words.split_first().expect("a program");
    assert_eq!(program, "ensemble", "{command}");
    start(
        world,
        arguments.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await
}

async fn start<S: AsRef<std::ffi::OsStr>>(
    world: &World,
    arguments: impl IntoIterator<Item = S>,
) -> Finished {
    let name = format!("command-{}", jetstream::clock::new_id().simple());
    let process = Process::start("ensemble", arguments, world.folder(), &name);
    process.ended().await
}

/// The words of a command line, as a shell reads it: quotes keep words together.
fn words(command: &str) -> Vec<String> {
    let pieces = command.split('\'').enumerate();
    let mut words = Vec::new();
    for (at, piece) in pieces {
        match at % 2 {
            0 => words.extend(piece.split_whitespace().map(str::to_owned)),
            _ => words.push(piece.to_owned()),
        }
    }
    words
}

/// The answer of a command that was asked for JSON.
pub(crate) fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("no JSON ({error}): {finished:?}"))
}

const ORDER: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// Commands that look, and whether they ask the broker, and the services.
const LOOKING: &[(&[&str], bool, bool)] = &[
    (&["timeline", ORDER], true, true),
    (&["why", ORDER], true, true),
    (&["why", "--stuck"], true, true),
    (&["doctor"], true, true),
    (&["trace", ORDER], true, false),
    (&["check"], true, false),
    (&["replay"], true, false),
    (&["map"], true, false),
    (&["map", "--check", "--live"], true, false),
    (&["provision", "--dry-run"], true, false),
    (&["dead-letters", "list"], false, true),
    (&["dead-letters", "show", ORDER], false, true),
    (&["reconcile"], false, true),
];

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_look_write_nothing() {
    let world = World::start(integration_tests::Backend::Sqlite).await;
    let nothing = world.folder().join("nothing");
    let data_dir = ["--data-dir", nothing.to_str().expect("a path")];
    let host = world.hosts().next().expect("a host").address().to_string();
    let url = format!("http://{host}");
    for (command, broker, services) in LOOKING {
        let mut reach = vec![];
        if *broker {
            reach.extend(["--nats-url", world.nats_url()]);
        }
        if *services {
            reach.extend(["--url", &url]);
        }
        for reach in [&[], &*reach] {
            let all = command.iter().chain(reach).chain(&data_dir);
            let finished = start(&world, all).await;
            // It has understood what it was asked.
            assert_ne!(finished.status.code(), Some(2), "{command:?}: {finished:?}");
            assert!(!nothing.exists(), "{command:?} made {}", nothing.display());
        }
    }
    world.end().await;
}
