//! Starting other programs.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::Signal;

use crate::failure::{Failure, Outcome};
use crate::repo;

/// A cargo command in the repository's root.
pub(crate) fn cargo(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = in_repository(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// A command in the repository's root, with the environment that xtask itself
/// was started with.
pub(crate) fn in_repository(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(repo::root());
    // `cargo run` describes the xtask package in the environment. Build
    // scripts look at some of these, and would run again each time cargo is
    // called now from here and now from a shell.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Ties a program's life to xtask's: however xtask ends, the program is sent
/// `signal`. The thread that starts it must be one that lasts, as the kernel
/// counts the end of that thread as the parent's.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(crate) fn end_with_xtask(command: &mut Command, signal: Signal) {
    use rustix::process::{getpid, getppid, set_parent_process_death_signal};
    use std::os::unix::process::CommandExt;

    let parent = getpid();
    let tie = move || {
        set_parent_process_death_signal(Some(signal))?;
        // xtask may have ended before the kernel was told.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(rustix::io::Errno::SRCH.into())
        }
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed;
    // this makes two system calls and neither allocates nor locks.
    unsafe {
        command.pre_exec(tie);
    }
}

/// Other systems cannot tie a program's life to xtask's; there it is ended
/// only where xtask itself comes to do it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn end_with_xtask(_command: &mut Command, _signal: Signal) {}

/// What a program prints when asked for its version, if it can be run.
pub(crate) fn version_text(command: &mut Command) -> Option<String> {
    let output = command
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a short command and gives what it printed, or what it complained of.
pub(crate) fn output_of(command: &mut Command) -> Outcome<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::new(format!("cannot run {program}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(format!(
        "{program} failed with exit code {}: {}",
        exit_code(output.status),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// The exit code that a shell would show for a status.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

/// Finds a program in the folders of PATH.
pub(crate) fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| is_executable(candidate))
}

/// Whether there is a program at this path.
pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// A variable of the environment, where it is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
