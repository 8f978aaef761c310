//! `token`: makes, lists and removes tokens of the REST interface.

use std::path::PathBuf;

use serde_json::json;
use web::tokens::{self, Scope};

use crate::args::service::{ScopeArg, TokenCommand, TokenFileArgs};
use crate::config::{self, Overrides};
use crate::error::CliError;
use crate::exit::Exit;
use crate::ui::console::Console;
use crate::ui::output::{Output, write_stdout};
use crate::ui::table::table;

pub fn run(command: TokenCommand, console: &Console, output: &Output) -> Result<Exit, CliError> {
    match command {
        TokenCommand::Create { name, scope, expires, file } => {
            let path = path(&file)?;
            let scope = match scope {
                ScopeArg::Read => Scope::Read,
                ScopeArg::Write => Scope::Write,
            };
            let token = tokens::create(&path, &name, scope, expires)?;
            if file.json {
                output.event("token", &json!({ "name": name, "scope": scope, "expires": expires, "token": token }));
            } else {
                output.line(&token);
                console.note("keep it: it is not shown again; a service that runs takes it over by SIGHUP");
            }
        }
        TokenCommand::List { file } => {
            let entries = match tokens::list(&path(&file)?) {
                Err(tokens::TokenError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => vec![],
                entries => entries?,
            };
            if file.json {
                for entry in &entries {
                    let (name, scope, expires) = (&entry.name, entry.scope, entry.expires);
                    output.event("token", &json!({ "name": name, "scope": scope, "expires": expires }));
                }
            } else {
                let rows = entries.iter().map(|entry| {
                    let expires = entry.expires.map_or_else(|| "never".to_owned(), |at| at.to_string());
                    vec![entry.name.clone(), entry.scope.to_string(), expires]
                });
                let text = table(&["NAME", "SCOPE", "EXPIRES"], rows);
                write_stdout(format!("{text}\n").as_bytes()).map_err(CliError::Output)?;
            }
        }
        TokenCommand::Remove { name, file } => {
            tokens::revoke(&path(&file)?, &name)?;
            console.note("removed; a service that runs forgets it at SIGHUP");
        }
    }
    Ok(Exit::Done)
}

fn path(args: &TokenFileArgs) -> Result<PathBuf, CliError> {
    match &args.tokens_file {
        Some(path) => Ok(path.clone()),
        None => Ok(config::load(&Overrides::of(&args.config))?.config.api.tokens_file),
    }
}
