//! A deployment: a process per service, with the configuration of the broker and the roles of
//! the databases that the containers have too.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser as _;
use jetstream::database::fixture::POSTGRES;
use jetstream::http::auth::DevelopmentKey;
use jetstream::stream::access::{Access, AccessArgs};
use jetstream::stream::local_server::{self, LocalServer};
use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use tempfile::TempDir;

use crate::{Certificates, Finished, Login, Process, Signal, Site, eventually};

/// The broker with its users, PostgreSQL with its roles, and the services.
pub struct Deployment {
    folder: TempDir,
    nats: LocalServer,
    // Takes the place of `ensemble`, so that nobody else has these roles and databases.
    prefix: String,
    postgres: String,
    addresses: BTreeMap<&'static str, SocketAddr>,
    running: BTreeMap<&'static str, Process>,
    starts: usize,
    login: Login,
    certificates: Option<Certificates>,
    key: DevelopmentKey,
    http: reqwest::Client,
}

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    access: AccessArgs,
}

impl Deployment {
    /// The broker and PostgreSQL as they are deployed, and nothing on them yet.
    ///
    /// # Panics
    /// When something cannot be started; the message says what.
    pub async fn empty() -> Self {
        Self::with(Login::Password, false).await
    }

    /// As [`Deployment::empty`], where users show something else to the broker, or whose
    /// connections to it have TLS, with certificates on both sides.
    ///
    /// # Panics
    /// When something cannot be started; the message says what.
    pub async fn with(login: Login, tls: bool) -> Self {
        let given = std::env::var_os("ENSEMBLE_NATS_SERVER").map(PathBuf::from);
        let program =
            local_server::find(given.as_deref()).unwrap_or_else(|error| panic!("{error}"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        // PostgreSQL, which is another user, reads the passwords of the roles.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open.clone()).expect("opened");
        let key = DevelopmentKey::of(folder.path()).expect("a key");
        let deploy = folder.path().join("deploy");
        let secrets = make_secrets(&deploy, folder.path());
        fs::set_permissions(&secrets, open).expect("opened");
        let nats = folder.path().join("nats");
        fs::create_dir(&nats).expect("a folder");
        let deployed = |file: &str| {
            let path = repository().join("deploy/nats").join(file);
            fs::read_to_string(path).expect("a file of the deployment")
        };
        let permissions = login.rewrite(&deployed("permissions.conf"), &secrets);
        fs::write(nats.join("permissions.conf"), permissions).expect("written");
        let certificates = tls.then(|| Certificates::make(&folder.path().join("tls")));
        let config = deployed("nats.conf");
        let config = match &certificates {
            Some(certificates) => with_tls(&config, certificates),
            None => config,
        };
        fs::write(nats.join("nats.conf"), config).expect("written");
        let passwords = secrets.join("nats_passwords.conf");
        fs::copy(passwords, nats.join("passwords.conf")).expect("copied");
        let nats = LocalServer::start_configured(&program, &nats);
        let postgres = std::env::var(POSTGRES)
            .unwrap_or_else(|_| panic!("{POSTGRES} is not set: run `cargo xtask test`"));
        let timeout = Duration::from_secs(30);
        let deployment = Self {
            nats: nats.unwrap_or_else(|error| panic!("{error}")),
            prefix: format!("t{}", jetstream::clock::new_id().simple()),
            postgres: postgres.trim_end_matches('/').to_owned(),
            addresses: BTreeMap::new(),
            running: BTreeMap::new(),
            starts: 0,
            login,
            certificates,
            key,
            http: reqwest::Client::builder()
                .timeout(timeout)
                .build()
                .expect("a client"),
            folder,
        };
        deployment.create_roles().await;
        deployment
    }

    /// A deployment that was provisioned, with every service running.
    ///
    /// # Panics
    /// When something cannot be started; the message says what.
    pub async fn start() -> Self {
        let mut deployment = Self::empty().await;
        deployment.serve().await;
        deployment
    }

    /// Provisions it, and starts every service.
    ///
    /// # Panics
    /// When something cannot be started; the message says what.
    pub async fn serve(&mut self) {
        let provisioned = self.command("provision", &["provision"]).await;
        assert!(provisioned.status.success(), "{}", provisioned.stderr);
        for service in ensemble::SERVICES {
            self.launch(service.name);
        }
        for service in ensemble::SERVICES {
            self.ready(service.name).await;
        }
    }

    async fn create_roles(&self) {
        let admin = self.admin().await;
        let secrets = format!("{}/", self.secrets().display());
        let sql = fs::read_to_string(repository().join("deploy/postgres/roles.sql"));
        let sql = sql.expect("the roles").replace("/run/secrets/", &secrets);
        let sql = sql.replace("ensemble_", &format!("{}_", self.prefix));
        for statement in sql.split("\n\n") {
            admin.execute_unprepared(statement).await.expect(statement);
        }
    }

    /// The superuser's connection.
    ///
    /// # Panics
    /// When PostgreSQL does not answer.
    pub async fn admin(&self) -> DatabaseConnection {
        let url = format!("{}/postgres", self.postgres);
        sea_orm::Database::connect(url)
            .await
            .expect("PostgreSQL answers")
    }

    /// Connects to a database as a role; the names are those of services.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn connect(
        &self,
        role: &str,
        database: &str,
    ) -> Result<DatabaseConnection, sea_orm::DbErr> {
        let password = fs::read_to_string(self.secrets().join(format!("postgres_{role}")));
        let password = password.expect("a password");
        self.connect_with(role, database, &password).await
    }

    /// As [`Deployment::connect`], with a password that may be wrong.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn connect_with(
        &self,
        role: &str,
        database: &str,
        password: &str,
    ) -> Result<DatabaseConnection, sea_orm::DbErr> {
        let database = match database {
            "postgres" => database.to_owned(),
            service => format!("{}_{service}", self.prefix),
        };
        let url = self.database_url(role, &database);
        let url = url.replacen('@', &format!(":{password}@"), 1);
        let mut options = sea_orm::ConnectOptions::new(url);
        options.max_connections(1);
        options
            .connect_timeout(Duration::from_secs(3))
            .acquire_timeout(Duration::from_secs(3));
        sea_orm::Database::connect(options).await
    }

