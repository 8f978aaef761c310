//! Names and times of rotated files, as Python's `RotatingFileHandler` and `TimedRotatingFileHandler` have them.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use crate::log::clock::formatted;
use crate::log::settings::Every;

const DAY_SECONDS: i64 = 24 * 3600;

/// `log` becomes `log.1`, `log.1` becomes `log.2`; the one beyond `count_max` is replaced.
pub(super) fn shift(path: &Path, count_max: usize) -> io::Result<()> {
    for number in (1..count_max).rev() {
        match fs::rename(with_suffix(path, &number.to_string()), with_suffix(path, &(number + 1).to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, with_suffix(path, "1"))
}

/// `log` becomes `log.2026-11-22`, by the time when it was begun. A file of this name stays: it is of the same time, and
/// the log goes on. Of all such files the oldest beyond `count_max` are removed; 0 keeps all.
pub(super) fn name_by_time(
    path: &Path,
    every: Every,
    begun: Timestamp,
    zone: &TimeZone,
    count_max: usize,
) -> io::Result<()> {
    let rotated = with_suffix(path, &formatted(every.suffix(), zone, begun));
    if rotated.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(path, rotated)?;
    if count_max > 0 {
        let mut old = rotated_files(path, every)?;
        old.sort();
        for path in old.iter().rev().skip(count_max) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn rotated_files(path: &Path, every: Every) -> io::Result<Vec<PathBuf>> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = with_suffix(path.file_name().map_or(path, Path::new), "").into_os_string();
    let example = formatted(every.suffix(), &TimeZone::UTC, Timestamp::UNIX_EPOCH);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let suffix = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        if suffix.is_some_and(|suffix| is_like(suffix, example.as_bytes())) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Whether a suffix has digits where the example has, perhaps with an ending behind, as of a compressed file.
fn is_like(suffix: &[u8], example: &[u8]) -> bool {
    let is_same = |(a, b): (&u8, &u8)| a == b || (a.is_ascii_digit() && b.is_ascii_digit());
    let Some((time, ending)) = suffix.split_at_checked(example.len()) else { return false };
    let is_ending = ending
        .split_first()
        .is_none_or(|(dot, word)| *dot == b'.' && !word.is_empty() && word.iter().all(u8::is_ascii_alphanumeric));
    time.iter().zip(example).all(is_same) && is_ending
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(suffix);
    name.into()
}

/// The first rotation after a time. `None` at the end of all time.
pub(super) fn due(every: Every, from: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let midnight_after = |days: i64| {
        let day = from.to_zoned(zone.clone()).date().checked_add(days.days()).ok()?;
        Some(day.to_zoned(zone.clone()).ok()?.timestamp())
    };
    match every {
        Every::Midnights(count) => midnight_after(i64::from(count)),
        Every::Weekday(day) => {
            let today = from.to_zoned(zone.clone()).weekday();
            let day = Weekday::from_monday_zero_offset(day as i8).ok()?;
            midnight_after(i64::from(today.until(day)) + 1)
        }
        _ => from.checked_add(SignedDuration::from_secs(length_seconds(every))).ok(),
    }
}

/// When the file was begun that is due now, as its name has it.
pub(super) fn begun(every: Every, due: Timestamp) -> Timestamp {
    due.checked_sub(SignedDuration::from_secs(length_seconds(every))).unwrap_or(due)
}

fn length_seconds(every: Every) -> i64 {
    match every {
        Every::Seconds(count) => count.into(),
        Every::Minutes(count) => i64::from(count) * 60,
        Every::Hours(count) => i64::from(count) * 3600,
        Every::Days(count) | Every::Midnights(count) => i64::from(count) * DAY_SECONDS,
        Every::Weekday(_) => 7 * DAY_SECONDS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_rotation_are_those_of_python() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        // A Sunday, at 02:30 in this zone.
        let from: Timestamp = "2026-11-22T00:30:00Z".parse().unwrap();
        let check = |every, expected: &str| {
            let due = due(every, from, &zone).unwrap();
            assert_eq!(due.to_string(), expected, "{every:?}");
        };
        check(Every::Seconds(90), "2026-11-22T00:31:30Z");
        check(Every::Hours(2), "2026-11-22T02:30:00Z");
        check(Every::Days(1), "2026-11-23T00:30:00Z");
        check(Every::Midnights(1), "2026-11-22T22:00:00Z");
        check(Every::Midnights(2), "2026-11-23T22:00:00Z");
        check(Every::Weekday(6), "2026-11-22T22:00:00Z");
        check(Every::Weekday(0), "2026-11-23T22:00:00Z");
        check(Every::Weekday(5), "2026-11-28T22:00:00Z");
    }

    #[test]
    fn names_of_rotated_files_are_known() {
        let example = b"1970-01-01";
        for (suffix, expected) in [
            ("2026-11-22", true),
            ("2026-11-22.gz", true),
            ("2026-11-22_08", false),
            ("2026-11-2", false),
            ("1", false),
            ("2026-11-22.", false),
        ] {
            assert_eq!(is_like(suffix.as_bytes(), example), expected, "{suffix}");
        }
    }
}
