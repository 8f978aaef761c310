//! From bytes to a message and back: compression, text, the envelope of oslo.messaging, and the message within.

use bytes::Bytes;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::compression::{COMPRESSION_HEADER, CompressionError, decompress};
use super::json;
use super::transport::MessageProperties;
use super::version::RpcVersion;

const VERSION_KEY: &str = "oslo.version";
const MESSAGE_KEY: &str = "oslo.message";
const VERSION: RpcVersion = RpcVersion::new(2, 0);

/// Why a body is no message. It says nothing of what the body holds, which may be secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAMessage {
    #[error("its content type is {0:?}; only application/json is taken")]
    ContentType(Option<String>),
    #[error("it has {bytes} bytes; the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error(transparent)]
    Compression(#[from] CompressionError),
    #[error("it is not UTF-8")]
    Encoding,
    #[error("{place} is not JSON that can be read: {error}")]
    Json { place: &'static str, error: serde_json::Error },
    #[error("{place} is {found}, not an object")]
    NotAnObject { place: &'static str, found: &'static str },
    #[error("its envelope is not of version {VERSION} or a lower one of the same kind")]
    EnvelopeVersion,
    #[error("its envelope holds {0} where text is expected")]
    MessageIsNotText(&'static str),
}

/// The message in a body.
pub(crate) fn open(
    body: &Bytes,
    properties: &MessageProperties,
    bytes_max: usize,
) -> Result<Map<String, Value>, NotAMessage> {
    let is_json = |content_type: &String| content_type.eq_ignore_ascii_case("application/json");
    if !properties.content_type.as_ref().is_some_and(is_json) {
        return Err(NotAMessage::ContentType(properties.content_type.clone()));
    }
    if body.len() > bytes_max {
        return Err(NotAMessage::TooLarge { bytes: body.len(), limit: bytes_max });
    }
    let decompressed = match properties.headers.get(COMPRESSION_HEADER) {
        Some(method) => decompress(method, body, bytes_max)?.into(),
        None => body.clone(),
    };
    let text = std::str::from_utf8(&decompressed).map_err(|_| NotAMessage::Encoding)?;
    let mut outer = object(text, "the body")?;
    if !(outer.contains_key(VERSION_KEY) && outer.contains_key(MESSAGE_KEY)) {
        // From before there were envelopes.
        return Ok(outer);
    }
    let version = outer[VERSION_KEY].as_str().and_then(|version| version.parse().ok());
    if !version.is_some_and(|version| VERSION.serves(version)) {
        return Err(NotAMessage::EnvelopeVersion);
    }
    match outer[MESSAGE_KEY].take() {
        Value::String(inner) => object(&inner, "the message in the envelope"),
        other => Err(NotAMessage::MessageIsNotText(json::type_name(&other))),
    }
}

fn object(text: &str, place: &'static str) -> Result<Map<String, Value>, NotAMessage> {
    match json::read(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(NotAMessage::NotAnObject { place, found: json::type_name(&other) }),
        Err(error) => Err(NotAMessage::Json { place, error }),
    }
}

/// The body that carries a message.
pub(crate) fn seal(message: &Map<String, Value>) -> Bytes {
    let mut envelope = Map::new();
    envelope.insert(VERSION_KEY.into(), VERSION.to_string().into());
    envelope.insert(MESSAGE_KEY.into(), json::write(message).into());
    json::write(&envelope).into()
}

/// 32 hexadecimal digits that nobody had before: the form of all identifiers of messages.
pub(crate) fn unique_id() -> String {
    Uuid::new_v4().simple().to_string()
}
