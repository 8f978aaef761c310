//! Which bandwidth is in force at a moment: windows of the day in a time zone.
//!
//! Windows follow the clock on the wall. A window from 22:00 to 06:00 has seven hours in the night in which the clock
//! goes forward and nine in the one in which it goes back.

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

use crate::ports::Control;
use crate::spec::{BandwidthWindow, Day, RateLimits};

/// More than a week of half hours is a mistake.
const WINDOWS_MAX: usize = 336;

/// The bounds in force at `at`. `default_bandwidth` is for a job that names none.
pub fn control_at(limits: &RateLimits, default_bandwidth: Option<u64>, at: Timestamp) -> Control {
    let bandwidth = match window_at(limits, at) {
        Some(window) => window.bandwidth_bytes_per_second,
        None => limits.bandwidth_bytes_per_second.or(default_bandwidth),
    };
    Control { stop: None, bandwidth_bytes_per_second: bandwidth, operations_per_second: limits.operations_per_second }
}

fn window_at(limits: &RateLimits, at: Timestamp) -> Option<&BandwidthWindow> {
    if limits.windows.is_empty() {
        return None;
    }
    let local = at.to_zoned(time_zone(limits).unwrap_or_else(TimeZone::system));
    let (today, time) = (local.weekday(), local.time());
    limits.windows.iter().find(|window| {
        // What cannot be read was refused when the limits were set.
        let (Some(from), Some(to)) = (time_of_day(&window.from), time_of_day(&window.to)) else { return false };
        let begins_on = |day: Weekday| window.days.is_empty() || window.days.iter().any(|named| weekday(*named) == day);
        if from < to {
            begins_on(today) && from <= time && time < to
        } else {
            (begins_on(today) && from <= time) || (begins_on(today.previous()) && time < to)
        }
    })
}

fn time_zone(limits: &RateLimits) -> Option<TimeZone> {
    limits.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok())
}

/// `HH:MM` and nothing else.
fn time_of_day(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let number =
        |text: &str| (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?;
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    }
}

