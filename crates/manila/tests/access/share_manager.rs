//! What share managers get to read.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use manila::{RpcShareManager, ShareManager};
use oslo::messaging::{Client, Context, Listen, Listener, Publish, Published, Route, Transport, TransportError};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::kit::settings;

/// Keeps what is sent, or never takes it.
#[derive(Debug, Default)]
struct Wire {
    is_cut: bool,
    sent: Mutex<Vec<Publish>>,
}

#[async_trait]
impl Transport for Wire {
    async fn listen(&self, _: Listen) -> Result<Box<dyn Listener>, TransportError> {
        unreachable!("nobody answers a cast")
    }

    async fn publish(&self, publish: Publish) -> Result<Published, TransportError> {
        if self.is_cut {
            std::future::pending::<()>().await;
        }
        self.sent.lock().unwrap().push(publish);
        Ok(Published::Taken)
    }

    async fn close(&self) {}
}

fn share_manager(wire: &Arc<Wire>) -> RpcShareManager {
    RpcShareManager::new(Client::new(wire.clone()), &settings("[DEFAULT]\nshare_topic = shares"))
}

fn context() -> Context {
    let mut context = Context::default();
    context.set("request_id", "req-1".into());
    context
}

#[tokio::test]
async fn casts_are_those_of_upstream() {
    let wire = Arc::new(Wire::default());
    let share_manager = share_manager(&wire);
    share_manager.update_access(&context(), "rig@alpha#pool", "i1").await.unwrap();
    share_manager.migration_complete(&context(), "rig@beta", "i1", "i2").await.unwrap();
    let sent = wire.sent.lock().unwrap();
    let check = |publish: &Publish, key: &str, expected: Value| {
        assert_eq!(publish.route, Route::Topic { key: key.into() });
        assert_eq!(publish.expiration, None);
        let envelope: Value = serde_json::from_slice(&publish.body).unwrap();
        let mut message: Value = serde_json::from_str(envelope["oslo.message"].as_str().unwrap()).unwrap();
        assert!(message.as_object_mut().unwrap().remove("_unique_id").is_some());
        assert_eq!(message, expected);
    };
    check(
        &sent[0],
        "shares.rig@alpha",
        json!({"method": "update_access", "version": "1.14", "args": {"share_instance_id": "i1"},
            "_context_request_id": "req-1"}),
    );
    check(
        &sent[1],
        "shares.rig@beta",
        json!({"method": "migration_complete", "version": "1.12", "_context_request_id": "req-1",
            "args": {"src_instance_id": "i1", "dest_instance_id": "i2"}}),
    );
    assert_eq!(sent.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_not_waited_for_for_ever() {
    let wire = Arc::new(Wire { is_cut: true, ..Wire::default() });
    let begun = Instant::now();
    let error = share_manager(&wire).update_access(&context(), "rig@alpha#pool", "i1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the message could not be sent within 30 s: `update_access` to shares.rig@alpha: no message broker took it"
    );
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
}
