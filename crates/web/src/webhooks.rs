//! Tells others over HTTP that a job has ended. One try each time; the service decides when to try again.

use std::time::Duration;

use async_trait::async_trait;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use job::{Job, Notifier, NotifyError, Sensitive};
use reqwest::{Client, StatusCode, Url, redirect};
use serde::Serialize;
use sha2::Sha256;
use tracing::warn;

use crate::bodies::JobBody;
use crate::hex::hex;
use crate::problem::chain;

/// `t=<seconds since 1970>,v1=<HMAC-SHA256 of "t.body" in hexadecimal>`.
const SIGNATURE: &str = "Manila-Data-Signature";

/// Whom the service may tell, and with what.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Signs where the job brings no key of its own. `None`: such answers are not signed.
    pub secret: Option<Sensitive>,
    /// Hosts, each with its port where that is not the scheme's own. `None`: any, also such as only this machine reaches.
    pub allow: Option<Vec<String>>,
    /// Of one try. A receiver only has to write an answer down; whoever needs longer can do that first.
    pub time_max: Duration,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self { secret: None, allow: None, time_max: Duration::from_secs(15) }
    }
}

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// The notifier of the REST interface.
#[derive(Debug)]
pub struct Webhooks {
    client: Client,
    settings: WebhookSettings,
}

#[derive(Serialize)]
struct Message<'a> {
    event: &'static str,
    /// The same for each try, so that a receiver knows one that it has seen.
    delivery_id: String,
    delivered_at: Timestamp,
    job: &'a JobBody,
}

impl Webhooks {
    /// Needs [`crate::install_crypto`] before.
    pub fn new(settings: WebhookSettings) -> Result<Self, reqwest::Error> {
        let builder = || {
            Client::builder()
                // A redirect could lead to where the allowed hosts do not.
                .redirect(redirect::Policy::none())
                .connect_timeout(CONNECT_TIME_MAX)
                .timeout(settings.time_max)
                .user_agent(concat!("manila-data/", env!("CARGO_PKG_VERSION")))
                // Jobs end rarely; receivers need not keep connections for us.
                .pool_max_idle_per_host(0)
        };
        let client = match builder().build() {
            Ok(client) => client,
            // Most jobs tell nobody over https: a machine without certificates must not keep them from being done.
            Err(error) => {
                let client = builder().tls_certs_only([]).build()?;
                warn!(
                    error = chain(&error),
                    "https webhooks will fail: no certificates of authorities were found; install `ca-certificates`"
                );
                client
            }
        };
        Ok(Self { client, settings })
    }

    fn address(&self, url: &str) -> Result<Url, NotifyError> {
        // The text itself is not repeated: whoever knows it can often post to it.
        let url = Url::parse(url).map_err(|_| never("the webhook's URL is not one"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(never("the webhook's URL is neither http nor https"));
        }
        let host = url.host_str().ok_or_else(|| never("the webhook's URL has no host"))?;
        let with_port = url.port().map(|port| format!("{host}:{port}"));
        let found = with_port.as_deref().unwrap_or(host);
        let is_allowed = |allow: &Vec<String>| allow.iter().any(|allowed| allowed.eq_ignore_ascii_case(found));
        if !self.settings.allow.as_ref().is_none_or(is_allowed) {
            return Err(never(&format!("the service may not post to `{found}`")));
        }
        Ok(url)
    }

    /// The key to sign with. One that is lost cannot be replaced by another: the receiver would take it for a forgery.
    fn key<'a>(&'a self, own: Option<&'a Sensitive>) -> Result<Option<&'a Sensitive>, NotifyError> {
        match own.or(self.settings.secret.as_ref()) {
            Some(secret) if secret.is_lost() => Err(never("the key of the webhook's signature is not known any more")),
            key => Ok(key),
        }
    }
}

fn never(text: &str) -> NotifyError {
    NotifyError { message: text.into(), is_final: true, retry_after: None }
}

fn later(text: String) -> NotifyError {
    NotifyError { message: text, is_final: false, retry_after: None }
}

fn signature(key: &Sensitive, at: Timestamp, body: &[u8]) -> String {
    let at = at.as_second();
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).expect("a key may have any length");
    mac.update(format!("{at}.").as_bytes());
    mac.update(body);
    let sum = hex(&mac.finalize().into_bytes());
    format!("t={at},v1={sum}")
}

#[async_trait]
impl Notifier for Webhooks {
    fn wants(&self, job: &Job) -> bool {
        job.spec.webhook.is_some()
    }

    async fn tell(&self, job: &Job) -> Result<(), NotifyError> {
        let Some(webhook) = &job.spec.webhook else { return Ok(()) };
        let url = self.address(&webhook.url)?;
        let key = self.key(webhook.secret.as_ref())?;
        let delivered_at = Timestamp::now();
        let message = Message {
            event: "job.ended",
            delivery_id: format!("{}.ended", job.id),
            delivered_at,
            job: &JobBody::from(job),
        };
        let body = serde_json::to_vec(&message).expect("a job is plain text and numbers");
        let mut request = self.client.post(url).header("Content-Type", "application/json");
        if let Some(key) = key {
            request = request.header(SIGNATURE, signature(key, delivered_at, &body));
        }
        // The address is kept out of the text; what the receiver says in its body is not read.
        let answer = request.body(body).send().await.map_err(|error| later(chain(&error.without_url())))?;
        judge(answer.status())
    }
}

fn judge(status: StatusCode) -> Result<(), NotifyError> {
    let text = || format!("the receiver answered {status}");
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(later(text())),
        status if status.is_client_error() => Err(never(&text())),
        _ => Err(later(text())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_documented_one() {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        // echo -n '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        let sum = "a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03";
        assert_eq!(signature(&Sensitive::secret("key"), at, br#"{"a":1}"#), format!("t=1700000000,v1={sum}"));
    }

    #[test]
    fn only_allowed_addresses_are_posted_to() {
        crate::install_crypto();
        let check = |allow: Option<&[&str]>, url: &str, expected: bool| {
            let allow = allow.map(|hosts| hosts.iter().map(ToString::to_string).collect());
            let webhooks = Webhooks::new(WebhookSettings { allow, ..WebhookSettings::default() }).unwrap();
            let address = webhooks.address(url);
            assert_eq!(address.is_ok(), expected, "{url}");
            assert!(address.is_ok() || address.unwrap_err().is_final, "{url}");
        };
        check(None, "http://127.0.0.1:1/x", true);
        check(None, "ftp://h/x", false);
        check(None, "file:///etc/passwd", false);
        check(None, "nonsense", false);
        let allow: &[&str] = &["hooks.example", "other.example:8443"];
        check(Some(allow), "https://HOOKS.example/x", true);
        check(Some(allow), "https://hooks.example:443/x", true);
        check(Some(allow), "https://hooks.example:8443/x", false);
        check(Some(allow), "https://other.example:8443/x", true);
        check(Some(allow), "https://hooks.example@evil.example/x", false);
        check(Some(&[]), "https://hooks.example/", false);
    }

    #[test]
    fn an_answer_is_delivered_final_or_to_be_tried_again() {
        let check = |status: u16, expected: Result<(), bool>| {
            let judged = judge(StatusCode::from_u16(status).unwrap());
            assert_eq!(judged.map_err(|error| error.is_final), expected, "{status}");
        };
        check(200, Ok(()));
        check(204, Ok(()));
        for status in [301, 307, 408, 429, 500, 503] {
            check(status, Err(false));
        }
        for status in [400, 401, 404, 410, 422] {
            check(status, Err(true));
        }
    }
}
