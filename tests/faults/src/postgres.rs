//! A PostgreSQL server of the run's own, that can be killed and started again.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use sea_orm::ConnectionTrait as _;

use crate::process::end_with_runner;

/// Where initdb and postgres are, and the user and group that they run as; both from xtask,
/// which finds or installs them.
const PROGRAMS: &str = "ENSEMBLE_FAULTS_POSTGRES";

const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. Dropping it ends it.
pub(crate) struct Postgres {
    programs: PathBuf,
    owner: Option<(u32, u32)>,
    folder: PathBuf,
    port: u16,
    // How much of its log is kept between checkpoints, in megabytes.
    wal: u32,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a cluster in a folder, which the server's user must be able to enter.
    pub(crate) async fn start(folder: &Path, wal: u32) -> Result<Self, String> {
        let (programs, owner) = programs()?;
        std::fs::create_dir_all(folder).map_err(|e| e.to_string())?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(folder, Some(user), Some(group)).map_err(|e| e.to_string())?;
        }
        let port = free_port()?;
        let mut postgres = Self {
            programs,
            owner,
            folder: folder.to_owned(),
            port,
            wal,
            server: None,
        };
        let made = postgres
            .command("initdb")
            .arg("--pgdata")
            .arg(postgres.data())
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "--wal-segsize=1"])
            .status();
        match made {
            Ok(status) if status.success() => {}
            other => return Err(format!("initdb failed: {other:?}; {}", postgres.tail())),
        }
        postgres.launch()?;
        postgres.until_ready().await?;
        Ok(postgres)
    }

    /// The URL of the server, without a database.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}", self.port)
    }

    /// Kills the server and all of its processes at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = kill_process_group(Pid::from_child(&server), Signal::KILL);
            let _ = server.wait();
        }
    }

    /// Starts it again; it recovers from what it was killed in.
    pub(crate) async fn restart(&mut self) -> Result<(), String> {
        self.kill();
        // What was in the shared memory of the killed one may take a moment to go.
        let begun = Instant::now();
        loop {
            self.launch()?;
            match self.until_ready().await {
                Ok(()) => return Ok(()),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => self.kill(),
            }
        }
    }

    fn launch(&mut self) -> Result<(), String> {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        let port = format!("port={}", self.port);
        let wal = format!("max_wal_size={}MB", self.wal);
        for setting in [
            &port,
            &wal,
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=400",
            "min_wal_size=4MB",
            "jit=off",
            // The promise depends on this one, and it is PostgreSQL's default.
            "synchronous_commit=on",
        ] {
            command.args(["-c", setting]);
        }
        let server = command.spawn();
        self.server = Some(server.map_err(|e| format!("cannot start postgres: {e}"))?);
        Ok(())
    }

    async fn until_ready(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        let url = format!("{}/postgres", self.url());
        loop {
            if let Some(server) = &mut self.server
                && let Ok(Some(status)) = server.try_wait()
            {
                self.server = None;
                return Err(format!("postgres ended ({status}): {}", self.tail()));
            }
            let mut options = sea_orm::ConnectOptions::new(url.clone());
            options
                .max_connections(1)
                .connect_timeout(Duration::from_secs(2))
                .sqlx_logging(false);
            if let Ok(connection) = sea_orm::Database::connect(options).await {
                let answers = connection.execute_unprepared("SELECT 1").await.is_ok();
                let _ = connection.close().await;
                if answers {
                    return Ok(());
                }
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("postgres did not get ready: {}", self.tail()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log());
        let output = |log: std::io::Result<std::fs::File>| match log {
            Ok(file) => Stdio::from(file),
            Err(_) => Stdio::null(),
        };
        command
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output(log));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(&name);
            }
        }
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        end_with_runner(&mut command);
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.join("cluster")
    }

    // Beside the folder, which may be a full disk.
    fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    fn tail(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn programs() -> Result<(PathBuf, Option<(u32, u32)>), String> {
    let text = std::env::var(PROGRAMS)
        .map_err(|_| format!("{PROGRAMS} is not set: run `cargo xtask faults`"))?;
    let mut parts = text.split(' ');
    let folder = PathBuf::from(parts.next().unwrap_or_default());
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
    Ok((folder, number().zip(number())))
}

/// A port that nobody has, and that nobody is given: below those that the system gives to
/// connections, and each once.
pub(crate) fn free_port() -> Result<u16, String> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let own = std::process::id().wrapping_mul(97);
    for _ in 0..5_000 {
        let next = own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(20_000 + next % 10_000).unwrap_or(20_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err("there is no free port on 127.0.0.1".to_owned())
}
