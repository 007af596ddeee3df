//! A PostgreSQL cluster for one run of the tests.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::failure::{Failure, Outcome};
use crate::postgres::{Owner, Programs};
use crate::process::{end_with_xtask, exit_code};
use crate::scratch::Scratch;
use crate::signals::Signals;

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(25);

/// How often another port is tried, when one is taken between the choice and
/// the start.
const PORT_TRIES: usize = 3;

/// PostgreSQL's immediate shutdown: it ends at once and would recover at the
/// next start, which there is none of.
const SHUTDOWN: Signal = Signal::QUIT;

/// What the cluster survives.
#[derive(Clone, Copy)]
pub(crate) enum Durability {
    /// The end of its processes, and no power cut. A test makes and drops
    /// databases of its own, which takes ten times as long with fsync.
    Processes,
    /// A power cut, as in production: what is measured waits for the disk.
    Power,
}

impl Durability {
    fn settings(self) -> &'static [&'static str] {
        match self {
            Durability::Processes => &["fsync=off", "full_page_writes=off"],
            Durability::Power => &[],
        }
    }
}

/// Whom the server lets in: the tests' own user, and others by their password, as in a
/// deployment. They send it as it is: working out an answer for SCRAM takes a client that is
/// not optimised a tenth of a second for each connection.
const HBA: &str = "\
host all postgres 127.0.0.1/32 trust
host all all      127.0.0.1/32 password
";

/// The server and its files. Both are gone when this is dropped.
pub(crate) struct Cluster {
    server: Child,
    port: u16,
    // Dropped last, after the server has ended.
    _folder: Folder,
}

impl Cluster {
    /// Makes a cluster, starts it and waits until it takes connections.
    ///
    /// To be called on the main thread, whose end is xtask's end.
    pub(crate) fn start(
        programs: &Programs,
        signals: &Signals,
        durability: Durability,
    ) -> Outcome<Cluster> {
        let started = Instant::now();
        let folder = Folder::create(programs.owner)?;
        initialise(programs, &folder)?;
        let mut tries = PORT_TRIES;
        let (server, port) = loop {
            signals.check()?;
            let port = free_port()?;
            let mut server = spawn(programs, &folder, port, durability)?;
            tries -= 1;
            match wait_until_ready(&mut server, port, signals) {
                Ok(()) => break (server, port),
                Err(failure) => {
                    stop(&mut server);
                    let log = folder.log_tail();
                    if tries > 0 && log.contains("Address already in use") {
                        continue;
                    }
                    return Err(failure.followed_by(&log));
                }
            }
        };
        eprintln!(
            "postgresql: started on port {port} in {:.1} s",
            started.elapsed().as_secs_f64()
        );
        Ok(Cluster {
            server,
            port,
            _folder: folder,
        })
    }

    /// The URL of the server, without a database.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}", self.port)
    }

    /// The server's first process.
    pub(crate) fn pid(&self) -> u32 {
        self.server.id()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        stop(&mut self.server);
    }
}

/// The cluster's files, and who owns them.
struct Folder {
    scratch: Scratch,
    owner: Option<Owner>,
}

impl Folder {
    fn create(owner: Option<Owner>) -> Outcome<Folder> {
        let scratch = Scratch::create(&std::env::temp_dir(), "ensemble-postgres-")?;
        if let Some(Owner { user, group }) = owner {
            std::os::unix::fs::chown(scratch.path(), Some(user), Some(group))
                .map_err(|error| Failure::file("give away", scratch.path(), &error))?;
        }
        Ok(Folder { scratch, owner })
    }

    fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    fn log_tail(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&text), 15)
    }

    /// A command of PostgreSQL that works in this folder, and prints to its
    /// log.
    fn command(&self, program: &Path) -> Outcome<Command> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .map_err(|error| Failure::file("write", &self.log(), &error))?;
        let output = log
            .try_clone()
            .map_err(|error| Failure::file("write", &self.log(), &error))?;
        let mut command = Command::new(program);
        command
            .current_dir(self.scratch.path())
            .stdin(self.scratch.held_open()?)
            .stdout(output)
            .stderr(log);
        // Settings that were meant for another server.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(&name);
            }
        }
        if let Some(Owner { user, group }) = self.owner {
            command.uid(user).gid(group);
        }
        Ok(command)
    }
}

