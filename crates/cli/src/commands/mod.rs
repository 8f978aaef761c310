//! The commands: each wires arguments, engine and output, and says how the process ends.

mod completions;
mod copy;
mod man;
mod verify;

use std::sync::Arc;

use crate::args::{Cli, Command, OutputArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::plan::Environment;
use crate::ui::console::{Console, Palette, Volume};
use crate::ui::json::ErrorEvent;
use crate::ui::output::Output;
use crate::ui::progress::Style;

/// Runs the command, and tells what went wrong.
pub fn run(cli: Cli) -> Exit {
    let palette = Palette::new(cli.colors.color);
    let output = Output::default();
    let (volume, json) = match &cli.command {
        Command::Copy(args) => (volume(&args.output), args.output.json),
        Command::Verify(args) => (volume(&args.output), args.output.json),
        Command::Completions { .. } | Command::Man { .. } => (Volume::Normal, false),
    };
    let console = Arc::new(Console::new(palette, volume));
    let result = match cli.command {
        Command::Copy(args) => copy::run(*args, &Environment::read(), &console, &output),
        Command::Verify(args) => verify::run(*args, &console, &output),
        Command::Completions { shell } => completions::run(shell),
        Command::Man { dir } => man::run(dir.as_deref()),
    };
    let result = result.and_then(|exit| conclude(exit, output.finish().map_err(CliError::Output), &console));
    result.unwrap_or_else(|error| {
        crate::ui::errors::show(&console, &error);
        let exit = error.exit();
        if json {
            let (message, causes, hint) = (error.headline(), error.causes(), error.hint());
            output.event("error", &ErrorEvent { message, causes, hint, exit_code: exit.code() });
        }
        exit
    })
}

/// What fails after the work was done makes the command fail; after a signal it is told, but the signal is what the
/// shell must see.
fn conclude(exit: Exit, last: Result<(), CliError>, console: &Console) -> Result<Exit, CliError> {
    match (exit, last) {
        (Exit::Signal(_), Err(error)) => {
            crate::ui::errors::show(console, &error);
            Ok(exit)
        }
        (_, last) => last.map(|()| exit),
    }
}

fn volume(output: &OutputArgs) -> Volume {
    match (output.quiet, output.json) {
        (true, _) => Volume::Quiet,
        (_, true) => Volume::Json,
        _ => Volume::Normal,
    }
}

fn progress_style(output: &OutputArgs) -> Style {
    Style::choose(!output.quiet && !output.no_progress, output.json)
}
