use clap::{Command, CommandFactory as _};

use super::Cli;

/// Commands that have no answer to be read by programs: they run, change, print what is no
/// data, or nothing but JSON (`openapi`). All others are for looking, and have `--json`.
const DO_NOT_READ: &[&str] = &[
    "up",
    "openapi",
    "capture",
    "token",
    "provision",
    "completions",
    "dead-letters redrive",
    "dead-letters discard",
    "resolve retry",
    "resolve mark-undone",
    "fence lift",
];

/// Every command that can be given, with its whole name.
fn leaves() -> Vec<(String, Command)> {
    let mut command = Cli::command();
    command.build();
    let mut leaves = Vec::new();
    let mut todo: Vec<(String, Command)> = subcommands("", &command);
    while let Some((name, command)) = todo.pop() {
        match subcommands(&name, &command) {
            none if none.is_empty() => leaves.push((name, command)),
            some => todo.extend(some),
        }
    }
    leaves
}

fn subcommands(name: &str, command: &Command) -> Vec<(String, Command)> {
    let all = command.get_subcommands();
    all.filter(|sub| sub.get_name() != "help")
        .map(|sub| {
            (
                format!("{name} {}", sub.get_name()).trim().to_owned(),
                sub.clone(),
            )
        })
        .collect()
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_says_what_it_does_and_has_examples() {
    for (name, command) in leaves() {
        assert!(
            command.get_about().is_some(),
            "`ensemble {name}` does not say what it does"
        );
        let help = command.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        let first = name.split(' ').next().unwrap_or_default();
        let example = help.starts_with("Examples:") && help.contains(&format!("ensemble {first}"));
        assert!(
            example,
            "`ensemble {name}` has no examples: give it an after_help"
        );
    }
}

#[test]
fn every_command_that_looks_has_json() {
    for (name, command) in leaves() {
        let json = command
            .get_arguments()
            .any(|argument| argument.get_long() == Some("json"));
        let reads = !DO_NOT_READ.contains(&&*name);
        assert!(json || !reads, "`ensemble {name}` has no --json");
    }
}

#[test]
fn every_flag_says_what_it_is() {
    for (name, command) in leaves() {
        for argument in command.get_arguments() {
            let id = argument.get_id();
            assert!(
                argument.get_help().is_some(),
                "`ensemble {name}`: {id} has no help"
            );
        }
    }
}

#[test]
fn every_command_and_every_exit_code_is_in_the_documentation() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = std::fs::read_to_string(page).expect("docs/cli.md");
    for (name, _) in leaves() {
        let cell = format!("`{name}`");
        assert!(page.contains(&cell), "docs/cli.md has no row for {cell}");
    }
    let codes = super::failure::EXIT_CODES.lines().skip(1);
    for line in codes {
        let (code, meaning) = line
            .trim()
            .split_once("  ")
            .expect("a code and its meaning");
        let row = format!("| {code} | {meaning} |");
        assert!(page.contains(&row), "docs/cli.md has no row `{row}`");
    }
}
