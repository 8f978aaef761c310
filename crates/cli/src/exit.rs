//! Exit codes: a promise to scripts, so a number that was given out never changes its meaning.

use std::process::ExitCode;

use copy::{CompareReport, CopyReport, Ending, StopReason};

/// Everything that was asked for is done.
pub const DONE: u8 = 0;
/// The command could not begin or go on.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong; nothing was touched.
pub const USAGE: u8 = 2;
/// Went to the end, but with faults, with losses under `--on-loss fail`, or with differences; or stopped at the first
/// fault under `--on-fault stop`.
pub const FAULTS: u8 = 3;
/// Stopped early without a signal, or cancelled by somebody.
pub const STOPPED: u8 = 4;
/// The service does not answer.
pub const UNREACHABLE: u8 = 5;
/// Added to a signal's number, as shells do: 130 after SIGINT, 143 after SIGTERM.
pub const SIGNAL_BASE: u8 = 128;

/// The list for `--help` and the manual pages.
pub const HELP: &str = "\
Exit codes:
  0    everything that was asked for is done
  1    the command could not begin or go on
  2    the command line or the configuration is wrong
  3    ended with faults, with losses under --on-loss fail, or with differences
  4    stopped early without a signal, or cancelled
  5    the service cannot be reached
  130  stopped by SIGINT (Ctrl-C)
  143  stopped by SIGTERM";

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    Failed,
    Usage,
    Faults,
    Stopped,
    Unreachable,
    /// By the signal itself, so that a shell stops its script too.
    Signal(i32),
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Self::Done => DONE,
            Self::Failed => FAILED,
            Self::Usage => USAGE,
            Self::Faults => FAULTS,
            Self::Stopped => STOPPED,
            Self::Unreachable => UNREACHABLE,
            Self::Signal(number) => SIGNAL_BASE.saturating_add(u8::try_from(number).unwrap_or(u8::MAX)),
        }
    }

    /// `signal` is the one that was received while the copy ran, if any.
    pub fn of_copy(report: &CopyReport, signal: Option<i32>) -> Self {
        let copied = Self::of_ending(report.ending, signal);
        match &report.verification {
            Some(verification) if copied == Self::Done => match Self::of_ending(verification.ending, signal) {
                // What was named as lost was judged as a loss already.
                Self::Done if report.unexplained_differences() > 0 => Self::Faults,
                verified => verified,
            },
            _ => copied,
        }
    }

    pub fn of_comparison(report: &CompareReport, signal: Option<i32>) -> Self {
        match Self::of_ending(report.ending, signal) {
            Self::Done if report.counters.differences > 0 => Self::Faults,
            exit => exit,
        }
    }

    fn of_ending(ending: Ending, signal: Option<i32>) -> Self {
        match (ending, signal) {
            (Ending::Complete, _) => Self::Done,
            (Ending::WithFaults | Ending::Stopped(StopReason::Fault), _) => Self::Faults,
            (Ending::Stopped(_), Some(number)) => Self::Signal(number),
            (Ending::Stopped(_), None) => Self::Stopped,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare_report, copy_report};

    #[test]
    fn the_numbers_are_a_promise() {
        let all =
            [Exit::Done, Exit::Failed, Exit::Usage, Exit::Faults, Exit::Stopped, Exit::Unreachable, Exit::Signal(2)];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 5, 130]);
        assert_eq!(Exit::Signal(15).code(), 143);
        for exit in all {
            assert!(HELP.lines().any(|line| line.trim_start().starts_with(&format!("{} ", exit.code()))), "{exit:?}");
        }
    }

    #[test]
    fn each_ending_has_its_code() {
        let check = |ending, signal, expected| {
            let mut report = copy_report();
            report.ending = ending;
            assert_eq!(Exit::of_copy(&report, signal), expected, "{ending:?} {signal:?}");
        };
        check(Ending::Complete, None, Exit::Done);
        // The signal came too late to stop anything.
        check(Ending::Complete, Some(2), Exit::Done);
        check(Ending::WithFaults, None, Exit::Faults);
        check(Ending::Stopped(StopReason::Fault), None, Exit::Faults);
        check(Ending::Stopped(StopReason::Cancel), Some(2), Exit::Signal(2));
        check(Ending::Stopped(StopReason::Shutdown), Some(15), Exit::Signal(15));
        check(Ending::Stopped(StopReason::Deadline), None, Exit::Stopped);
    }

    #[test]
    fn a_difference_is_never_success() {
        let mut verification = compare_report();
        assert_eq!(Exit::of_comparison(&verification, None), Exit::Done);
        verification.counters.differences = 1;
        assert_eq!(Exit::of_comparison(&verification, None), Exit::Faults);
        let mut report = copy_report();
        report.verification = Some(verification);
        assert_eq!(Exit::of_copy(&report, None), Exit::Faults);
    }
}