/// What is wrong with limits, one message each.
pub fn limit_problems(limits: &RateLimits) -> Vec<String> {
    let mut problems = Vec::new();
    let mut positive = |value: Option<u64>, what: &str| {
        if value == Some(0) {
            problems.push(format!("{what} must be at least 1; to stop a job, pause it"));
        }
    };
    positive(limits.bandwidth_bytes_per_second, "limits.bandwidth_bytes_per_second");
    positive(limits.operations_per_second, "limits.operations_per_second");
    for (index, window) in limits.windows.iter().enumerate() {
        positive(window.bandwidth_bytes_per_second, &format!("limits.windows[{index}].bandwidth_bytes_per_second"));
    }
    if limits.windows.len() > WINDOWS_MAX {
        problems.push(format!("limits.windows has {} windows, more than {WINDOWS_MAX}", limits.windows.len()));
    }
    for (index, window) in limits.windows.iter().enumerate().take(WINDOWS_MAX) {
        for (field, text) in [("from", &window.from), ("to", &window.to)] {
            if time_of_day(text).is_none() {
                problems.push(format!(
                    "limits.windows[{index}].{field} is no time of day such as 22:00: `{}`",
                    text.escape_debug()
                ));
            }
        }
        if time_of_day(&window.from).is_some() && window.from == window.to {
            problems.push(format!("limits.windows[{index}] begins and ends at the same time"));
        }
    }
    if let Some(name) = &limits.time_zone
        && time_zone(limits).is_none()
    {
        problems.push(format!("limits.time_zone is not known here: `{}`", name.escape_debug()));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Day], from: &str, to: &str, bandwidth: Option<u64>) -> BandwidthWindow {
        BandwidthWindow { days: days.into(), from: from.into(), to: to.into(), bandwidth_bytes_per_second: bandwidth }
    }

    fn limits(zone: &str, windows: Vec<BandwidthWindow>) -> RateLimits {
        RateLimits {
            bandwidth_bytes_per_second: Some(100),
            windows,
            time_zone: Some(zone.into()),
            ..RateLimits::default()
        }
    }

    fn check(limits: &RateLimits, at: &str, expected: Option<u64>) {
        let at: Timestamp = at.parse().expect("a time");
        assert_eq!(control_at(limits, None, at).bandwidth_bytes_per_second, expected, "{at}");
    }

    #[test]
    fn the_first_window_that_matches_replaces_the_bandwidth() {
        let windows = vec![
            window(&[], "12:00", "13:00", Some(1)),
            window(&[], "08:00", "18:00", Some(2)),
            window(&[], "20:00", "21:00", None),
        ];
        let limits = limits("UTC", windows);
        check(&limits, "2026-11-02T07:59:59Z", Some(100));
        check(&limits, "2026-11-02T08:00:00Z", Some(2));
        check(&limits, "2026-11-02T12:30:00Z", Some(1));
        check(&limits, "2026-11-02T13:00:00Z", Some(2));
        check(&limits, "2026-11-02T18:00:00Z", Some(100));
        check(&limits, "2026-11-02T20:30:00Z", None);
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        // The second of November 2026 is a Monday.
        let limits = limits("UTC", vec![window(&[Day::Mon], "22:00", "06:00", Some(1))]);
        check(&limits, "2026-11-02T05:00:00Z", Some(100));
        check(&limits, "2026-11-02T22:00:00Z", Some(1));
        check(&limits, "2026-11-03T05:59:00Z", Some(1));
        check(&limits, "2026-11-03T06:00:00Z", Some(100));
        check(&limits, "2026-11-03T23:00:00Z", Some(100));
        let sunday = RateLimits { windows: vec![window(&[Day::Sun], "22:00", "06:00", Some(1))], ..limits };
        check(&sunday, "2026-11-02T05:00:00Z", Some(1));
    }

    #[test]
    fn windows_follow_the_clock_on_the_wall_over_its_changes() {
        let limits = limits("Europe/Vienna", vec![window(&[], "01:30", "04:00", Some(1))]);
        // Forward on the 29th of March: 02:00 is 03:00.
        check(&limits, "2026-03-29T00:29:00Z", Some(100));
        check(&limits, "2026-03-29T00:30:00Z", Some(1));
        check(&limits, "2026-03-29T01:59:00Z", Some(1));
        check(&limits, "2026-03-29T02:00:00Z", Some(100));
        // Back on the 25th of October: 02:30 comes twice.
        for at in ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:59:00Z"] {
            check(&limits, at, Some(1));
        }
        check(&limits, "2026-10-25T03:00:00Z", Some(100));
    }

    #[test]
    fn the_default_is_for_jobs_that_name_no_bandwidth() {
        let at = Timestamp::UNIX_EPOCH;
        let bandwidth = |limits: &RateLimits| control_at(limits, Some(7), at).bandwidth_bytes_per_second;
        assert_eq!(bandwidth(&RateLimits::default()), Some(7));
        assert_eq!(bandwidth(&limits("UTC", Vec::new())), Some(100));
        let unbounded = RateLimits { windows: vec![window(&[], "00:00", "23:59", None)], ..limits("UTC", Vec::new()) };
        assert_eq!(bandwidth(&unbounded), None);
    }

    #[test]
    fn each_thing_that_is_wrong_is_said() {
        let mut wrong = limits(
            "Europe/Wien",
            vec![
                window(&[], "8:00", "24:00", Some(0)),
                window(&[], "06:00", "06:00", None),
                window(&[], "+6:00", "1é:0", None),
            ],
        );
        wrong.operations_per_second = Some(0);
        let problems = limit_problems(&wrong);
        assert_eq!(problems.len(), 8, "{problems:#?}");
        assert_eq!(limit_problems(&limits("Europe/Vienna", vec![window(&[], "22:00", "06:00", None)])), [""; 0]);
    }
}
