//! Logs and traces: the only place that names OpenTelemetry.
//!
//! A trace follows an order over every hop: the context in which an event was decided
//! is kept with its outbox row, travels as a header, and is the parent of what the
//! consumers do.

use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Where logs and traces go.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The `service.name` of the traces.
    pub name: String,
    /// The OTLP/gRPC endpoint, like `http://127.0.0.1:4317`; none: no traces are made.
    pub otlp: Option<String>,
    /// The share of orders that is traced, 0 to 1.
    pub sampling: f64,
    /// Logs as JSON lines instead of text.
    pub json: bool,
}

/// Ends the traces when the process ends.
#[derive(Debug, Default)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Starts logging, and tracing where an endpoint is given. `RUST_LOG` chooses levels.
///
/// # Errors
/// When the endpoint is not a valid address, or logging was started before.
pub fn start(options: &Options) -> Result<Telemetry, String> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new("info,async_nats=warn,sqlx=warn,sea_orm_migration=warn")
    });
    let logs = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // Colours are for people, not for files.
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false);
    let logs = match options.json {
        true => logs.json().boxed(),
        false => logs.boxed(),
    };
    let provider = match &options.otlp {
        Some(endpoint) => Some(provider(options, endpoint)?),
        None => None,
    };
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("ensemble"))
            .with_filter(
                // Spans of our own, not those of the HTTP and gRPC libraries underneath.
                tracing_subscriber::filter::filter_fn(|meta| {
                    meta.target().starts_with("jetstream")
                }),
            )
    });
    tracing_subscriber::registry()
        .with(traces)
        .with(logs.with_filter(filter))
        .try_init()
        .map_err(|error| error.to_string())?;
    Ok(Telemetry { provider })
}

fn provider(options: &Options, endpoint: &str) -> Result<SdkTracerProvider, String> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_secs(3))
        .build()
        .map_err(|error| format!("--otlp {endpoint} cannot be used: {error}"))?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            options.sampling,
        ))))
        .with_resource(
            Resource::builder()
                .with_service_name(options.name.clone())
                .build(),
        )
        .build())
}

impl Telemetry {
    /// Sends what is left, for a few seconds at most.
    pub async fn stop(self) {
        let Some(provider) = self.provider else {
            return;
        };
        // It blocks on the exporter.
        let stopped = tokio::task::spawn_blocking(move || provider.shutdown());
        if let Ok(Ok(Err(error))) = tokio::time::timeout(Duration::from_secs(5), stopped).await {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

/// The trace context of the current span, as a `traceparent`; nothing when not traced.
#[must_use]
pub fn current() -> Option<String> {
    traceparent(&Span::current())
}

/// The trace context of a span, as a `traceparent`; nothing when it is not sampled. Then
/// nobody will ever look for it, and what follows carries no context and makes no spans.
pub(crate) fn traceparent(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    (context.is_valid() && context.is_sampled()).then(|| {
        let flags = context.trace_flags().to_u8();
        format!(
            "00-{}-{}-{flags:02x}",
            context.trace_id(),
            context.span_id()
        )
    })
}

/// The trace id of a `traceparent`.
#[must_use]
pub fn trace_id(traceparent: &str) -> Option<&str> {
    traceparent.split('-').nth(1).filter(|id| id.len() == 32)
}

/// Makes the sender's span the parent of a span that was not entered yet.
pub(crate) fn follow(span: &Span, traceparent: &str) {
    if let Some(parent) = parse(traceparent) {
        let context = opentelemetry::Context::new().with_remote_span_context(parent);
        if span.set_parent(context).is_err() {
            tracing::debug!("the span had begun already");
        }
    }
}

fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let (Some("00"), Some(trace), Some(span), Some(flags), None) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return None;
    };
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::NONE,
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_traceparent_is_followed() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(parse(good).is_some());
        assert_eq!(trace_id(good), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        for bad in [
            "",
            "00-0-0-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
