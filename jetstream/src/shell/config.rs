//! What can be configured from outside: flags and environment variables.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderValue;
use events::Flow;
use url::Url;

use crate::database::Location;
use crate::http::auth::{Authenticator, DevelopmentKey};
use crate::http::limits::{Limits, Rate};
use crate::shell::settings::Settings;
use crate::stream::access::{AccessArgs, Secret};
use crate::telemetry;

/// Flags that every process with services in it has; each has an environment variable.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// File with settings, in TOML: a key is the name of a flag without its dashes. Flags and
    /// environment variables go before it
    #[arg(long, env = "ENSEMBLE_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Address and port of the HTTP API
    #[arg(long, env = "ENSEMBLE_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where databases, the development key and the broker's store are kept
    #[arg(long, env = "ENSEMBLE_DATA_DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// PostgreSQL server, like postgres://user@host/shop: each service uses the database
    /// shop_<service>, which is created. With {service} in it, the URL is used as it is.
    /// Without this flag: SQLite files in the data directory
    #[arg(long, env = "ENSEMBLE_DATABASE_URL", hide_env_values = true, value_parser = database_url)]
    pub database_url: Option<DatabaseUrl>,
    /// File with the password of the user in --database-url
    #[arg(
        long,
        env = "ENSEMBLE_DATABASE_PASSWORD_FILE",
        value_name = "PATH",
        value_parser = Secret::read,
        hide_env_values = true
    )]
    pub database_password_file: Option<Secret>,
    #[command(flatten)]
    #[allow(missing_docs)] // its own fields have them
    pub access: AccessArgs,
    /// The flows that orders may ask for; the first is the default
    #[arg(
        long,
        env = "ENSEMBLE_FLOWS",
        value_delimiter = ',',
        default_value = "parallel,sequential",
        value_parser = flow
    )]
    pub flows: Vec<Flow>,
    /// Seconds until an order that is not decided is canceled
    #[arg(long, env = "ENSEMBLE_ORDER_DEADLINE", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub order_deadline: u64,
    /// Seconds after which compensation is asked for again, each time; then it is given up
    #[arg(
        long,
        env = "ENSEMBLE_COMPENSATION_DEADLINES",
        value_delimiter = ',',
        default_value = "5,15,45",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub compensation_deadlines: Vec<u64>,
    /// Seconds for which its user can cancel an order that is confirmed; 0: not at all
    #[arg(long, env = "ENSEMBLE_CANCEL_WINDOW", default_value_t = 600, value_parser = clap::value_parser!(u64).range(0..=31_536_000))]
    pub cancel_window: u64,
    /// Open orders that a user may have at once
    #[arg(long, env = "ENSEMBLE_OPEN_ORDERS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub open_orders: u32,
    /// Orders, and coupons, that a user may ask for per second in the long run; 0: any number
    #[arg(long, env = "ENSEMBLE_RATE_LIMIT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub rate_limit: u32,
    /// Orders, and coupons, that a user may ask for at once
    #[arg(long, env = "ENSEMBLE_RATE_BURST", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate_burst: u32,
    /// Requests that may be in flight in this process; beyond, clients are told to come back
    #[arg(long, env = "ENSEMBLE_REQUESTS_IN_FLIGHT", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub requests_in_flight: u32,
    /// Orders that a user may wait for, or follow, at once in this process
    #[arg(long, env = "ENSEMBLE_WAITS_PER_USER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub waits_per_user: u32,
    /// Seconds after which a request is given up
    #[arg(long, env = "ENSEMBLE_REQUEST_TIMEOUT", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub request_timeout: u64,
    /// Days for which a service remembers what it has said and heard: more than the stream
    /// keeps events (14), and than a backup is old when it is restored
    #[arg(long, env = "ENSEMBLE_KEEP_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(15..=36_500))]
    pub keep_days: u64,
    /// Accept tokens that are signed with a key of this JWKS (RFC 7517), an https:// URL;
    /// without this and --jwt-key, the development key in the data directory signs them
    #[arg(long, env = "ENSEMBLE_JWKS_URL", value_name = "URL", value_parser = jwks_url,
          conflicts_with = "jwt_key", requires = "jwt_issuer", requires = "jwt_audience")]
    pub jwks_url: Option<Url>,
    /// Accept tokens that are signed with the private half of the key in this PEM file
    #[arg(
        long,
        env = "ENSEMBLE_JWT_KEY",
        value_name = "PATH",
        requires = "jwt_issuer",
        requires = "jwt_audience"
    )]
    pub jwt_key: Option<PathBuf>,
    /// The `iss` that tokens must have, with --jwks-url or --jwt-key
    #[arg(long, env = "ENSEMBLE_JWT_ISSUER", value_name = "ISSUER")]
    pub jwt_issuer: Option<String>,
    /// The `aud` that tokens must have, with --jwks-url or --jwt-key
    #[arg(long, env = "ENSEMBLE_JWT_AUDIENCE", value_name = "AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// Origins whose pages may use the API from a browser, like https://shop.example
    #[arg(long, env = "ENSEMBLE_CORS_ORIGIN", value_name = "URL", value_delimiter = ',', value_parser = origin)]
    pub cors_origin: Vec<HeaderValue>,
    /// Send traces to this OTLP/gRPC endpoint, like http://127.0.0.1:4317
    #[arg(long, env = "ENSEMBLE_OTLP", value_name = "URL")]
    pub otlp: Option<String>,
    /// Share of orders that is traced, 0 to 1
    #[arg(long, env = "ENSEMBLE_SAMPLING", default_value_t = 1.0, value_parser = share)]
    pub sampling: f64,
    /// Address of Jaeger's user interface, for links to traces
    #[arg(long, env = "ENSEMBLE_JAEGER_URL", value_name = "URL")]
    pub jaeger_url: Option<String>,
    /// Logs as JSON lines
    #[arg(long, env = "ENSEMBLE_LOG_JSON")]
    pub log_json: bool,
}

