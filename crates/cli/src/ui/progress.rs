//! Progress while a run goes on: a bar on a terminal, plain lines elsewhere, events for programs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use job::documents::{PathText, Progress};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::console::{Console, is_capable_terminal};

use super::output::Output;
use super::units::{Bytes, Count, Rate, Time, counted};

/// A bar that flashes up for a moment tells nothing.
const BAR_DELAY: Duration = Duration::from_millis(250);
const BAR_REDRAWS_PER_SECOND: u8 = 10;
const BAR_COLUMNS: usize = 20;
const TEMPLATE: &str = "{msg}";
const BAR_INTERVAL: Duration = Duration::from_millis(100);
const EVENT_INTERVAL: Duration = Duration::from_secs(1);
/// Lines come at half the pace after a minute: they end in a log that somebody has to read.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const LINE_INTERVAL_LATER: Duration = Duration::from_secs(10);
const LINE_LATER: Duration = Duration::from_mins(1);

/// Names of stages, as `job::documents` has them.
const PREFLIGHT: &str = "preflight";
const TRANSFER: &str = "transfer";
const SYNC: &str = "sync";
const VERIFY: &str = "verify";
const DONE: &str = "done";

/// How progress is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    None,
    Bar,
    Lines,
    Events,
}

impl Style {
    pub fn choose(is_wanted: bool, json: bool) -> Self {
        match (is_wanted, json) {
            (false, _) => Self::None,
            (true, true) => Self::Events,
            (true, false) if is_capable_terminal() => Self::Bar,
            (true, false) => Self::Lines,
        }
    }
}

/// Tells progress in one style.
pub struct ProgressDisplay {
    style: Style,
    console: Arc<Console>,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bar: Option<ProgressBar>,
    pace: Pace,
}

impl fmt::Debug for ProgressDisplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressDisplay").field("style", &self.style).finish_non_exhaustive()
    }
}

impl ProgressDisplay {
    pub fn new(style: Style, console: Arc<Console>) -> Self {
        Self { style, console, started: Instant::now(), state: Mutex::default() }
    }

    /// `prefix` says what the figures are of, where that is not clear: a pass, a job.
    pub fn show(&self, prefix: &str, progress: &Progress, output: &Output) {
        let elapsed = self.started.elapsed();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.style {
            Style::None => {}
            Style::Bar => {
                if progress.stage != DONE && state.pace.is_due(elapsed, BAR_DELAY, BAR_INTERVAL) {
                    let text = screen(prefix, progress, terminal_columns());
                    state.bar.get_or_insert_with(|| start_bar(&self.console)).set_message(text);
                }
            }
            Style::Lines => {
                if state.pace.is_due(elapsed, LINE_INTERVAL, line_interval(elapsed)) {
                    self.console.note(&line(prefix, progress));
                }
            }
            Style::Events => {
                if state.pace.is_due(elapsed, Duration::ZERO, EVENT_INTERVAL) {
                    output.event("progress", progress);
                }
            }
        }
    }
}

impl ProgressDisplay {
    /// Takes the bar away until there is something new to show.
    pub fn rest(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).bar = None;
        self.console.detach();
    }
}

/// The crate draws and clears; the whole text is one message, so that a look at it is never half old and half new.
fn start_bar(console: &Console) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    // The template is a constant that a test parses; the default style is only another look.
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(BAR_REDRAWS_PER_SECOND));
    console.attach(bar.clone());
    bar
}

/// Two lines: bar and figures, and what the run is busy with.
fn screen(prefix: &str, progress: &Progress, columns: usize) -> String {
    // The last column stays free: some terminals wrap there.
    let columns = columns.saturating_sub(1);
    let percent = format!("{prefix}{:3}%", percent(progress));
    let filled = (progress.percent / 100.0 * BAR_COLUMNS as f64) as usize;
    let filled = "=".repeat(filled.min(BAR_COLUMNS));
    let head = match columns {
        // Figures say more than a bar where there is no room for both.
        ..40 => format!("{percent} "),
        _ => format!("{percent} [{filled:<BAR_COLUMNS$}] "),
    };
    let figures = fit(&figures(progress), columns.saturating_sub(head.len()));
    format!("{head}{figures}\n{}", shorten(&activity(progress), columns))
}

/// Decides when the next line is due.
#[derive(Debug, Default)]
struct Pace {
    next: Option<Duration>,
}

impl Pace {
    fn is_due(&mut self, elapsed: Duration, first: Duration, interval: Duration) -> bool {
        let next = *self.next.get_or_insert(first);
        if elapsed < next {
            return false;
        }
        // On a grid, so that a late call does not shift all later ones; what was missed is not made up for.
        let step = next + interval;
        self.next = Some(if step > elapsed { step } else { elapsed + interval });
        true
    }
}

fn line_interval(elapsed: Duration) -> Duration {
    if elapsed < LINE_LATER { LINE_INTERVAL } else { LINE_INTERVAL_LATER }
}

/// A run that is not done never shows 100, however near it is.
fn percent(progress: &Progress) -> u64 {
    let percent = progress.percent.floor() as u64;
    if progress.stage == DONE { percent } else { percent.min(99) }
}

/// One plain line.
pub fn line(prefix: &str, progress: &Progress) -> String {
    let mut line = format!("{prefix}{}%: {}", percent(progress), figures(progress).join(", "));
    if progress.stage != TRANSFER {
        line.push_str(", ");
        line.push_str(&activity(progress));
    }
    line
}

