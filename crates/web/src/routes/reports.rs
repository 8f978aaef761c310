//! What passes left behind: summary, entries, faults, manifest. Files of any size, so they are streamed.
#![expect(unused_qualifications, reason = "the description's macro writes full paths")]

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use job::JobId;
use job::documents::FaultEntry;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use utoipa::IntoParams;

use crate::app::App;
use crate::bodies::ReportBody;
use crate::extract::{Asked, Id};
use crate::problem::{Kind, Problem};

const SUMMARY: &str = "summary.json";
const ENTRIES: &str = "entries.jsonl.zst";
const FAULTS: &str = "faults.jsonl";
const MANIFEST: &str = "manifest.zst";

const ZSTD: &str = "application/zstd";
const LINES: &str = "application/x-ndjson";
const TEXT: &str = "text/plain";

/// What travels at once. Larger ones save nothing, and each download holds a few.
const CHUNK_BYTES: usize = 64 << 10;
const CHUNKS_AHEAD: usize = 4;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PassQuery {
    /// Number of the pass, from 1; the last one whose report is kept where none is given.
    #[param(minimum = 1, nullable = false)]
    pass: Option<u32>,
}

/// Read what a pass did
#[utoipa::path(
    get,
    operation_id = "show_report",
    path = "/v1/jobs/{id}/report",
    tag = "reports",
    params(("id" = JobId, Path, description = "The job"), PassQuery),
    responses((status = 200, description = "Its summary", body = ReportBody))
)]
pub(super) async fn summary(
    State(app): State<App>,
    Id(id): Id,
    Asked(query): Asked<PassQuery>,
) -> Result<Response, Problem> {
    let report = Report::find(&app, id, query.pass).await?;
    let bytes = tokio::fs::read(report.path(SUMMARY)).await.map_err(|error| report.missing(SUMMARY, &error))?;
    let body: ReportBody = serde_json::from_slice(&bytes).map_err(|error| {
        Problem::internal_text(format!("cannot understand `{}`: {error}", report.path(SUMMARY).display()))
    })?;
    Ok(Answer(body.without_secrets()).into_response())
}

/// Read what became of each entry
///
/// As it is kept, or decompressed where `Accept` prefers `application/x-ndjson`: one JSON object on each line.
#[utoipa::path(
    get,
    operation_id = "download_entries",
    path = "/v1/jobs/{id}/entries",
    tag = "reports",
    params(("id" = JobId, Path, description = "The job"), PassQuery),
    responses((status = 200, description = "Every entry of the report", content(
        (String = "application/zstd"), (String = "application/x-ndjson")
    )))
)]
pub(super) async fn entries(
    State(app): State<App>,
    Id(id): Id,
    headers: HeaderMap,
    Asked(query): Asked<PassQuery>,
) -> Result<Response, Problem> {
    kept_file(&app, id, query.pass, ENTRIES, negotiate(&headers, [ZSTD, LINES])?).await
}

/// Read the checksums of everything that was copied
///
/// As it is kept, or decompressed where `Accept` prefers `text/plain`.
#[utoipa::path(
    get,
    operation_id = "download_manifest",
    path = "/v1/jobs/{id}/manifest",
    tag = "reports",
    params(("id" = JobId, Path, description = "The job"), PassQuery),
    responses((status = 200, description = "The manifest", content(
        (String = "application/zstd"), (String = "text/plain")
    )))
)]
pub(super) async fn manifest(
    State(app): State<App>,
    Id(id): Id,
    headers: HeaderMap,
    Asked(query): Asked<PassQuery>,
) -> Result<Response, Problem> {
    kept_file(&app, id, query.pass, MANIFEST, negotiate(&headers, [ZSTD, TEXT])?).await
}

/// Read which entries failed
///
/// All of them, one JSON object on each line.
#[utoipa::path(
    get,
    operation_id = "download_faults",
    path = "/v1/jobs/{id}/faults",
    tag = "reports",
    params(("id" = JobId, Path, description = "The job"), PassQuery),
    responses((status = 200, description = "Entries that could not be copied, or that differ", body = FaultEntry,
        content_type = "application/x-ndjson"))
)]
pub(super) async fn faults(
    State(app): State<App>,
    Id(id): Id,
    headers: HeaderMap,
    Asked(query): Asked<PassQuery>,
) -> Result<Response, Problem> {
    kept_file(&app, id, query.pass, FAULTS, negotiate(&headers, [LINES])?).await
}

/// The report of one pass.
struct Report {
    job: JobId,
    pass: u32,
    dir: PathBuf,
}

