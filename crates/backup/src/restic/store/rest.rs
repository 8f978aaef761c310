//! A repository on a server of restic's REST protocol, as `rest-server` and `rclone serve restic` speak it.

use std::fmt;

use bytes::Bytes;
use copy::StopToken;
use reqwest::header::{ACCEPT, RANGE};
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};

use super::remote::{Remote, RequestError};
use super::{FileKind, Store, StoreError, StoreErrorClass, StoreResult};
use crate::restic::id::Id;

/// A repository on a REST server.
pub struct RestStore {
    remote: Remote,
    client: Client,
    /// Ends with a slash, and holds no password.
    base: Url,
    login: Option<(String, SecretString)>,
}

impl fmt::Debug for RestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RestStore({})", self.base)
    }
}

/// Version 2 of the protocol tells sizes in listings.
const VERSION: &str = "application/vnd.x.restic.rest.v2";

#[derive(serde::Deserialize)]
struct Listed {
    name: String,
    size: u64,
}

impl RestStore {
    /// `url` is `http://` or `https://`, with or without `rest:` in front. A name and password in it are used and not
    /// shown; `login` goes before them. Every wait ends when the order to stop comes.
    pub fn open(url: &str, login: Option<(String, SecretString)>, stop: StopToken) -> StoreResult<Self> {
        let wrong = |reason: &str| StoreError {
            action: "use the address of",
            path: "the REST server".to_owned(),
            class: StoreErrorClass::Other,
            reason: reason.to_owned(),
        };
        let mut base =
            Url::parse(url.strip_prefix("rest:").unwrap_or(url)).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(wrong("it is neither http nor https"));
        }
        let in_url = base.password().map(|password| {
            let decode = |text: &str| percent_decode(text);
            (decode(base.username()), SecretString::from(decode(password)))
        });
        let cannot = || wrong("it cannot be a base");
        base.set_username("").and_then(|()| base.set_password(None)).map_err(|()| cannot())?;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // Whoever made one already has made the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(std::time::Duration::from_secs(20))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| wrong(&error.to_string()))?;
        Ok(Self { remote: Remote::new(stop)?, client, base, login: login.or(in_url) })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = self.base.join(path).expect("a path of plain characters");
        let request = self.client.request(method, url).header(ACCEPT, VERSION);
        match &self.login {
            Some((name, password)) => request.basic_auth(name, Some(password.expose_secret())),
            None => request,
        }
    }

    fn get(&self, action: &'static str, path: &str, range: Option<(u64, usize)>) -> StoreResult<Bytes> {
        let answer = self.remote.call(action, path, || async {
            let mut request = self.request(Method::GET, path);
            if let Some((offset, len)) = range {
                request = request.header(RANGE, format!("bytes={offset}-{}", offset + len as u64 - 1));
            }
            let response = send(request).await?;
            let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
            let body = response.bytes().await.map_err(|error| request_error(&error))?;
            Ok((body, is_part))
        });
        let (body, is_part) = answer?;
        match range {
            // A server may send everything where a part was asked for.
            Some((offset, len)) if !is_part => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(body.len());
                Ok(body.slice(start..body.len().min(start.saturating_add(len))))
            }
            Some((_, len)) => Ok(body.slice(..body.len().min(len))),
            None => Ok(body),
        }
    }
}

/// Flat in this protocol: the server sorts packs into directories itself.
fn path(kind: FileKind, id: &Id) -> String {
    match kind {
        FileKind::Config => "config".to_owned(),
        _ => format!("{}/{id}", kind.dir_name()),
    }
}

