//! The tour of the README, run as it stands.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use integration_tests::{Backend, Process, System};
use serde_json::Value;

const README: &str = include_str!("../../README.md");

/// The commands between the marks.
fn tour() -> &'static str {
    let (_, rest) = README
        .split_once("<!-- tour:begin -->\n```sh\n")
        .expect("the tour begins");
    let (tour, _) = rest
        .split_once("```\n<!-- tour:end -->")
        .expect("the tour ends");
    tour
}

fn needs(program: &str, package: &str) {
    let found = std::process::Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    assert!(
        found.is_ok_and(|status| status.success()),
        "the tour needs {program}: install it (Debian: `apt-get install {package}`)"
    );
}

/// A folder that looks like that of the project: what was built, and the data.
fn folder(system: &System) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let built = Process::path("ensemble");
    let built = built.parent().expect("a folder");
    std::fs::create_dir(folder.path().join("target")).expect("a folder");
    symlink(built, folder.path().join("target/debug")).expect("a link");
    symlink(system.data_dir(), folder.path().join("data")).expect("a link");
    folder
}

/// What the commands print, line by line.
async fn run(folder: &Path, url: &str) -> Vec<String> {
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["-eu", "-o", "pipefail", "-c", tour()])
        .current_dir(folder)
        .env("ENSEMBLE_URL", url)
        .kill_on_drop(true)
        .stdin(Stdio::null());
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), bash.output());
    let output = output.await.expect("it ends").expect("bash runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_of_the_readme_goes_as_it_says() {
    needs("curl", "curl");
    needs("python3", "python3");
    let mut system = System::new(Backend::Sqlite);
    system.start().await;
    let folder = folder(&system);
    let lines = run(folder.path(), system.url()).await;
    let told = lines.join("\n");
    assert!(!told.contains("\"code\":\"UNAUTHORIZED\""), "{told}");
    let json: Vec<Value> = lines
        .iter()
        .filter_map(|line| serde_json::from_str(line.trim_start_matches("data: ")).ok())
        .filter(Value::is_object)
        .collect();
    let problems = json.iter().filter(|answer| answer["type"] == "about:blank");
    assert_eq!(problems.count(), 0, "{told}");
    let states: Vec<&str> = json.iter().filter_map(|a| a["state"].as_str()).collect();
    assert!(states.contains(&"CONFIRMED"), "{told}");
    let refused = json
        .iter()
        .find(|answer| answer["refusals"][0]["code"] == "OUT_OF_STOCK");
    assert!(refused.is_some(), "{told}");
    assert!(told.contains("주문이 확정되었습니다."), "{told}");
    assert!(told.contains("order.confirmed"), "{told}");
    // In the end everything is as it was.
    let last = |field: &str| json.iter().rev().find(|answer| !answer[field].is_null());
    assert_eq!(
        last("available").expect("the product")["available"],
        10,
        "{told}"
    );
    let account = last("charged_total").expect("the account");
    assert_eq!(account["balance"], account["charged_total"], "{told}");
    assert_eq!(
        last("coupons").expect("coupons")["coupons"][0]["status"],
        "AVAILABLE",
        "{told}"
    );
    let cart = json.last().expect("the cart");
    assert_eq!(cart["items"][0]["quantity"], 2, "{told}");
    system.end().await;
}
