//! What is measured: a broker, databases, and the services as `ensemble up` runs them, in
//! processes of their own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jetstream::stream::local_server::{self, LocalServer};
use rustix::process::{Pid, Signal, kill_process};

use super::client::Place;
use super::postgres;
use super::processes::Watched;
use super::{Args, sink};
use crate::SERVICES;
use crate::up::Running;

const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(5);

/// A running system. It ends with this.
pub(super) struct System {
    // Ends first: services finish while there is a broker.
    instances: Vec<Instance>,
    apart: bool,
    broker: LocalServer,
    postmaster: Option<u32>,
    flags: Vec<String>,
    slow_steps: u64,
    folder: PathBuf,
}

/// An instance of the services: one process with all of them, or each in its own, in the
/// order of `SERVICES`.
struct Instance {
    processes: Vec<Process>,
    place: Place,
}

/// A process with services, under the name that a report gives it.
struct Process {
    name: &'static str,
    child: Child,
    url: String,
}

impl System {
    /// Starts a system that keeps everything in a folder, and in the databases of a run.
    pub(super) async fn start(
        args: &Args,
        folder: &Path,
        database: Option<(&postgres::Server, u32)>,
    ) -> Result<Self, String> {
        let program = local_server::find(args.nats_server.as_deref()).map_err(|e| e.to_string())?;
        let broker = LocalServer::start(&program, &folder.join("nats"));
        let broker = broker.map_err(|error| error.to_string())?;
        let mut flags = flags(args, folder, broker.url(), &sink::start().await?);
        let mut postmaster = None;
        if let Some((server, run)) = database {
            flags.extend(["--database-url".to_owned(), server.url_for(run).await?]);
            postmaster = server.postmaster().await?;
        }
        let mut system = Self {
            instances: vec![],
            apart: args.apart,
            broker,
            postmaster,
            flags,
            slow_steps: args.slow_steps,
            folder: folder.to_owned(),
        };
        if args.apart {
            system.provision()?;
        }
        for _ in 0..args.instances {
            let instance = system.instance()?;
            system.instances.push(instance);
        }
        Ok(system)
    }

    /// Starts an instance of all services.
    fn instance(&self) -> Result<Instance, String> {
        if !self.apart {
            return self.together(&[]);
        }
        let mut processes = Vec::new();
        for service in &SERVICES {
            processes.push(self.process(service.name, &[service.name])?);
        }
        let url = |n: usize| processes[n].url.clone();
        Ok(Instance {
            place: Place::apart(std::array::from_fn(url)),
            processes,
        })
    }

    /// Starts an instance of these services, or of all, in one process.
    fn together(&self, only: &[&str]) -> Result<Instance, String> {
        let process = self.process("services", only)?;
        Ok(Instance {
            place: Place::together(&process.url),
            processes: vec![process],
        })
    }

