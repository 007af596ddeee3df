//! A nats-server of one's own, for `ensemble up` and for tests.
//!
//! It runs in a process group of its own, so that Ctrl-C reaches it only after the
//! services have drained; it ends with the process that started it, however that ends.
//! A lock on its folder keeps two processes from ending each other's server.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The oldest nats-server that has what is needed.
pub const OLDEST: (u32, u32) = (2, 12);

const PATIENCE: Duration = Duration::from_secs(15);

/// The broker cannot be started; each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// None was found.
    #[error(
        "nats-server was not found: run `cargo xtask setup`, put one on PATH, or give its path \
         with --nats-server; or use a running one with --nats-url"
    )]
    Missing,
    /// It cannot be run at all.
    #[error("{path} cannot be run: {detail}; give another with --nats-server")]
    Unusable {
        /// Which program.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// It lacks what is needed.
    #[error(
        "{path} is nats-server {found}, and at least {}.{} is needed: give a newer one with \
         --nats-server", OLDEST.0, OLDEST.1
    )]
    TooOld {
        /// Which program.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// Its folder cannot be written.
    #[error("cannot write {path}: {detail}; choose a directory you own with --data-dir")]
    Unwritable {
        /// Which folder.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// Another process has a server on the same folder.
    #[error(
        "{path} is in use by another `ensemble up`: stop that one, or choose another directory \
         with --data-dir"
    )]
    InUse {
        /// Which folder.
        path: PathBuf,
    },
    /// It ended at once, or did not get ready.
    #[error("nats-server did not get ready; its log is {log}: {last}")]
    NotReady {
        /// Where its log is.
        log: PathBuf,
        /// The last line of its log.
        last: String,
    },
}

/// Finds a nats-server that is new enough: the one that is given, one on PATH, or the one
/// that the project's set-up fetched.
///
/// # Errors
/// When there is none, or it is too old.
pub fn find(given: Option<&Path>) -> Result<PathBuf, ServerError> {
    if let Some(path) = given {
        return checked(path);
    }
    if let Ok(path) = checked(Path::new("nats-server")) {
        return Ok(path);
    }
    let mut fetched: Vec<PathBuf> = std::env::current_dir()
        .into_iter()
        .flat_map(|folder| {
            folder
                .ancestors()
                .map(|f| f.join(".tools"))
                .collect::<Vec<_>>()
        })
        .filter_map(|tools| std::fs::read_dir(tools).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("nats-server"))
        })
        .flat_map(|path| [path.join("nats-server"), path.join("bin/nats-server"), path])
        .filter(|path| path.is_file())
        .collect();
    fetched.sort();
    match fetched.pop() {
        Some(path) => checked(&path),
        None => Err(ServerError::Missing),
    }
}

fn checked(path: &Path) -> Result<PathBuf, ServerError> {
    let unusable = |detail: String| ServerError::Unusable {
        path: path.to_owned(),
        detail,
    };
    let output = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text
        .split_whitespace()
        .last()
        .unwrap_or_default()
        .trim_start_matches('v');
    let mut numbers = found.split('.').map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => Ok(path.to_owned()),
        (Some(_), Some(_)) => Err(ServerError::TooOld {
            path: path.to_owned(),
            found: found.to_owned(),
        }),
        _ => Err(unusable(format!(
            "its version cannot be read from `{}`",
            text.trim()
        ))),
    }
}

/// A running nats-server. Dropping it ends it.
#[derive(Debug)]
pub struct LocalServer {
    program: PathBuf,
    folder: PathBuf,
    pid: Pid,
    url: String,
    monitor_url: Option<String>,
    waiter: Option<std::thread::JoinHandle<()>>,
    // Its configuration is somebody else's.
    configured: bool,
    // Held as long as the folder is in use.
    _lock: File,
}

