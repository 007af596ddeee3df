//! PostgreSQL over TLS, with certificates on both sides, and what is said when they are wrong.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use integration_tests::{Backend, Certificates, Process, Signal, World, eventually};
use jetstream::stream::local_server;
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};
use serde_json::json;

use crate::processes::address;

/// Only over TLS; the role `client` by its certificate.
const WHO_IS_LET_IN: &str = "\
hostssl all postgres 127.0.0.1/32 trust
hostssl all client   127.0.0.1/32 cert
";

/// A PostgreSQL server with a certificate, made with the programs of the tests' server.
struct Server {
    child: Child,
    port: u16,
    certificates: Certificates,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let certificates = Certificates::make(&folder.path().join("certificates"));
        let (programs, owner) = programs().await;
        // The server's user enters the folder, and alone reads its key.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("opened");
        let home = folder.path().join("server");
        fs::create_dir(&home).expect("a folder");
        for name in ["ca.pem", "server.pem", "server-key.pem"] {
            fs::copy(certificates.path(name), home.join(name)).expect("a copy");
            let mode = Permissions::from_mode(0o600);
            fs::set_permissions(home.join(name), mode).expect("closed");
            chown(home.join(name), Some(owner.0), Some(owner.1)).expect("given away");
        }
        chown(&home, Some(owner.0), Some(owner.1)).expect("given away");

