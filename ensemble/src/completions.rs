//! `ensemble completions`: what the shell needs to complete commands and flags.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::Cli;
use crate::terminal::say;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble completions bash > ~/.local/share/bash-completion/completions/ensemble
  ensemble completions zsh > ~/.zfunc/_ensemble
  ensemble completions fish > ~/.config/fish/completions/ensemble.fish";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args) {
    let mut command = Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "ensemble", &mut script);
    say(String::from_utf8_lossy(&script).trim_end());
}
