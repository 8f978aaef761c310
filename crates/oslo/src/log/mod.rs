//! The log as oslo.log writes it: its options, its lines of text and of JSON, and the places where they go.
//!
//! [`LOG_OPTIONS`] and [`LOG_FLAGS`] say what can be set, [`LogSettings`] holds what is set, and [`Log`] is the log. Lines
//! are made of tracing's events: the target is the logger's name, and the spans around an event say whose request it
//! belongs to, by fields named as oslo.context names them (`request_id`, `user_id`, `project_id`, …). What the event and
//! its spans say beyond that stands as ` name=value` behind the message. An `error` of a warning or an error is what
//! oslo.log calls the error summary. An ERROR with the field `critical = true` is a CRITICAL.
//!
//! A line is always one line: control characters of messages and values are written out. And a line is never worth the
//! service: what a full disk or a lost daemon cannot take is dropped, counted, and told when it goes on.

mod clock;
mod context;
mod escape;
mod json;
mod layer;
mod level;
mod options;
mod percent;
mod plain;
mod rate;
mod record;
mod settings;
mod sink;
mod text;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

pub use self::options::{FlagSets, LOG_FLAGS, LOG_OPTIONS, LogFlag};
pub use self::record::Facts;
pub use self::settings::{Every, Facility, Formats, LogSettings, Rate, Rotation, Style};

use self::layer::{Look, OsloLayer};
use self::level::{Levels, LevelsFilter};
use self::sink::{Opened, Output};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot open the log file `{}`; its directory must exist and be writable for the service", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("`{pair}` of `{option}` is not NAME=LEVEL with one of the levels debug, info, warning, error and critical")]
    Level { option: &'static str, pair: String },
    #[error("`{option}` cannot be used, `{format}`: {reason}")]
    Format { option: &'static str, format: String, reason: String },
    #[error("the log was started already")]
    Started,
}

/// Something that hears of spans and log lines.
pub type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// The log of a program, to change it while it runs.
#[derive(Debug)]
pub struct Log {
    program: String,
    filter: LevelsFilter,
    shared: Arc<Shared>,
}

/// What the layer and the one who changes it both hold.
#[derive(Debug)]
struct Shared {
    look: RwLock<Arc<Look>>,
    output: Output,
}

impl Shared {
    fn look(&self) -> Arc<Look> {
        self.look.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Log {
    /// Starts the log of the whole process. `program` names the file where only a directory is set, and the sender of
    /// lines to syslog and the journal. `beside` hears, too; what it is told is not for the log's levels to say.
    ///
    /// What is set and cannot be had is told in the first lines.
    pub fn start(settings: &LogSettings, program: &str, beside: Option<AnyLayer>) -> Result<Self, LogError> {
        let built = Self::build(settings, program, Facts::of_this_process())?;
        let layers: Vec<AnyLayer> = std::iter::once(built.layer).chain(beside).collect();
        tracing_subscriber::registry().with(layers).try_init().map_err(|_| LogError::Started)?;
        tell(&built.warnings);
        Ok(built.log)
    }

    /// The same for a subscriber of the caller's.
    pub fn build(settings: &LogSettings, program: &str, facts: Facts) -> Result<Built, LogError> {
        let filter = LevelsFilter::new(levels(settings)?);
        let look = Look::new(settings, facts)?;
        let opened = Opened::of(settings, program, &look.facts.zone)?;
        let warnings = [&settings.notices[..], &opened.warnings].concat();
        let shared = Arc::new(Shared { look: RwLock::new(Arc::new(look)), output: Output::new(opened) });
        let layer: AnyLayer = match settings.style {
            Style::Oslo => OsloLayer(shared.clone()).boxed(),
            Style::Plain => {
                let is_terminal = settings.path(program).is_none() && io::stderr().is_terminal();
                plain::layer(shared.clone(), settings.json, is_terminal)
            }
        };
        let layer = layer.with_filter(filter.clone()).boxed();
        Ok(Built { log: Self { program: program.into(), filter, shared }, layer, warnings })
    }

    /// Takes other settings over, all but the style and, in the plain one, JSON. Files and sockets are opened again. What
    /// is wrong changes nothing.
    pub fn reload(&self, settings: &LogSettings) -> Result<(), LogError> {
        let levels = levels(settings)?;
        let look = Look::new(settings, self.shared.look().facts.clone())?;
        let opened = Opened::of(settings, &self.program, &look.facts.zone)?;
        let mut warnings = [&settings.notices[..], &opened.warnings].concat();
        *self.shared.look.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(look);
        warnings.extend(self.shared.output.replace(opened));
        self.filter.replace(levels);
        tell(&warnings);
        Ok(())
    }

    /// Opens the log file again, so that a rotated one is let go. Where that fails the old one goes on.
    pub fn reopen(&self) -> Result<(), LogError> {
        self.shared.output.reopen()
    }

    /// Lines that one of the places could not take, since the start.
    pub fn lost_lines(&self) -> u64 {
        self.shared.output.lost()
    }
}

/// A log and what feeds it.
#[expect(missing_debug_implementations, reason = "layers have none")]
pub struct Built {
    pub log: Log,
    pub layer: AnyLayer,
    /// What is set and cannot be had, to be logged once the layer is in place.
    pub warnings: Vec<String>,
}

fn levels(settings: &LogSettings) -> Result<Levels, LogError> {
    Levels::of(settings).map_err(|(option, pair)| LogError::Level { option, pair })
}

fn tell(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!(target: "oslo::log", "{warning}");
    }
}
