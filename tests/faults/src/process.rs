//! A service as a process of its own, that can be killed and paused.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// How a service is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) service: &'static str,
    /// Where it listens: the same after each start.
    pub(crate) listen: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) nats_url: String,
    pub(crate) database_url: Option<String>,
    pub(crate) flags: Vec<&'static str>,
    /// What its failpoints are told.
    pub(crate) plan: PathBuf,
    /// Its log; more of it is appended at each start.
    pub(crate) log: PathBuf,
    pub(crate) log_filter: &'static str,
}

/// A running service. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(launch: &Launch) -> Result<Self, String> {
        let log = File::options().create(true).append(true).open(&launch.log);
        let log = log.map_err(|e| format!("cannot write {}: {e}", launch.log.display()))?;
        let mut command = Command::new(beside("faulty")?);
        command
            .args(["up", "--services", launch.service, "--log-json"])
            .args(["--nats-url", &launch.nats_url, "--listen", &launch.listen])
            .arg("--data-dir")
            .arg(&launch.data_dir)
            .args(["--rate-limit", "0"])
            .args(&launch.flags)
            .env("ENSEMBLE_FAILPOINTS", &launch.plan)
            .env("RUST_LOG", launch.log_filter)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(url) = &launch.database_url {
            command.args(["--database-url", url]);
        }
        end_with_runner(&mut command);
        let child = command.spawn();
        let child = child.map_err(|e| format!("cannot start {}: {e}", launch.service))?;
        Ok(Self { child })
    }

    pub(crate) fn pid(&self) -> i32 {
        Pid::from_child(&self.child).as_raw_nonzero().get()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It may have ended already.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Whether it has ended by itself, or by a failpoint.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the failpoints of a service have said, summed up over all of its lives.
pub(crate) fn notes(log: &Path) -> Vec<(String, u64)> {
    let Ok(file) = File::open(log) else {
        return vec![];
    };
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    lines
        .filter_map(|line| {
            let note = line.strip_prefix("failpoint: ")?;
            let (what, count) = note.split_once(' ')?;
            Some((what.to_owned(), count.trim().parse().ok()?))
        })
        .collect()
}

/// A binary beside this one.
fn beside(name: &str) -> Result<PathBuf, String> {
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    let path = me.with_file_name(name);
    match path.is_file() {
        true => Ok(path),
        false => Err(format!(
            "{} was not built: run `cargo xtask faults`",
            path.display()
        )),
    }
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(crate) fn end_with_runner(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
    // SAFETY: between fork and exec only one system call is made, which is allowed there.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(std::io::Error::from)
        });
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn end_with_runner(_: &mut Command) {}
