//! oslo.messaging: requests, replies and casts between services, over a message broker.
//!
//! Three floors, each of which knows only the one below: the [`Server`](server) and the client speak of methods,
//! arguments and contexts; envelopes and failures are what that looks like as text; a [`Transport`] carries the text.

mod transport;

pub use transport::{
    AckError, AckHandle, Delivery, Listen, Listener, MessageProperties, Publish, Published, Route, Transport,
    TransportError,
};
