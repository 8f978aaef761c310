//! How far a copy is, in upstream's words.

use std::path::{Path, PathBuf};

use job::{JobView, Next, Outcome, State};
use serde_json::{Map, Value};

use crate::backup::BackupAction;
use crate::endpoint::Task;
use crate::settings::Settings;

/// What `data_copy_get_progress` answers of a job that has not ended. `total_progress` is always there and an integer,
/// as manila-api demands; 100 is said only when the copying is done. Files are named below `dest`.
pub(crate) fn answer(view: &JobView, dest: &Path) -> Value {
    let progress = view.progress.as_ref();
    let is_copied = matches!(view.job.state, State::Releasing { next: Next::End(Outcome::Completed) });
    let total = if is_copied { 100 } else { percent_of(view) };
    let mut answer = Map::from_iter([("total_progress".to_owned(), Value::from(total))]);
    let progress = progress.filter(|_| view.job.state == State::Working);
    let current = progress.and_then(|progress| Some((progress, progress.current.as_ref()?.parse()?)));
    if let Some((progress, path)) = current {
        let path = String::from_utf8_lossy(path.as_bytes());
        answer.insert("current_file_path".into(), format!("{}/{path}", dest.display()).into());
        // Of a small file nothing is known but that it is not done yet.
        let percent = progress.current_percent.unwrap_or(0.0).clamp(0.0, 100.0);
        answer.insert("current_file_progress".into(), percent.into());
    }
    answer.into()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage, cut as upstream cuts it")]
fn whole(percent: f64) -> u8 {
    percent.clamp(0.0, 100.0) as u8
}

/// From 0 to 99: that it is done is said by its end.
pub(crate) fn percent_of(view: &JobView) -> u8 {
    whole(view.progress.as_ref().map_or(0.0, |progress| progress.percent)).min(99)
}

/// Where upstream would have the destination. Where it really stands is nobody's business.
pub(crate) fn dest_of(task: &Task, settings: &Settings) -> PathBuf {
    match task {
        Task::Migration(migration) => settings.mount_tmp_location.join(&migration.dest_instance_id),
        Task::Backup(task) if task.action == BackupAction::Create => {
            settings.backup.mount_tmp_location.join(&task.backup_id).join(&task.backup_id)
        }
        Task::Backup(task) => settings.mount_tmp_location.join(task.instance_id.as_deref().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use job::documents::{PathText, Progress};
    use job::{Endpoint, Failure, FailureCode, Job, JobId, JobSpec, Kind, Origin, Step};
    use serde_json::json;

    use super::*;

    fn check(state: State, progress: Option<Progress>, expected: &Value) {
        let dir = |path: &str| Endpoint::Directory { path: path.into() };
        let spec = JobSpec::new(Kind::Copy, dir("/a"), dir("/b"));
        let mut job = Job::new(JobId::from_u128(1), spec, Origin::default(), job::Clock::now(&job::SystemClock));
        job.state = state;
        let view = JobView { job, progress, queue_position: None, waits_for: None, prediction: None };
        assert_eq!(answer(&view, Path::new("/mnt/d")), *expected, "{view:?}");
    }

    fn at(percent: f64, path_hex: Option<&str>, current_percent: Option<f64>) -> Progress {
        let current = path_hex.map(|hex| PathText { path: None, path_hex: Some(hex.into()) });
        Progress { percent, current, current_percent, ..Progress::default() }
    }

    #[test]
    fn it_is_an_integer_and_whole_only_at_the_end() {
        let releasing = |outcome| State::Releasing { next: Next::End(outcome) };
        let failed = Outcome::Failed { failure: Failure::new(Step::Copy, FailureCode::FaultsFound, "x") };
        check(State::Accepted, None, &json!({"total_progress": 0}));
        check(State::Granting, Some(at(40.0, None, None)), &json!({"total_progress": 40}));
        for (percent, expected) in [(0.0, 0), (0.99, 0), (99.9, 99), (100.0, 99), (250.0, 99), (-1.0, 0), (f64::NAN, 0)]
        {
            check(State::Working, Some(at(percent, None, None)), &json!({ "total_progress": expected }));
        }
        check(releasing(Outcome::Completed), Some(at(100.0, None, None)), &json!({"total_progress": 100}));
        check(releasing(Outcome::Cancelled), Some(at(100.0, None, None)), &json!({"total_progress": 99}));
        check(releasing(failed), Some(at(7.0, Some("61"), None)), &json!({"total_progress": 7}));
    }

    #[test]
    fn a_name_that_is_no_text_is_shown_as_well_as_can_be() {
        let of = |percent: f64| json!({"total_progress": 1, "current_file_path": "/mnt/d/a\u{fffd}/b", "current_file_progress": percent});
        check(State::Working, Some(at(1.0, Some("61ff2f62"), Some(12.5))), &of(12.5));
        check(State::Working, Some(at(1.0, Some("61ff2f62"), None)), &of(0.0));
    }
}