    /// Starts a process with these services, or with all, and waits until it serves.
    fn process(&self, name: &'static str, only: &[&str]) -> Result<Process, String> {
        let cannot = |error: std::io::Error| format!("cannot start the services: {error}");
        let log = self.folder.join("services.log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(cannot)?;
        let mut command = Self::command("up")?;
        command
            .env("ENSEMBLE_SLOW_STEPS", self.slow_steps.to_string())
            .args(&self.flags)
            .args(only.iter().map(|service| format!("--services={service}")))
            .stdout(log.try_clone().map_err(cannot)?)
            .stderr(log);
        // Ctrl-C is for the bench alone, which ends them.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        local_server::end_with_parent(&mut command);
        // Says where the process before this one is.
        let _ = fs::remove_file(self.folder.join("running.json"));
        let mut process = Process {
            name,
            child: command.spawn().map_err(cannot)?,
            url: String::new(),
        };
        process.url = self.wait_until_ready(&mut process.child)?;
        Ok(process)
    }

    fn wait_until_ready(&self, process: &mut Child) -> Result<String, String> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Ok(running) = Running::read(&self.folder) {
                return Ok(running.http_url);
            }
            if let Ok(Some(status)) = process.try_wait() {
                return Err(format!(
                    "the services ended ({status}): {}",
                    self.last_words()
                ));
            }
            std::thread::sleep(LOOK);
        }
        Err(format!(
            "the services did not get ready: {}",
            self.last_words()
        ))
    }

    fn last_words(&self) -> String {
        let log = self.folder.join("services.log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let last = text.lines().last().unwrap_or("nothing is said").to_owned();
        format!("{last} (all of it: {})", log.display())
    }

    /// Ends the services and starts them again; how long until they serve.
    pub(super) fn restart(&mut self) -> Result<Duration, String> {
        let count = self.instances.len();
        self.instances.clear();
        let start = Instant::now();
        for _ in 0..count {
            let instance = self.instance()?;
            self.instances.push(instance);
        }
        Ok(start.elapsed())
    }

    /// Ends what runs, and has only these services run, in one process.
    pub(super) fn only(&mut self, services: &[&str]) -> Result<(), String> {
        self.instances.clear();
        self.also(services)
    }

    /// Has these services run too, in another process.
    pub(super) fn also(&mut self, services: &[&str]) -> Result<(), String> {
        let instance = self.together(services)?;
        self.instances.push(instance);
        Ok(())
    }

    /// Holds all databases and the stream to what must be true, as `ensemble check` does.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut check = Self::command("check")?;
        check.arg("--data-dir").arg(&self.folder);
        check.args(self.flag("--database-url"));
        done(check).map_err(|said| format!("the system is not as it must be:\n{said}"))
    }

    /// Creates the stream and the consumers, which services that run by themselves do not.
    fn provision(&self) -> Result<(), String> {
        let mut provision = Self::command("provision")?;
        provision.args(["--nats-url", self.broker.url()]);
        provision.args(self.flag("--flows"));
        done(provision).map_err(|said| format!("the broker cannot be provisioned:\n{said}"))
    }

    /// Another command of this program, with no other settings than what it is given.
    fn command(name: &str) -> Result<Command, String> {
        let program = std::env::current_exe();
        let mut command =
            Command::new(program.map_err(|error| format!("cannot run `{name}`: {error}"))?);
        without_settings(&mut command);
        command.arg(name).stdin(Stdio::null());
        Ok(command)
    }

    /// A flag of the services with its value, if they have it.
    fn flag(&self, name: &str) -> &[String] {
        let at = self.flags.iter().position(|flag| flag == name);
        at.map_or(&[], |at| &self.flags[at..at + 2])
    }

    /// Where the instances are.
    pub(super) fn places(&self) -> Vec<Place> {
        let instances = self.instances.iter();
        instances.map(|instance| instance.place.clone()).collect()
    }

    /// Where the broker is.
    pub(super) fn nats_url(&self) -> &str {
        self.broker.url()
    }

    /// The processes that an order costs something.
    pub(super) fn processes(&self) -> Vec<Watched> {
        let broker = u32::try_from(self.broker.pid()).unwrap_or_default();
        let mut all = vec![Watched::alone("nats-server", broker)];
        all.extend(
            self.postmaster
                .map(|pid| Watched::family("postgresql", pid)),
        );
        let processes = self.instances.iter().flat_map(|i| &i.processes);
        all.extend(processes.map(|p| Watched::alone(p.name, p.child.id())));
        all.push(Watched::alone("load", std::process::id()));
        all
    }
}

/// Runs a command to its end; what it said when it failed.
fn done(mut command: Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// What is set for another system is not meant for this one.
fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ENSEMBLE_") {
            command.env_remove(&name);
        }
    }
}

/// The services are as `ensemble up` has them, for one user or for a thousand: what is
/// measured is the system and not its limits.
fn flags(args: &Args, folder: &Path, nats_url: &str, traces: &str) -> Vec<String> {
    let flows: Vec<_> = args.mix.flows().iter().map(|flow| flow.name()).collect();
    let folder = folder.display().to_string();
    let flags = [
        ["--listen", "127.0.0.1:0"],
        ["--data-dir", &folder],
        ["--nats-url", nats_url],
        ["--otlp", traces],
        ["--sampling", "0.01"],
        ["--flows", &flows.join(",")],
        ["--order-deadline", "600"],
        ["--open-orders", "1000"],
        ["--rate-limit", "0"],
        ["--requests-in-flight", "1000000"],
    ];
    flags.concat().into_iter().map(str::to_owned).collect()
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, Signal::TERM);
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > PATIENCE {
                let _ = self.child.kill();
            }
            std::thread::sleep(LOOK);
        }
    }
}
