//! The other end of the interface, for programs: typed calls over the unix socket or over TLS.

mod error;
mod events;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use job::spec::{JobSpec, RateLimits};
use job::{JobFilter, JobId, Sensitive};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, Method, RequestBuilder, Response, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bodies::{HealthBody, JobBody, JobListBody, ProgressBody, ReportBody, ScheduleListBody, VersionBody};
use crate::problem::ProblemBody;
pub use error::ClientError;
pub use events::{ClientEvent, EventStream};

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Socket(PathBuf),
    /// `https://host:port`, or `http` to this machine.
    Url {
        url: String,
        token: Option<Sensitive>,
        ca_file: Option<PathBuf>,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Url { url, .. } => f.write_str(url),
        }
    }
}

/// For what is answered at once; waiting calls add their own time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// A stream gives a sign of life every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// A document that is larger is none of ours.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// Speaks to one service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    address: String,
}

/// Names a new job, and whether it is one.
#[derive(Clone, Debug)]
pub struct Created {
    pub job: JobBody,
    /// The same request made it earlier.
    pub is_known: bool,
}

/// A file of a report, as lines or compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportFile {
    /// JSON lines.
    Entries,
    /// The same as it is kept.
    CompressedEntries,
    /// JSON lines.
    Faults,
    /// Text lines.
    Manifest,
}

impl Client {
    /// Does not connect yet. Needs [`crate::install_crypto`] before.
    pub fn new(address: &Address) -> Result<Self, ClientError> {
        let bad = |what: String| ClientError::BadAddress { address: address.to_string(), what };
        let mut headers = HeaderMap::new();
        let mut builder = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIME_MAX)
            .read_timeout(SILENCE_MAX)
            .user_agent(concat!("manila-data/", env!("CARGO_PKG_VERSION")));
        let base = match address {
            Address::Socket(path) => {
                // No certificate is looked at, and a machine may have none at all.
                builder = builder.unix_socket(path.as_path()).tls_certs_only([]);
                "http://localhost/"
            }
            Address::Url { url, token, ca_file } => {
                if let Some(token) = token {
                    let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
                    let mut value = value.map_err(|_| bad("the token has characters that no token has".into()))?;
                    value.set_sensitive(true);
                    headers.insert(AUTHORIZATION, value);
                }
                if let Some(path) = ca_file {
                    builder = builder.tls_certs_only(authorities(path)?);
                }
                url
            }
        };
        let base = Url::parse(base).map_err(|error| bad(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(bad("it must begin with https://".into()));
        }
        if base.scheme() == "http" && !headers.is_empty() && !is_loopback(&base) {
            return Err(bad("a token may only travel over https".into()));
        }
        let http = builder.default_headers(headers).build().map_err(|error| bad(error.to_string()))?;
        Ok(Self { http, base, address: address.to_string() })
    }

    /// Where it speaks to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `key` names the request: sent again, it makes no second job.
    pub async fn create(&self, spec: &JobSpec, key: Option<&str>) -> Result<Created, ClientError> {
        self.create_json(&full_text(spec), key).await
    }

    /// The same from a document, as somebody wrote it.
    pub async fn create_json(&self, spec: &serde_json::Value, key: Option<&str>) -> Result<Created, ClientError> {
        let mut request = self.request(Method::POST, "v1/jobs").json(spec);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        self.created(request).await
    }

    async fn created(&self, request: RequestBuilder) -> Result<Created, ClientError> {
        let response = self.send(request).await?;
        let is_known = response.status() != reqwest::StatusCode::CREATED;
        Ok(Created { job: self.document(response).await?, is_known })
    }

