//! Syslog and the journal: what they are sent, and what happens where they are not.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use oslo::log::{Facility, LogSettings};
use tracing::{debug, error, info, info_span};

use crate::kit::{Place, with_log};

/// A daemon that listens.
fn daemon(place: &Place, name: &str) -> UnixDatagram {
    let socket = UnixDatagram::bind(place.path(name)).unwrap();
    socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    socket
}

fn next(socket: &UnixDatagram) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    let length = socket.recv(&mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

fn syslog(place: &Place) -> LogSettings {
    let facility = Facility::named("local3").unwrap();
    LogSettings { file: None, syslog: true, syslog_socket: place.path("syslog"), facility, ..place.bare() }
}

/// `<priority>Mmm dd hh:mm:ss `, of which the priority is the answer, and what stands behind.
fn cut(message: &[u8]) -> (String, String) {
    let text = str::from_utf8(message).unwrap();
    let (priority, rest) = text.strip_prefix('<').unwrap().split_once('>').unwrap();
    let (time, rest) = rest.split_at(16);
    let pattern: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    let pattern = &pattern.replace("  9 ", " 99 ")[3..];
    assert_eq!(pattern, " 99 99:99:99 ", "{text}");
    (priority.into(), rest.into())
}

#[test]
fn syslog_has_lines_as_glibc_sends_them() {
    let place = Place::new();
    let socket = daemon(&place, "syslog");
    let settings = LogSettings { debug: true, ..syslog(&place) };
    with_log(&settings, |_| {
        info!("one\ntwo");
        error!(critical = true, "three");
        debug!("four");
    })
    .unwrap();
    // 19 * 8 and the severity.
    for (priority, line) in [("158", "INFO one\\ntwo"), ("154", "CRITICAL three"), ("159", "DEBUG four")] {
        assert_eq!(cut(&next(&socket)), (priority.into(), format!("manila-data: {line}")));
    }
}

#[test]
fn a_daemon_that_is_started_again_is_found() {
    let place = Place::new();
    let socket = daemon(&place, "syslog");
    with_log(&syslog(&place), |log| {
        info!("first");
        assert!(cut(&next(&socket)).1.ends_with("first"));
        drop(socket);
        info!("lost");
        std::fs::remove_file(place.path("syslog")).unwrap();
        info!("lost, too");
        assert_eq!(log.lost_lines(), 2);
        let socket = daemon(&place, "syslog");
        info!("second");
        let told = cut(&next(&socket)).1;
        assert!(told.contains("2 log lines could not be written to the syslog daemon"), "{told}");
        assert!(cut(&next(&socket)).1.ends_with("second"));
    })
    .unwrap();
}

#[test]
fn a_daemon_that_hangs_stops_nobody() {
    let place = Place::new();
    let socket = daemon(&place, "syslog");
    with_log(&syslog(&place), |log| {
        let mut count = 0_u64;
        // The queue of the socket is finite.
        while log.lost_lines() < 50 {
            info!(count);
            count += 1;
            assert!(count < 1_000_000, "no line is ever lost");
        }
        for _ in 0..count - 50 {
            next(&socket);
        }
        info!("it goes on");
        assert!(cut(&next(&socket)).1.contains("50 log lines could not be written"));
        assert!(cut(&next(&socket)).1.ends_with("it goes on"));
    })
    .unwrap();
}

#[test]
fn a_line_that_is_too_long_for_the_socket_is_cut() {
    let place = Place::new();
    let socket = daemon(&place, "syslog");
    let long = "é".repeat(4 << 20);
    with_log(&syslog(&place), |log| {
        info!("{long}");
        assert_eq!(log.lost_lines(), 0);
    })
    .unwrap();
    let line = cut(&next(&socket)).1;
    assert!(line.starts_with("manila-data: INFO ééé") && line.ends_with("bytes are cut off]"), "{}", line.len());
}

/// The fields of a message of the journal's native protocol.
fn fields(mut message: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while let Some(end) = message.iter().position(|byte| *byte == b'\n') {
        let line = str::from_utf8(&message[..end]).unwrap();
        let Some((name, value)) = line.split_once('=') else {
            let (length, rest) = message[end + 1..].split_first_chunk::<8>().unwrap();
            let length = u64::from_le_bytes(*length) as usize;
            message = &rest[length + 1..];
            fields.push((line.into(), str::from_utf8(&rest[..length]).unwrap().into()));
            continue;
        };
        fields.push((name.into(), value.into()));
        message = &message[end + 1..];
    }
    assert!(message.is_empty());
    fields
}

#[test]
fn the_journal_has_the_line_and_its_fields() {
    let place = Place::new();
    let socket = daemon(&place, "journal");
    let settings = LogSettings { file: None, journal: true, journal_socket: place.path("journal"), ..place.bare() };
    with_log(&settings, |_| {
        let _span = info_span!("request", request_id = "req-1", user_id = "u1", project_id = "p1").entered();
        error!(target: "manila::data", error = "a\nPRIORITY=0", "failed");
    })
    .unwrap();
    let fields = fields(&next(&socket));
    let of = |name: &str| {
        let mut found = fields.iter().filter(|(known, _)| known == name).map(|(_, value)| &**value);
        let value = found.next();
        assert_eq!(found.next(), None, "{name} stands there twice");
        value
    };
    let check = |name: &str, expected: &str| assert_eq!(of(name), Some(expected), "{name}");
    check("MESSAGE", "ERROR failed: a\\nPRIORITY=0");
    check("PRIORITY", "3");
    check("SYSLOG_FACILITY", "1");
    check("SYSLOG_IDENTIFIER", "manila-data");
    check("LOGGER_NAME", "manila.data");
    check("LOGGER_LEVEL", "ERROR");
    check("REQUEST_ID", "req-1");
    check("USER_ID", "u1");
    check("PROJECT_ID", "p1");
    check("CODE_FUNC", "request");
    check("CODE_FILE", "crates/oslo/tests/log/daemons.rs");
    check("THREAD_NAME", "worker");
    check("PROCESS_NAME", "MainProcess");
    check("EXCEPTION_TEXT", "a\nPRIORITY=0");
    assert_eq!(of("USER_NAME"), None);
}

#[test]
fn several_places_have_every_line() {
    let place = Place::new();
    let (syslog_socket, journal_socket) = (daemon(&place, "syslog"), daemon(&place, "journal"));
    let file = Some(place.path("log"));
    let settings = LogSettings { file, journal: true, journal_socket: place.path("journal"), ..syslog(&place) };
    with_log(&settings, |_| info!("everywhere")).unwrap();
    assert_eq!(place.text("log"), "INFO everywhere\n");
    assert!(cut(&next(&syslog_socket)).1.ends_with("INFO everywhere"));
    assert_eq!(fields(&next(&journal_socket))[0], ("MESSAGE".into(), "INFO everywhere".into()));
}

#[test]
fn a_daemon_that_is_not_there_is_told() {
    let place = Place::new();
    let settings = LogSettings {
        file: Some(place.path("log")),
        journal: true,
        journal_socket: place.path("none"),
        ..syslog(&place)
    };
    with_log(&settings, |log| {
        info!("goes on");
        assert_eq!(log.lost_lines(), 0);
    })
    .unwrap();
    let lines = place.lines("log");
    assert!(lines[0].contains("cannot reach the journal at `"), "{lines:?}");
    assert!(lines[1].contains("cannot reach the syslog daemon at `"), "{lines:?}");
    assert!(lines[1].contains("No such file or directory") && lines[1].contains("standard error"), "{lines:?}");
    assert_eq!(lines[2], "INFO goes on");
}