impl LocalServer {
    /// Starts a server that keeps its store, log and process id in a folder. One that an
    /// earlier run left on the same folder is ended first.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path, folder: &Path) -> Result<Self, ServerError> {
        Self::start_on(program, folder, None)
    }

    /// As [`LocalServer::start`], on a given port.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_on(program: &Path, folder: &Path, port: Option<u16>) -> Result<Self, ServerError> {
        Self::start_as(program, folder, port, false)
    }

    /// As [`LocalServer::start`], with the configuration `nats.conf` that is in the folder.
    /// Where it listens and keeps its store is overridden.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_configured(program: &Path, folder: &Path) -> Result<Self, ServerError> {
        Self::start_as(program, folder, None, true)
    }

    fn start_as(
        program: &Path,
        folder: &Path,
        port: Option<u16>,
        configured: bool,
    ) -> Result<Self, ServerError> {
        let unwritable = |error: std::io::Error| ServerError::Unwritable {
            path: folder.to_owned(),
            detail: error.to_string(),
        };
        std::fs::create_dir_all(folder).map_err(unwritable)?;
        let folder = folder.canonicalize().map_err(unwritable)?;
        // Before the leftover is touched: it may be the living server of somebody else.
        let lock = lock(&folder)?;
        end_leftover(&folder);
        let (pid, waiter) = launch(program, &folder, port, configured)?;
        let mut server = Self {
            program: program.to_owned(),
            folder,
            pid,
            url: String::new(),
            monitor_url: None,
            waiter: Some(waiter),
            configured,
            _lock: lock,
        };
        (server.url, server.monitor_url) = server.wait_until_ready()?;
        Ok(server)
    }

    /// Ends it; [`LocalServer::restart`] starts it again.
    pub fn stop(&mut self) {
        self.end();
    }

    /// Where its store is.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// Starts it again on the same port, so that who was connected finds it again.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<(), ServerError> {
        self.end();
        let port = self.url.rsplit(':').next().and_then(|p| p.parse().ok());
        let (pid, waiter) = launch(&self.program, &self.folder, port, self.configured)?;
        (self.pid, self.waiter) = (pid, Some(waiter));
        (self.url, self.monitor_url) = self.wait_until_ready()?;
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it tells how it is: its monitoring address, on this machine only.
    #[must_use]
    pub fn monitor_url(&self) -> Option<&str> {
        self.monitor_url.as_deref()
    }

    /// Its process, for tests that kill or pause it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.waiter
            .as_ref()
            .is_none_or(std::thread::JoinHandle::is_finished)
    }

    fn end(&mut self) {
        let Some(waiter) = self.waiter.take() else {
            return;
        };
        if !waiter.is_finished() {
            let _ = kill_process(self.pid, Signal::TERM);
            let start = Instant::now();
            while !waiter.is_finished() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(2));
            }
            if !waiter.is_finished() {
                let _ = kill_process(self.pid, Signal::KILL);
            }
        }
        let _ = waiter.join();
    }

    fn wait_until_ready(&self) -> Result<(String, Option<String>), ServerError> {
        let ports = self.folder.join("ports");
        let start = Instant::now();
        while start.elapsed() < PATIENCE && !self.has_ended() {
            if let Some((url, monitor_url)) = read_ports(&ports) {
                let address = url.rsplit("//").next().unwrap_or_default();
                if std::net::TcpStream::connect(address).is_ok() {
                    return Ok((url, monitor_url));
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let log = self.folder.join("nats.log");
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let last = text.lines().last().unwrap_or("it is empty").to_owned();
        Err(ServerError::NotReady { log, last })
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock(folder: &Path) -> Result<File, ServerError> {
    let path = folder.join("nats.lock");
    let unwritable = |error: std::io::Error| ServerError::Unwritable {
        path: path.clone(),
        detail: error.to_string(),
    };
    let lock = File::create(&path).map_err(unwritable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ServerError::InUse {
            path: folder.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(unwritable(error)),
    }
}

/// Starts the program on a folder; it is not ready yet.
fn launch(
    program: &Path,
    folder: &Path,
    port: Option<u16>,
    configured: bool,
) -> Result<(Pid, std::thread::JoinHandle<()>), ServerError> {
    let unwritable = |error: std::io::Error| ServerError::Unwritable {
        path: folder.to_owned(),
        detail: error.to_string(),
    };
    let ports = folder.join("ports");
    let _ = std::fs::remove_dir_all(&ports);
    std::fs::create_dir_all(&ports).map_err(unwritable)?;
    let config = folder.join("nats.conf");
    if configured {
        return spawn(program, &config, &overrides(folder, port));
    }
    std::fs::write(&config, configuration(folder, port)).map_err(unwritable)?;
    spawn(program, &config, &[])
}

/// Flags go before what the configuration says.
fn overrides(folder: &Path, port: Option<u16>) -> Vec<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    let flags = [
        ("-a", "127.0.0.1".to_owned()),
        ("-p", port.map_or(-1, i32::from).to_string()),
        ("-m", "-1".to_owned()),
        ("-sd", path("store")),
        ("-l", path("nats.log")),
        ("-P", path("nats.pid")),
        ("--ports_file_dir", path("ports")),
    ];
    let flags = flags.into_iter();
    flags
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
}

fn configuration(folder: &Path, port: Option<u16>) -> String {
    let folder = folder.display();
    let port = port.map_or(-1, i32::from);
    format!(
        "# Written at each start.\n\
         host: 127.0.0.1\n\
         port: {port}\n\
         http: \"127.0.0.1:-1\"\n\
         ports_file_dir: \"{folder}/ports\"\n\
         pid_file: \"{folder}/nats.pid\"\n\
         log_file: \"{folder}/nats.log\"\n\
         logfile_size_limit: 10MB\n\
         jetstream {{\n\
         \x20 store_dir: \"{folder}/store\"\n\
         \x20 # What is acknowledged is on disk within this time; what a power cut takes\n\
         \x20 # from it is said again from the outboxes.\n\
         \x20 sync_interval: \"100ms\"\n\
         }}\n"
    )
}

/// Starts the program on a thread that stays: the kernel ends it with the thread that
/// started it, and nothing else may be that thread.
fn spawn(
    program: &Path,
    config: &Path,
    flags: &[String],
) -> Result<(Pid, std::thread::JoinHandle<()>), ServerError> {
    let mut command = Command::new(program);
    command
        .arg("-c")
        .arg(config)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    end_with_parent(&mut command);
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || match command.spawn() {
        Ok(mut child) => {
            let _ = sender.send(Ok(pid_of(&child)));
            let _ = child.wait();
        }
        Err(error) => drop(sender.send(Err(error.to_string()))),
    });
    let unusable = |detail| ServerError::Unusable {
        path: program.to_owned(),
        detail,
    };
    match receiver.recv() {
        Ok(Ok(Some(pid))) => Ok((pid, waiter)),
        Ok(Err(detail)) => Err(unusable(detail)),
        _ => Err(unusable("it has no process id".to_owned())),
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

/// Has the kernel end a process with the thread that starts it, where the system can.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub fn end_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: between fork and exec only one system call is made, which is allowed there.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
                .map_err(std::io::Error::from)
        });
    }
}

/// Has the kernel end a process with the thread that starts it, where the system can.
#[cfg(not(target_os = "linux"))]
pub fn end_with_parent(_: &mut Command) {}

/// Where it listens, and where it tells how it is.
fn read_ports(folder: &Path) -> Option<(String, Option<String>)> {
    let file = std::fs::read_dir(folder).ok()?.find_map(Result::ok)?.path();
    let text = std::fs::read_to_string(file).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    let url = |of: &str| ports[of][0].as_str().map(str::to_owned);
    Some((url("nats")?, url("monitoring")))
}

/// Ends a server that an earlier run left on this folder.
fn end_leftover(folder: &Path) {
    let file = folder.join("nats.pid");
    let Ok(text) = std::fs::read_to_string(&file) else {
        return;
    };
    let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else {
        return;
    };
    if !is_ours(pid, folder) {
        return;
    }
    let _ = kill_process(pid, Signal::TERM);
    let start = Instant::now();
    while is_ours(pid, folder) && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    if is_ours(pid, folder) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

// A process id may belong to somebody else by now; its command line tells.
fn is_ours(pid: Pid, folder: &Path) -> bool {
    let output = Command::new("ps")
        .args(["-o", "args=", "-p", &pid.as_raw_nonzero().to_string()])
        .output();
    let Ok(output) = output else { return false };
    let config = folder.join("nats.conf").display().to_string();
    String::from_utf8_lossy(&output.stdout).contains(&config)
}
