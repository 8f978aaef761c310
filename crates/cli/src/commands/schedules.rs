//! `schedules`: what a service makes again and again, and when.

use web::client::Client;

use super::jobs::{address, block_on};
use crate::args::jobs::SchedulesArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::ui;
use crate::ui::console::Console;
use crate::ui::output::{Output, write_stdout};

pub fn run(args: &SchedulesArgs, console: &Console, output: &Output) -> Result<Exit, CliError> {
    web::install_crypto();
    let client = Client::new(&address(&args.connect)?)?;
    let schedules = block_on(client.schedules())??.schedules;
    if args.connect.json {
        for schedule in &schedules {
            output.event("schedule", schedule);
        }
    } else if schedules.is_empty() {
        console.note("no schedules");
    } else {
        write_stdout(format!("{}\n", ui::schedule::list(&schedules)).as_bytes()).map_err(CliError::Output)?;
    }
    Ok(Exit::Done)
}