    fn database_url(&self, role: &str, database: &str) -> String {
        let (_, server) = self.postgres.split_once("://").expect("an address");
        let host = server.rsplit('@').next().unwrap_or(server);
        format!("postgres://{}_{role}@{host}/{database}", self.prefix)
    }

    /// Where the secrets are.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.folder.path().join("deploy/secrets")
    }

    /// The deployment's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address of the broker.
    #[must_use]
    pub fn nats_url(&self) -> &str {
        self.nats.url()
    }

    /// The address of a service.
    ///
    /// # Panics
    /// When it was never started.
    #[must_use]
    pub fn address(&self, service: &str) -> SocketAddr {
        self.addresses[service]
    }

    /// How a user reaches the broker.
    ///
    /// # Panics
    /// When there is no such user.
    #[must_use]
    pub fn access(&self, user: &str) -> Access {
        let flags = self.access_flags(user);
        let flags = Flags::try_parse_from(["test".to_owned()].into_iter().chain(flags));
        let access = flags.expect("flags").access.access(self.nats_url());
        access.expect("an access")
    }

    fn access_flags(&self, user: &str) -> Vec<String> {
        let (flag, kind) = self.login.flag();
        let secret = self.secrets().join(format!("{kind}{user}"));
        let secret = secret.display().to_string();
        let flags = ["--nats-user", user, flag, &secret].map(str::to_owned);
        let tls = self.certificates.iter().flat_map(Certificates::flags);
        flags.into_iter().chain(tls).collect()
    }

    /// The certificates, where connections to the broker have TLS.
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// Runs a command of `ensemble` as a user of the broker.
    pub async fn command(&self, user: &str, arguments: &[&str]) -> Finished {
        let name = format!("command-{}", jetstream::clock::new_id().simple());
        let flags = ["--nats-url".to_owned(), self.nats_url().to_owned()];
        let arguments = arguments.iter().map(|a| (*a).to_owned());
        let arguments = arguments.chain(flags).chain(self.access_flags(user));
        Process::start("ensemble", arguments, self.folder(), &name)
            .ended()
            .await
    }

    /// Runs a command of `ensemble` that asks services, and no broker.
    pub async fn tool(&self, arguments: &[&str]) -> Finished {
        let name = format!("command-{}", jetstream::clock::new_id().simple());
        let process = Process::start("ensemble", arguments, self.folder(), &name);
        process.ended().await
    }

    /// Starts a service. It has one address, also when it is started again.
    ///
    /// # Panics
    /// When there is no port for it.
    pub fn launch(&mut self, service: &'static str) {
        self.launch_build(service, &format!("{service}-svc"));
    }

    /// As [`Deployment::launch`], from another build of it.
    ///
    /// # Panics
    /// When there is no port for it.
    pub fn launch_build(&mut self, service: &'static str, binary: &str) {
        let address = *self.addresses.entry(service).or_insert_with(|| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("an address")
        });
        let secret = |name: String| self.secrets().join(name).display().to_string();
        // As in compose.yaml: the name of the service is filled in.
        let database = format!("{}_{{service}}", self.prefix);
        let flags = [
            ("--listen", address.to_string()),
            ("--data-dir", self.folder().display().to_string()),
            ("--nats-url", self.nats_url().to_owned()),
            ("--database-url", self.database_url("{service}", &database)),
            (
                "--database-password-file",
                secret(format!("postgres_{service}")),
            ),
            ("--rate-limit", "0".to_owned()),
        ];
        let flags = flags.into_iter();
        let flags = flags.flat_map(|(flag, value)| [flag.to_owned(), value]);
        let flags = flags.chain(self.access_flags(service));
        let flags = flags.chain(["--log-json".to_owned()]);
        self.starts += 1;
        let name = format!("{service}-{}", self.starts);
        let process = Process::start(binary, flags, self.folder(), &name);
        self.running.insert(service, process);
    }

    /// Waits until a service is ready.
    ///
    /// # Panics
    /// When it ends, or does not get ready.
    pub async fn ready(&mut self, service: &'static str) {
        let process = self.running.get_mut(service).expect("a running service");
        process
            .says("a start", |process| {
                process.stderr().contains("serving").then_some(())
            })
            .await;
        let url = format!("{}/health/ready", self.url(service, ""));
        eventually(&format!("readiness of {service}"), async || {
            let answer = self.http.get(&url).send().await;
            let answer = answer.map_err(|error| error.to_string())?;
            match answer.status().as_u16() {
                200 => Ok(()),
                _ => Err(answer.text().await.unwrap_or_default()),
            }
        })
        .await;
    }

    /// Stops a service: it finishes what it has begun. What it has logged.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn stop(&mut self, service: &str) -> String {
        let process = self.running.remove(service).expect("a running service");
        process.signal(Signal::TERM);
        let finished = process.ended().await;
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
        finished.stderr
    }

    /// Changes the permissions of the broker's users, and starts it again with them.
    ///
    /// # Panics
    /// When it does not start.
    pub fn change_permissions(&mut self, change: impl FnOnce(&str) -> String) {
        let file = self.folder().join("nats/permissions.conf");
        let before = fs::read_to_string(&file).expect("the permissions");
        let after = change(&before);
        assert_ne!(before, after, "something is changed");
        fs::write(&file, after).expect("written");
        let restarted = self.nats.restart();
        restarted.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Reads one number as a service's own role.
    ///
    /// # Panics
    /// When it cannot be read.
    pub async fn number(&self, service: &str, sql: &str) -> i64 {
        let database = self
            .connect(service, service)
            .await
            .expect("its own database");
        let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, sql);
        let row = database.query_one_raw(statement).await.expect("an answer");
        row.expect("a row").try_get("", "n").expect("a number")
    }

    /// Stops every service, and forgets the roles and databases; what each has logged.
    ///
    /// # Panics
    /// When a service does not finish what it has begun.
    pub async fn end(mut self) -> BTreeMap<&'static str, String> {
        let names: Vec<&'static str> = self.running.keys().copied().collect();
        let mut logs = BTreeMap::new();
        for name in names {
            logs.insert(name, self.stop(name).await);
        }
        let admin = self.admin().await;
        for service in ensemble::SERVICES {
            let name = format!("{}_{}", self.prefix, service.name);
            for sql in [
                format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
                format!("DROP ROLE IF EXISTS {name}"),
            ] {
                admin.execute_unprepared(&sql).await.expect("dropped");
            }
        }
        logs
    }
}