impl ServeArgs {
    /// What the services are configured with.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            flows: self.flows.clone(),
            order_deadline: Duration::from_secs(self.order_deadline),
            compensation_deadlines: self
                .compensation_deadlines
                .iter()
                .map(|seconds| Duration::from_secs(*seconds))
                .collect(),
            cancel_window: Duration::from_secs(self.cancel_window),
            open_orders_per_user: self.open_orders,
            keep: Duration::from_secs(self.keep_days * 24 * 60 * 60),
            jaeger_url: self.jaeger_url.clone(),
            limits: self.limits(),
            cors_origins: self.cors_origin.clone(),
            ..Settings::default()
        }
    }

    /// Whether the development key of the data directory signs the tokens.
    #[must_use]
    pub fn takes_development_tokens(&self) -> bool {
        self.jwks_url.is_none() && self.jwt_key.is_none()
    }

    /// What checks tokens.
    ///
    /// # Errors
    /// What is wrong with the key that is configured, and what to do.
    pub async fn authenticator(&self) -> Result<Authenticator, String> {
        let issuer = self.jwt_issuer.as_deref().unwrap_or_default();
        let audience = self.jwt_audience.as_deref().unwrap_or_default();
        match (&self.jwks_url, &self.jwt_key) {
            (Some(url), _) => Authenticator::of_jwks(url, issuer, audience).await,
            (None, Some(path)) => Authenticator::of_pem(path, issuer, audience),
            (None, None) => Ok(DevelopmentKey::of(&self.data_dir)?.authenticator()),
        }
    }

    fn limits(&self) -> Limits {
        let per_second = NonZeroU32::new(self.rate_limit);
        let burst = NonZeroU32::new(self.rate_burst);
        Limits {
            requests_in_flight: self.requests_in_flight as usize,
            request_timeout: Duration::from_secs(self.request_timeout),
            waits_per_user: self.waits_per_user as usize,
            rate: per_second
                .zip(burst)
                .map(|(per_second, burst)| Rate { per_second, burst }),
        }
    }

    /// Where the database of a service is.
    #[must_use]
    pub fn location(&self, service: &str) -> Location {
        match &self.database_url {
            Some(DatabaseUrl(url)) => {
                let password = self.database_password_file.as_ref();
                Location::Postgres(with_password(database_of(url, service), password))
            }
            None => Location::Sqlite(self.data_dir.join(format!("{service}.sqlite"))),
        }
    }

    /// Whether the databases are the deployment's own business: then none is created.
    #[must_use]
    pub fn databases_are_given(&self) -> bool {
        self.database_url
            .as_ref()
            .is_some_and(|DatabaseUrl(url)| url.contains("{service}"))
    }

    /// Where traces go, and which.
    #[must_use]
    pub fn traces(&self) -> telemetry::Options {
        telemetry::Options {
            otlp: self.otlp.clone(),
            sampling: self.sampling,
        }
    }

    /// How the log is written.
    #[must_use]
    pub fn log_format(&self) -> telemetry::Format {
        match self.log_json {
            true => telemetry::Format::Json,
            false => telemetry::Format::Text,
        }
    }
}

/// Where the PostgreSQL databases are. It may hold a password, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseUrl(…)")
    }
}

