//! Backups as plain directories.

use std::error::Error as _;

use backup::directory::{
    BackupId, CheckOptions, Context, Created, DataShare, DirectoryError, Export, Publish, Request,
};
use copy::{CompareReport, CopyOptions, CopyReport, Ending, LocalTree, Monitor, Records};
use job::documents::{BackupFacts, RepositorySummary};
use job::{Failure, FailureCode, Kind, Step, WorkResult};

use super::super::{Done, chain, copy_pass, covers, failure, options, pass};
use super::{Pass, bad};
use crate::report::Covers;
use crate::upkeep;

pub(super) fn run(pass: &Pass<'_>) -> Result<WorkResult, Failure> {
    let held = pass.hold_repository()?;
    let export = Export::open(&held.path()).map_err(|error| failed(pass, &error))?;
    let job = Job { pass, export };
    match pass.order.spec.kind {
        Kind::Backup => job.create(),
        Kind::Restore => job.restore(),
        Kind::Delete => job.delete(),
        Kind::Check => job.check(),
        Kind::Prune => job.prune(),
        kind @ (Kind::Copy | Kind::Migrate | Kind::Verify) => {
            Err(bad(format!("a job of kind {} has no repository", kind.as_str())))
        }
    }
}

struct Job<'a> {
    pass: &'a Pass<'a>,
    export: Export,
}

impl Job<'_> {
    fn create(&self) -> Result<WorkResult, Failure> {
        let Pass { order, trees, .. } = self.pass;
        let (id, options) = (self.id()?, self.options()?);
        let source = LocalTree::open_source(&trees.source).map_err(|error| failure(order, trees, &error))?;
        let token = order.job.to_string();
        let publish = if order.spec.options.faults_accepted > 0 { Publish::WithFaults } else { Publish::Complete };
        let request = Request { id: &id, token: &token, publish };
        self.report(covers(&options), |monitor| {
            let made = self.export.create(&self.context(monitor), &request, &source, &options);
            Ok(match made.map_err(|error| failed(self.pass, &error))? {
                Created::Published { report, root, .. } => {
                    let facts = BackupFacts { id: id.to_string(), manifest_root: Some(root), ..BackupFacts::default() };
                    Done::copied(&report, false, Some(facts))
                }
                Created::Already { manifest } => {
                    let facts = BackupFacts { id: id.to_string(), was_there: true, ..BackupFacts::default() };
                    let mut done = Done::copied(&CopyReport::unchanged(), false, Some(facts));
                    done.figures.faults = manifest.faults;
                    done
                }
                Created::Withheld { report } if report.ending == Ending::Complete => {
                    let message =
                        "what was written is not on stable storage, so that the backup was not given its name";
                    return Err(Failure::new(Step::Copy, FailureCode::EngineFailed, message));
                }
                Created::Withheld { report } => Done::copied(&report, false, None),
            })
        })
    }

    fn restore(&self) -> Result<WorkResult, Failure> {
        let Pass { order, trees, live, .. } = self.pass;
        let (id, options) = (self.id()?, self.options()?);
        let source = self.export.tree(&id).map_err(|error| failed(self.pass, &error))?;
        let dest = LocalTree::open_dest(&trees.dest).map_err(|error| failure(order, trees, &error))?;
        copy_pass(order, trees, live, self.pass.tell, (&source, &dest), &options)
    }

    fn delete(&self) -> Result<WorkResult, Failure> {
        let (id, limits) = (self.id()?, options::limits(&self.pass.order.spec.options));
        self.report(None, |monitor| {
            let deleted = self.export.delete(&self.context(monitor), &id, &limits);
            let deleted = deleted.map_err(|error| failed(self.pass, &error))?;
            let report = deleted.report.unwrap_or_else(CompareReport::empty);
            let mut summary = RepositorySummary::new(&report);
            summary.removed_backups = u64::from(deleted.found && deleted.gone);
            if !deleted.found {
                summary.findings.push(format!("there is no backup `{id}`: it was deleted earlier, or never made"));
            }
            Ok(Done::of_repository(&report, summary))
        })
    }

    fn check(&self) -> Result<WorkResult, Failure> {
        let percent = f64::from(self.pass.plan.read_data_percent);
        let options = CheckOptions {
            // Another part each time.
            data: DataShare { percent, from_percent: (self.pass.order.job.as_u128() % 100) as f64 },
            records: Records::Changes,
            limits: options::limits(&self.pass.order.spec.options),
        };
        let named = match &self.pass.plan.id {
            Some(_) => vec![self.id()?],
            None => Vec::new(),
        };
        self.report(None, |monitor| {
            let checked = upkeep::check_export(&self.export, &self.context(monitor), named, &options);
            let (report, summary) = checked.map_err(|error| failed(self.pass, &error))?;
            Ok(Done::of_repository(&report, summary))
        })
    }

    fn prune(&self) -> Result<WorkResult, Failure> {
        if !self.pass.plan.keep.is_all() {
            return Err(bad("backup.keep is for restic repositories: a directory does not say what it is a backup of"));
        }
        let limits = options::limits(&self.pass.order.spec.options);
        self.report(None, |monitor| {
            let pruned = upkeep::prune_export(&self.export, &self.context(monitor), &limits);
            let (report, summary) = pruned.map_err(|error| failed(self.pass, &error))?;
            Ok(Done::of_repository(&report, summary))
        })
    }

    fn id(&self) -> Result<BackupId, Failure> {
        let id = self.pass.plan.id.as_deref().ok_or_else(|| bad("the job does not say which backup"))?;
        BackupId::parse(id).map_err(|error| bad(error.to_string()))
    }

    fn options(&self) -> Result<CopyOptions, Failure> {
        options::copy_options(self.pass.order, self.pass.only.clone())
    }

    fn context<'b>(&'b self, monitor: &'b dyn Monitor) -> Context<'b> {
        let Pass { order, live, .. } = self.pass;
        Context { monitor, stop: &live.stop, throttle: &live.throttle, scratch: &order.state_dir }
    }

    fn report(
        &self,
        manifest: Option<Covers>,
        work: impl FnOnce(&dyn Monitor) -> Result<Done, Failure>,
    ) -> Result<WorkResult, Failure> {
        pass(self.pass.order, manifest, self.pass.tell, |teller| work(teller))
    }
}

fn failed(pass: &Pass<'_>, error: &DirectoryError) -> Failure {
    let (step, code) = match error {
        DirectoryError::Copy(error) => return failure(pass.order, pass.trees, error),
        DirectoryError::Id { .. }
        | DirectoryError::NotFound(_)
        | DirectoryError::Partial(_)
        | DirectoryError::BeingDeleted(_)
        | DirectoryError::Exists { .. }
        | DirectoryError::DryRun => (Step::Copy, FailureCode::BadSpec),
        _ => (Step::Copy, FailureCode::EngineFailed),
    };
    let cause = error.source().map(|source| format!(": {}", chain(source))).unwrap_or_default();
    Failure::new(step, code, format!("{error}{cause}"))
}
