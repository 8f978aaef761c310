//! Figures for Prometheus, in its naming rules: `manila_data_` before, base units, `_total` on counts.

use std::fmt;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use job::{Figures, ScheduleCounts};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

const PREFIX: &str = "manila_data";

/// Upper ends in seconds. Most answers take milliseconds; `?wait=` takes up to a minute.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    /// The pattern, never the path: paths are without number.
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: String,
    route: String,
}

/// Counts of requests, kept by this room itself.
pub(crate) struct HttpMetrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
}

impl fmt::Debug for HttpMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpMetrics").finish_non_exhaustive()
    }
}

impl HttpMetrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let requests = Family::default();
        let durations: Family<RouteLabels, Histogram> = Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let version = env!("CARGO_PKG_VERSION");
        registry.register("build", "The program that runs", Info::new([("version", version)]));
        registry.register("http_requests", "Requests that were answered", requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "From the end of a request's header to the beginning of its answer",
            Unit::Seconds,
            durations.clone(),
        );
        Self { registry, requests, durations }
    }

    pub(crate) fn observe(&self, method: &Method, route: &str, status: StatusCode, elapsed: Duration) {
        // Callers invent methods; each would be a series of its own.
        let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE].contains(method);
        let method = if known { method.as_str() } else { "other" };
        let (method, route) = (method.to_owned(), route.to_owned());
        self.durations
            .get_or_create(&RouteLabels { method: method.clone(), route: route.clone() })
            .observe(elapsed.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { method, route, status: status.as_u16() }).inc();
    }

    /// All figures in the `OpenMetrics` text format.
    pub(crate) fn encode(&self, figures: Figures) -> Result<String, fmt::Error> {
        let mut service = Registry::with_prefix(PREFIX);
        service.register_collector(Box::new(ServiceFigures(figures)));
        let mut out = String::new();
        text::encode_registry(&mut out, &service)?;
        text::encode_registry(&mut out, &self.registry)?;
        text::encode_eof(&mut out)?;
        Ok(out)
    }
}

/// Lets a registry tell what the service counted itself.
#[derive(Debug)]
struct ServiceFigures(Figures);

type Labels<'a> = [(&'a str, &'a str); 1];

/// One series with its labels, or a figure without any.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn one(&mut self, name: &str, help: &str, unit: Option<&Unit>, metric: &impl EncodeMetric) -> fmt::Result {
        metric.encode(self.0.encode_descriptor(name, help, unit, metric.metric_type())?)
    }

    fn each<'l, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        series: impl Iterator<Item = (Labels<'l>, M)>,
    ) -> fmt::Result {
        let series: Vec<_> = series.collect();
        let Some((_, first)) = series.first() else { return Ok(()) };
        let mut encoder = self.0.encode_descriptor(name, help, unit, first.metric_type())?;
        series.iter().try_for_each(|(labels, metric)| metric.encode(encoder.encode_family(labels)?))
    }
}

