//! Schedules as people read them.

use copy::escape;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use web::ScheduleBody;

use super::table::table;
use super::units::Count;

/// One line each; times are those of the schedule.
pub fn list(schedules: &[ScheduleBody]) -> String {
    let rows = schedules.iter().map(|schedule| {
        let zone = TimeZone::get(&schedule.time_zone).unwrap_or_else(|_| TimeZone::system());
        let moment = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string();
        let last = schedule
            .last_job
            .as_ref()
            .map(|job| format!("{} {}", moment(job.nominal_at.unwrap_or(job.created_at)), job.state.as_str()));
        vec![
            shown(&schedule.name),
            schedule.kind.as_str().to_owned(),
            shown(&schedule.cron),
            shown(&schedule.time_zone),
            schedule.next.first().map_or_else(|| "-".to_owned(), |next| moment(next.due_at)),
            last.unwrap_or_else(|| "-".into()),
            notes(schedule),
        ]
    });
    table(&["SCHEDULE", "KIND", "CRON", "TIME ZONE", "NEXT", "LAST", "NOTES"], rows)
}

fn notes(schedule: &ScheduleBody) -> String {
    let mut notes = Vec::new();
    if !schedule.enabled {
        notes.push("not enabled".to_owned());
    }
    for (count, word) in [(schedule.missed, "missed"), (schedule.skipped, "skipped")] {
        if count > 0 {
            notes.push(format!("{} {word}", Count(count)));
        }
    }
    notes.extend(schedule.trouble.as_deref().map(shown));
    notes.join(", ")
}

fn shown(text: &str) -> String {
    escape(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_those_of_the_schedule() {
        let schedule = json!({
            "name": "nightly", "enabled": true, "cron": "0 3 * * *", "time_zone": "Asia/Kathmandu",
            "jitter_seconds": 600, "on_missed": "run", "kind": "copy", "spec": { "kind": "copy" },
            "next": [{ "nominal_at": "2026-11-02T21:15:00Z", "due_at": "2026-11-02T21:20:00Z" }],
            "last_job": {
                "id": "0197c3a2-6f00-7000-8000-000000000000", "state": "failed", "nominal_at": "2026-11-01T21:15:00Z",
                "created_at": "2026-11-02T05:00:00Z", "ended_at": null,
            },
            "last_skipped": null, "last_missed": null, "fired": 1, "skipped": 0, "missed": 2, "trouble": null,
        });
        let mut off = schedule.clone();
        off["name"] = "off".into();
        off["enabled"] = false.into();
        (off["next"], off["last_job"], off["missed"]) = (json!([]), json!(null), 0.into());
        let schedules: Vec<ScheduleBody> = serde_json::from_value(json!([schedule, off])).unwrap();
        let text = list(&schedules);
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect())
            .collect();
        assert_eq!(
            words[1],
            [
                "nightly",
                "copy",
                "0 3 * * *",
                "Asia/Kathmandu",
                "2026-11-03 03:05",
                "2026-11-02 03:00 failed",
                "2 missed"
            ]
        );
        assert_eq!(words[2], ["off", "copy", "0 3 * * *", "Asia/Kathmandu", "-", "-", "not enabled"]);
    }
}
