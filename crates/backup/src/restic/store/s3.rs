//! A repository in a bucket of an S3 server, at the keys that restic uses.

use std::fmt;

use bytes::Bytes;
use copy::StopToken;
use opendal::services::S3;
use opendal::{Buffer, ErrorKind, Operator};
use secrecy::{ExposeSecret as _, SecretString};

use super::remote::{Remote, RequestError};
use super::{FileKind, Store, StoreError, StoreErrorClass, StoreResult};
use crate::restic::id::Id;

/// Where a bucket is, and who asks.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// `https://` or `http://`, host and port.
    pub endpoint: String,
    pub bucket: String,
    /// What keys begin with; may be empty.
    pub prefix: String,
    pub region: String,
    pub access_key: String,
    pub secret_key: SecretString,
}

/// A repository in an S3 bucket.
pub struct S3Store {
    remote: Remote,
    operator: Operator,
    location: String,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Store({})", self.location)
    }
}

impl S3Store {
    /// Every wait ends when the order to stop comes. Nothing is asked of the server yet.
    pub fn open(options: &S3Options, stop: StopToken) -> StoreResult<Self> {
        let location = format!("s3:{}/{}/{}", options.endpoint, options.bucket, options.prefix);
        let _ = rustls::crypto::ring::default_provider().install_default();
        opendal_http_transport_reqwest::install_default();
        let builder = S3::default()
            .endpoint(&options.endpoint)
            .bucket(&options.bucket)
            .root(&format!("/{}", options.prefix.trim_matches('/')))
            .region(&options.region)
            .access_key_id(&options.access_key)
            .secret_access_key(options.secret_key.expose_secret())
            // Neither the environment nor files of whoever runs us.
            .disable_config_load();
        let operator = Operator::new(builder).map_err(|error| StoreError {
            action: "use the bucket of",
            path: location.clone(),
            class: StoreErrorClass::Other,
            reason: error.kind().to_string(),
        })?;
        Ok(Self { remote: Remote::new(stop)?, operator, location })
    }
}

/// The kind of the error and its first line: context that follows may name what was asked for, with signatures.
#[expect(clippy::needless_pass_by_value, reason = "is what `map_err` gives")]
fn request_error(error: opendal::Error) -> RequestError {
    let class = match error.kind() {
        ErrorKind::NotFound => StoreErrorClass::NotFound,
        ErrorKind::PermissionDenied | ErrorKind::ConfigInvalid => StoreErrorClass::Denied,
        ErrorKind::RangeNotSatisfied => StoreErrorClass::Damaged,
        ErrorKind::RateLimited => StoreErrorClass::Transient,
        _ if error.is_temporary() => StoreErrorClass::Transient,
        _ => StoreErrorClass::Other,
    };
    let mut reason = error.kind().to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        reason = cause.to_string();
        source = cause.source();
    }
    RequestError { class, reason: reason.lines().next().unwrap_or_default().to_owned() }
}

impl Store for S3Store {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn create(&self) -> StoreResult<()> {
        // A bucket has no directories; whether it can be used the first file tells.
        Ok(())
    }

    fn list(&self, kind: FileKind) -> StoreResult<Vec<(Id, u64)>> {
        if kind == FileKind::Config {
            let found = self
                .remote
                .call("look for", "config", || async { self.operator.stat("config").await.map_err(request_error) });
            return match found {
                Ok(meta) => Ok(vec![(Id::default(), meta.content_length())]),
                Err(error) if error.class == StoreErrorClass::NotFound => Ok(Vec::new()),
                Err(error) => Err(error),
            };
        }
        let path = format!("{}/", kind.dir_name());
        let entries = self.remote.call("list", &path, || async {
            self.operator.list_with(&path).recursive(true).await.map_err(request_error)
        })?;
        let file = |entry: opendal::Entry| {
            let id = entry.path().rsplit('/').next()?.parse().ok()?;
            Some((id, entry.metadata().content_length()))
        };
        Ok(entries.into_iter().filter_map(file).collect())
    }

    fn read(&self, kind: FileKind, id: &Id) -> StoreResult<Bytes> {
        let path = kind.path(id);
        self.remote.call("read", &path, || async {
            self.operator.read(&path).await.map(|buffer| buffer.to_bytes()).map_err(request_error)
        })
    }

    fn read_range(&self, kind: FileKind, id: &Id, offset: u64, len: usize) -> StoreResult<Bytes> {
        let path = kind.path(id);
        let range = offset..offset + len as u64;
        let read = self.remote.call("read", &path, || async {
            let read = self.operator.read_with(&path).range(range.clone()).await;
            read.map(|buffer| buffer.to_bytes()).map_err(request_error)
        })?;
        super::exactly(kind, id, len, read)
    }

    fn read_up_to(&self, kind: FileKind, id: &Id, offset: u64, len: usize) -> StoreResult<Bytes> {
        let path = kind.path(id);
        let read = self.remote.call("read", &path, || async {
            let bytes = self.operator.stat(&path).await.map_err(request_error)?.content_length();
            let end = bytes.min(offset + len as u64);
            if end <= offset {
                return Ok(Bytes::new());
            }
            let read = self.operator.read_with(&path).range(offset..end).await;
            read.map(|buffer| buffer.to_bytes()).map_err(request_error)
        })?;
        Ok(read)
    }

    fn write(&self, kind: FileKind, id: &Id, parts: &[Bytes]) -> StoreResult<()> {
        let path = kind.path(id);
        let content: Buffer = parts.to_vec().into();
        self.remote.call("write", &path, || async {
            if kind == FileKind::Config {
                let first = self.operator.write_with(&path, content.clone()).if_not_exists(true).await;
                match first {
                    // A server that does not know the condition.
                    Err(error) if error.kind() == ErrorKind::Unsupported => {}
                    answer => return answer.map(drop).map_err(request_error),
                }
            }
            self.operator.write(&path, content.clone()).await.map(drop).map_err(request_error)
        })
    }

    fn remove(&self, kind: FileKind, id: &Id) -> StoreResult<()> {
        let path = kind.path(id);
        // An object that is gone already is no error to a bucket.
        self.remote.call("remove", &path, || async { self.operator.delete(&path).await.map_err(request_error) })
    }
}