fn initialise(programs: &Programs, folder: &Folder) -> Outcome {
    let mut command = folder.command(&programs.initdb)?;
    command
        .arg("--pgdata")
        .arg(folder.data())
        .args(["--username=postgres", "--auth=trust"])
        .args(["--encoding=UTF8", "--locale=C"])
        // An empty cluster need not outlast a power cut.
        .arg("--no-sync");
    end_with_xtask(&mut command, Signal::TERM);
    let status = command
        .status()
        .map_err(|error| cannot_run(&programs.initdb, folder, &error))?;
    if status.success() {
        let rules = folder.data().join("pg_hba.conf");
        return fs::write(&rules, HBA).map_err(|error| Failure::file("write", &rules, &error));
    }
    Err(Failure::new(format!(
        "initdb failed with exit code {}; mend what it reports here, or set {} to the URL of a server",
        exit_code(status),
        crate::postgres::VARIABLE
    ))
    .followed_by(&folder.log_tail()))
}

fn spawn(
    programs: &Programs,
    folder: &Folder,
    port: u16,
    durability: Durability,
) -> Outcome<Child> {
    let mut command = folder.command(&programs.postgres)?;
    command.arg("-D").arg(folder.data());
    let port = format!("port={port}");
    let settings = [
        port.as_str(),
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=400",
        "jit=off",
        "logging_collector=off",
    ];
    for setting in settings.iter().chain(durability.settings()) {
        command.args(["-c", setting]);
    }
    // Out of the reach of Ctrl-C, so that the tests can still end in order.
    command.process_group(0);
    end_with_xtask(&mut command, SHUTDOWN);
    command
        .spawn()
        .map_err(|error| cannot_run(&programs.postgres, folder, &error))
}

fn cannot_run(program: &Path, folder: &Folder, error: &io::Error) -> Failure {
    let path = folder.scratch.path().display();
    // As another user, the cause is mostly a folder on the way that only the
    // first user can enter.
    let advice = folder.owner.map_or(
        "",
        |_| "; see that the user postgres can reach that folder, or set TMPDIR to one it can",
    );
    let program = program.display();
    Failure::new(format!("cannot run {program} in {path}: {error}{advice}"))
}

fn free_port() -> Outcome<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::new(format!("there is no free port on 127.0.0.1: {error}")))
}

fn wait_until_ready(server: &mut Child, port: u16, signals: &Signals) -> Outcome {
    let end = Instant::now() + START_LIMIT;
    loop {
        if let Ok(Some(status)) = server.try_wait() {
            return Err(Failure::new(format!(
                "PostgreSQL ended with exit code {} while starting; mend what its log reports",
                exit_code(status)
            )));
        }
        if answers(port).unwrap_or(false) {
            return Ok(());
        }
        signals.check()?;
        if Instant::now() >= end {
            return Err(Failure::new(format!(
                "PostgreSQL took no connection within {} s; mend what its log reports",
                START_LIMIT.as_secs()
            )));
        }
        thread::sleep(LOOK);
    }
}

/// Whether the server lets the user postgres in. The port alone is no sign: it
/// is open before the server is ready.
fn answers(port: u16) -> io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(&startup_message())?;
    let mut kind = [0; 1];
    stream.read_exact(&mut kind)?;
    // 'R' goes on with the log-in, 'E' is an error; 'X' says good-bye.
    stream.write_all(b"X\x00\x00\x00\x04")?;
    Ok(&kind == b"R")
}

/// The first message of PostgreSQL's protocol 3.0: its length, the version,
/// and pairs of names and values that a zero ends.
fn startup_message() -> Vec<u8> {
    let body = b"\x00\x03\x00\x00user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &body[..]].concat()
}

/// Ends the server and waits for its end, so that its files can go.
fn stop(server: &mut Child) {
    let pid = Pid::from_child(server);
    if let Ok(Some(_)) = server.try_wait() {
        return;
    }
    let _ended_meanwhile = kill_process(pid, SHUTDOWN);
    let end = Instant::now() + STOP_LIMIT;
    while let Ok(None) = server.try_wait() {
        if Instant::now() >= end {
            let _ended_meanwhile = kill_process_group(pid, Signal::KILL);
            let _collected = server.wait();
            return;
        }
        thread::sleep(LOOK);
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_startup_message_has_its_own_length() {
        let message = startup_message();
        assert_eq!(message[..4], [0, 0, 0, 41]);
        assert_eq!(message.len(), 41);
        assert!(message.ends_with(b"database\0postgres\0\0"));
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\n", 2), "a");
        assert_eq!(last_lines("", 2), "");
    }
}
