//! How a command asks the running services: over HTTP, as an operator.

use std::path::{Path, PathBuf};
use std::time::Duration;

use events::UserId;
use jetstream::http::auth::DevelopmentKey;
use reqwest::{Client, Method};
use serde_json::Value;

use crate::up::Running;

/// Which services are asked, and as whom.
#[derive(Debug, clap::Args)]
pub(crate) struct OperatorArgs {
    /// HTTP address of the services; several, when each runs by itself. Without it, that of
    /// the system that runs on --data-dir
    #[arg(long, env = "ENSEMBLE_URL", value_delimiter = ',')]
    url: Vec<String>,
    /// File with an operator's token; without it, one is signed with the development key
    #[arg(long, env = "ENSEMBLE_TOKEN_FILE", value_name = "PATH")]
    token_file: Option<PathBuf>,
    /// The data directory of a running system
    #[arg(long, env = "ENSEMBLE_DATA_DIR", default_value = "data")]
    data_dir: PathBuf,
}

/// Asks services as an operator.
pub(crate) struct Operator {
    client: Client,
    pub(crate) urls: Vec<String>,
    token: String,
}

impl OperatorArgs {
    pub(crate) fn operator(&self) -> Result<Operator, String> {
        let patience = Duration::from_secs(30);
        operator(
            &self.url,
            self.token_file.as_deref(),
            &self.data_dir,
            patience,
        )
    }
}

/// An operator who asks these services, or those of the system that runs on the directory.
pub(crate) fn operator(
    urls: &[String],
    token_file: Option<&Path>,
    data_dir: &Path,
    patience: Duration,
) -> Result<Operator, String> {
    let urls = match urls {
        [] => vec![Running::read(data_dir)?.http_url],
        urls => urls
            .iter()
            .map(|url| url.trim_end_matches('/').to_owned())
            .collect(),
    };
    let token = match token_file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?
            .trim()
            .to_owned(),
        None => {
            // The audit says who it was.
            let name = std::env::var("USER").unwrap_or_else(|_| "operator".to_owned());
            let user = UserId::new(name).or_else(|_| UserId::new("operator"));
            let user = user.map_err(|error| error.to_string())?;
            DevelopmentKey::there(data_dir)?.token(&user, true, Duration::from_secs(600))?
        }
    };
    let client = Client::builder().timeout(patience).build();
    Ok(Operator {
        client: client.map_err(|error| error.to_string())?,
        urls,
        token,
    })
}

/// An answer that is an error, in the words of the service.
pub(crate) struct Refused {
    pub(crate) not_found: bool,
    pub(crate) text: String,
}

fn silent(url: &str) -> String {
    format!("{url} does not answer")
}

impl Operator {
    pub(crate) async fn get(&self, url: &str, path: &str) -> Result<Value, Refused> {
        self.send(Method::GET, url, path, None).await
    }

    /// The services that answer at an address, ready or not. Nobody needs a token for that.
    pub(crate) async fn who_is_at(&self, url: &str) -> Result<Vec<String>, String> {
        let request = self.client.get(format!("{url}/health/ready"));
        let answer = request.send().await.map_err(|_| silent(url))?;
        let answer: Value = answer.json().await.map_err(|_| silent(url))?;
        let services = answer["services"].as_object();
        let names = services.map(|services| services.keys().cloned().collect());
        names.ok_or_else(|| format!("what answers at {url} is no service of this system"))
    }

    pub(crate) async fn post(&self, url: &str, path: &str, body: &Value) -> Result<Value, Refused> {
        self.send(Method::POST, url, path, Some(body)).await
    }

    /// Asks one service after another until one knows what is asked for.
    pub(crate) async fn post_to_owner(&self, path: &str, body: &Value) -> Result<Value, String> {
        let mut last = String::new();
        for url in &self.urls {
            match self.post(url, path, body).await {
                Ok(answer) => return Ok(answer),
                Err(refused) if refused.not_found => last = refused.text,
                Err(refused) => return Err(refused.text),
            }
        }
        Err(last)
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Refused> {
        let mut request = self.client.request(method, format!("{url}{path}"));
        request = request.bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = |error: reqwest::Error| Refused {
            not_found: false,
            text: format!("{url} does not answer: {error}; is the system running?"),
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let answer: Value = response.json().await.unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        let detail = answer["detail"].as_str().unwrap_or("no reason was given");
        let reason = match answer["reason"].as_str() {
            Some(reason) => format!(" ({reason})"),
            None => String::new(),
        };
        Err(Refused {
            not_found: status.as_u16() == 404,
            text: format!("{status}: {detail}{reason}"),
        })
    }
}
