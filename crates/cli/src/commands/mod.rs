//! The commands: each wires arguments, engine and output, and says how the process ends.

mod backup;
mod completions;
mod config;
mod copy;
mod doctor;
mod jobs;
mod man;
pub mod migrate;
mod schedules;
mod token;
mod verify;

use std::io::Write as _;
use std::sync::Arc;

use clap::CommandFactory as _;

use crate::args::backup::BackupCommand;
use crate::args::engine::OutputArgs;
use crate::args::manila::ManilaArgs;
use crate::args::service::{ConfigCommand, TokenCommand};
use crate::args::{Cli, Command};
use crate::config::{Mode, Overrides, found};
use crate::error::CliError;
use crate::exit::Exit;
use crate::plan::Environment;
use crate::ui::console::{Console, Palette, Volume};
use crate::ui::json::ErrorEvent;
use crate::ui::output::Output;
use crate::ui::progress::Style;

/// Runs the command, or without one the service of a Manila deployment, and tells what went wrong.
pub fn run(cli: Cli) -> Exit {
    let palette = Palette::new(cli.colors.color);
    let Some(command) = cli.command else { return without_command(&cli.manila, palette) };
    if !cli.manila.is_empty() {
        let message = "options of the service stand before a command, where they have no effect; put them behind it";
        return show_alone(&CliError::Usage(message.into()), palette);
    }
    let output = Output::default();
    let (volume, json) = match &command {
        Command::Copy(args) => (volume(args.output.quiet, args.output.json), args.output.json),
        Command::Verify(args) => (volume(args.output.quiet, args.output.json), args.output.json),
        Command::Migrate(args) => (volume(args.quiet, args.json), args.json),
        Command::Backup(args) => {
            let (quiet, json) = args.command.output();
            (volume(quiet, json), json)
        }
        Command::Jobs(args) => (volume(false, args.connect.json), args.connect.json),
        Command::Schedules(args) => (volume(false, args.connect.json), args.connect.json),
        Command::Token(command) => {
            let (TokenCommand::Create { file, .. } | TokenCommand::List { file } | TokenCommand::Remove { file, .. }) =
                command;
            (Volume::Normal, file.json)
        }
        Command::Config(ConfigCommand::Show { json, .. }) => (Volume::Normal, *json),
        Command::Doctor(args) => (Volume::Normal, args.json),
        Command::Config(ConfigCommand::Sample)
        | Command::Serve(_)
        | Command::Completions { .. }
        | Command::Man { .. } => (Volume::Normal, false),
    };
    let console = Arc::new(Console::new(palette, volume));
    // Whoever looks at a list may stop reading it (`head`); a run whose events nobody takes has failed.
    let is_look = match &command {
        Command::Jobs(_) | Command::Schedules(_) | Command::Token(_) | Command::Config(_) => true,
        Command::Backup(args) => matches!(args.command, BackupCommand::List(_) | BackupCommand::Show(_)),
        _ => false,
    };
    let result = match command {
        Command::Copy(args) => copy::run(*args, &Environment::read(), &console, &output),
        Command::Verify(args) => verify::run(*args, &console, &output),
        Command::Migrate(args) => migrate::run(&args, &Environment::read(), &console, &output),
        Command::Backup(args) => backup::run(&args.command, &Environment::read(), &console, &output),
        Command::Serve(args) => crate::serve::run(&Overrides::of_serve(&args)),
        Command::Jobs(args) => jobs::run(*args, &console, &output),
        Command::Schedules(args) => schedules::run(&args, &console, &output),
        Command::Token(command) => token::run(command, &console, &output),
        Command::Config(command) => config::run(&command, &console, &output),
        Command::Doctor(args) => doctor::run(&args, palette),
        Command::Completions { shell } => completions::run(shell),
        Command::Man { dir } => man::run(dir.as_deref()),
    };
    let written = match output.finish() {
        Err(error) if is_look && error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(CliError::Output),
    };
    let result = result.and_then(|exit| conclude(exit, written, &console));
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

/// Packages start Manila's data service without a command. A person who types the bare name on a machine without Manila
/// wants to know what there is.
fn without_command(args: &ManilaArgs, palette: Palette) -> Exit {
    if args.is_empty() && found(Mode::Manila).is_empty() {
        // Nobody to read it: the exit code says the same.
        let _ = std::io::stderr().write_all(Cli::command().render_help().to_string().as_bytes());
        return Exit::Usage;
    }
    match crate::serve::run(&Overrides::of_manila(args)) {
        Ok(exit) => exit,
        Err(error) => show_alone(&error, palette),
    }
}

fn show_alone(error: &CliError, palette: Palette) -> Exit {
    crate::ui::errors::show(&Console::new(palette, Volume::Normal), error);
    error.exit()
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

fn volume(quiet: bool, json: bool) -> Volume {
    match (quiet, json) {
        (true, _) => Volume::Quiet,
        (_, true) => Volume::Json,
        _ => Volume::Normal,
    }
}

fn progress_style(output: &OutputArgs) -> Style {
    Style::choose(!output.quiet && !output.no_progress, output.json)
}