impl Site for Deployment {
    fn url(&self, service: &str, _user: &str) -> String {
        format!("http://{}", self.addresses[service])
    }

    fn http(&self) -> &reqwest::Client {
        &self.http
    }

    fn key(&self) -> &DevelopmentKey {
        &self.key
    }
}

/// Runs the script that makes the secrets, beside a key that is there.
fn make_secrets(deploy: &Path, key: &Path) -> PathBuf {
    let secrets = deploy.join("secrets");
    fs::create_dir_all(&secrets).expect("a folder");
    for file in ["token_key.pem", "token_public.pem"] {
        fs::copy(key.join("development-key.pem"), secrets.join(file)).expect("copied");
    }
    fs::copy(
        repository().join("deploy/secrets.sh"),
        deploy.join("secrets.sh"),
    )
    .expect("copied");
    let made = Command::new("sh").arg(deploy.join("secrets.sh")).output();
    let made = made.expect("sh");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    secrets
}

/// Takes the `#` before the block for TLS away, as its comment says, and puts the files where
/// they are here.
fn with_tls(config: &str, certificates: &Certificates) -> String {
    let (before, block) = config.split_once("\n# tls {").expect("a block for TLS");
    let block = block.replace("\n# ", "\n");
    let folder = format!("{}/", certificates.folder().display());
    format!("{before}\ntls {{{block}").replace("/etc/nats/", &folder)
}

/// Where the repository is.
#[must_use]
pub fn repository() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent()
        .expect("tests is in the repository")
        .to_owned()
}
