//! Lines to the syslog daemon, as glibc's `syslog` sends them for oslo.log.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Entry;
use super::datagram::{Datagram, is_too_long, shortened};
use crate::log::clock::formatted;
use crate::log::settings::Facility;

#[derive(Debug)]
pub(super) struct Syslog {
    socket: Datagram,
    program: String,
    facility: Facility,
    zone: TimeZone,
}

impl Syslog {
    pub(super) fn connect(path: &Path, program: &str, facility: Facility, zone: TimeZone) -> io::Result<Self> {
        Ok(Self { socket: Datagram::connect(path)?, program: program.into(), facility, zone })
    }

    pub(super) fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let sent = self.socket.send(self.message(entry, entry.line).as_bytes());
        match sent {
            Err(error) if is_too_long(&error) => {
                self.socket.send(self.message(entry, &shortened(entry.line)).as_bytes())
            }
            sent => sent,
        }
    }

    fn message(&self, entry: &Entry<'_>, line: &str) -> String {
        let priority = (self.facility.0 << 3) | entry.level.severity();
        let time = formatted("%b %e %H:%M:%S", &self.zone, Timestamp::now());
        format!("<{priority}>{time} {}: {line}", self.program)
    }
}
