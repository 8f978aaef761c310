//! Times in lines: local, in the format of the operator, as Python's `time.strftime` prints them.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::fmt::strtime::{BrokenDownTime, Config, PosixCustom};
use jiff::tz::TimeZone;

/// What glibc's `strftime` knows in the C locale. Anything else stands for itself there.
const DIRECTIVES: &str = "aAbBcCdDeFgGhHIjklmMnpPrRsSTtuUVwWxXyYzZ";

/// Python's format where nobody names one. Milliseconds follow after a comma.
const DEFAULT_FORMAT: &str = "%Y-%m-%d %H:%M:%S";

#[derive(Clone, Debug)]
pub(super) struct Clock {
    zone: TimeZone,
    /// For jiff, which knows more directives than Python.
    format: String,
    /// Empty format: Python's own default, which has them.
    has_millis: bool,
}

impl Clock {
    pub(super) fn new(zone: TimeZone, format: &str) -> Self {
        let has_millis = format.is_empty();
        let format = translated(if has_millis { DEFAULT_FORMAT } else { format });
        Self { zone, format, has_millis }
    }

    pub(super) fn asctime(&self, at: Timestamp) -> String {
        let mut text = formatted(&self.format, &self.zone, at);
        if self.has_millis {
            let _ = write!(text, ",{:03}", millis(at));
        }
        text
    }

    /// ISO 8601 with microseconds and the offset, for RFC 5424.
    pub(super) fn isotime(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S.%6f%:z").to_string()
    }
}

/// The time in a format of [`DIRECTIVES`]. What cannot be printed is left as it is written.
pub(super) fn formatted(format: &str, zone: &TimeZone, at: Timestamp) -> String {
    let config = Config::new().custom(PosixCustom::new()).lenient(true);
    let mut text = String::new();
    let time = BrokenDownTime::from(&at.to_zoned(zone.clone()));
    if time.format_with_config(&config, format, &mut text).is_err() {
        return format.into();
    }
    text
}

/// The milliseconds of the second.
pub(super) fn millis(at: Timestamp) -> i64 {
    at.as_millisecond().rem_euclid(1000)
}

/// Seconds since the epoch, as precise as Python has them.
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}

/// Doubles the sign of directives that glibc does not know, and drops the modifiers of other locales and calendars.
fn translated(format: &str) -> String {
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push_str("%%");
            rest = after;
            continue;
        }
        let flags = rest.find(|c: char| !matches!(c, '_' | '-' | '^' | '#' | '0'..='9')).unwrap_or(rest.len());
        let (flags, after) = rest.split_at(flags);
        let after = after.strip_prefix(['E', 'O']).unwrap_or(after);
        match after.chars().next() {
            Some(letter) if DIRECTIVES.contains(letter) => {
                out.extend(["%", flags]);
                out.push(letter);
                rest = &after[1..];
            }
            _ => out.push_str("%%"),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is expected is what Python 3.11 prints on glibc in the C locale.
    #[test]
    fn times_are_printed_as_python_prints_them() {
        let at: Timestamp = "2026-02-03T04:05:06.789Z".parse().unwrap();
        let check = |format: &str, expected: &str| {
            assert_eq!(Clock::new(TimeZone::UTC, format).asctime(at), expected, "{format:?}");
        };
        check("%Y-%m-%d %H:%M:%S", "2026-02-03 04:05:06");
        check("", "2026-02-03 04:05:06,789");
        check("%d/%b/%Y:%H:%M:%S %z", "03/Feb/2026:04:05:06 +0000");
        check(
            "%c|%x|%X|%r|%D|%F|%T|%R",
            "Tue Feb  3 04:05:06 2026|02/03/26|04:05:06|04:05:06 AM|02/03/26|2026-02-03|04:05:06|04:05",
        );
        check("%a %A %b %B %h %p %P", "Tue Tuesday Feb February Feb AM am");
        check("%e|%k|%l|%I|%j|%C|%y|%g|%G", " 3| 4| 4|04|034|20|26|26|2026");
        check("%u %w %U %W %V %s %Z", "2 2 05 05 06 1770091506 UTC");
        check("%-d %_d %Ey %Od 100%% %", "3  3 26 03 100% %");
        check("%f %Q %N %", "%f %Q %N %");
    }

    #[test]
    fn iso_times_have_microseconds_and_an_offset() {
        let zone = TimeZone::fixed(jiff::tz::offset(-5));
        let at: Timestamp = "2026-02-03T04:05:06Z".parse().unwrap();
        assert_eq!(Clock::new(zone, "").isotime(at), "2026-02-02T23:05:06.000000-05:00");
    }
}
