//! SIGHUP: takes over what can be changed while the service runs, and says what cannot.

use job::{ScheduleProblem, Timetable};
use oslo::config::Effective;
use oslo::log::Log;

use super::{Running, start, supervisor};
use crate::config::options::is_reloaded;
use crate::config::{self, Loaded, Overrides};
use crate::error::chain;

/// What is wrong changes nothing: the service goes on as it was.
pub(super) fn reload(overrides: &Overrides, started: &Loaded, log: &Log, running: &Running) {
    supervisor::reloading();
    match config::load(overrides) {
        Ok(loaded) => take_over(loaded, started, log, running),
        Err(error) => tracing::error!(error = chain(&error), "the configuration is wrong; nothing was reloaded"),
    }
    supervisor::ready("reloaded");
}

fn take_over(loaded: Loaded, started: &Loaded, log: &Log, running: &Running) {
    let Loaded { config: mut new, values, warnings } = loaded;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // Workers were told at the start where they may work; what callers may ask for must not be another thing.
    new.allowed_roots.clone_from(&started.config.allowed_roots);
    if let Err(error) = log.reload(&new.log) {
        tracing::error!(error = chain(&error), "the log stays as it was");
    }
    running.service.reload(new.scheduling.clone(), new.retention.clone());
    // Hooks and repositories are those of the start.
    let known = start::known(&started.config);
    let schedules = new.schedules.iter().map(|schedule| Timetable::new(schedule.settings().clone(), &known));
    match schedules.collect::<Result<Vec<_>, ScheduleProblem>>() {
        Ok(schedules) => running.service.reload_schedules(schedules),
        Err(problem) => tracing::error!(error = chain(&problem), "the schedules stay as they were"),
    }
    if let Err(error) = running.doors.reload(start::web_settings(&new)) {
        tracing::error!(
            error = chain(&error),
            "tokens, certificates and limits of the REST interface stay as they were"
        );
    }
    let was = |value: &Effective| {
        let same_option = |old: &&Effective| (old.group, old.name) == (value.group, value.name);
        started.values.iter().find(same_option).and_then(|old| old.value_shown.clone())
    };
    let after_restart: Vec<_> = values
        .iter()
        .filter(|value| !is_reloaded(value.group, value.name) && was(value) != value.value_shown)
        .map(|value| format!("`{}` in [{}]", value.name, value.group))
        .collect();
    if !after_restart.is_empty() {
        tracing::warn!(options = after_restart.join(", "), "changed, but only a restart brings them into force");
    }
    tracing::info!("reloaded");
}
