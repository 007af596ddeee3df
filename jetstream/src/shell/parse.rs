//! Reading flags, environment and file, and saying in one sentence what is wrong with them.
//!
//! A flag goes before its environment variable, that before the file, and that before the
//! default. The file is TOML; a key is the name of a flag without its dashes.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{Command, CommandFactory, FromArgMatches};

/// The flag that names the file, and its environment variable.
const FLAG: &str = "--config";
const VARIABLE: &str = "ENSEMBLE_CONFIG";

/// What this process was started with. Help and version are printed, and end the process.
///
/// # Errors
/// The exit code of a process that was started wrong; it has been said why.
#[allow(clippy::print_stderr)] // the last word of a process
pub fn parse<T: CommandFactory + FromArgMatches>() -> Result<T, ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let file = named_in(&arguments).or_else(|| std::env::var_os(VARIABLE));
    // As it was called: a program of several names says which one it is.
    let name = arguments
        .first()
        .and_then(|path| Path::new(path).file_name());
    let name: &'static str = match name.and_then(OsStr::to_str) {
        Some(name) => name.to_owned().leak(),
        None => "ensemble",
    };
    let command = T::command().name(name);
    parse_from(command, &arguments, file.as_deref()).map_err(|wrong| {
        eprintln!("{name}: {wrong}");
        ExitCode::from(2)
    })
}

fn parse_from<T: FromArgMatches>(
    command: Command,
    arguments: &[OsString],
    file: Option<&OsStr>,
) -> Result<T, String> {
    let command = match file {
        Some(file) => with_file(command, Path::new(file))?,
        None => command,
    };
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|mut matches| T::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => sentence(&error),
    })
}

/// The first paragraph of an error, without what surrounds it, on one line.
fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = first.trim_start_matches("error: ");
    let line = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let suggested = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand];
    match suggested.into_iter().find_map(|kind| error.get(kind)) {
        Some(suggested) => {
            format!("{line}; did you mean {suggested}? `--help` lists what there is")
        }
        None => format!("{line}; see `--help`"),
    }
}

fn named_in(arguments: &[OsString]) -> Option<OsString> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == FLAG {
            return arguments.next().cloned();
        }
        let value = argument.to_str().and_then(|text| text.strip_prefix(FLAG));
        if let Some(value) = value.and_then(|value| value.strip_prefix('=')) {
            return Some(value.into());
        }
    }
    None
}

/// Gives flags the values of a file as their defaults.
fn with_file(command: Command, file: &Path) -> Result<Command, String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {shown}, the file of {FLAG}: {error}"))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let message = error.message().replace('\n', " ");
        format!("{shown} is not TOML: {message}")
    })?;
    let mut defaults = Vec::with_capacity(table.len());
    for (key, value) in &table {
        let values = values(value).ok_or_else(|| {
            format!("{shown}: `{key}` must be a text, a number, true, false, or a list of these")
        })?;
        defaults.push((key.as_str(), values));
    }
    let mut known = BTreeSet::new();
    let command = with_defaults(command, &defaults, &mut known);
    match table.keys().find(|key| !known.contains(key.as_str())) {
        Some(key) => Err(format!(
            "{shown}: `{key}` is no setting: a setting is named like its flag, without the dashes \
             (`--help` lists them)"
        )),
        None => Ok(command),
    }
}

fn with_defaults<'a>(
    command: Command,
    defaults: &[(&'a str, Vec<String>)],
    known: &mut BTreeSet<&'a str>,
) -> Command {
    let command = command.mut_args(|argument| {
        let long = argument.get_long().map(str::to_owned);
        let found = defaults
            .iter()
            .find(|(key, _)| Some(*key) == long.as_deref());
        let Some((key, values)) = found else {
            return argument;
        };
        known.insert(key);
        // Once in the life of a process: clap keeps what is static.
        let values = values.iter().map(|value| &*value.clone().leak());
        argument
            .default_values(values.collect::<Vec<&'static str>>())
            .required(false)
    });
    command.mut_subcommands(|sub| with_defaults(sub, defaults, known))
}

/// A value as it would be given on the command line.
fn values(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Float(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(yes) => Some(vec![yes.to_string()]),
        toml::Value::Array(many) => {
            let many = many.iter().map(values).collect::<Option<Vec<_>>>()?;
            Some(many.concat())
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[arg(long)]
        nats_url: String,
        #[arg(long, default_value_t = 20)]
        rate_limit: u32,
        #[arg(long, value_delimiter = ',', default_value = "a,b")]
        flows: Vec<String>,
        #[arg(long)]
        log_json: bool,
    }

    fn read(text: &str, arguments: &[&str]) -> Result<Flags, String> {
        let file = std::env::temp_dir().join(format!("{}.toml", crate::clock::new_id()));
        std::fs::write(&file, text).expect("written");
        let arguments: Vec<OsString> = ["x"].iter().chain(arguments).map(Into::into).collect();
        let read = parse_from(Flags::command(), &arguments, Some(file.as_os_str()));
        std::fs::remove_file(&file).expect("removed");
        read
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let text = "nats-url = 'nats://file'\nrate-limit = 5\nflows = ['x', 'y']\nlog-json = true";
        let flags = read(text, &["--rate-limit", "7"]).expect("fine");
        assert_eq!(flags.nats_url, "nats://file");
        assert_eq!(flags.rate_limit, 7);
        assert_eq!(flags.flows, ["x", "y"]);
        assert!(flags.log_json);
        let flags = read("nats-url = 'nats://file'", &[]).expect("fine");
        assert_eq!((flags.rate_limit, flags.log_json), (20, false));
        assert_eq!(flags.flows, ["a", "b"]);
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named_in_one_sentence() {
        for (text, words) in [
            ("rate-limi = 5", "`rate-limi` is no setting"),
            ("rate-limit = ", "is not TOML"),
            (
                "rate-limit = 'many'\nnats-url = 'x'",
                "invalid value 'many' for '--rate-limit",
            ),
            ("rate-limit = { a = 1 }", "`rate-limit` must be a text"),
            ("", "--nats-url <NATS_URL>"),
        ] {
            let wrong = read(text, &[]).expect_err(text);
            assert!(wrong.contains(words) && !wrong.contains('\n'), "{wrong}");
        }
    }
}
