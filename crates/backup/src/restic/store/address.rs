//! A repository over a network by its address, as restic writes it: `rest:https://...`, `s3:https://...`.

use std::sync::Arc;

use copy::StopToken;
use reqwest::Url;
use secrecy::SecretString;

use super::rest::percent_decode;
use super::{RestStore, S3Options, S3Store, Store, StoreError, StoreErrorClass, StoreResult};

/// The region of servers that have none: what AWS takes for its oldest, and others do not look at.
const REGION: &str = "us-east-1";

/// Opens storage by its address. A user with a password in it, percent-encoded, is that of the REST server, or the access
/// key with the secret key of S3; neither is shown. Every wait ends when the order to stop comes.
pub fn open_address(address: &str, region: Option<&str>, stop: StopToken) -> StoreResult<Arc<dyn Store>> {
    if address.starts_with("rest:") {
        return Ok(Arc::new(RestStore::open(address, None, stop)?));
    }
    Ok(Arc::new(S3Store::open(&bucket(address, region)?, stop)?))
}

/// `s3:https://KEY:SECRET@HOST:PORT/BUCKET/PREFIX`
fn bucket(address: &str, region: Option<&str>) -> StoreResult<S3Options> {
    let wrong = |reason: &str| StoreError {
        action: "use the address of",
        path: "the repository".to_owned(),
        class: StoreErrorClass::Other,
        reason: reason.to_owned(),
    };
    let url = address.strip_prefix("s3:").ok_or_else(|| wrong("it begins with neither `rest:` nor `s3:`"))?;
    // The error of the parser holds nothing of the address.
    let url = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
    let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"));
    let host = host.ok_or_else(|| wrong("after `s3:` stands neither http:// nor https:// with a host"))?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = percent_decode(url.path().trim_matches('/'));
    let (bucket, prefix) = path.split_once('/').unwrap_or((&path, ""));
    if bucket.is_empty() {
        return Err(wrong("no bucket is named after the host"));
    }
    let Some(secret_key) = url.password().filter(|_| !url.username().is_empty()) else {
        return Err(StoreError { class: StoreErrorClass::Denied, ..wrong("S3 needs an access key and a secret key") });
    };
    Ok(S3Options {
        endpoint: format!("{}://{host}{port}", url.scheme()),
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        region: region.or_else(|| region_of(host)).unwrap_or(REGION).to_owned(),
        access_key: percent_decode(url.username()),
        secret_key: SecretString::from(percent_decode(secret_key)),
    })
}

/// The region that the names of AWS's servers tell: `s3.REGION.amazonaws.com`, `s3.dualstack.REGION.amazonaws.com`.
fn region_of(host: &str) -> Option<&str> {
    let name = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    name.strip_prefix("s3.dualstack.").or_else(|| name.strip_prefix("s3."))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn an_address_of_s3_has_keys_host_bucket_and_prefix() {
        let found = bucket("s3:http://AK:a%2Fb@h:9000/b/p/q/", None).expect("an address");
        assert_eq!(
            (found.endpoint.as_str(), found.bucket.as_str(), found.prefix.as_str()),
            ("http://h:9000", "b", "p/q")
        );
        assert_eq!((found.access_key.as_str(), found.secret_key.expose_secret()), ("AK", "a/b"));
        assert_eq!(found.region, REGION);
        assert_eq!(bucket("s3:https://a:b@h/b", Some("eu-1")).expect("an address").region, "eu-1");
        let region = |host: &str| bucket(&format!("s3:https://a:b@{host}/b"), None).expect("an address").region;
        assert_eq!(region("s3.eu-central-1.amazonaws.com"), "eu-central-1");
        assert_eq!(region("s3.dualstack.us-west-2.amazonaws.com"), "us-west-2");
        assert_eq!(region("s3.amazonaws.com"), REGION);
        for wrong in
            ["s3:https://a:geheim@h/", "s3:https://h/b", "s3:ftp://a:geheim@h/b", "s3:h/b", "x:https://a:geheim@h/b"]
        {
            let error = bucket(wrong, None).expect_err(wrong);
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }
}
