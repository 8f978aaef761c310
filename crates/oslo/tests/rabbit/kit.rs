//! Brokers to test with, and what all tests do with them.

use std::sync::LazyLock;
use std::time::Duration;

use oslo::messaging::rabbit::{Limits, LinkState, MessagingOptions, RabbitStatus, RabbitTransport};
use oslo::messaging::{Delivery, Listen, Listener, Publish, Published, Route, Transport as _, TransportError};
use serde_json::Value;
use testkit::disk::SkipReason;
use testkit::servers::rabbitmq::{BrokerOptions, RabbitMq};
use uuid::Uuid;

/// Longer than anything takes that works at all.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);

/// The broker of all tests that do it no harm. The test process's watchdog ends it.
pub(crate) fn broker() -> Result<&'static RabbitMq, SkipReason> {
    static BROKER: LazyLock<Result<RabbitMq, SkipReason>> =
        LazyLock::new(|| RabbitMq::start(&BrokerOptions::default()));
    BROKER.as_ref().map_err(Clone::clone)
}

/// A name that no other test has.
pub(crate) fn unique(what: &str) -> String {
    format!("{what}-{}", &Uuid::new_v4().simple().to_string()[..8])
}

pub(crate) fn transport(url: &str) -> RabbitTransport {
    transport_with(url, "openstack", Limits::default())
}

pub(crate) fn transport_with(url: &str, control_exchange: &str, limits: Limits) -> RabbitTransport {
    let mut options = MessagingOptions::of_url(url).unwrap();
    options.control_exchange = control_exchange.into();
    RabbitTransport::with_limits(&options, None, limits).unwrap()
}

pub(crate) async fn serve(transport: &RabbitTransport, topic: &str) -> Box<dyn Listener> {
    let listen = Listen::Server { topic: topic.into(), server: "host1".into() };
    within(transport.listen(listen)).await.unwrap()
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it takes far too long")
}

pub(crate) fn message(route: Route, body: &str) -> Publish {
    Publish { route, body: body.to_owned().into(), expiration: None, give_up_after: Some(LIMIT) }
}

pub(crate) fn to_topic(topic: &str, body: &str) -> Publish {
    message(Route::Topic { key: topic.into() }, body)
}

pub(crate) async fn send(transport: &RabbitTransport, publish: Publish) -> Result<Published, TransportError> {
    within(transport.publish(publish)).await
}

pub(crate) async fn next(listener: &mut Box<dyn Listener>) -> Delivery {
    within(listener.next()).await.expect("the listener goes on")
}

/// The next body, acknowledged.
pub(crate) async fn next_text(listener: &mut Box<dyn Listener>) -> String {
    let delivery = next(listener).await;
    delivery.ack.ack().await.unwrap();
    text(&delivery)
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body.to_vec()).unwrap()
}

/// Rows of a list of the broker.
pub(crate) fn rows(broker: &RabbitMq, arguments: &[&str]) -> Vec<Value> {
    serde_json::from_str(&broker.list(arguments)).unwrap()
}

/// Two brokers that know nothing of each other, for one test at a time, which may do with them what it likes.
#[derive(Debug)]
pub(crate) struct Pair(pub(crate) [RabbitMq; 2]);

/// Both of them, up and unharmed.
pub(crate) async fn pair() -> Result<tokio::sync::MutexGuard<'static, Pair>, SkipReason> {
    static PAIR: LazyLock<Result<tokio::sync::Mutex<Pair>, SkipReason>> = LazyLock::new(|| {
        let start = || RabbitMq::start(&BrokerOptions::default());
        Ok(tokio::sync::Mutex::new(Pair([start()?, start()?])))
    });
    let pair = tokio::task::block_in_place(|| PAIR.as_ref()).map_err(Clone::clone)?;
    let mut pair = within(pair.lock()).await;
    // A test that failed may have left them anyhow.
    tokio::task::block_in_place(|| {
        for broker in &mut pair.0 {
            if broker.is_running() {
                broker.thaw();
            } else {
                broker.restart();
            }
        }
    });
    Ok(pair)
}

impl Pair {
    /// Both brokers as the hosts of one URL.
    pub(crate) fn url(&self) -> String {
        let [a, b] = &self.0;
        format!("rabbit://guest:guest@127.0.0.1:{},guest:guest@127.0.0.1:{}/", a.port(), b.port())
    }
}

/// Commands a broker while everything else goes on.
pub(crate) fn ctl(broker: &RabbitMq, arguments: &[&str]) -> String {
    tokio::task::block_in_place(|| broker.ctl(arguments))
}

/// Waits until the status of a transport is as wanted.
pub(crate) async fn until(transport: &RabbitTransport, what: &str, is_so: impl Fn(&RabbitStatus) -> bool) {
    let end = std::time::Instant::now() + LIMIT;
    while !is_so(&transport.status()) {
        assert!(std::time::Instant::now() < end, "it is never so that {what}: {:?}", transport.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Where the one listener is connected to.
pub(crate) fn broker_of(status: &RabbitStatus) -> Option<String> {
    match &status.listeners[0].state {
        LinkState::Connected { broker } | LinkState::Blocked { broker } => Some(broker.clone()),
        LinkState::Connecting => None,
    }
}
