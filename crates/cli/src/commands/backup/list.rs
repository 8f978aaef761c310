//! `backup list` and `backup show`.

use copy::StopToken;

use super::Context;
use crate::args::backup::{ListArgs, ShowArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::repository::open::{Missing, Opened, backup_id, filter, open, refuse_filter};
use crate::repository::repository_plan;
use crate::ui::backup::{Backup, details, table_of};
use crate::ui::output::write_stdout;

pub fn list(cx: &Context<'_>, args: &ListArgs) -> Result<Exit, CliError> {
    let plan = repository_plan(&args.repository, &cx.environment.repository, cx.console)?;
    let backups: Vec<Backup> = match open(&plan, Missing::Refuse, &StopToken::new())? {
        Opened::Restic(repository) => repository.snapshots(&filter(&args.of))?.iter().map(Backup::from).collect(),
        Opened::Directory(export) => {
            refuse_filter(&args.of)?;
            export.list()?.iter().map(Backup::from).collect()
        }
    };
    if args.json {
        for backup in &backups {
            cx.output.event("backup", backup);
        }
    } else if !backups.is_empty() {
        write_stdout(format!("{}\n", table_of(&backups)).as_bytes()).map_err(CliError::Output)?;
    } else {
        cx.console.note("no backups");
    }
    Ok(Exit::Done)
}

pub fn show(cx: &Context<'_>, args: &ShowArgs) -> Result<Exit, CliError> {
    let plan = repository_plan(&args.repository, &cx.environment.repository, cx.console)?;
    let backup = match open(&plan, Missing::Refuse, &StopToken::new())? {
        Opened::Restic(repository) => Backup::from(&repository.find_named(&args.snapshot, &filter(&args.of))?),
        Opened::Directory(export) => {
            refuse_filter(&args.of)?;
            let id = backup_id(&args.snapshot)?;
            let found = export.list()?.into_iter().find(|listed| listed.id == id);
            Backup::from(&found.ok_or(backup::directory::DirectoryError::NotFound(id))?)
        }
    };
    if args.json {
        cx.output.event("backup", &backup);
    } else {
        let lines = details(&backup).join("\n");
        write_stdout(format!("{lines}\n").as_bytes()).map_err(CliError::Output)?;
    }
    Ok(Exit::Done)
}
