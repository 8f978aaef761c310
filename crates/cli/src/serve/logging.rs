//! The log of the service: lines of text or of JSON, on standard error or in a file, whose level and file can change
//! while it runs.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// Packages that say more than an operator wants to know, also where debugging is on.
const NOISY: [&str; 9] =
    ["sqlx", "sea_orm", "sea_query", "hyper", "hyper_util", "h2", "reqwest", "rustls", "tokio_rustls"];

/// How the service logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// `None`: standard error.
    pub file: Option<PathBuf>,
    pub debug: bool,
    pub json: bool,
    /// `target=level`, for single parts of the program.
    pub levels: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot open the log file `{}`", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("`{level}` of `log_levels` is not TARGET=LEVEL")]
    Level {
        level: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the log was started already")]
    Started,
}

/// Something that hears of spans and log lines.
pub type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Holds what is needed to change the log later.
#[derive(Debug)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    sink: Sink,
}

impl Logging {
    /// `beside` hears, too; what it is told is not for the log's levels to say.
    pub fn start(settings: &LogSettings, beside: Option<AnyLayer>) -> Result<Self, LogError> {
        let sink = Sink(Arc::new(Mutex::new(Target::open(settings.file.as_deref())?)));
        let (filter, handle) = reload::Layer::new(filter(settings)?);
        let layer = tracing_subscriber::fmt::layer().with_writer(sink.clone());
        let layer = if settings.json {
            layer.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed()
        } else {
            let is_terminal = settings.file.is_none() && io::stderr().is_terminal();
            layer.with_ansi(is_terminal).with_filter(filter).boxed()
        };
        let layers: Vec<AnyLayer> = std::iter::once(layer).chain(beside).collect();
        tracing_subscriber::registry().with(layers).try_init().map_err(|_| LogError::Started)?;
        Ok(Self { filter: handle, sink })
    }

    /// Takes the new level over and opens the file again, so that a rotated one is let go. What is wrong changes
    /// nothing.
    pub fn reload(&self, settings: &LogSettings) -> Result<(), LogError> {
        let filter = filter(settings)?;
        let target = Target::open(settings.file.as_deref())?;
        *self.sink.0.lock().unwrap_or_else(PoisonError::into_inner) = target;
        // Fails only where the subscriber is gone, and then nobody is left to log.
        let _ = self.filter.reload(filter);
        Ok(())
    }
}

fn filter(settings: &LogSettings) -> Result<EnvFilter, LogError> {
    let mut filter = EnvFilter::new(if settings.debug { "debug" } else { "info" });
    let noisy = NOISY.iter().map(|target| format!("{target}=warn"));
    for level in noisy.chain(settings.levels.iter().cloned()) {
        let directive =
            level.parse().map_err(|error| LogError::Level { level: level.clone(), source: Box::new(error) });
        filter = filter.add_directive(directive?);
    }
    Ok(filter)
}

#[derive(Debug)]
enum Target {
    Stderr,
    File(File),
}

impl Target {
    /// Appends, so that a program that truncates the file (`copytruncate`) makes no hole in it.
    fn open(path: Option<&Path>) -> Result<Self, LogError> {
        let Some(path) = path else { return Ok(Self::Stderr) };
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
        file.map(Self::File).map_err(|source| LogError::Open { path: path.into(), source })
    }
}

/// Where whole lines go.
#[derive(Clone, Debug)]
struct Sink(Arc<Mutex<Target>>);

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Target::Stderr => io::stderr().lock().write(line),
            Target::File(file) => file.write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_or_refused_by_name() {
        let settings = |level: &str| LogSettings { levels: vec![level.into()], ..LogSettings::default() };
        let shown = filter(&settings("job=trace")).expect("a level").to_string();
        assert!(shown.contains("job=trace") && shown.contains("sqlx=warn"), "{shown}");
        let error = filter(&settings("job=loud")).unwrap_err();
        assert!(error.to_string().contains("job=loud"), "{error}");
    }
}
