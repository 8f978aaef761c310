//! `backup delete`: removes backups by name.

use backup::directory::Context as ExportContext;
use backup::restic::SnapshotFilter;
use copy::{CompareReport, Limits, Throttle};
use job::documents::RepositorySummary;

use super::scratch::Scratch;
use super::{Attended, Context, Show, attended, tell_repository};
use crate::args::backup::DeleteArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::repository::open::{Missing, Opened, backup_id, open};
use crate::repository::repository_plan;

pub fn run(cx: &Context<'_>, args: &DeleteArgs) -> Result<Exit, CliError> {
    let plan = repository_plan(&args.repository, &cx.environment.repository, cx.console)?;
    let show = Show::of(&args.output);
    let Attended { done: (report, summary), signal, .. } = attended(cx, &show, |monitor, stop| {
        let mut total = CompareReport::empty();
        let mut removed = 0;
        let mut findings = Vec::new();
        match open(&plan, Missing::Refuse, stop)? {
            Opened::Restic(repository) => {
                // All are found before the first goes: one word too many removes nothing.
                let found = args.snapshots.iter().map(|word| repository.find_named(word, &SnapshotFilter::default()));
                let mut ids = found.map(|found| Ok(found?.id)).collect::<Result<Vec<_>, CliError>>()?;
                ids.sort();
                ids.dedup();
                repository.delete_snapshots(&ids)?;
                removed = ids.len() as u64;
                findings.push("what they alone held stays in the repository until `backup prune`".to_owned());
            }
            Opened::Directory(export) => {
                let scratch = Scratch::new()?;
                let throttle = Throttle::default();
                let context = ExportContext { monitor, stop, throttle: &throttle, scratch: scratch.path() };
                let ids = args.snapshots.iter().map(|id| backup_id(id)).collect::<Result<Vec<_>, _>>()?;
                for id in &ids {
                    let deleted = export.delete(&context, id, &Limits::default())?;
                    if !deleted.found {
                        return Err(backup::directory::DirectoryError::NotFound(id.clone()).into());
                    }
                    removed += u64::from(deleted.gone);
                    total.add(deleted.report.unwrap_or_else(CompareReport::empty));
                    if !deleted.gone {
                        break;
                    }
                }
            }
        }
        let mut summary = RepositorySummary::new(&total);
        summary.removed_backups = removed;
        summary.findings = findings;
        Ok((total, summary))
    })?;
    let exit = Exit::of_comparison(&report, signal);
    tell_repository(cx, "backup delete", summary, exit, args.output.json)
}