    /// One page, the newest first.
    pub async fn list(
        &self,
        filter: &JobFilter,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<JobListBody, ClientError> {
        let words = |words: Vec<&str>| (!words.is_empty()).then(|| words.join(","));
        let query: Vec<(&str, String)> = [
            ("state", words(filter.states.iter().map(|state| state.as_str()).collect())),
            ("kind", words(filter.kinds.iter().map(|kind| kind.as_str()).collect())),
            ("name", filter.name.clone()),
            ("requester", filter.requester.clone()),
            ("created_after", filter.created_after.map(|time| time.to_string())),
            ("created_before", filter.created_before.map(|time| time.to_string())),
            ("limit", limit.map(|limit| limit.to_string())),
            ("cursor", cursor.map(Into::into)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        self.get("v1/jobs", &query).await
    }

    pub async fn show(&self, id: JobId) -> Result<JobBody, ClientError> {
        self.get(&format!("v1/jobs/{id}"), &()).await
    }

    /// The job once it has ended, or as it is after `time`, which the service bounds to a minute.
    pub async fn wait(&self, id: JobId, time: Duration) -> Result<JobBody, ClientError> {
        let request = self.request(Method::GET, &format!("v1/jobs/{id}")).query(&[("wait", time.as_secs())]);
        let response = self.send(request.timeout(time + ANSWER_TIME_MAX)).await?;
        self.document(response).await
    }

    pub async fn progress(&self, id: JobId) -> Result<ProgressBody, ClientError> {
        self.get(&format!("v1/jobs/{id}/progress"), &()).await
    }

    pub async fn cancel(&self, id: JobId) -> Result<JobBody, ClientError> {
        self.act(id, "cancel").await
    }

    pub async fn pause(&self, id: JobId) -> Result<JobBody, ClientError> {
        self.act(id, "pause").await
    }

    pub async fn resume(&self, id: JobId) -> Result<JobBody, ClientError> {
        self.act(id, "resume").await
    }

    pub async fn cutover(&self, id: JobId) -> Result<JobBody, ClientError> {
        self.act(id, "cutover").await
    }

    pub async fn retry_failed(&self, id: JobId) -> Result<Created, ClientError> {
        self.created(self.request(Method::POST, &format!("v1/jobs/{id}/retry-failed"))).await
    }

    pub async fn set_limits(&self, id: JobId, limits: &RateLimits) -> Result<JobBody, ClientError> {
        let response = self.send(self.request(Method::PUT, &format!("v1/jobs/{id}/limits")).json(limits)).await?;
        self.document(response).await
    }

    pub async fn remove(&self, id: JobId) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &format!("v1/jobs/{id}"))).await.map(drop)
    }

    /// What a pass did; the last one where none is named.
    pub async fn report(&self, id: JobId, pass: Option<u32>) -> Result<ReportBody, ClientError> {
        self.get(&format!("v1/jobs/{id}/report"), &pass_query(pass)).await
    }

    /// Streams a file of a report: call [`Download::chunk`] until there is none.
    pub async fn download(&self, id: JobId, pass: Option<u32>, file: ReportFile) -> Result<Download, ClientError> {
        let (name, media_type) = match file {
            ReportFile::Entries => ("entries", "application/x-ndjson"),
            ReportFile::CompressedEntries => ("entries", "application/zstd"),
            ReportFile::Faults => ("faults", "application/x-ndjson"),
            ReportFile::Manifest => ("manifest", "text/plain"),
        };
        let request = self.http.get(self.url(&format!("v1/jobs/{id}/{name}"))).query(&pass_query(pass));
        let response = self.send(request.header(ACCEPT, media_type)).await?;
        Ok(Download { response, address: self.address.clone() })
    }

    /// Events of one job until it has ended, or of all for ever; after event `after`, where one is given.
    pub fn events(&self, job: Option<JobId>, after: Option<u64>) -> EventStream {
        EventStream::new(self.clone(), job, after, true)
    }

    /// The same, up to the last event that there is.
    pub fn events_so_far(&self, job: Option<JobId>, after: Option<u64>) -> EventStream {
        EventStream::new(self.clone(), job, after, false)
    }

    /// All of them, by their names.
    pub async fn schedules(&self) -> Result<ScheduleListBody, ClientError> {
        self.get("v1/schedules", &()).await
    }