/// What there is to say, the most important first.
fn figures(progress: &Progress) -> Vec<String> {
    let entries = progress.done_entries;
    let bytes = match progress.stage.as_str() {
        VERIFY if progress.verified_bytes > 0 => progress.verified_bytes,
        _ => progress.done_bytes,
    };
    let mut figures = vec![
        match progress.total_bytes {
            Some(total) if total >= bytes => format!("{} of {}", Bytes(bytes), Bytes(total)),
            _ => Bytes(bytes).to_string(),
        },
        match progress.total_entries {
            Some(total) if total >= entries => format!("{} of {}", Count(entries), counted(total, "entry")),
            _ => counted(entries, "entry"),
        },
    ];
    if progress.faults > 0 {
        figures.push(counted(progress.faults, "fault"));
    }
    if progress.differences > 0 {
        figures.push(counted(progress.differences, "difference"));
    }
    figures.push(Rate(progress.bytes_per_second).to_string());
    let remaining = progress.remaining_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    if let Some(remaining) = remaining {
        // Tenths of a second would only flicker.
        figures.push(format!("{} left", Time(remaining.max(Duration::from_secs(1)))).replace(".0 s", " s"));
    }
    figures.push(format!("{:.0} entries/s", progress.entries_per_second));
    figures
}

/// What the run is busy with.
fn activity(progress: &Progress) -> String {
    let path = progress.current.as_ref().and_then(PathText::parse);
    let current = || path.as_ref().map(ToString::to_string);
    match progress.stage.as_str() {
        PREFLIGHT => "looking at both trees".into(),
        TRANSFER => current().unwrap_or_default(),
        SYNC => "waiting for storage to make everything durable".into(),
        VERIFY => current().map_or_else(|| "verifying".into(), |path| format!("verifying {path}")),
        _ => String::new(),
    }
}

/// As many figures as there is room for.
fn fit(figures: &[String], columns: usize) -> String {
    let mut out = String::new();
    for figure in figures {
        let separator = if out.is_empty() { "" } else { ", " };
        if out.width() + separator.len() + figure.width() > columns {
            break;
        }
        out.push_str(separator);
        out.push_str(figure);
    }
    out
}

/// Keeps the end, which tells files of one directory apart.
fn shorten(text: &str, columns: usize) -> String {
    const DOTS: &str = "...";
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut room = columns.saturating_sub(DOTS.len());
    let mut start = text.len();
    for (index, c) in text.char_indices().rev() {
        let width = c.width().unwrap_or(0);
        if width > room {
            break;
        }
        room -= width;
        start = index;
    }
    format!("{}{}", &DOTS[..DOTS.len().min(columns)], &text[start..])
}

fn terminal_columns() -> usize {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => 80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::progress as engine_progress;

    fn progress() -> Progress {
        (&engine_progress()).into()
    }

    #[test]
    fn a_line_has_percent_bytes_entries_rate_time_and_faults() {
        assert_eq!(
            line("", &progress()),
            "41%: 1.2 GiB of 3.0 GiB, 12,345 of 30,000 entries, 2 faults, 312.0 MiB/s, 6 s left, 3000 entries/s"
        );
        let mut scanning = progress();
        (scanning.total_bytes, scanning.total_entries, scanning.remaining_seconds) = (None, None, None);
        scanning.faults = 0;
        assert_eq!(line("", &scanning), "41%: 1.2 GiB, 12,345 entries, 312.0 MiB/s, 3000 entries/s");
        scanning.stage = SYNC.into();
        assert!(line("", &scanning).ends_with("waiting for storage to make everything durable"));
    }

    #[test]
    fn a_run_that_is_not_done_never_shows_100() {
        let mut progress = progress();
        for percent in [99.97, 100.0] {
            progress.percent = percent;
            assert!(line("", &progress).starts_with("99%"));
        }
        progress.stage = DONE.into();
        assert!(line("", &progress).starts_with("100%"));
    }

    #[test]
    fn figures_give_way_when_there_is_no_room() {
        let figures = figures(&progress());
        assert_eq!(fit(&figures, 1000), figures.join(", "));
        assert_eq!(fit(&figures, 30), "1.2 GiB of 3.0 GiB");
        assert_eq!(fit(&figures, 3), "");
    }

    #[test]
    fn long_names_keep_their_end_and_their_columns() {
        let check = |text: &str, columns, expected: &str| {
            let short = shorten(text, columns);
            assert_eq!(short, expected);
            assert!(short.width() <= columns);
        };
        check("dir/file", 8, "dir/file");
        check("directory/file", 9, "...y/file");
        // Each of these takes two columns, and half of one cannot be shown.
        check("漢字漢字漢字", 8, "...漢字");
        check("abc", 2, "..");
        check("abc", 0, "");
    }

    #[test]
    fn lines_come_every_five_seconds_and_later_every_ten() {
        let mut pace = Pace::default();
        let due: Vec<u64> = (0..900_u64)
            .map(|tenths| Duration::from_millis(tenths * 100))
            .filter(|elapsed| pace.is_due(*elapsed, LINE_INTERVAL, line_interval(*elapsed)))
            .map(|elapsed| elapsed.as_secs())
            .collect();
        assert_eq!(due, [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 70, 80]);
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut pace = Pace::default();
        let mut is_due = |seconds| pace.is_due(Duration::from_secs(seconds), Duration::ZERO, EVENT_INTERVAL);
        assert!(is_due(0) && !is_due(0) && is_due(30) && !is_due(30) && is_due(31));
    }

    #[test]
    fn the_screen_stays_inside_the_terminal() {
        assert_eq!(
            screen("", &progress(), 80),
            " 41% [========            ] 1.2 GiB of 3.0 GiB, 12,345 of 30,000 entries\ndir/file"
        );
        for columns in 6..200 {
            assert!(screen("", &progress(), columns).lines().all(|line| line.width() < columns), "{columns}");
        }
    }

    #[test]
    fn the_bar_has_a_valid_template() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
