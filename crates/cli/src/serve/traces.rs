//! Traces: the spans of requests and jobs, sent to a collector over OTLP. Whatever becomes of them, the service goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::FilterFn;

use crate::config::TraceConfig;
use crate::error::chain;
use oslo::log::AnyLayer;

/// The spans that are sent. Others are details of packages that we use.
const SENT: [&str; 2] = ["request", "job"];
/// Spans that wait for the collector. Beyond it new ones are lost, so that a collector that is away costs no memory.
const WAITING_MAX: usize = 2048;
/// So many go in one message.
const BATCH_MAX: usize = 512;
const BATCH_INTERVAL: Duration = Duration::from_secs(5);
/// For one message.
const SENDING_TIME: Duration = Duration::from_secs(5);
/// For what still waits when the service ends; it comes on top of the time for parking jobs, and together they are less
/// than the supervisor waits.
const FLUSHING_TIME: Duration = Duration::from_secs(2);

/// Sends in a thread of its own.
#[derive(Debug)]
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// Outside a runtime, because the client blocks, and after a provider of TLS was installed.
    pub(super) fn start(config: &TraceConfig, host: &str) -> Result<Self, ExporterBuildError> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", config.endpoint.trim_end_matches('/')))
            .with_timeout(SENDING_TIME)
            .build()?;
        let exporter = Watched { exporter, endpoint: config.endpoint.clone(), in_trouble: AtomicBool::new(false) };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(BATCH_INTERVAL)
            .build();
        let resource = Resource::builder()
            .with_service_name("manila-data")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", host.to_owned()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio))))
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// What hands finished spans over. Log lines stay in the log, and the log's levels mean the log alone.
    pub(super) fn layer(&self) -> AnyLayer {
        let is_sent = FilterFn::new(|meta| meta.is_span() && SENT.contains(&meta.name()));
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("manila-data"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            // Without it every callsite of every package would be asked.
            .with_filter(is_sent.with_max_level_hint(LevelFilter::INFO))
            .boxed()
    }

    /// Sends what still waits, as far as the collector takes it in time.
    pub(super) fn finish(self) {
        if let Err(error) = self.0.shutdown_with_timeout(FLUSHING_TIME) {
            tracing::warn!(error = chain(&error), "the last traces were not sent");
        }
    }
}

/// Says once that the collector takes nothing, and once that it does again. What it did not take is lost.
#[derive(Debug)]
struct Watched {
    exporter: opentelemetry_otlp::SpanExporter,
    endpoint: String,
    in_trouble: AtomicBool,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let answer = self.exporter.export(batch).await;
        let was_in_trouble = self.in_trouble.swap(answer.is_err(), Ordering::Relaxed);
        match &answer {
            Err(error) if !was_in_trouble => {
                tracing::warn!(error = chain(error), endpoint = self.endpoint, "the collector takes no traces");
            }
            Ok(()) if was_in_trouble => tracing::info!(endpoint = self.endpoint, "the collector takes traces again"),
            _ => {}
        }
        answer
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
