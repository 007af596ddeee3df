//! The systems that Ensemble is compared with, as they are started.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{Background, free_port, post};
use crate::{Args, Outcome};

/// A running peer. It ends with this.
pub(crate) struct Peer {
    /// What `ensemble bench` is to be told.
    pub(crate) flags: Vec<String>,
    // In the order in which they end.
    _processes: Vec<Background>,
}

/// Choreography as it is usually written by hand, on a broker of its own.
pub(crate) fn handwritten(args: &Args, program: &Path, folder: &Path) -> Outcome<Peer> {
    let _ = std::fs::remove_dir_all(folder);
    make(folder)?;
    let (nats, nats_port) = broker(args, folder)?;
    let port = free_port()?;
    let mut command = Command::new(program);
    command
        .arg("--nats-url")
        .arg(format!("nats://127.0.0.1:{nats_port}"))
        .args(["--database-url", &args.database_url])
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"));
    let log = folder.join("handwritten.log");
    let mut services = Background::start(command, &log)?;
    services.wait_for(port, &log)?;
    let orders = format!("http://127.0.0.1:{port}/orders");
    let shop = format!("http://127.0.0.1:{port}/shop");
    let watched = [("nats-server", nats.pid()), ("services", services.pid())];
    Ok(Peer {
        flags: flags(args, &orders, &shop, &watched),
        _processes: vec![services, nats],
    })
}

/// nats-server, set as it is for Ensemble.
fn broker(args: &Args, folder: &Path) -> Outcome<(Background, u16)> {
    let port = free_port()?;
    let config = folder.join("nats.conf");
    let text = format!(
        "host: 127.0.0.1\nport: {port}\n\
         jetstream {{\n  store_dir: \"{}/nats\"\n  sync_interval: \"100ms\"\n}}\n",
        folder.display()
    );
    write(&config, &text)?;
    let mut command = Command::new(&args.nats_server);
    command.arg("-c").arg(config);
    let log = folder.join("nats.log");
    let mut nats = Background::start(command, &log)?;
    nats.wait_for(port, &log)?;
    Ok((nats, port))
}

/// Restate, whose steps are transactions in PostgreSQL.
pub(crate) fn restate(args: &Args, server: &Path, service: &Path, folder: &Path) -> Outcome<Peer> {
    let _ = std::fs::remove_dir_all(folder);
    make(folder)?;
    let [listen, shop] = [free_port()?, free_port()?];
    let mut command = Command::new(service);
    command
        .args(["--listen", &format!("127.0.0.1:{listen}")])
        .args(["--shop", &format!("127.0.0.1:{shop}")])
        .args(["--database-url", &args.database_url]);
    let log = folder.join("service.log");
    let mut service = Background::start(command, &log)?;
    service.wait_for(listen, &log)?;
    let [ingress, admin, node] = [free_port()?, free_port()?, free_port()?];
    let config = folder.join("restate.toml");
    write(&config, &restate_config(folder, ingress, admin, node))?;
    let mut command = Command::new(server);
    command.arg("--no-logo").arg("--config-file").arg(config);
    // Its settings come from the file alone.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RESTATE_") {
            command.env_remove(&name);
        }
    }
    let log = folder.join("restate.log");
    let mut restate = Background::start(command, &log)?;
    restate.wait_for(admin, &log)?;
    restate.wait_for(ingress, &log)?;
    register(admin, listen)?;
    let orders = format!("http://127.0.0.1:{ingress}/Orders/place");
    let shop = format!("http://127.0.0.1:{shop}/shop");
    let watched = [
        ("restate-server", restate.pid()),
        ("services", service.pid()),
    ];
    Ok(Peer {
        flags: flags(args, &orders, &shop, &watched),
        _processes: vec![restate, service],
    })
}

/// One node with all roles, two partitions (one for each core), the log on its own disk.
fn restate_config(folder: &Path, ingress: u16, admin: u16, node: u16) -> String {
    format!(
        r#"base-dir = "{folder}/restate"
bind-ip = "127.0.0.1"
bind-port = {node}
listen-mode = "tcp"
advertised-host = "127.0.0.1"
default-num-partitions = 2
disable-telemetry = true
log-filter = "warn"
default-journal-retention = "0s"

[bifrost]
default-provider = "local"

[ingress]
bind-port = {ingress}

[admin]
bind-port = {admin}
disable-web-ui = true
"#,
        folder = folder.display()
    )
}

/// Tells Restate where the service is, once it takes that.
fn register(admin: u16, service: u16) -> Outcome {
    let body = format!(r#"{{"uri":"http://127.0.0.1:{service}"}}"#);
    let start = Instant::now();
    loop {
        let answer = post(admin, "/deployments", &body)?;
        if answer.contains(" 201 ") || answer.contains(" 200 ") {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(60) {
            return Err(format!("Restate does not take the service: {answer}"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn flags(args: &Args, orders: &str, shop: &str, watched: &[(&str, u32)]) -> Vec<String> {
    let mut flags: Vec<String> = ["--target", orders, "--target-shop", shop]
        .map(str::to_owned)
        .to_vec();
    let mut watch =
        |name: &str, pid: u32| flags.extend(["--watch".into(), format!("{name}={pid}")]);
    for (name, pid) in watched {
        watch(name, *pid);
    }
    if let Some(pid) = args.postgres_pid {
        watch("postgresql", pid);
    }
    flags
}

fn make(folder: &Path) -> Outcome {
    std::fs::create_dir_all(folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))
}

fn write(path: &PathBuf, text: &str) -> Outcome {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