impl Report {
    async fn find(app: &App, job: JobId, pass: Option<u32>) -> Result<Self, Problem> {
        let mut reports = app.service().reports(job).await?;
        let found = match pass {
            Some(pass) => reports.remove_entry(&pass),
            None => reports.pop_last(),
        };
        let none = || match pass {
            Some(pass) => format!("no report of pass {pass} of this job is kept"),
            None => "no report of this job is kept: none of its passes has ended, or it was too old".into(),
        };
        found.map(|(pass, dir)| Self { job, pass, dir }).ok_or_else(|| Problem::new(Kind::NoSuchReport, none()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A report may also be removed while it is being asked for.
    fn missing(&self, name: &str, error: &io::Error) -> Problem {
        if error.kind() == io::ErrorKind::NotFound {
            return Problem::new(Kind::NoSuchReport, format!("the report of pass {} has no `{name}`", self.pass));
        }
        Problem::internal_text(format!("cannot read `{}`: {error}", self.path(name).display()))
    }
}

/// The first of `offered` that `Accept` names with the highest weight.
fn negotiate<const N: usize>(headers: &HeaderMap, offered: [&'static str; N]) -> Result<&'static str, Problem> {
    let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accept = accept.join(",");
    if accept.trim().is_empty() {
        return Ok(offered[0]);
    }
    let weight_of = |media_type: &str| {
        let (group, _) = media_type.split_once('/').expect("our own media types have two parts");
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let range = parts.next()?.to_ascii_lowercase();
            // The most specific range counts.
            let specific = match range.as_str() {
                "*/*" => 0,
                range if range == media_type => 2,
                range if range.strip_suffix("/*") == Some(group) => 1,
                _ => return None,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            Some((specific, weight))
        });
        ranges.max_by_key(|(specific, _)| *specific).map_or(0.0, |(_, weight)| weight)
    };
    let mut best = (0.0, None);
    for media_type in offered {
        let weight = weight_of(media_type);
        if weight > best.0 {
            best = (weight, Some(media_type));
        }
    }
    best.1.ok_or_else(|| Problem::new(Kind::NotAcceptable, format!("this can be had as {}", offered.join(" and "))))
}

fn place(app: &App) -> Result<OwnedSemaphorePermit, Problem> {
    let busy = |_| Problem::new(Kind::TooManyStreams, "all places for downloads are taken");
    app.downloads().try_acquire_owned().map_err(busy)
}

/// A file of a report as it is, or its content where it is compressed and `media_type` is another.
async fn kept_file(
    app: &App,
    id: JobId,
    pass: Option<u32>,
    name: &str,
    media_type: &'static str,
) -> Result<Response, Problem> {
    let place = place(app)?;
    let report = Report::find(app, id, pass).await?;
    let file = File::open(report.path(name)).map_err(|error| report.missing(name, &error))?;
    let (shown, is_compressed) = match name.strip_suffix(".zst") {
        Some(content) if media_type != ZSTD => (content, true),
        _ => (name, false),
    };
    let disposition = format!("attachment; filename=\"{}-pass-{}-{shown}\"", report.job, report.pass);
    let disposition = HeaderValue::from_str(&disposition).expect("ids and our own names are plain ASCII");
    let body = from_thread(place, move |send| {
        if is_compressed { send_all(zstd::Decoder::new(file)?, send) } else { send_all(file, send) }
    });
    let headers =
        [(header::CONTENT_TYPE, HeaderValue::from_static(media_type)), (header::CONTENT_DISPOSITION, disposition)];
    Ok((headers, body).into_response())
}

type Chunk = io::Result<Bytes>;

/// A body that a thread reads and decompresses, a few chunks ahead of the caller. A failure in the middle breaks the
/// answer off, so that nobody takes a part for the whole.
fn from_thread(
    place: OwnedSemaphorePermit,
    read: impl FnOnce(&mpsc::Sender<Chunk>) -> io::Result<()> + Send + 'static,
) -> Body {
    let (send, receive) = mpsc::channel(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read(&send) {
            tracing::error!(%error, "a report cannot be read to its end");
            // The caller may be gone.
            let _ = send.blocking_send(Err(error));
        }
        drop(place);
    });
    let chunks = stream::unfold(receive, |mut receive| async { Some((receive.recv().await?, receive)) });
    Body::from_stream(chunks)
}

/// Returns early, and without a failure, when nobody listens any more.
fn send_all(mut reader: impl Read, send: &mpsc::Sender<Chunk>) -> io::Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() || send.blocking_send(Ok(chunk.into())).is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_representation_is_chosen() {
        let check = |accept: Option<&str>, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.extend(accept.map(|text| (header::ACCEPT, HeaderValue::from_str(text).unwrap())));
            assert_eq!(negotiate(&headers, [ZSTD, LINES]).ok(), expected, "{accept:?}");
        };
        check(None, Some(ZSTD));
        check(Some("*/*"), Some(ZSTD));
        check(Some("application/x-ndjson"), Some(LINES));
        check(Some("application/*"), Some(ZSTD));
        check(Some("text/html, application/x-ndjson;q=0.5"), Some(LINES));
        check(Some("application/zstd;q=0.1, application/x-ndjson"), Some(LINES));
        check(Some("*/*, application/zstd;q=0"), Some(LINES));
        check(Some("application/json"), None);
        check(Some("application/zstd;q=0"), None);
        check(Some(", ;;"), None);
    }
}
