//! `doctor`: says whether this machine has what the service needs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::args::service::DoctorArgs;
use crate::config::{self, Overrides};
use crate::doctor::{self, Check, Verdict};
use crate::error::CliError;
use crate::exit::Exit;
use crate::ui::console::Palette;
use crate::ui::output::write_stdout;

#[derive(Serialize)]
struct Findings<'a> {
    schema_version: u32,
    /// The worst of all.
    verdict: Verdict,
    checks: &'a [Check],
}

pub fn run(args: &DoctorArgs, palette: Palette) -> Result<Exit, CliError> {
    let loaded = config::load(&Overrides::of(&args.config))?;
    let mut checks = loaded.warnings.iter().map(|warning| Check::configuration(warning)).collect::<Vec<_>>();
    checks.extend(doctor::examine(&loaded.config));
    let worst = worst(&checks);
    let text = if args.json {
        let findings = Findings { schema_version: job::documents::SCHEMA_VERSION, verdict: worst, checks: &checks };
        let mut line = serde_json::to_vec(&findings).map_err(|error| CliError::Output(error.into()))?;
        line.push(b'\n');
        line
    } else {
        lines(&checks, palette).into_bytes()
    };
    write_stdout(&text).map_err(CliError::Output)?;
    Ok(if worst == Verdict::Fail { Exit::Failed } else { Exit::Done })
}

fn worst(checks: &[Check]) -> Verdict {
    let has = |verdict| checks.iter().any(|check| check.verdict == verdict);
    match () {
        () if has(Verdict::Fail) => Verdict::Fail,
        () if has(Verdict::Warn) => Verdict::Warn,
        () => Verdict::Ok,
    }
}

fn lines(checks: &[Check], palette: Palette) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let word = format!("{:<4}", check.verdict.as_str());
        let word = match check.verdict {
            Verdict::Ok => palette.good(&word),
            Verdict::Warn => palette.attention(&word),
            Verdict::Fail => palette.bad(&word),
        };
        let _ = writeln!(text, "{word}  {:<width$}  {}", check.name, copy::escape(check.found.as_bytes()));
        if let Some(advice) = &check.advice {
            let _ = writeln!(text, "      {:<width$}  {}", "", copy::escape(advice.as_bytes()));
        }
    }
    text
}
