//! Moments that a cron expression means in a time zone, also where clocks are changed. Pure: asked about a moment, it
//! answers with moments.
//!
//! An expression names times on the wall. Where its hours are all hours, it fires whenever the wall shows such a time:
//! twice in an hour that comes twice, not at all in one that is left out, so that the time between two firings stays the
//! same. Otherwise people mean hours of the day, and each time that is named fires once: the first time it comes, or
//! at the end of the gap that it falls into.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Longest expression: lists of all minutes, hours and days are shorter.
const CRON_BYTES_MAX: usize = 512;

#[derive(Clone, Debug)]
pub(super) struct Calendar {
    cron: Cron,
    every_hour: bool,
    zone: TimeZone,
}

impl Calendar {
    /// Five fields, or a word such as `@daily`. `Err`: what is wrong with them.
    pub(super) fn new(cron: &str, zone: TimeZone) -> Result<Self, String> {
        if cron.len() > CRON_BYTES_MAX {
            return Err(format!("is longer than {CRON_BYTES_MAX} bytes"));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let fields = cron.split_whitespace().count();
        if fields != 5 && !cron.trim_start().starts_with('@') {
            return Err(format!(
                "has {fields} fields and not 5: minute, hour, day of the month, month, day of the week"
            ));
        }
        let cron = parser.parse(cron).map_err(|error| format!("cannot be understood: {error}"))?;
        let every_hour = cron.pattern.hours.values().len() == 24;
        let calendar = Self { cron, every_hour, zone };
        // The 29th of February has been by then, whatever the year.
        match calendar.next_on_wall(DateTime::constant(2000, 1, 1, 0, 0, 0, 0), true) {
            Some(_) => Ok(calendar),
            None => Err("names no day that there is".into()),
        }
    }

    /// `None`: never again within the time that computers know.
    pub(super) fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        if self.every_hour { self.next_shown(at) } else { self.next_named(at) }
    }

