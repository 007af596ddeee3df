//! How a command that looks into a system reaches its services and its broker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jetstream::stream::access::{Access, AccessArgs};
use jetstream::stream::broker;

use crate::api::{Operator, operator};
use crate::up::Running;

// Who does not answer within this is said not to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a command that looks into a running system finds its broker.
#[derive(Debug, clap::Args)]
pub(crate) struct Broker {
    /// The broker; without it, the one of the system that runs on --data-dir
    #[arg(long, env = "ENSEMBLE_NATS_URL")]
    nats_url: Option<String>,
    /// The data directory of a running system
    #[arg(long, env = "ENSEMBLE_DATA_DIR", default_value = "data")]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    access: AccessArgs,
}

impl Broker {
    /// Connects, with a name for the connection.
    pub(crate) async fn connect(&self, name: &str) -> Result<broker::Context, String> {
        let access = self.access.access(&self.address()?)?;
        let connected = broker::connect(&access, name).await;
        let connected = connected.map_err(|error| match &self.nats_url {
            Some(_) => error,
            None => error.if_nobody_is_there(|| {
                let folder = self.data_dir.display();
                format!(
                    "the system on {folder} had its broker there: if it has ended, start it \
                     again with `ensemble up`, or give --nats-url"
                )
            }),
        });
        connected.map_err(|error| error.to_string())
    }

    /// Where it is.
    fn address(&self) -> Result<String, String> {
        match &self.nats_url {
            Some(url) => Ok(url.clone()),
            None => Ok(Running::read(&self.data_dir)?.nats_url),
        }
    }
}

/// Where services and broker are.
#[derive(Debug, clap::Args)]
pub(crate) struct Reach {
    /// HTTP address of the services; several, when each runs by itself. Without it, that of
    /// the system that runs on --data-dir
    #[arg(long, env = "ENSEMBLE_URL", value_delimiter = ',')]
    url: Vec<String>,
    /// File with an operator's token; without it, one is signed with the development key
    #[arg(long, env = "ENSEMBLE_TOKEN_FILE", value_name = "PATH")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    broker: Broker,
}

impl Reach {
    /// Asks the services, when it is known where they are.
    pub(crate) fn services(&self) -> Result<Operator, String> {
        let data_dir = &self.broker.data_dir;
        operator(&self.url, self.token_file.as_deref(), data_dir, PATIENCE)
    }

    /// The broker, when it is there.
    pub(crate) async fn broker(&self, name: &str) -> Result<broker::Context, String> {
        self.broker.connect(name).await
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.broker.data_dir
    }

    /// The broker that was named.
    pub(crate) fn nats_url(&self) -> Option<&String> {
        self.broker.nats_url.as_ref()
    }

    /// The flags that reach the same services and broker, for commands to copy.
    pub(crate) fn flags(&self) -> Flags {
        let mut services = String::new();
        if !self.url.is_empty() {
            services += &format!(" --url {}", self.url.join(","));
        }
        if let Some(file) = &self.token_file {
            services += &format!(" --token-file {}", file.display());
        }
        let data_dir = match self.broker.data_dir.to_str() {
            Some("data") => String::new(),
            _ => format!(" --data-dir {}", self.broker.data_dir.display()),
        };
        // Without a password that somebody has put into the address.
        let address = match self.broker.address() {
            Ok(url) => format!(" --nats-url {}", Access::from(&url).shown()),
            Err(_) => " --nats-url URL".to_owned(),
        };
        let access = self.broker.access.flags();
        // Who looks may not change anything.
        let broker = match access.is_empty() {
            true => address.clone(),
            false => format!("{address} --nats-user provision --nats-password-file FILE"),
        };
        let given = self.broker.nats_url.is_some();
        let also_broker = match given {
            true => format!("{address}{access}"),
            false => access,
        };
        Flags {
            both: format!("{services}{also_broker}{data_dir}"),
            service: format!("{address}{data_dir}"),
            services: services + &data_dir,
            broker,
        }
    }
}

/// Flags for commands to copy, each with a space before it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// For commands that ask services.
    pub(crate) services: String,
    /// For commands that change something on the broker.
    pub(crate) broker: String,
    /// For commands that ask both.
    pub(crate) both: String,
    /// For a service that is started by itself.
    pub(crate) service: String,
}
