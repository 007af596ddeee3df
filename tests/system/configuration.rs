//! What can be configured: the table in docs/configuration.md is what the programs take, and
//! whatever is wrong is said in one sentence, before anything is written.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::{Arg, Command};
use integration_tests::{Deployment, Process, repository};

const TABLE: [&str; 2] = ["<!-- settings:begin -->", "<!-- settings:end -->"];

/// Every flag with an environment variable, once, in the order in which programs list them.
fn settings() -> Vec<(Arg, Vec<String>)> {
    let services = jetstream::shell::host::command();
    let ensemble = ensemble::command();
    let mut programs = vec![("*services*".to_owned(), services)];
    let commands = ensemble.get_subcommands().cloned();
    programs.extend(commands.map(|command| (command.get_name().to_owned(), command)));
    let mut settings: Vec<(Arg, Vec<String>)> = Vec::new();
    for (name, program) in programs {
        for argument in arguments(&program).filter(|a| a.get_env().is_some()) {
            let known = settings
                .iter_mut()
                .find(|(known, _)| known.get_env() == argument.get_env());
            match known {
                Some((_, used_by)) if used_by.contains(&name) => {}
                Some((_, used_by)) => used_by.push(name.clone()),
                None => settings.push((argument.clone(), vec![name.clone()])),
            }
        }
    }
    settings
}

/// The arguments of a program and of its subcommands.
fn arguments(program: &Command) -> Box<dyn Iterator<Item = &Arg> + '_> {
    let below = program.get_subcommands().flat_map(arguments);
    Box::new(program.get_arguments().chain(below))
}

fn table() -> String {
    let mut text = String::from(
        "| Flag | Environment | Default | What it is | Used by |\n|---|---|---|---|---|\n",
    );
    for (argument, used_by) in settings() {
        let flag = argument.get_long().unwrap_or_default();
        let variable = argument
            .get_env()
            .and_then(|env| env.to_str())
            .unwrap_or_default();
        let default = argument.get_default_values().iter();
        let default: Vec<&str> = default.filter_map(|value| value.to_str()).collect();
        let default = match default.join(",") {
            none if none.is_empty() || none == "false" => String::new(),
            default => format!("`{default}`"),
        };
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let help = help.replace('|', "\\|").replace(['<', '>'], "`");
        let used_by = used_by.join(", ");
        writeln!(
            text,
            "| `--{flag}` | `{variable}` | {default} | {help} | {used_by} |"
        )
        .expect("a String takes everything");
    }
    text
}

#[test]
fn every_setting_is_in_the_table() {
    let file = repository().join("docs/configuration.md");
    let text = fs::read_to_string(&file).expect("the document");
    let (before, rest) = text.split_once(TABLE[0]).expect("the begin of the table");
    let (_, after) = rest.split_once(TABLE[1]).expect("the end of the table");
    let wanted = format!("{before}{}\n{}{}{after}", TABLE[0], table(), TABLE[1]);
    if std::env::var_os("ENSEMBLE_UPDATE_DOCS").is_some() {
        fs::write(&file, &wanted).expect("written");
    }
    assert!(
        text == wanted || std::env::var_os("ENSEMBLE_UPDATE_DOCS").is_some(),
        "docs/configuration.md is not what the programs take: run this test with \
         ENSEMBLE_UPDATE_DOCS=1 and look at the difference"
    );
}

#[test]
fn a_setting_has_one_name_and_says_what_it_is() {
    for (argument, _) in settings() {
        let flag = argument.get_long().expect("a long flag");
        let variable = argument
            .get_env()
            .and_then(|env| env.to_str())
            .expect("a variable");
        let named = format!("ENSEMBLE_{}", flag.to_uppercase().replace('-', "_"));
        assert_eq!(variable, named, "--{flag}");
        assert!(argument.get_help().is_some(), "--{flag} says what it is");
    }
}

/// A wrong start: the program and its arguments, and what its one sentence must name.
struct Wrong {
    what: &'static str,
    program: &'static str,
    arguments: Vec<String>,
    names: &'static str,
}

fn wrong(
    what: &'static str,
    program: &'static str,
    arguments: &[&str],
    names: &'static str,
) -> Wrong {
    Wrong {
        what,
        program,
        arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
        names,
    }
}

