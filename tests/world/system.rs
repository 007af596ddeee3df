//! `ensemble up` as a process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jetstream::http::auth::DevelopmentKey;
use jetstream::stream::local_server;

use crate::process::{Process, nats_servers_on};
use crate::{Backend, Client, Site, database_url, eventually, forget_databases};

/// Data directory and databases of `ensemble up`, and the process that runs on them.
pub struct System {
    folder: tempfile::TempDir,
    flags: BTreeMap<String, String>,
    database_url: Option<String>,
    starts: usize,
    process: Option<Process>,
    http_url: String,
    http: reqwest::Client,
    key: Option<DevelopmentKey>,
}

impl System {
    /// An empty directory, on which nothing runs.
    ///
    /// # Panics
    /// When there is no nats-server or PostgreSQL.
    #[must_use]
    pub fn new(backend: Backend) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let given = std::env::var_os("ENSEMBLE_NATS_SERVER").map(PathBuf::from);
        let program =
            local_server::find(given.as_deref()).unwrap_or_else(|error| panic!("{error}"));
        let database_url = database_url(backend);
        let data_dir = folder.path().join("data").display().to_string();
        let mut flags = BTreeMap::from([
            ("--listen".to_owned(), "127.0.0.1:0".to_owned()),
            ("--data-dir".to_owned(), data_dir),
            // Tests ask as fast as they can, but for those of the limit.
            ("--rate-limit".to_owned(), "0".to_owned()),
            ("--nats-server".to_owned(), program.display().to_string()),
        ]);
        if let Some(url) = &database_url {
            flags.insert("--database-url".to_owned(), url.clone());
        }
        Self {
            folder,
            flags,
            database_url,
            starts: 0,
            process: None,
            http_url: String::new(),
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(30))
                .build()
                .expect("a client"),
            key: None,
        }
    }

    /// Gives a flag of `ensemble up` another value.
    #[must_use]
    pub fn with(mut self, flag: &str, value: &str) -> Self {
        self.flags.insert(flag.to_owned(), value.to_owned());
        self
    }

    /// The `--database-url` that it runs with; none on SQLite.
    #[must_use]
    pub fn database_url(&self) -> Option<&str> {
        self.database_url.as_deref()
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The test's folder, which has the data directory and the logs in it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts `ensemble up`, with more arguments; it need not succeed.
    pub fn launch(&mut self, more: &[&str]) -> Process {
        self.starts += 1;
        let name = format!("up-{}", self.starts);
        let flags = self.flags.iter().flat_map(|(flag, value)| [flag, value]);
        let arguments = ["up", "--log-json"].into_iter();
        let arguments = arguments.chain(flags.map(String::as_str));
        let arguments = arguments.chain(more.iter().copied());
        Process::start("ensemble", arguments, self.folder.path(), &name)
    }

    /// Starts `ensemble up` and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(&mut self) {
        let (process, url) = self.serving().await;
        self.http_url = url;
        self.key = Some(DevelopmentKey::of(&self.data_dir()).expect("a key"));
        self.process = Some(process);
    }

    /// Starts `ensemble up` and waits until it serves: the process, and its address.
    ///
    /// # Panics
    /// When it does not.
    pub async fn serving(&mut self) -> (Process, String) {
        let mut process = self.launch(&[]);
        let serves = |process: &Process| {
            let text = process.stdout();
            let line = text.lines().find(|line| line.starts_with("http "))?;
            let url = line.split_whitespace().nth(1)?.to_owned();
            text.contains("Serving.").then_some(url)
        };
        let url = process.says("the address", serves).await;
        (process, url)
    }

    /// The address of its API.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.http_url
    }

    /// The running process.
    ///
    /// # Panics
    /// When none runs.
    #[must_use]
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("`ensemble up` runs")
    }

    /// Takes the running process, to end it.
    ///
    /// # Panics
    /// When none runs.
    pub fn take(&mut self) -> Process {
        self.process.take().expect("`ensemble up` runs")
    }

    /// Runs another command on the data directory.
    pub async fn command(&self, arguments: &[&str]) -> crate::Finished {
        let data_dir = self.data_dir().display().to_string();
        let arguments = arguments.iter().copied().chain(["--data-dir", &data_dir]);
        let name = format!("command-{}", jetstream::clock::new_id().simple());
        Process::start("ensemble", arguments, self.folder.path(), &name)
            .ended()
            .await
    }

    /// Waits until no nats-server runs on the data directory.
    ///
    /// # Panics
    /// When one stays.
    pub async fn has_no_broker(&self) {
        eventually("the end of nats-server", async || {
            match nats_servers_on(&self.data_dir()) {
                none if none.is_empty() => Ok(()),
                some => Err(format!("{some:?}")),
            }
        })
        .await;
    }

    /// Stops the process and forgets its databases.
    ///
    /// # Panics
    /// When it does not drain, or leaves its broker behind.
    pub async fn end(mut self) {
        let process = self.take();
        process.signal(crate::Signal::INT);
        let finished = process.ended().await;
        assert!(finished.status.success(), "{}", finished.stderr);
        self.has_no_broker().await;
        forget_databases(self.database_url).await;
    }

    /// A client that asks as a user.
    #[must_use]
    pub fn user(&self, name: &str) -> Client<'_> {
        Client::user(self, name)
    }

    /// A client that asks as an operator.
    #[must_use]
    pub fn operator(&self) -> Client<'_> {
        Client::operator(self)
    }
}

impl Site for System {
    fn url(&self, _service: &str, _user: &str) -> String {
        self.http_url.clone()
    }

    fn http(&self) -> &reqwest::Client {
        &self.http
    }

    fn key(&self) -> &DevelopmentKey {
        self.key.as_ref().expect("it was started")
    }
}
