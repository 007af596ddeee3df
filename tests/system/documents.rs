//! What the documents tell people to run: each command and flag that they name exists.

use std::fs;
use std::path::Path;

use clap::Command;
use integration_tests::repository;

/// Every document, and its text.
fn documents() -> Vec<(String, String)> {
    let root = repository();
    let folders = fs::read_dir(&root).expect("the repository").flatten();
    let folders = folders.map(|entry| entry.path());
    let folders = folders.filter(|path| path.join("README.md").is_file() || path.ends_with("docs"));
    let mut found = Vec::new();
    for folder in folders.chain([root.clone()]) {
        let files = fs::read_dir(&folder).expect("a folder").flatten();
        for path in files.map(|entry| entry.path()) {
            if path.extension().is_some_and(|end| end == "md") {
                let name = path.strip_prefix(&root).unwrap_or(Path::new(""));
                let text = fs::read_to_string(&path).expect("a document");
                found.push((name.display().to_string(), text));
            }
        }
    }
    found
}

/// What is set as code: the lines of blocks, and what stands between backticks.
fn code(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut block = false;
    let mut prose = String::new();
    for line in text.lines() {
        match line.trim_start().starts_with("```") {
            true => block = !block,
            false if block => {
                let command = line.split(" #").next().unwrap_or_default();
                pieces.push(command.to_owned());
            }
            false => prose += &format!("{line} "),
        }
    }
    pieces.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
    pieces
}

/// The commands of `ensemble` in a piece of code, without the program's name.
fn commands(piece: &str) -> Vec<Vec<String>> {
    let words: Vec<&str> = piece.split_whitespace().collect();
    let starts = words.iter().enumerate().filter(|(at, word)| {
        let program = word.trim_start_matches("$(").rsplit('/').next();
        let image = *at > 0 && words[at - 1] == "--rm" && **word == "provision";
        program == Some("ensemble") || image
    });
    let ends = |word: &&&str| ["|", ">", "&&", "&", ";"].contains(*word);
    let commands = starts.map(|(at, _)| {
        let rest = words[at + 1..].iter();
        let rest = rest.take_while(|word| !ends(word));
        let rest = rest.map(|word| word.trim_end_matches([')', ';', ',']).to_owned());
        rest.filter(|word| *word != "…").collect::<Vec<_>>()
    });
    commands.filter(|command| !command.is_empty()).collect()
}

/// What is wrong with a command: a subcommand or a flag that there is not.
fn wrong_with(command: &[String]) -> Option<String> {
    let program = ensemble::command();
    let mut at = &program;
    for word in command {
        if let Some(flag) = word.strip_prefix("--") {
            let flag = flag.split('=').next().unwrap_or_default();
            if !has_flag(at, flag) {
                return Some(format!("`{}` has no flag --{flag}", at.get_name()));
            }
        } else if let Some(below) = at.find_subcommand(word) {
            at = below;
        } else if !is_placeholder(word)
            && at.has_subcommands()
            && at.get_positionals().next().is_none()
        {
            return Some(format!("`{}` has no command `{word}`", at.get_name()));
        }
    }
    None
}

/// `COMMAND` stands for any.
fn is_placeholder(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_uppercase())
}

fn has_flag(command: &Command, flag: &str) -> bool {
    let mut arguments = command.get_arguments();
    let known = arguments.any(|argument| argument.get_long() == Some(flag));
    known || ["help", "version"].contains(&flag)
}

fn anywhere(command: &Command, flag: &str) -> bool {
    let mut below = command.get_subcommands();
    has_flag(command, flag) || below.any(|command| anywhere(command, flag))
}

#[test]
fn commands_and_flags_in_the_documents_exist() {
    let xtask = fs::read_to_string(repository().join("xtask/src/main.rs")).expect("xtask");
    let services = jetstream::shell::host::command();
    let (mut checked, mut wrong) = (0, Vec::new());
    for (document, text) in documents() {
        for piece in code(&text) {
            for command in commands(&piece) {
                checked += 1;
                let found = wrong_with(&command);
                wrong.extend(found.map(|what| format!("{document}: `{piece}`: {what}")));
            }
            if let Some((_, rest)) = piece.split_once("cargo xtask ") {
                checked += 1;
                let command = rest.split_whitespace().next().unwrap_or_default();
                if !xtask.contains(&format!("\"{command}\"")) {
                    wrong.push(format!("{document}: `{piece}`: xtask has no {command}"));
                }
            }
            // A flag that is spoken of by itself.
            if let Some(flag) = piece.strip_prefix("--") {
                checked += 1;
                let flag = flag.split([' ', '=']).next().unwrap_or_default();
                let known = anywhere(&ensemble::command(), flag) || has_flag(&services, flag);
                if !known && !xtask.contains(&format!("--{flag}")) {
                    wrong.push(format!("{document}: no program has --{flag}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 100, "{checked} were found");
    println!("{checked} commands and flags");
}

#[test]
fn a_command_that_is_not_there_is_seen() {
    for (text, fine) in [
        ("`ensemble dead-letters list --order X`", true),
        ("`target/debug/ensemble resolve X mark-undone point`", true),
        ("`ensemble dead-letter list`", false),
        ("`ensemble dead-letters lst`", false),
        ("`ensemble map --check --alive`", false),
        ("`docker compose run --rm provision provision --dry`", false),
    ] {
        let commands = code(text)
            .iter()
            .flat_map(|piece| commands(piece))
            .collect::<Vec<_>>();
        assert_eq!(commands.len(), 1, "{text}");
        assert_eq!(wrong_with(&commands[0]).is_none(), fine, "{text}");
    }
}