        let data = home.join("data");
        let mut initdb = command(&programs.join("initdb"), &home, owner);
        initdb.arg("--pgdata").arg(&data).arg("--no-sync");
        initdb.args(["--username=postgres", "--auth=trust", "--locale=C"]);
        initdb.args(["--encoding=UTF8"]);
        assert!(initdb.status().expect("initdb").success(), "{}", log(&home));
        fs::write(data.join("pg_hba.conf"), WHO_IS_LET_IN).expect("written");

        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let mut server = command(&programs.join("postgres"), &home, owner);
        server.arg("-D").arg(&data);
        for setting in [
            &format!("port={port}"),
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "ssl=on",
            "ssl_ca_file=../ca.pem",
            "ssl_cert_file=../server.pem",
            "ssl_key_file=../server-key.pem",
        ] {
            server.args(["-c", setting]);
        }
        let server = Self {
            child: server.spawn().expect("postgres starts"),
            port,
            certificates,
            _folder: folder,
        };
        let admin = eventually("PostgreSQL", async || {
            let connected = server.connect().await;
            connected.map_err(|error| format!("{error}; {}", log(&home)))
        });
        let role = "CREATE ROLE client LOGIN CREATEDB";
        let made = admin.await.execute_unprepared(role).await;
        made.expect("a role");
        server
    }

    /// The address of a service's databases, as who, and with which options.
    fn url(&self, who: &str, options: &[(&str, &str)]) -> String {
        let Self { port, .. } = self;
        let mut url = format!("postgres://{who}:{port}/shop?sslmode=verify-full");
        for (option, file) in options {
            let file = match file.starts_with('/') {
                true => (*file).to_owned(),
                false => self.certificates.path(file),
            };
            url += &format!("&{option}={file}");
        }
        url
    }

    async fn connect(&self) -> Result<DatabaseConnection, sea_orm::DbErr> {
        let url = self.url("postgres@127.0.0.1", &[("sslrootcert", "ca.pem")]);
        sea_orm::Database::connect(url.replace("/shop?", "/postgres?")).await
    }

    /// How many connections of a service there are, over TLS and in clear.
    async fn connections(&self, service: &str) -> (i64, i64) {
        let sql = "SELECT count(*) FILTER (WHERE ssl) AS closed,
                          count(*) FILTER (WHERE NOT ssl) AS open
                   FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                   WHERE application_name = $1";
        let name = format!("ensemble-{service}").into();
        let look = Statement::from_sql_and_values(DbBackend::Postgres, sql, [name]);
        let admin = self.connect().await.expect("a connection");
        let row = admin.query_one_raw(look).await.expect("an answer");
        let row = row.expect("a row");
        let number = |name: &str| row.try_get("", name).expect("a number");
        (number("closed"), number("open"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // At once: nothing of it is kept.
        let _ = rustix::process::kill_process(pid, Signal::QUIT);
        let _ = self.child.wait();
    }
}

/// Where the programs of the tests' server are, and who runs it.
async fn programs() -> (PathBuf, (u32, u32)) {
    let url = integration_tests::database_url(Backend::Postgres).expect("a server");
    let (server, _) = url.rsplit_once('/').expect("an address");
    let admin = sea_orm::Database::connect(format!("{server}/postgres"));
    let admin = admin.await.expect("PostgreSQL answers");
    let ask = async |sql: &str| -> String {
        let ask = Statement::from_string(DbBackend::Postgres, sql);
        let row = admin.query_one_raw(ask).await.expect("an answer");
        row.expect("a row").try_get("", "setting").expect("a text")
    };
    let programs = ask("SELECT setting FROM pg_config WHERE name = 'BINDIR'").await;
    let data = ask("SELECT setting FROM pg_settings WHERE name = 'data_directory'").await;
    let data = fs::metadata(data).expect("a server on this machine");
    (PathBuf::from(programs), (data.uid(), data.gid()))
}

fn command(program: &Path, home: &Path, (user, group): (u32, u32)) -> Command {
    let mut log = File::options();
    let log = log.create(true).append(true).open(home.join("log"));
    let mut command = Command::new(program);
    command.current_dir(home).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(log.expect("a log"));
    if rustix::process::geteuid().is_root() {
        command.uid(user).gid(group);
    }
    local_server::end_with_parent(&mut command);
    command
}

fn log(home: &Path) -> String {
    fs::read_to_string(home.join("log")).unwrap_or_default()
}

fn stock(world: &World, url: &str, name: &str) -> Process {
    let data_dir = world.folder().display().to_string();
    let mut flags = vec!["--log-json", "--listen", "127.0.0.1:0"];
    flags.extend(["--nats-url", world.nats_url(), "--data-dir", &data_dir]);
    flags.extend(["--database-url", url]);
    Process::start("stock-svc", flags, world.folder(), name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_works_over_tls_with_and_without_a_certificate_of_its_own() {
    let server = Server::start().await;
    let ca = ("sslrootcert", "ca.pem");
    let own = [ca, ("sslcert", "client.pem"), ("sslkey", "client-key.pem")];
    for (name, url) in [
        ("trusted", server.url("postgres@127.0.0.1", &[ca])),
        (
            "known",
            server
                .url("client@127.0.0.1", &own)
                .replace("/shop", "/own"),
        ),
    ] {
        // A stream of its own: a second database on the first one's would be fenced.
        let world = World::empty(Backend::Sqlite).await;
        let mut process = stock(&world, &url, name);
        let address = process.says("the address", address).await;
        let host = address.trim_start_matches("http://").parse();
        let new = json!({ "name": "mug", "price": 100, "stock": 1 });
        let operator = world.operator();
        let host = host.expect("an address");
        let made = operator.post_once_at(host, name, "/products", new).await;
        assert_eq!(made.status, 201, "{made:?}");
        let (closed, open) = server.connections("stock").await;
        assert!(
            closed > 0 && open == 0,
            "{closed} over TLS, {open} in clear"
        );
        process.signal(Signal::TERM);
        assert!(process.ended().await.status.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_is_one_sentence() {
    let server = Server::start().await;
    let world = World::empty(Backend::Sqlite).await;
    let ca = ("sslrootcert", "ca.pem");
    let clear = server.url("postgres@127.0.0.1", &[]);
    for (what, url, names) in [
        (
            "another authority",
            server.url("postgres@127.0.0.1", &[("sslrootcert", "other.pem")]),
            "sslrootcert and the host must be",
        ),
        (
            "no file of authorities",
            server.url("postgres@127.0.0.1", &[("sslrootcert", "/none.pem")]),
            "sslrootcert, sslcert or sslkey",
        ),
        (
            "another name than the certificate's",
            server.url("postgres@localhost", &[ca]),
            "localhost",
        ),
        (
            "no TLS",
            clear.replace("verify-full", "disable"),
            "no pg_hba.conf entry",
        ),
        (
            "no certificate of its own",
            server.url("client@127.0.0.1", &[ca]),
            "client certificate",
        ),
    ] {
        let finished = stock(&world, &url, "wrong").ended().await;
        assert_eq!(finished.status.code(), Some(1), "{what}");
        let lines = finished.stderr.lines();
        let lines: Vec<&str> = lines.filter(|line| !line.starts_with('{')).collect();
        let [sentence] = lines[..] else {
            panic!("{what}: one sentence, and not {lines:#?}");
        };
        let whole = sentence.starts_with("stock: cannot use the database of stock in ")
            && sentence.contains(names)
            && sentence.ends_with("; check --database-url");
        assert!(whole, "{what}: {sentence}");
    }
}
