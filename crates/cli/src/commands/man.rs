//! `man`: the manual page of the command on standard output, or those of all commands in a directory.

use std::path::Path;

use clap::CommandFactory as _;

use crate::args::Cli;
use crate::error::CliError;
use crate::exit::Exit;
use crate::ui::output::write_stdout;

pub fn run(dir: Option<&Path>) -> Result<Exit, CliError> {
    let command = Cli::command();
    if let Some(dir) = dir {
        clap_mangen::generate_to(command, dir).map_err(|source| CliError::Man { path: dir.into(), source })?;
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut page)
            .and_then(|()| write_stdout(&page))
            .map_err(CliError::Output)?;
    }
    Ok(Exit::Done)
}
