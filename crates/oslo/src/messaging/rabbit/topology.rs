//! What is declared at the broker, and how: the names, flags and arguments of exchanges and queues.
//!
//! Services of one cloud declare the same things, and a broker refuses who declares them otherwise. So these are
//! oslo.messaging's own, for each combination of options.

use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable};

use super::options::RabbitOptions;

/// An exchange as it is declared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exchange {
    pub(super) name: String,
    pub(super) kind: ExchangeKind,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
}

/// A queue as it is declared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) arguments: FieldTable,
}

/// One queue that is consumed, with the exchange that it gets its messages from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Subscription {
    /// `None`: the default one, which knows all queues by name.
    pub(super) exchange: Option<Exchange>,
    pub(super) queue: Queue,
    pub(super) routing_key: String,
    pub(super) consume_arguments: FieldTable,
    /// Where reading goes on is told by offsets.
    pub(super) is_stream: bool,
    pub(super) delete_at_stop: bool,
}

/// The exchange of all topics.
pub(super) fn control_exchange(options: &RabbitOptions, name: &str) -> Exchange {
    Exchange {
        name: name.into(),
        kind: ExchangeKind::Topic,
        durable: options.amqp_durable_queues || options.quorum_queue,
        auto_delete: options.amqp_auto_delete,
    }
}

/// The exchange to all servers of a topic.
pub(super) fn fanout_exchange(options: &RabbitOptions, topic: &str) -> Exchange {
    Exchange {
        name: format!("{topic}_fanout"),
        kind: ExchangeKind::Fanout,
        durable: options.transient_quorum_queue,
        auto_delete: true,
    }
}

/// What a server of a topic consumes, in the order of declaration. `fanout_suffix` makes the fanout queue its own.
pub(super) fn server(
    options: &RabbitOptions,
    control_exchange_name: &str,
    topic: &str,
    server: &str,
    fanout_suffix: &str,
) -> Vec<Subscription> {
    let mut subscriptions = Vec::with_capacity(3);
    for key in [topic.to_owned(), format!("{topic}.{server}")] {
        subscriptions.push(Subscription {
            exchange: Some(control_exchange(options, control_exchange_name)),
            queue: Queue {
                name: key.clone(),
                durable: options.amqp_durable_queues || options.quorum_queue,
                auto_delete: options.amqp_auto_delete,
                arguments: queue_arguments(options, options.quorum_queue, 0),
            },
            routing_key: key,
            consume_arguments: consume_arguments(options),
            is_stream: false,
            delete_at_stop: false,
        });
    }
    let exchange = fanout_exchange(options, topic);
    let queue = if options.stream_fanout {
        Queue {
            name: exchange.name.clone(),
            durable: true,
            auto_delete: false,
            arguments: stream_arguments(options.transient_queues_ttl_seconds),
        }
    } else {
        transient_queue(options, format!("{}_{fanout_suffix}", exchange.name))
    };
    subscriptions.push(Subscription {
        exchange: Some(exchange),
        queue,
        routing_key: topic.into(),
        // The offset of a stream is added when it is consumed.
        consume_arguments: if options.stream_fanout { FieldTable::default() } else { consume_arguments(options) },
        is_stream: options.stream_fanout,
        // A stream is shared, and a queue with a lasting name is used again.
        delete_at_stop: !options.stream_fanout && options.queue_manager.is_none(),
    });
    subscriptions
}

/// What a client consumes to get its replies.
pub(super) fn replies(options: &RabbitOptions, suffix: &str) -> Subscription {
    let name = format!("reply_{suffix}");
    Subscription {
        exchange: None,
        routing_key: name.clone(),
        queue: transient_queue(options, name),
        consume_arguments: consume_arguments(options),
        is_stream: false,
        delete_at_stop: false,
    }
}

/// A queue of one process, which goes away some time after it.
fn transient_queue(options: &RabbitOptions, name: String) -> Queue {
    Queue {
        name,
        durable: options.transient_quorum_queue,
        auto_delete: false,
        arguments: queue_arguments(options, options.transient_quorum_queue, options.transient_queues_ttl_seconds),
    }
}

fn queue_arguments(options: &RabbitOptions, is_quorum: bool, ttl_seconds: u32) -> FieldTable {
    let mut arguments = FieldTable::default();
    if options.ha_queues {
        arguments.insert("x-ha-policy".into(), text("all"));
    }
    if is_quorum {
        arguments.insert("x-queue-type".into(), text("quorum"));
        for (name, limit) in [
            ("x-delivery-limit", options.quorum_delivery_limit),
            ("x-max-in-memory-length", options.quorum_max_memory_length),
            ("x-max-in-memory-bytes", options.quorum_max_memory_bytes),
        ] {
            if limit > 0 {
                arguments.insert(name.into(), integer(limit));
            }
        }
    }
    if ttl_seconds > 0 {
        arguments.insert("x-expires".into(), integer(i64::from(ttl_seconds) * 1000));
    }
    arguments
}

fn stream_arguments(ttl_seconds: u32) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("stream"));
    if ttl_seconds > 0 {
        arguments.insert("x-max-age".into(), text(&format!("{ttl_seconds}s")));
    }
    arguments
}

fn consume_arguments(options: &RabbitOptions) -> FieldTable {
    let mut arguments = FieldTable::default();
    if options.enable_cancel_on_failover {
        arguments.insert("x-cancel-on-ha-failover".into(), AMQPValue::Boolean(true));
    }
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// Of the size that py-amqp takes for it: a broker may compare types, too.
fn integer(value: i64) -> AMQPValue {
    i32::try_from(value).map_or(AMQPValue::LongLongInt(value), AMQPValue::LongInt)
}
