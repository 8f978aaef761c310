//! Every bound of the service in one place, each with its reason.

use std::time::Duration;

/// Bounds that no operator has to set. What they should set is in [`crate::Settings`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Workers lost in a row, none of which had copied a file, before the job fails: enough for a machine that is short
    /// of memory for a while, few enough that what kills every worker is soon somebody's concern.
    pub workers_lost_max: u32,
    /// First pause after a lost worker; doubles with each that follows.
    pub worker_lost_pause: Duration,
    /// Longest such pause, and the longest between two tries to give something back or to reach the store.
    pub pause_max: Duration,
    /// First pause before what failed is tried again; doubles.
    pub retry_pause: Duration,
    /// How long a door waits for a store that does not answer. Whoever asks is told, and can ask again.
    pub door_patience: Duration,
    /// Tries of one change against others that change the same job. Each lost try is somebody's progress.
    pub conflicts_max: u32,
    /// Showing one state to whoever follows the job.
    pub follow_time: Duration,
    /// How long the next state waits for one that cannot be shown.
    pub follow_patience: Duration,
    /// Longest pause between two tries to show a state: whoever looks for it should not wait long once all is well.
    pub follow_pause_max: Duration,
    /// Taking or giving back one access rule. Share services answer within minutes or not at all.
    pub access_time: Duration,
    /// Ending what an earlier worker left behind. The executor has a time of grace of its own below this.
    pub release_time: Duration,
    /// Events of a worker that wait. A worker tells a few each second.
    pub work_events: usize,
    /// Warnings of one pass that are kept as events; later ones are in the log alone.
    pub warnings_per_pass: u32,
    /// Between two looks of a runner at its job in the store and at the bandwidth windows: how long a cancel at another
    /// node takes to arrive.
    pub reload_interval: Duration,
    /// Between two stored states of progress: a write each second and job is what a store bears easily.
    pub progress_interval: Duration,
    /// Between two looks at the whole store: jobs that other nodes took, events that they made.
    pub refresh_interval: Duration,
    /// Events that wait for a slow subscriber, which then is told that it lags.
    pub live_events: usize,
    /// Events read at once.
    pub event_page: u32,
    /// Jobs read at once by the task that removes what is old.
    pub job_page: u32,
    /// Answers on their way at the same time.
    pub tells: u32,
    /// One try to tell.
    pub tell_time: Duration,
    /// Between two looks for answers that are due.
    pub tell_interval: Duration,
    /// First pause before an answer is tried again; doubles up to an hour.
    pub tell_pause: Duration,
    pub tell_pause_max: Duration,
    /// Tries of an answer: with the pauses above, two days.
    pub tells_max: u32,
    /// Between two looks of the schedules at the clock, which may be set, or may have stood still with the machine.
    pub schedule_look: Duration,
    /// A firing whose job is made later than this was missed: longer than a restart of the service takes.
    pub schedule_lateness: Duration,
    /// Firings and jobs that lie further in the future were made by a clock that went wrong, and are not believed.
    pub clock_error: Duration,
    /// Missed firings that are counted: more is as bad.
    pub missed_count_max: usize,
    /// Firings of a schedule that are shown ahead.
    pub next_firings: usize,
}

pub const LIMITS: Limits = Limits {
    workers_lost_max: 8,
    worker_lost_pause: Duration::from_secs(1),
    pause_max: Duration::from_mins(5),
    retry_pause: Duration::from_millis(500),
    door_patience: Duration::from_secs(3),
    conflicts_max: 50,
    follow_time: Duration::from_mins(1),
    follow_patience: Duration::from_secs(10),
    follow_pause_max: Duration::from_secs(5),
    access_time: Duration::from_mins(15),
    release_time: Duration::from_mins(5),
    work_events: 256,
    warnings_per_pass: 100,
    reload_interval: Duration::from_secs(5),
    progress_interval: Duration::from_secs(1),
    refresh_interval: Duration::from_secs(10),
    live_events: 1024,
    event_page: 256,
    job_page: 256,
    tells: 16,
    tell_time: Duration::from_mins(1),
    tell_interval: Duration::from_secs(5),
    tell_pause: Duration::from_secs(5),
    tell_pause_max: Duration::from_hours(1),
    tells_max: 56,
    schedule_look: Duration::from_mins(1),
    schedule_lateness: Duration::from_mins(5),
    clock_error: Duration::from_hours(1),
    missed_count_max: 1000,
    next_firings: 5,
};

/// A pause that doubles with each try (from 1), within bounds.
pub(crate) fn pause(first: Duration, max: Duration, tries: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_bounds() {
        let check = |tries, seconds| {
            assert_eq!(pause(Duration::from_secs(1), LIMITS.pause_max, tries), Duration::from_secs(seconds), "{tries}");
        };
        check(0, 1);
        check(1, 1);
        check(2, 2);
        check(5, 16);
        check(10, 300);
        check(u32::MAX, 300);
    }
}