impl Collector for ServiceFigures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (figures, mut out) = (&self.0, Out(encoder));
        let gauge = |value: u64| ConstGauge::new(value as f64);
        let states = figures.jobs_by_state.iter().map(|(state, jobs)| ([("state", state.as_str())], gauge(*jobs)));
        out.each("jobs", "Jobs that are kept, by state", None, states)?;
        out.one("queued_jobs", "Jobs that wait for a slot", None, &gauge(figures.queued_jobs))?;
        out.one("running_jobs", "Jobs that have a slot", None, &gauge(figures.running_jobs))?;
        out.one("running_jobs_max", "Slots", None, &gauge(figures.jobs_max))?;

        let rate = &ConstGauge::new(figures.bytes_per_second);
        out.one("copy_rate_bytes_per_second", "Bytes copied in a second, of all jobs that run", None, rate)?;
        let rate = &ConstGauge::new(figures.entries_per_second);
        out.one("entry_rate_per_second", "Entries done in a second, of all jobs that run", None, rate)?;

        let counts = [
            ("entries", "Entries that were done with", figures.done_entries),
            ("faults", "Entries that could not be copied or compared", figures.faults),
            ("losses", "Attributes that a destination could not hold", figures.losses),
            ("differences", "Entries that differ", figures.differences),
            ("workers_started", "Worker processes that were started", figures.workers_started),
            ("worker_restarts", "Worker processes that were lost, and replaced", figures.workers_lost),
            ("notify_failures", "Answers to jobs' ends that could not be delivered", figures.notify_failures),
        ];
        for (name, help, count) in counts {
            out.one(name, help, None, &ConstCounter::new(count))?;
        }
        let bytes = Some(&Unit::Bytes);
        out.one("copied", "Content that was copied", bytes, &ConstCounter::new(figures.copied_bytes))?;
        out.one(
            "verified",
            "Content that was read back and compared",
            bytes,
            &ConstCounter::new(figures.verified_bytes),
        )?;

        let kinds: [(&str, &str, CountOf); 3] = [
            ("schedule_firings", "Firings of schedules that made a job", |counts| counts.fired),
            ("schedule_skipped", "Firings that made none because the job before had not ended", |counts| {
                counts.skipped
            }),
            ("schedule_missed", "Firings whose time passed while no job could be made", |counts| counts.missed),
        ];
        for (name, help, count) in kinds {
            let schedules = figures.schedules.iter();
            let series =
                schedules.map(|(name, counts)| ([("schedule", name.as_str())], ConstCounter::new(count(counts))));
            out.each(name, help, None, series)?;
        }

        let movers = || figures.movers.iter();
        let files = movers().map(|(mover, counts)| ([("mover", mover.as_str())], ConstCounter::new(counts.files)));
        out.each("mover_files", "Files by the way their content travelled", None, files)?;
        let moved = movers().map(|(mover, counts)| ([("mover", mover.as_str())], ConstCounter::new(counts.bytes)));
        out.each("mover", "Content by the way it travelled", bytes, moved)
    }
}

/// One of the counts of a schedule.
type CountOf = fn(&ScheduleCounts) -> u64;

#[cfg(test)]
mod tests {
    use job::StateName;
    use job::documents::MoverCounts;

    use super::*;

    #[test]
    fn names_follow_the_rules() {
        let metrics = HttpMetrics::new();
        metrics.observe(&Method::GET, "/v1/jobs", StatusCode::OK, Duration::from_millis(3));
        metrics.observe(&Method::from_bytes(b"BREW").unwrap(), "other", StatusCode::NOT_FOUND, Duration::ZERO);
        let figures = Figures {
            jobs_by_state: vec![(StateName::Working, 2), (StateName::Failed, 1)],
            copied_bytes: 1 << 40,
            movers: [("reflink".to_owned(), MoverCounts { files: 3, bytes: 4 })].into(),
            bytes_per_second: 1.5,
            schedules: [("nightly".to_owned(), ScheduleCounts { fired: 3, skipped: 2, missed: 1 })].into(),
            ..Figures::default()
        };
        let text = metrics.encode(figures).unwrap();
        for line in [
            "manila_data_jobs{state=\"working\"} 2.0",
            "manila_data_copied_bytes_total 1099511627776",
            "manila_data_mover_bytes_total{mover=\"reflink\"} 4",
            "manila_data_mover_files_total{mover=\"reflink\"} 3",
            "manila_data_copy_rate_bytes_per_second 1.5",
            "manila_data_worker_restarts_total 0",
            "manila_data_schedule_firings_total{schedule=\"nightly\"} 3",
            "manila_data_schedule_skipped_total{schedule=\"nightly\"} 2",
            "manila_data_schedule_missed_total{schedule=\"nightly\"} 1",
            "manila_data_http_requests_total{method=\"GET\",route=\"/v1/jobs\",status=\"200\"} 1",
            "manila_data_http_requests_total{method=\"other\",route=\"other\",status=\"404\"} 1",
            "manila_data_http_request_duration_seconds_bucket{le=\"0.005\",method=\"GET\",route=\"/v1/jobs\"} 1",
            "manila_data_http_request_duration_seconds_count{method=\"GET\",route=\"/v1/jobs\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(text.contains("manila_data_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"));
        let named = text.lines().filter(|line| !line.starts_with('#')).all(|line| line.starts_with("manila_data_"));
        assert!(named, "{text}");
    }
}