    /// The last one after `after` and not after `until`.
    pub(super) fn latest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let mut latest = self.next_after(after).filter(|first| *first <= until)?;
        // Whether another one follows changes once between the two, from yes to no.
        let mut without = until;
        loop {
            let middle = latest + (without.duration_since(latest)) / 2;
            match self.next_after(middle).filter(|next| *next <= until) {
                Some(next) => latest = next,
                None => without = middle,
            }
            if without.duration_since(latest) < SignedDuration::from_secs(1) {
                return Some(latest);
            }
        }
    }

    fn next_on_wall(&self, wall: DateTime, is_inclusive: bool) -> Option<DateTime> {
        // It fails where no day matches up to the end of its years.
        self.cron.find_next_occurrence(&wall, is_inclusive).ok()
    }

    /// The next moment at which the wall shows a time that is named.
    fn next_shown(&self, at: Timestamp) -> Option<Timestamp> {
        let (mut from, mut is_inclusive) = (at, false);
        // Between two changes of the clock the wall shows the moment and a constant.
        let mut changes = self.zone.following(at);
        loop {
            let offset = self.zone.to_offset(from);
            let wall = self.next_on_wall(offset.to_datetime(from), is_inclusive)?;
            let moment = offset.to_timestamp(wall).ok()?;
            match changes.next() {
                Some(change) if change.timestamp() <= moment => (from, is_inclusive) = (change.timestamp(), true),
                _ => return Some(moment),
            }
        }
    }

    /// The next moment that stands for a time that is named.
    fn next_named(&self, at: Timestamp) -> Option<Timestamp> {
        // Times on the wall lead to moments in the same order, so nothing up to this one leads past `at`.
        let mut wall = self.zone.to_datetime(at);
        loop {
            wall = self.next_on_wall(wall, false)?;
            let moment = self.moment_of(wall)?;
            if moment > at {
                return Some(moment);
            }
        }
    }

    fn moment_of(&self, wall: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                // Read with the offset that follows, it lies before the change.
                let mut changes = self.zone.following(after.to_timestamp(wall).ok()?);
                changes.find(|change| change.offset() == after).map(|change| change.timestamp())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn calendar(cron: &str, zone: &str) -> Calendar {
        Calendar::new(cron, TimeZone::get(zone).expect("a time zone")).expect("an expression")
    }

    fn moment(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }

    /// All that follow `from` before `to`, as the wall shows them.
    fn fired(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let calendar = calendar(cron, zone);
        let (mut at, to) = (moment(from), moment(to));
        let mut fired = Vec::new();
        while let Some(next) = calendar.next_after(at).filter(|next| *next < to) {
            assert!(next > at);
            at = next;
            fired.push(next.to_zoned(calendar.zone.clone()).strftime("%d %H:%M %z").to_string());
        }
        fired
    }

    #[test]
    fn times_that_a_gap_leaves_out_fire_once_at_its_end() {
        let vienna = |cron| fired(cron, "Europe/Vienna", "2026-03-28T12:00:00Z", "2026-03-30T00:00:00Z");
        assert_eq!(vienna("30 2 * * *"), ["29 03:00 +0200"]);
        assert_eq!(vienna("0,30 2 * * *"), ["29 03:00 +0200"]);
        assert_eq!(vienna("0 2,3,4 * * *"), ["29 03:00 +0200", "29 04:00 +0200"]);
        assert_eq!(vienna("30 2 29 3 *"), ["29 03:00 +0200"]);
        let even = ["28 22:00 +0100", "29 00:00 +0100", "29 03:00 +0200", "29 04:00 +0200"];
        assert_eq!(vienna("0 */2 * * *")[4..8], even);
    }

    #[test]
    fn times_that_come_twice_fire_the_first_time() {
        let vienna = |cron| fired(cron, "Europe/Vienna", "2026-10-24T20:00:00Z", "2026-10-25T05:00:00Z");
        assert_eq!(vienna("30 2 * * *"), ["25 02:30 +0200"]);
        assert_eq!(vienna("0,30 2,3 * * *"), ["25 02:00 +0200", "25 02:30 +0200", "25 03:00 +0100", "25 03:30 +0100"]);
        // Asked in between, and in the second of both hours.
        let calendar = calendar("30 2 * * *", "Europe/Vienna");
        for at in ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:15:00Z", "2026-10-25T01:30:00Z"] {
            assert_eq!(calendar.next_after(moment(at)), Some(moment("2026-10-26T01:30:00Z")), "{at}");
        }
    }

    #[test]
    fn expressions_of_every_hour_fire_at_the_same_distance_all_the_time() {
        let spring = fired("0 * * * *", "Europe/Vienna", "2026-03-28T23:30:00Z", "2026-03-29T02:30:00Z");
        assert_eq!(spring, ["29 01:00 +0100", "29 03:00 +0200", "29 04:00 +0200"]);
        let autumn = fired("30 * * * *", "Europe/Vienna", "2026-10-24T23:45:00Z", "2026-10-25T02:45:00Z");
        assert_eq!(autumn, ["25 02:30 +0200", "25 02:30 +0100", "25 03:30 +0100"]);
        // Half an hour at once.
        let autumn = fired("*/15 * * * *", "Australia/Lord_Howe", "2026-04-04T14:20:00Z", "2026-04-04T15:20:00Z");
        assert_eq!(autumn, ["05 01:30 +1100", "05 01:45 +1100", "05 01:30 +1030", "05 01:45 +1030"]);
    }

    #[test]
    fn gaps_may_be_at_midnight_or_a_whole_day() {
        let cairo = fired("0 0 * * *", "Africa/Cairo", "2026-04-23T00:00:00Z", "2026-04-25T00:00:00Z");
        assert_eq!(cairo, ["24 01:00 +0300", "25 00:00 +0300"]);
        let apia = fired("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z");
        assert_eq!(apia, ["29 12:00 -1000", "31 00:00 +1400", "31 12:00 +1400", "01 12:00 +1400"]);
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let year = |cron| fired(cron, "UTC", "2026-01-01T00:00:00Z", "2026-07-01T00:00:00Z");
        assert_eq!(year("0 3 L * *")[..3], ["31 03:00 +0000", "28 03:00 +0000", "31 03:00 +0000"]);
        assert_eq!(year("0 3 * * sun#1")[..2], ["04 03:00 +0000", "01 03:00 +0000"]);
        assert_eq!(year("@monthly")[0], "01 00:00 +0000");
        let leap = calendar("0 0 29 2 *", "UTC");
        assert_eq!(leap.next_after(moment("2026-01-01T00:00:00Z")), Some(moment("2028-02-29T00:00:00Z")));
    }

    #[test]
    fn what_is_no_expression_is_refused_with_a_reason() {
        let check = |cron: &str, reason: &str| {
            let error = Calendar::new(cron, TimeZone::UTC).expect_err(cron);
            assert!(error.contains(reason), "{cron}: {error}");
        };
        check("", "0 fields");
        check("0 3 * *", "4 fields");
        check("0 0 3 * * *", "6 fields");
        check("60 3 * * *", "cannot be understood");
        check("a 3 * * *", "cannot be understood");
        check("@nightly", "cannot be understood");
        check("0 0 30 2 *", "no day");
        check(&"0".repeat(1000), "longer than");
    }

    /// Zones with changes of an hour and of half an hour, at night and at midnight, on both halves of the earth, with
    /// negative daylight saving, and with none.
    const ZONES: [&str; 8] = [
        "Europe/Vienna",
        "America/New_York",
        "Australia/Lord_Howe",
        "Africa/Cairo",
        "America/Santiago",
        "Europe/Dublin",
        "Asia/Kathmandu",
        "UTC",
    ];

    fn crons() -> impl Strategy<Value = String> {
        let minute = prop_oneof![Just("*".to_owned()), (0..60_u8).prop_map(|m| m.to_string()), Just("*/20".into())];
        let hour = prop_oneof![
            Just("*".to_owned()),
            (0..24_u8).prop_map(|h| h.to_string()),
            (0..5_u8, 5..24_u8).prop_map(|(a, b)| format!("{a},{b}")),
            (2..7_u8).prop_map(|step| format!("*/{step}")),
        ];
        let day = prop_oneof![Just("* * *"), Just("* * 0"), Just("L * *"), Just("* 3,10 *")];
        (minute, hour, day).prop_map(|(minute, hour, day)| format!("{minute} {hour} {day}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

        /// Minute by minute over the days around a change: what the rules of this module say, and nothing else.
        #[test]
        fn nothing_is_lost_and_nothing_comes_twice(
            cron in crons(),
            zone in proptest::sample::select(&ZONES[..]),
            year in 2025..2028_i16,
            change in 0..2_usize,
        ) {
            let calendar = calendar(&cron, zone);
            let new_year = TimeZone::UTC.to_timestamp(DateTime::constant(year, 1, 1, 0, 0, 0, 0)).expect("a moment");
            let change = calendar.zone.following(new_year).nth(change).map_or(new_year, |change| change.timestamp());
            // Some files of time zones end in the middle of a minute, with no change at all.
            let middle = Timestamp::from_second(change.as_second() / 60 * 60).expect("a moment");
            let day = SignedDuration::from_hours(36);
            let (from, to) = (middle - day, middle + day);

            let mut found = Vec::new();
            let mut at = from;
            while let Some(next) = calendar.next_after(at).filter(|next| *next <= to) {
                prop_assert!(next > at);
                found.push(next);
                at = next;
            }

            let minute = SignedDuration::from_mins(1);
            let matches = |wall: DateTime| calendar.cron.is_time_matching(&wall).expect("a time");
            let mut expected = std::collections::BTreeSet::new();
            let mut moment = from + minute;
            while moment <= to {
                let wall = calendar.zone.to_datetime(moment);
                let first_of_both = calendar.zone.to_ambiguous_timestamp(wall).earlier().expect("a moment") == moment;
                if matches(wall) && (calendar.every_hour || first_of_both) {
                    expected.insert(moment);
                }
                // What the wall leaves out just before this minute.
                let mut left_out = calendar.zone.to_datetime(moment - minute) + minute;
                while left_out < wall {
                    if !calendar.every_hour && matches(left_out) {
                        expected.insert(moment);
                    }
                    left_out += minute;
                }
                moment += minute;
            }
            let expected: Vec<_> = expected.into_iter().collect();
            let differs = (0..found.len().max(expected.len())).find(|index| found.get(*index) != expected.get(*index));
            prop_assert_eq!(differs.map(|index| (found.get(index), expected.get(index))), None);
        }

        #[test]
        fn the_latest_is_the_last_of_all(
            cron in crons(),
            zone in proptest::sample::select(&ZONES[..]),
            start in 1_740_000_000..1_800_000_000_i64,
            length in 0..400_000_i64,
        ) {
            let calendar = calendar(&cron, zone);
            let after = Timestamp::from_second(start).expect("a moment");
            let until = after + SignedDuration::from_secs(length);
            let next = |at: &Timestamp| calendar.next_after(*at).filter(|next| *next <= until);
            let last = std::iter::successors(next(&after), next).last();
            prop_assert_eq!(calendar.latest(after, until), last);
        }
    }
}
