//! oslo.messaging: requests, replies and casts between services, over a message broker.
//!
//! Three floors, each of which knows only the one below: the [`Server`] and the [`Client`] speak of methods, arguments
//! and contexts; envelopes and failures are what that looks like as text; a [`Transport`] carries the text.

mod arguments;
mod client;
pub mod compression;
mod context;
mod envelope;
mod failure;
mod json;
#[cfg(feature = "memory")]
pub mod memory;
pub mod rabbit;
mod server;
mod transport;
mod version;

pub use arguments::Arguments;
pub use client::{CallError, Client, ClientOptions, SendError, Target};
pub use context::Context;
pub use failure::{Exception, Failure};
pub use server::{Acknowledge, Handler, HandlerError, Request, Server, ServerLimits, ServerOptions};
pub use transport::{
    AckError, AckHandle, Delivery, Listen, Listener, MessageProperties, Publish, Published, Route, Transport,
    TransportError,
};
pub use version::{NotAVersion, RpcVersion};
