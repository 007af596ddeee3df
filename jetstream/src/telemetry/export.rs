//! Sending spans by OTLP.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};

use crate::clock;

const PATIENCE: Duration = Duration::from_secs(3);
// An endpoint that is away is complained about now and then, not each second.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// An exporter that says in the log when spans cannot be sent, and when they can again.
#[derive(Debug)]
pub(super) struct Watched {
    exporter: SpanExporter,
    endpoint: String,
    sent: Arc<AtomicU64>,
    away: Mutex<Option<Away>>,
}

/// An endpoint that does not take spans.
#[derive(Debug)]
struct Away {
    complained: Instant,
    lost: usize,
}

impl Watched {
    pub(super) fn new(
        service: &'static str,
        endpoint: &str,
        sent: Arc<AtomicU64>,
    ) -> Result<Self, String> {
        Ok(Self {
            exporter: exporter(service, endpoint)?,
            endpoint: endpoint.to_owned(),
            sent,
            away: Mutex::default(),
        })
    }

    fn failed(&self, count: usize, error: &dyn std::fmt::Display) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = away.as_ref().map_or(0, |away| away.lost) + count;
        let complained = match away.as_ref() {
            Some(away) if away.complained.elapsed() < COMPLAIN_EVERY => away.complained,
            _ => {
                let endpoint = &self.endpoint;
                tracing::warn!(endpoint, lost, %error, "spans cannot be sent; orders go on without them");
                Instant::now()
            }
        };
        *away = Some(Away { complained, lost });
    }

    fn succeeded(&self, count: usize) {
        self.sent.fetch_add(count as u64, Ordering::Relaxed);
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(away) = away.take() {
            let endpoint = &self.endpoint;
            tracing::info!(endpoint, lost = away.lost, "spans can be sent again");
        }
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.exporter.export(batch).await;
        match &result {
            Ok(()) => self.succeeded(count),
            Err(error) => self.failed(count, error),
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }
}

/// An exporter for the spans of a service.
pub(super) fn exporter(service: &'static str, endpoint: &str) -> Result<SpanExporter, String> {
    let wrong = |why: &str| {
        format!("`{endpoint}` is no OTLP/gRPC endpoint: {why}; it looks like http://127.0.0.1:4317")
    };
    let url = url::Url::parse(endpoint).map_err(|error| wrong(&error.to_string()))?;
    match (url.scheme(), url.host_str()) {
        ("http", Some(_)) => {}
        ("https", _) => {
            let why = "TLS is not built in (let a collector beside this process do it)";
            return Err(wrong(why));
        }
        _ => return Err(wrong("it must begin with http://")),
    }
    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(PATIENCE)
        .build()
        .map_err(|error| wrong(&error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.namespace", "ensemble"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new(
            "service.instance.id",
            clock::new_id().to_string(),
        ))
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_endpoint_that_is_none_is_named_with_an_example() {
        for wrong in ["", "collector:4317", "https://collector:4317", "grpc://x"] {
            let error = exporter("order", wrong).expect_err(wrong);
            assert!(
                error.contains("it looks like http://127.0.0.1:4317"),
                "{error}"
            );
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
        assert!(exporter("order", "http://127.0.0.1:4317").is_ok());
    }
}