/// All wrong starts. `nats` is a broker with users, `good` the flags of one of them, `taken`
/// an address where somebody listens already, and `folder` has files to point at.
fn all_wrong(nats: &str, good: &[&str], taken: &str, folder: &Path) -> Vec<Wrong> {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let empty = file("empty", "\n");
    let secret = file("secret", "not the password");
    let unknown = file("unknown.toml", "rate-limt = 5\n");
    let broken = file("broken.toml", "rate-limit = \n");
    let table = file("table.toml", "[rate-limit]\nper-second = 5\n");
    let number = file("number.toml", "rate-limit = 'many'\n");
    let url = ["--nats-url", nats];
    let service =
        |what, more: &[&str], names| wrong(what, "order-svc", &[&url[..], more].concat(), names);
    let reached = |what, more: &[&str], names| {
        wrong(what, "order-svc", &[&url[..], good, more].concat(), names)
    };
    vec![
        wrong("no broker is named", "order-svc", &[], "--nats-url"),
        wrong(
            "no broker is there",
            "order-svc",
            &["--nats-url", "nats://127.0.0.1:1"],
            "nats://127.0.0.1:1",
        ),
        wrong(
            "no address",
            "order-svc",
            &["--nats-url", "nats://a b"],
            "--nats-url",
        ),
        service("nobody", &[], "authorization violation"),
        service(
            "a wrong password",
            &["--nats-user", "order", "--nats-password-file", &secret],
            "authorization violation",
        ),
        service(
            "a user without a password",
            &["--nats-user", "order"],
            "--nats-password-file",
        ),
        service(
            "a password without a user",
            &["--nats-password-file", &secret],
            "--nats-user",
        ),
        service(
            "a user that is no name",
            &["--nats-user", "a.*"],
            "--nats-user",
        ),
        service(
            "a password that is not there",
            &["--nats-user", "order", "--nats-password-file", "/none"],
            "--nats-password-file",
        ),
        service(
            "a password that is empty",
            &["--nats-user", "order", "--nats-password-file", &empty],
            "--nats-password-file",
        ),
        service(
            "no credentials",
            &["--nats-creds-file", &secret],
            "--nats-creds-file",
        ),
        service(
            "an authority that is not there",
            &["--nats-ca", "/none"],
            "--nats-ca",
        ),
        service(
            "a certificate without its key",
            &["--nats-cert", &secret],
            "--nats-cert-key",
        ),
        service(
            "no address to listen on",
            &["--listen", "localhost"],
            "--listen",
        ),
        reached(
            "an address that is taken",
            &["--listen", taken],
            "is in use",
        ),
        reached(
            "no database",
            &["--database-url", "mysql://h/d"],
            "--database-url",
        ),
        reached(
            "a database that does not answer",
            &["--database-url", "postgres://127.0.0.1:1/{service}"],
            "--database-url",
        ),
        reached(
            "a folder that cannot be written",
            &["--data-dir", "/proc/nowhere"],
            "--data-dir",
        ),
        service(
            "an unknown flow",
            &["--flows", "parallel,zigzag"],
            "--flows",
        ),
        service(
            "a deadline of nothing",
            &["--order-deadline", "0"],
            "--order-deadline",
        ),
        service(
            "a deadline that is no number",
            &["--compensation-deadlines", "5,soon"],
            "--compensation-deadlines",
        ),
        service("no open orders", &["--open-orders", "0"], "--open-orders"),
        service("a share above one", &["--sampling", "2"], "--sampling"),
        service(
            "an origin with a path",
            &["--cors-origin", "https://shop.example/x"],
            "--cors-origin",
        ),
        service(
            "a flag that is misspelt",
            &["--rate-limt", "5"],
            "--rate-limit",
        ),
        service(
            "a file that is not there",
            &["--config", "/none.toml"],
            "/none.toml",
        ),
        service(
            "a setting that is misspelt",
            &["--config", &unknown],
            "rate-limt",
        ),
        service(
            "a file that is not TOML",
            &["--config", &broken],
            "not TOML",
        ),
        service(
            "a setting that is a table",
            &["--config", &table],
            "rate-limit",
        ),
        service(
            "a setting that is no number",
            &["--config", &number],
            "--rate-limit",
        ),
        wrong(
            "an unknown service",
            "ensemble",
            &["up", "--nats-url", nats, "--services", "stok"],
            "stok",
        ),
        wrong(
            "a broker that is no program",
            "ensemble",
            &["up", "--nats-server", "/none"],
            "/none",
        ),
        wrong(
            "too many copies",
            "ensemble",
            &["provision", "--nats-url", nats, "--stream-replicas", "9"],
            "--stream-replicas",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_one_sentence_and_writes_nothing() {
    let deployment = Deployment::empty().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = listener.local_addr().expect("an address").to_string();
    let password = deployment
        .secrets()
        .join("nats_order")
        .display()
        .to_string();
    let good = ["--nats-user", "order", "--nats-password-file", &password];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let all = all_wrong(deployment.nats_url(), &good, &taken, folder.path());
    assert!(all.len() >= 20);
    for (i, wrong) in all.into_iter().enumerate() {
        let data = folder.path().join(format!("data-{i}"));
        let mut arguments = wrong.arguments;
        if wrong.program == "order-svc" || arguments[0] == "up" {
            for (flag, value) in [
                ("--listen", "127.0.0.1:0".to_owned()),
                ("--data-dir", data.display().to_string()),
            ] {
                if !arguments.iter().any(|argument| argument == flag) {
                    arguments.extend([flag.to_owned(), value]);
                }
            }
        }
        let name = format!("wrong-{i}");
        let process = Process::start(wrong.program, &arguments, folder.path(), &name);
        let finished = process.ended().await;
        let what = wrong.what;
        let code = finished.status.code();
        assert!(code.is_some_and(|code| code != 0), "{what}: {code:?}");
        assert_eq!(finished.stdout, "", "{what}");
        // What it has done until then may be in the log; what is wrong is one line.
        let lines = finished.stderr.lines();
        let lines: Vec<&str> = lines.filter(|line| !line.contains("  INFO ")).collect();
        let [sentence] = lines[..] else {
            panic!("{what}: one sentence, and not {lines:#?}");
        };
        assert!(sentence.contains(wrong.names), "{what}: {sentence}");
        assert!(
            sentence.starts_with(&wrong.program.replace("-svc", "")),
            "{what}: {sentence}"
        );
        assert!(!sentence.contains("not the password"), "{what}: {sentence}");
        assert!(!data.exists(), "{what} writes nothing");
    }
    deployment.end().await;
}