fn with_password(address: String, password: Option<&Secret>) -> String {
    let Some(password) = password else {
        return address;
    };
    match url::Url::parse(&address) {
        Ok(mut url) => match url.set_password(Some(password.expose())) {
            Ok(()) => url.to_string(),
            Err(()) => address,
        },
        Err(_) => address,
    }
}

/// The URL of a service's database.
fn database_of(url: &str, service: &str) -> String {
    if url.contains("{service}") {
        return url.replace("{service}", service);
    }
    let (address, options) = match url.split_once('?') {
        Some((address, options)) => (address, format!("?{options}")),
        None => (url, String::new()),
    };
    let (server, name) = match address
        .strip_prefix("postgres://")
        .map(|rest| rest.split_once('/'))
    {
        Some(Some((host, name))) if !name.is_empty() => (format!("postgres://{host}"), name),
        _ => (address.trim_end_matches('/').to_owned(), "ensemble"),
    };
    format!("{server}/{name}_{service}{options}")
}

fn database_url(text: &str) -> Result<DatabaseUrl, String> {
    let address = text.replacen("postgresql://", "postgres://", 1);
    if !address.starts_with("postgres://") {
        return Err("must begin with postgres://".to_owned());
    }
    // As it will be used, so that what cannot be read is said at the start.
    let url = url::Url::parse(&database_of(&address, "service"))
        .map_err(|error| format!("is not an address: {error}"))?;
    match url.host_str() {
        Some(host) if !host.is_empty() => Ok(DatabaseUrl(address)),
        _ => Err("names no host".to_owned()),
    }
}

/// Who can change what is read there decides who is let in.
fn jwks_url(text: &str) -> Result<Url, String> {
    let wrong = "must be an https:// URL, or http:// on this machine";
    let url = Url::parse(text).map_err(|_| wrong)?;
    let here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if here => Ok(url),
        _ => Err(wrong.to_owned()),
    }
}

/// An origin as browsers send it (RFC 6454): scheme, host and port, and nothing else.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let wrong = || "must be an origin, like https://shop.example or http://localhost:3000";
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    let origin = url.origin();
    match origin.is_tuple() && origin.ascii_serialization() == text.trim_end_matches('/') {
        true => {
            HeaderValue::from_str(&origin.ascii_serialization()).map_err(|_| wrong().to_owned())
        }
        false => Err(wrong().to_owned()),
    }
}

fn flow(text: &str) -> Result<Flow, String> {
    Flow::named(text).map_err(|_| "must be parallel or sequential".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a number from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_read_over_a_line_that_others_can_change() {
        for (url, fine) in [
            ("https://id.example/jwks.json", true),
            ("http://127.0.0.1:8000/jwks", true),
            ("http://localhost/jwks", true),
            ("http://[::1]/jwks", true),
            ("http://id.example/jwks.json", false),
            ("http://localhost.example/jwks", false),
            ("file:///jwks.json", false),
            ("jwks.json", false),
        ] {
            assert_eq!(jwks_url(url).is_ok(), fine, "{url}");
        }
    }

    #[test]
    fn an_origin_has_no_path() {
        let shop = origin("https://shop.example");
        assert_eq!(shop.expect("an origin"), "https://shop.example");
        for wrong in ["*", "shop.example", "https://shop.example/path", "data:x"] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_from_a_file_is_part_of_the_address_and_never_shown() {
        let secret = std::env::temp_dir().join(crate::clock::new_id().to_string());
        std::fs::write(&secret, "p/w#1\n").expect("written");
        let password = Secret::read(&secret.display().to_string()).expect("a secret");
        std::fs::remove_file(&secret).expect("removed");
        let url = with_password("postgres://u@h/d".to_owned(), Some(&password));
        assert_eq!(url, "postgres://u:p%2Fw%231@h/d");
        let url = database_url("postgres://u:hunter2@h/d").expect("an address");
        assert!(!format!("{url:?}").contains("hunter2"));
        for wrong in ["mysql://h/d", "postgres://", "postgres://h:port/d"] {
            assert!(database_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_service_has_a_database_of_its_own() {
        for (url, expected) in [
            ("postgres://u@h:5/shop", "postgres://u@h:5/shop_stock"),
            ("postgres://u@h", "postgres://u@h/ensemble_stock"),
            ("postgres://u@h/", "postgres://u@h/ensemble_stock"),
            (
                "postgres://u@h/a?sslmode=require",
                "postgres://u@h/a_stock?sslmode=require",
            ),
            (
                "postgres://{service}@h/{service}",
                "postgres://stock@h/stock",
            ),
        ] {
            assert_eq!(database_of(url, "stock"), expected);
        }
    }
}
