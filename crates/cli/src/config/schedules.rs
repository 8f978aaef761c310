//! `[schedule:NAME]`: jobs that are made again and again.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use job::{JobSpec, Known, OnMissed, ScheduleProblem, ScheduleSettings, Timetable};

use super::ConfigError;
use super::typed::Reader;
use crate::plan::shown;

/// A specification is a page of text; more is another file.
const SPEC_BYTES_MAX: u64 = 4 << 20;

impl Reader<'_> {
    pub(super) fn schedule(&self, name: &str, group: &str, known: &Known) -> Result<Timetable, ConfigError> {
        let file = PathBuf::from(self.required(group, "job")?);
        if !file.is_absolute() {
            return Err(self.wrong(group, "job", "must be an absolute path"));
        }
        let of_job = |problem: &str| self.wrong(group, "job", format!("names `{}`, {problem}", shown(&file)));
        let settings = ScheduleSettings {
            name: name.into(),
            is_enabled: self.bool(group, "enabled")?,
            cron: self.required(group, "cron")?,
            time_zone: self.text(group, "time_zone")?,
            jitter: self.seconds(group, "jitter_seconds")?,
            on_missed: match self.required(group, "missed")?.as_str() {
                "run" => OnMissed::Run,
                "skip" => OnMissed::Skip,
                _ => return Err(self.wrong(group, "missed", "must be run or skip")),
            },
            spec: read_spec(&file).map_err(|problem| of_job(&problem))?,
        };
        Timetable::new(settings, known).map_err(|problem| match problem {
            ScheduleProblem::Name => self.wrong(group, "cron", format!("has no place: {problem}")),
            ScheduleProblem::Cron(why) => self.wrong(group, "cron", why),
            ScheduleProblem::TimeZone => {
                self.wrong(group, "time_zone", "is not known here; the names are those of the system, as Europe/Vienna")
            }
            ScheduleProblem::Jitter => self.wrong(group, "jitter_seconds", "must be at most a day"),
            ScheduleProblem::Spec(problems) => {
                of_job(&format!("which cannot be carried out as asked: {}", problems.join("; ")))
            }
        })
    }
}

/// `Err`: what is wrong with the file.
fn read_spec(file: &Path) -> Result<JobSpec, String> {
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(SPEC_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| format!("which cannot be read: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("which is not the specification of a job: {error}"))
}
