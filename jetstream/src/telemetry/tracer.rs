//! Where the spans of a service go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator as _, RandomIdGenerator, Sampler,
    SamplingDecision, ShouldSample as _, SpanData, SpanProcessor as _,
};

use super::export;
use super::traceparent::{Parent, SpanRef};

// Spans that wait to be sent, at about a kilobyte each. Beyond, they are dropped and
// counted: an order never waits for its trace.
const QUEUE: usize = 32_768;
const BATCH: usize = 512;
const EVERY: Duration = Duration::from_secs(1);
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Where traces go, and which.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// The OTLP/gRPC endpoint, like `http://127.0.0.1:4317`; none: no spans are made.
    pub otlp: Option<String>,
    /// The share of requests that begin a trace, 0 to 1, where their client has not
    /// decided it.
    pub sampling: f64,
}

/// Takes the spans of a service and has them sent, in the background. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    processor: BatchSpanProcessor,
    sampler: Sampler,
    recorded: AtomicU64,
    sent: Arc<AtomicU64>,
}

impl Tracer {
    /// A tracer of a service, inside a tokio runtime; without an endpoint it takes
    /// nothing.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the endpoint's address. One that does not
    /// answer is no error: it is logged, and orders go on.
    pub fn start(service: &'static str, options: &Options) -> Result<Self, String> {
        let Some(endpoint) = &options.otlp else {
            return Ok(Self::default());
        };
        let sent = Arc::new(AtomicU64::new(0));
        let exporter = export::Watched::new(service, endpoint, sent.clone())?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(EVERY)
            .build();
        Ok(Self(Some(Arc::new(Inner {
            processor: BatchSpanProcessor::new(exporter, config),
            sampler: Sampler::TraceIdRatioBased(options.sampling),
            recorded: AtomicU64::new(0),
            sent,
        }))))
    }

    /// Whether spans are taken.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Takes a span. Never waits: where there is no room, the span is lost.
    pub(crate) fn record(&self, span: SpanData) {
        if let Some(inner) = &self.0 {
            inner.recorded.fetch_add(1, Ordering::Relaxed);
            inner.processor.on_end(span);
        }
    }

    /// Begins something that came from outside, in the trace of who asks for it, or in a
    /// new one: the new span, and its parent; nothing when it is not sampled.
    pub(crate) fn begin(&self, traceparent: Option<&str>) -> Option<(SpanRef, Option<SpanRef>)> {
        let inner = self.0.as_ref()?;
        let span = new_span();
        match traceparent.and_then(Parent::parse) {
            Some(Parent::Sampled(parent)) => Some((parent.beside(span), Some(parent))),
            Some(Parent::Unsampled) => None,
            None => {
                let new = RandomIdGenerator::default().new_trace_id();
                let trace = u128::from_be_bytes(new.to_bytes());
                let sampled = inner.samples(new);
                sampled.then_some((SpanRef { trace, span }, None))
            }
        }
    }

    /// A new trace, whatever is sampled.
    pub(crate) fn new_trace() -> SpanRef {
        let trace = RandomIdGenerator::default().new_trace_id();
        SpanRef {
            trace: u128::from_be_bytes(trace.to_bytes()),
            span: new_span(),
        }
    }

    /// Sends what is left, for a few seconds at most.
    pub(crate) async fn stop(&self) {
        let Some(inner) = self.0.clone() else { return };
        // It blocks on the exporter.
        let stopping = tokio::task::spawn_blocking(move || {
            let ended = inner.processor.shutdown_with_timeout(LAST_WORDS);
            let (recorded, sent) = (&inner.recorded, &inner.sent);
            let lost = recorded.load(Ordering::Relaxed) - sent.load(Ordering::Relaxed);
            match (ended, lost) {
                (Ok(()), 0) => {}
                (Ok(()), lost) => tracing::warn!(lost, "spans were lost; no order was"),
                (Err(error), lost) => {
                    tracing::warn!(lost, %error, "the last spans could not be sent; no order was lost");
                }
            }
        });
        let _ = tokio::time::timeout(LAST_WORDS * 2, stopping).await;
    }
}

impl Inner {
    fn samples(&self, trace: TraceId) -> bool {
        let kind = &SpanKind::Server;
        let sampled = self.sampler.should_sample(None, trace, "", kind, &[], &[]);
        sampled.decision == SamplingDecision::RecordAndSample
    }
}

fn new_span() -> u64 {
    u64::from_be_bytes(RandomIdGenerator::default().new_span_id().to_bytes())
}

/// What made the spans.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("ensemble")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build()
}