    pub async fn version(&self) -> Result<VersionBody, ClientError> {
        self.get("v1/version", &()).await
    }

    /// Whether the service can work, and what keeps it from that.
    pub async fn ready(&self) -> Result<HealthBody, ClientError> {
        let request = self.request(Method::GET, "readyz");
        let response = request.send().await.map_err(|error| ClientError::transport(&self.address, error))?;
        if response.status() == reqwest::StatusCode::SERVICE_UNAVAILABLE && !is_problem(&response) {
            return self.document(response).await;
        }
        self.document(self.checked(response).await?).await
    }

    /// Figures as Prometheus reads them.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let response = self.send(self.request(Method::GET, "metrics")).await?;
        let bytes = self.bytes(response).await?;
        String::from_utf8(bytes)
            .map_err(|_| ClientError::BadAnswer { address: self.address.clone(), what: "it is no text".into() })
    }

    async fn act(&self, id: JobId, action: &str) -> Result<JobBody, ClientError> {
        let response = self.send(self.request(Method::POST, &format!("v1/jobs/{id}/{action}"))).await?;
        self.document(response).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &(impl Serialize + ?Sized)) -> Result<T, ClientError> {
        let response = self.send(self.request(Method::GET, path).query(query)).await?;
        self.document(response).await
    }

    fn url(&self, path: &str) -> Url {
        self.base.join(path).expect("our own paths are good")
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path)).timeout(ANSWER_TIME_MAX)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| ClientError::transport(&self.address, error))?;
        self.checked(response).await
    }

    async fn checked(&self, response: Response) -> Result<Response, ClientError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let is_problem = is_problem(&response);
        let bytes = self.bytes(response).await?;
        match serde_json::from_slice::<ProblemBody>(&bytes) {
            Ok(problem) if is_problem => Err(ClientError::Problem(Box::new(problem))),
            _ => Err(ClientError::BadAnswer {
                address: self.address.clone(),
                what: format!("status {status} without a problem document: is this the data service?"),
            }),
        }
    }

    async fn document<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let bytes = self.bytes(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::BadAnswer {
            address: self.address.clone(),
            what: format!("cannot understand it, perhaps the service has another version: {error}"),
        })
    }

    async fn bytes(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| ClientError::transport(&self.address, error))? {
            if bytes.len() + chunk.len() > DOCUMENT_BYTES_MAX {
                return Err(ClientError::BadAnswer { address: self.address.clone(), what: "it is too long".into() });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// A file on its way.
#[derive(Debug)]
pub struct Download {
    response: Response,
    address: String,
}

impl Download {
    /// `None`: that was all of it.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let chunk = self.response.chunk().await.map_err(|error| ClientError::transport(&self.address, error))?;
        Ok(chunk.map(Into::into))
    }
}

fn is_problem(response: &Response) -> bool {
    let media_type = response.headers().get(reqwest::header::CONTENT_TYPE);
    media_type.is_some_and(|value| value.as_bytes().starts_with(b"application/problem+json"))
}

fn pass_query(pass: Option<u32>) -> Vec<(&'static str, u32)> {
    pass.map(|pass| ("pass", pass)).into_iter().collect()
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let failed = |what: String| ClientError::BadAuthority { path: path.into(), what };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(failed("it contains no certificate".into()));
    }
    Ok(certificates)
}

/// The specification with its secrets, which serialising it masks.
fn full_text(spec: &JobSpec) -> serde_json::Value {
    let mut value = serde_json::to_value(spec).expect("a specification is plain text and numbers");
    let secrets = serde_json::to_value(spec.clone().secrets()).expect("secrets are plain text");
    for (place, secret) in secrets.as_object().into_iter().flatten() {
        if let Some(found) = value.pointer_mut(&format!("/{}", place.replace('.', "/"))) {
            found.clone_from(secret);
        }
    }
    value
}
