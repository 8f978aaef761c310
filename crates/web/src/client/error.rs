//! Why a call came to nothing, and what helps.

use std::path::PathBuf;

use crate::problem::{ProblemBody, chain};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    #[error("`{address}` is no address of a data service: {what}")]
    BadAddress { address: String, what: String },
    #[error("cannot use the certificates in `{}`: {what}", path.display())]
    BadAuthority { path: PathBuf, what: String },
    /// Nobody is there, or nobody that we trust.
    #[error("cannot reach the data service at {address}: {what}")]
    Unreachable { address: String, what: String },
    /// It was there, and then it was not. Whether the request was carried out is not known.
    #[error("lost the data service at {address}: {what}")]
    Lost { address: String, what: String },
    #[error("the answer of {address} is not one of a data service: {what}")]
    BadAnswer { address: String, what: String },
    /// The service said no.
    #[error("{0}")]
    Problem(Box<ProblemBody>),
}

impl ClientError {
    pub(super) fn transport(address: &str, error: reqwest::Error) -> Self {
        let is_connect = error.is_connect();
        // The causes say it; what stands above them is the address again and that something failed.
        let error = error.without_url();
        let what = std::error::Error::source(&error).map_or_else(|| error.to_string(), chain);
        let address = address.to_owned();
        if is_connect { Self::Unreachable { address, what } } else { Self::Lost { address, what } }
    }

    /// What may help, in a sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::BadAddress { .. } => Some("give the path of a unix socket, or https://host:port".into()),
            Self::BadAuthority { .. } => Some("give a PEM file with the authority that signed the server's".into()),
            Self::Unreachable { address, .. } if address.starts_with('/') => {
                Some("is the service running (`manila-data serve`), and may you open its socket?".into())
            }
            Self::Unreachable { .. } => {
                Some("is the service running, does it listen on TCP, and is its authority known here?".into())
            }
            Self::Lost { .. } => Some("look whether it was done before trying again".into()),
            Self::BadAnswer { .. } => None,
            Self::Problem(problem) => match problem.name() {
                "unauthorized" => Some("make a token with `manila-data token create` on the service's machine".into()),
                "forbidden" => Some("use a token of scope `write`".into()),
                "internal" => {
                    problem.request_id.as_ref().map(|id| format!("look for request {id} in the service's log"))
                }
                "shutting-down" | "store-unavailable" | "no-answer" | "too-many-requests" => {
                    Some("try again in a moment".into())
                }
                _ => None,
            },
        }
    }
}
