//! Lines with their fields to systemd's journal, by its native protocol.

use std::io;
use std::path::Path;

use super::Entry;
use super::datagram::{Datagram, is_too_long, shortened};
use crate::log::settings::Facility;

#[derive(Debug)]
pub(super) struct Journal {
    socket: Datagram,
    program: String,
    facility: Facility,
}

impl Journal {
    pub(super) fn connect(path: &Path, program: &str, facility: Facility) -> io::Result<Self> {
        Ok(Self { socket: Datagram::connect(path)?, program: program.into(), facility })
    }

    pub(super) fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let sent = self.socket.send(&self.message(entry, entry.line));
        match sent {
            Err(error) if is_too_long(&error) => self.socket.send(&self.message(entry, &shortened(entry.line))),
            sent => sent,
        }
    }

    fn message(&self, entry: &Entry<'_>, line: &str) -> Vec<u8> {
        let mut message = Vec::with_capacity(line.len() + 512);
        push(&mut message, "MESSAGE", line);
        push(&mut message, "PRIORITY", &entry.level.severity().to_string());
        // The number of the facility. Upstream sends it shifted by three bits, which the journal takes for another one.
        push(&mut message, "SYSLOG_FACILITY", &self.facility.0.to_string());
        push(&mut message, "SYSLOG_IDENTIFIER", &self.program);
        for (name, value) in entry.fields {
            push(&mut message, name, value);
        }
        message
    }
}

/// A value of several lines has its length before it, so none can pass for another field.
fn push(message: &mut Vec<u8>, name: &str, value: &str) {
    message.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        message.push(b'\n');
        message.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        message.push(b'=');
    }
    message.extend_from_slice(value.as_bytes());
    message.push(b'\n');
}