pub(super) fn percent_decode(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        match (bytes[at], digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

async fn send(request: RequestBuilder) -> Result<Response, RequestError> {
    let response = request.send().await.map_err(|error| request_error(&error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let class = match status {
        StatusCode::NOT_FOUND => StoreErrorClass::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => StoreErrorClass::Denied,
        StatusCode::INSUFFICIENT_STORAGE => StoreErrorClass::NoSpace,
        StatusCode::RANGE_NOT_SATISFIABLE => StoreErrorClass::Damaged,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => StoreErrorClass::Transient,
        status if status.is_server_error() => StoreErrorClass::Transient,
        _ => StoreErrorClass::Other,
    };
    Err(RequestError { class, reason: format!("the server answered {status}") })
}

/// The cause without the address, which people know and which might hold a secret.
fn request_error(error: &reqwest::Error) -> RequestError {
    let mut reason = "the request failed".to_owned();
    let mut source: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = source {
        reason = cause.to_string();
        source = cause.source();
    }
    RequestError { class: StoreErrorClass::Transient, reason }
}

impl Store for RestStore {
    fn location(&self) -> String {
        format!("rest:{}", self.base)
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn create(&self) -> StoreResult<()> {
        self.remote.call("create", "the repository", || async {
            send(self.request(Method::POST, "?create=true")).await.map(drop)
        })
    }

    fn list(&self, kind: FileKind) -> StoreResult<Vec<(Id, u64)>> {
        if kind == FileKind::Config {
            let found = self.remote.call("look for", "config", || async {
                send(self.request(Method::HEAD, "config")).await.map(|response| response.content_length())
            });
            return match found {
                Ok(bytes) => Ok(vec![(Id::default(), bytes.unwrap_or(0))]),
                Err(error) if error.class == StoreErrorClass::NotFound => Ok(Vec::new()),
                Err(error) => Err(error),
            };
        }
        let path = format!("{}/", kind.dir_name());
        let json = match self.get("list", &path, None) {
            // Nothing was written there yet.
            Err(error) if error.class == StoreErrorClass::NotFound => return Ok(Vec::new()),
            answer => answer?,
        };
        let listed: Vec<Listed> = serde_json::from_slice(&json).map_err(|error| StoreError {
            action: "list",
            path,
            class: StoreErrorClass::Damaged,
            reason: error.to_string(),
        })?;
        Ok(listed.into_iter().filter_map(|file| Some((file.name.parse().ok()?, file.size))).collect())
    }

    fn read(&self, kind: FileKind, id: &Id) -> StoreResult<Bytes> {
        self.get("read", &path(kind, id), None)
    }

    fn read_range(&self, kind: FileKind, id: &Id, offset: u64, len: usize) -> StoreResult<Bytes> {
        super::exactly(kind, id, len, self.read_up_to(kind, id, offset, len)?)
    }

    fn read_up_to(&self, kind: FileKind, id: &Id, offset: u64, len: usize) -> StoreResult<Bytes> {
        self.get("read", &path(kind, id), Some((offset, len.max(1))))
    }

    fn write(&self, kind: FileKind, id: &Id, parts: &[Bytes]) -> StoreResult<()> {
        let path = path(kind, id);
        let content = super::joined(parts);
        self.remote.call("write", &path, || async {
            send(self.request(Method::POST, &path).body(Body::from(content.clone()))).await.map(drop)
        })
    }

    fn remove(&self, kind: FileKind, id: &Id) -> StoreResult<()> {
        let path = path(kind, id);
        let removed =
            self.remote.call("remove", &path, || async { send(self.request(Method::DELETE, &path)).await.map(drop) });
        match removed {
            // Somebody was faster, or the answer to an earlier try was lost.
            Err(error) if error.class == StoreErrorClass::NotFound => Ok(()),
            answer => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_address_is_used_and_not_shown() {
        let store = RestStore::open("rest:http://me:s%40cret@127.0.0.1:1/a", None, StopToken::new()).expect("opens");
        let (name, password) = store.login.as_ref().expect("a login");
        assert_eq!((name.as_str(), password.expose_secret()), ("me", "s@cret"));
        assert_eq!(store.location(), "rest:http://127.0.0.1:1/a/");
        assert!(!format!("{store:?}").contains("cret"));
        for bad in ["ftp://x/", "rest:", "nothing"] {
            assert!(RestStore::open(bad, None, StopToken::new()).is_err(), "{bad}");
        }
    }
}
