//! Steering jobs.

use job::JobId;
use job::spec::RateLimits;

use super::Context;
use crate::args::jobs::LimitsArgs;
use crate::error::CliError;
use crate::exit::Exit;

#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Cancel,
    Pause,
    Resume,
    Cutover,
    Remove,
}

/// One after the other; the first that does not work ends it.
pub(super) async fn each(cx: &Context<'_>, jobs: &[JobId], change: Change) -> Result<Exit, CliError> {
    for &id in jobs {
        let job = match change {
            Change::Cancel => cx.client.cancel(id).await?,
            Change::Pause => cx.client.pause(id).await?,
            Change::Resume => cx.client.resume(id).await?,
            Change::Cutover => cx.client.cutover(id).await?,
            Change::Remove => {
                cx.client.remove(id).await?;
                cx.tell_removed(id);
                continue;
            }
        };
        cx.tell(&job);
    }
    Ok(Exit::Done)
}

pub(super) async fn limits(cx: &Context<'_>, args: LimitsArgs) -> Result<Exit, CliError> {
    let job = cx.client.show(args.job).await?;
    let limits = changed(job.limits, args.clone());
    cx.tell(&cx.client.set_limits(args.job, &limits).await?);
    Ok(Exit::Done)
}

/// What is not named stays as it is.
fn changed(mut limits: RateLimits, args: LimitsArgs) -> RateLimits {
    if let Some(bound) = args.bandwidth_limit {
        limits.bandwidth_bytes_per_second = bound.into();
    }
    if let Some(bound) = args.ops_limit {
        limits.operations_per_second = bound.into();
    }
    if args.no_windows || !args.windows.bandwidth_window.is_empty() {
        limits.windows = args.windows.bandwidth_window;
    }
    if args.windows.time_zone.is_some() {
        limits.time_zone = args.windows.time_zone;
    }
    limits
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::jobs::JobsCommand;
    use crate::args::{Cli, Command};

    #[test]
    fn only_what_is_named_changes() {
        let before = RateLimits {
            bandwidth_bytes_per_second: Some(1),
            operations_per_second: Some(2),
            time_zone: Some("UTC".into()),
            ..RateLimits::default()
        };
        let after = |line: &str| {
            let id = "0197c3a2-6f00-7000-8000-000000000000";
            let words = ["manila-data", "jobs", "limits", id].into_iter().chain(line.split_whitespace());
            let Some(Command::Jobs(jobs)) = Cli::try_parse_from(words).expect("a command").command else {
                panic!("jobs")
            };
            let JobsCommand::Limits(args) = jobs.command else { panic!("limits") };
            changed(before.clone(), args)
        };
        assert_eq!(after(""), before);
        assert_eq!(after("--bandwidth-limit none").bandwidth_bytes_per_second, None);
        assert_eq!(after("--bandwidth-limit 1M --ops-limit 9").operations_per_second, Some(9));
        let with_window = after("--bandwidth-window 1:00-2:00=none");
        assert_eq!((with_window.windows.len(), with_window.bandwidth_bytes_per_second), (1, Some(1)));
        assert_eq!(after("--time-zone Europe/Vienna").time_zone.as_deref(), Some("Europe/Vienna"));
    }
}
