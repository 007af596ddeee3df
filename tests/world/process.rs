//! Processes of the real binaries. None outlives the test that started it.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, kill_process};

use crate::eventually;

pub use rustix::process::Signal;

/// A running process; dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    folder: PathBuf,
}

/// What a process left when it ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about and logged.
    pub stderr: String,
}

impl Process {
    /// Starts a binary of this project. What it prints goes to files in `folder`, which
    /// are called `name`.
    ///
    /// # Panics
    /// When the binary was not built, or does not start.
    pub fn start<S: AsRef<OsStr>>(
        binary: &str,
        arguments: impl IntoIterator<Item = S>,
        folder: &Path,
        name: &str,
    ) -> Self {
        let file = |end: &str| File::create(folder.join(format!("{name}.{end}"))).expect("a file");
        let mut command = Command::new(path_of(binary));
        command
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"));
        Self {
            child: command.spawn().expect("a built binary starts"),
            name: name.to_owned(),
            folder: folder.to_owned(),
        }
    }

    /// Where a binary of this project is.
    ///
    /// # Panics
    /// When it was not built.
    #[must_use]
    pub fn path(binary: &str) -> PathBuf {
        path_of(binary)
    }

    /// Its process id.
    ///
    /// # Panics
    /// Never: it has one.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs");
    }

    /// What it has printed.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.read("out")
    }

    /// What it has logged.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.read("err")
    }

    /// Waits until it has printed or logged something that can be read by `look`.
    ///
    /// # Panics
    /// When it ends before, or does not.
    pub async fn says<T: std::fmt::Debug>(
        &mut self,
        what: &str,
        look: impl Fn(&Self) -> Option<T>,
    ) -> T {
        let name = self.name.clone();
        eventually(&format!("{what} of {name}"), async || {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("{name} ended ({status}): {}", self.tail());
            }
            Err(self.tail())
        })
        .await
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it does not.
    pub async fn ended(mut self) -> Finished {
        let status = eventually(&format!("the end of {}", self.name), async || {
            match self.child.try_wait().expect("a child") {
                Some(status) => Ok(status),
                None => Err(self.tail()),
            }
        })
        .await;
        Finished {
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }

    /// Kills it, so that it can do nothing more.
    ///
    /// # Panics
    /// When it has ended before.
    pub async fn kill(self) {
        self.signal(Signal::KILL);
        let finished = self.ended().await;
        assert_eq!(finished.status.code(), None, "it was killed: {finished:?}");
    }

    fn read(&self, end: &str) -> String {
        let path = self.folder.join(format!("{}.{end}", self.name));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn tail(&self) -> String {
        let log = self.stderr();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            show(&self.name, &self.tail());
        }
    }
}

#[allow(clippy::print_stderr)] // where a failed test is explained
fn show(name: &str, tail: &str) {
    eprintln!("--- the last lines of {name}:\n{tail}");
}

/// A binary beside the executable of the test.
fn path_of(binary: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test");
    let found = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(binary))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{binary} was not built: run `cargo build --workspace`, or `cargo xtask test`")
    })
}

/// The nats-servers that run on a folder.
#[must_use]
pub fn nats_servers_on(folder: &Path) -> Vec<String> {
    let output = Command::new("ps").args(["-eo", "pid=,args="]).output();
    let text = String::from_utf8_lossy(&output.expect("ps").stdout).into_owned();
    let folder = folder.display().to_string();
    let ours = |line: &&str| line.contains("nats.conf") && line.contains(&folder);
    text.lines().filter(ours).map(str::to_owned).collect()
}
