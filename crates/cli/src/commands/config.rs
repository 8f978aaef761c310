//! `config`: the values in force with their origin, and a sample file.

use oslo::config::Effective;
use serde_json::json;

use crate::args::service::ConfigCommand;
use crate::config::{self, Overrides};
use crate::error::CliError;
use crate::exit::Exit;
use crate::ui::console::Console;
use crate::ui::output::{Output, write_stdout};
use crate::ui::table::table;

pub fn run(command: &ConfigCommand, console: &Console, output: &Output) -> Result<Exit, CliError> {
    match command {
        ConfigCommand::Show { config, json } => {
            let loaded = config::load(&Overrides::of(config))?;
            for warning in &loaded.warnings {
                console.warning(warning);
            }
            if *json {
                for value in &loaded.values {
                    let Effective { group, name, value_shown, origin } = value;
                    let origin = origin.to_string();
                    let body = json!({ "group": group, "option": name, "value": value_shown, "origin": origin });
                    output.event("option", &body);
                }
            } else {
                let text = table(&["OPTION", "VALUE", "ORIGIN"], loaded.values.iter().map(cells));
                write_stdout(format!("{text}\n").as_bytes()).map_err(CliError::Output)?;
            }
        }
        ConfigCommand::Sample => {
            write_stdout(config::sample().as_bytes()).map_err(CliError::Output)?;
        }
    }
    Ok(Exit::Done)
}

fn cells(value: &Effective) -> Vec<String> {
    let shown = value.value_shown.as_deref().unwrap_or("(not set)");
    let origin = value.origin.to_string();
    vec![format!("[{}] {}", value.group, value.name), copy::escape(shown.as_bytes()), copy::escape(origin.as_bytes())]
}
