//! What is said to the share managers of the back ends.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use oslo::messaging::{Client, Context, RpcVersion, SendError, Target};
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::settings::Settings;

/// Versions in which both methods have the arguments that are sent here. Every release from Zed on serves them.
const UPDATE_ACCESS: RpcVersion = RpcVersion::new(1, 14);
const MIGRATION_COMPLETE: RpcVersion = RpcVersion::new(1, 12);

/// A broker that is restarted is back in less; whoever sends tries again after it.
const SEND_TIME: Duration = Duration::from_secs(30);

/// The share managers, by the host of an instance (`host@backend#pool`; the pool is left out of the address).
#[async_trait]
pub trait ShareManager: Send + Sync + fmt::Debug {
    /// Rules of the instance were queued: it is to apply them. To be sent after the transaction that queued them.
    async fn update_access(&self, context: &Context, host: &str, instance_id: &str) -> Result<(), CastError>;

    /// The copy has ended as the share's `task_state` says. To be sent after that was written.
    async fn migration_complete(
        &self,
        context: &Context,
        host: &str,
        source_instance_id: &str,
        dest_instance_id: &str,
    ) -> Result<(), CastError>;
}

/// The broker did not take it in time; the same can be sent again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the message could not be sent within {} s: {what}", .after.as_secs())]
pub struct CastError {
    pub after: Duration,
    pub what: String,
}

/// Share managers behind a message broker.
#[derive(Clone, Debug)]
pub struct RpcShareManager {
    client: Client,
    topic: String,
    limit: Duration,
}

impl RpcShareManager {
    pub fn new(client: Client, settings: &Settings) -> Self {
        Self { client, topic: settings.share_topic.clone(), limit: SEND_TIME }
    }

    async fn cast(
        &self,
        context: &Context,
        host: &str,
        method: &str,
        args: &[(&str, &str)],
        version: RpcVersion,
    ) -> Result<(), CastError> {
        let target = Target::server(&*self.topic, server_of(host));
        let args: Map<_, _> = args.iter().map(|(name, value)| ((*name).into(), Value::from(*value))).collect();
        let sending = self.client.cast(context, &target, method, args, version);
        let failed = |what: String| CastError { after: self.limit, what: format!("`{method}` to {target}: {what}") };
        match timeout(self.limit, sending).await {
            Ok(sent) => sent.map_err(|error: SendError| failed(error.to_string())),
            Err(_) => Err(failed("no message broker took it".into())),
        }
    }
}

#[async_trait]
impl ShareManager for RpcShareManager {
    async fn update_access(&self, context: &Context, host: &str, instance_id: &str) -> Result<(), CastError> {
        self.cast(context, host, "update_access", &[("share_instance_id", instance_id)], UPDATE_ACCESS).await
    }

    async fn migration_complete(
        &self,
        context: &Context,
        host: &str,
        source_instance_id: &str,
        dest_instance_id: &str,
    ) -> Result<(), CastError> {
        let args = [("src_instance_id", source_instance_id), ("dest_instance_id", dest_instance_id)];
        self.cast(context, host, "migration_complete", &args, MIGRATION_COMPLETE).await
    }
}

/// `host@backend`, without the pool.
fn server_of(host: &str) -> &str {
    host.split_once('#').map_or(host, |(server, _)| server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_manager_is_addressed_without_the_pool() {
        for (host, expected) in [("h@b#p", "h@b"), ("h@b", "h@b"), ("h", "h"), ("h@b#p#q", "h@b"), ("h@b#", "h@b")] {
            assert_eq!(server_of(host), expected, "{host}");
        }
    }
}
