//! Backups in restic repositories.

use std::path::Component;
use std::sync::Arc;

use backup::restic::{
    BackupContext, BackupOptions, LocalStore, Parent, PruneOptions, Repository, RepositoryError, SecretString,
    Snapshot, SnapshotFilter, Store, name_tag, open_address, share_tag,
};
use copy::{
    CompareReport, CopyContext, CopyOptions, CopyReport, Ending, EntryRecord, Fault, LocalTree, Monitor, Progress,
    RelPath, Sparse, Stage, StopReason, Verify, verify_trees,
};
use job::documents::{BackupFacts, RepositorySummary};
use job::{Endpoint, Failure, FailureCode, Kind, Step, WorkResult};

use super::super::{Done, chain, copy_pass, failure, options, pass};
use super::{Pass, bad};
use crate::upkeep::{self, Kept};

/// Begins the tag by which a job that is resumed finds the snapshot that it had made.
const JOB_TAG: &str = "manila-job=";
/// The name of a tree that has none of its own.
const PLAIN_TREE: &str = "share";

pub(super) fn run(pass: &Pass<'_>) -> Result<WorkResult, Failure> {
    let job = Job { pass };
    match pass.order.spec.kind {
        Kind::Backup => job.create(),
        Kind::Restore => job.restore(),
        Kind::Delete => job.on_repository(|repository, _| job.delete(repository)),
        Kind::Check => job.on_repository(|repository, monitor| job.check(repository, monitor)),
        Kind::Prune => job.on_repository(|repository, monitor| job.prune(repository, monitor)),
        kind @ (Kind::Copy | Kind::Migrate | Kind::Verify) => {
            Err(bad(format!("a job of kind {} has no repository", kind.as_str())))
        }
    }
}

struct Job<'a> {
    pass: &'a Pass<'a>,
}

/// Why work on the repository did not come to its end.
enum End {
    Stopped(StopReason),
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Job<'_> {
    fn create(&self) -> Result<WorkResult, Failure> {
        let Pass { order, trees, .. } = self.pass;
        let options = self.options()?;
        let source = LocalTree::open_source(&trees.source).map_err(|error| failure(order, trees, &error))?;
        self.report(|monitor| match self.make(&source, &options, monitor) {
            Ok((report, facts)) => Ok(Done::copied(&report, false, facts)),
            Err(End::Stopped(reason)) => {
                let report = CopyReport { ending: Ending::Stopped(reason), ..CopyReport::unchanged() };
                Ok(Done::copied(&report, false, None))
            }
            Err(End::Failed(failure)) => Err(failure),
        })
    }

    fn make(
        &self,
        source: &LocalTree,
        options: &CopyOptions,
        monitor: &dyn Monitor,
    ) -> Result<(CopyReport, Option<BackupFacts>), End> {
        let Pass { order, plan, live, .. } = self.pass;
        let repository = self.open()?;
        let job_tag = format!("{JOB_TAG}{}", order.job);
        let of_job = SnapshotFilter { tags: vec![job_tag.clone()], ..SnapshotFilter::default() };
        if let Some(made) = self.ended(repository.snapshots(&of_job))?.pop() {
            let facts = BackupFacts { id: made.id.to_string(), was_there: true, ..BackupFacts::default() };
            let mut report = CopyReport::unchanged();
            self.verify(&repository, &made, source, options, &mut report, monitor)?;
            return Ok((report, Some(facts)));
        }
        let path = path_in_snapshot(plan.share.as_deref(), &order.spec.source);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let parent = match &plan.share {
            Some(share) => SnapshotFilter { tags: vec![share_tag(share)], ..SnapshotFilter::default() },
            // As restic does it.
            None => SnapshotFilter {
                hosts: vec![host.clone()],
                paths: vec![format!("/{path}")],
                ..SnapshotFilter::default()
            },
        };
        let (name, share) = (plan.id.iter().map(|id| name_tag(id)), plan.share.iter().map(|share| share_tag(share)));
        let backup_options = BackupOptions {
            tags: name.chain(share).chain(plan.tags.iter().cloned()).chain([job_tag]).collect(),
            parent: Parent::Latest(parent),
            read_all: order.spec.options.checksum,
            // What reads a tree changes them, and nothing else would be new in the next backup.
            atime: false,
            filter: options.filter.clone(),
            on_fault: options.on_fault,
            devices: options.devices,
            one_file_system: options.one_file_system,
            records: options.records,
            limits: options.limits.clone(),
            ..BackupOptions::new(path, &host, jiff::Timestamp::now())
        };
        let cx = BackupContext { source, monitor, stop: &live.stop, throttle: &live.throttle };
        let half = FirstHalf(monitor);
        let cx = if options.verify == Verify::None { cx } else { BackupContext { monitor: &half, ..cx } };
        let made = self.ended(repository.backup(&cx, &backup_options))?;
        let mut report = made.report;
        let facts = made.snapshot.as_ref().map(|snapshot| BackupFacts {
            id: snapshot.id.to_string(),
            added_bytes: Some(made.added.stored_bytes),
            ..BackupFacts::default()
        });
        if let Some(snapshot) = &made.snapshot {
            self.verify(&repository, snapshot, source, options, &mut report, monitor)?;
        }
        Ok((report, facts))
    }

    /// Compares what was saved with what it was made of, where that is asked for.
    fn verify(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        share: &LocalTree,
        options: &CopyOptions,
        report: &mut CopyReport,
        monitor: &dyn Monitor,
    ) -> Result<(), End> {
        let Pass { order, trees, live, .. } = self.pass;
        if options.verify == Verify::None {
            return Ok(());
        }
        let saved = self.ended(repository.open_tree(snapshot, &RelPath::root(), &live.stop))?;
        let cx = CopyContext { source: &saved, dest: share, monitor, stop: &live.stop, throttle: &live.throttle };
        let mut compare = options::compare_options(order, self.pass.only.clone())?;
        compare.atime = false;
        // What came to the share since is no fault of the backup.
        compare.extra = false;
        let found = verify_trees(&cx, &compare).map_err(|error| failure(order, trees, &error))?;
        report.ending = match (report.ending, found.ending) {
            (ending @ Ending::Stopped(_), _) | (_, ending @ Ending::Stopped(_)) => ending,
            (Ending::Complete, _) if found.is_same() => Ending::Complete,
            _ => Ending::WithFaults,
        };
        report.verification = Some(found);
        Ok(())
    }

    fn restore(&self) -> Result<WorkResult, Failure> {
        let Pass { order, trees, live, .. } = self.pass;
        let mut options = self.options()?;
        if options.sparse == Sparse::Auto {
            // A snapshot knows of zeros, and not of holes.
            options.sparse = Sparse::Detect;
        }
        let opened = self.open().and_then(|repository| {
            let snapshot = self.ended(repository.find_named(&self.wanted()?, &self.of_share()))?;
            self.ended(repository.open_tree(&snapshot, &RelPath::root(), &live.stop))
        });
        let source = match opened {
            Ok(source) => source,
            Err(End::Failed(failure)) => return Err(failure),
            Err(End::Stopped(reason)) => {
                let report = CopyReport { ending: Ending::Stopped(reason), ..CopyReport::unchanged() };
                return self.report(|_| Ok(Done::copied(&report, false, None)));
            }
        };
        let dest = LocalTree::open_dest(&trees.dest).map_err(|error| failure(order, trees, &error))?;
        copy_pass(order, trees, live, self.pass.tell, (&source, &dest), &options)
    }

    fn delete(&self, repository: &Repository) -> Result<Kept, End> {
        let wanted = self.wanted()?;
        let named = SnapshotFilter { tags: vec![name_tag(&wanted)], ..self.of_share() };
        let mut found = self.ended(repository.snapshots(&named))?;
        if found.is_empty() {
            match repository.find_named(&wanted, &self.of_share()) {
                Err(RepositoryError::NoSnapshot { .. }) => {}
                answer => found.push(self.ended(answer)?),
            }
        }
        let ids: Vec<_> = found.iter().map(|snapshot| snapshot.id).collect();
        self.ended(repository.delete_snapshots(&ids))?;
        let report = CompareReport::empty();
        let mut summary = RepositorySummary::new(&report);
        summary.removed_backups = ids.len() as u64;
        summary.findings.push(if ids.is_empty() {
            format!("there is no backup `{wanted}`: it was deleted earlier, or never made")
        } else {
            "what it alone held stays in the repository until a prune".to_owned()
        });
        Ok((report, summary))
    }

    fn check(&self, repository: &Repository, monitor: &dyn Monitor) -> Result<Kept, End> {
        let Pass { plan, live, .. } = self.pass;
        self.ended(upkeep::check_repository(repository, plan.read_data_percent, monitor, &live.stop))
    }

    fn prune(&self, repository: &Repository, monitor: &dyn Monitor) -> Result<Kept, End> {
        let Pass { plan, live, .. } = self.pass;
        let options = PruneOptions::default();
        self.ended(upkeep::prune_repository(repository, &self.of_share(), plan.keep, options, monitor, &live.stop))
    }

    /// Does something with the repository alone.
    fn on_repository(
        &self,
        work: impl FnOnce(&Repository, &dyn Monitor) -> Result<Kept, End>,
    ) -> Result<WorkResult, Failure> {
        self.report(|monitor| match self.open().and_then(|repository| work(&repository, monitor)) {
            Ok((report, summary)) => Ok(Done::of_repository(&report, summary)),
            Err(End::Stopped(reason)) => {
                let mut report = CompareReport::empty();
                report.ending = Ending::Stopped(reason);
                Ok(Done::of_repository(&report, RepositorySummary::new(&report)))
            }
            Err(End::Failed(failure)) => Err(failure),
        })
    }

    fn open(&self) -> Result<Repository, End> {
        let Pass { order, plan, live, .. } = self.pass;
        let spec = &order.spec;
        let endpoint = if spec.kind == Kind::Restore || spec.kind == Kind::Check { &spec.source } else { &spec.dest };
        let store: Arc<dyn Store> = if let Endpoint::Url { url } = endpoint {
            let address = crate::repositories::below(url.expose(), plan.subdir.as_deref());
            self.ended(open_address(&address, None, live.stop.clone()).map_err(RepositoryError::Store))?
        } else {
            let place = crate::shown(plan.subdir.as_deref().unwrap_or(self.pass.endpoint()));
            Arc::new(LocalStore::from_dir(self.pass.hold_repository()?.into(), place))
        };
        let password = SecretString::from(plan.password.as_ref().map_or("", |password| password.expose()).to_owned());
        self.ended(if plan.init {
            Repository::open_or_init(&store, &password)
        } else {
            Repository::open(store, &password)
        })
    }

    fn wanted(&self) -> Result<String, Failure> {
        self.pass.plan.id.clone().ok_or_else(|| bad("the job does not say which backup"))
    }

    fn of_share(&self) -> SnapshotFilter {
        let share = self.pass.plan.share.iter().map(|share| share_tag(share));
        SnapshotFilter { tags: share.collect(), ..SnapshotFilter::default() }
    }

    fn options(&self) -> Result<CopyOptions, Failure> {
        options::copy_options(self.pass.order, self.pass.only.clone())
    }

    fn report(&self, work: impl FnOnce(&dyn Monitor) -> Result<Done, Failure>) -> Result<WorkResult, Failure> {
        pass(self.pass.order, None, self.pass.tell, |teller| work(teller))
    }

    /// What became of a call: whatever fails after the order to stop has come, fails because of it.
    fn ended<T>(&self, answer: Result<T, RepositoryError>) -> Result<T, End> {
        answer.map_err(|error| match self.pass.live.stop.reason() {
            Some(reason) => End::Stopped(reason),
            None => End::Failed(self.failed(&error)),
        })
    }

    fn failed(&self, error: &RepositoryError) -> Failure {
        let code = match error {
            RepositoryError::Source(error) => return failure(self.pass.order, self.pass.trees, error),
            RepositoryError::NoRepository { .. }
            | RepositoryError::WrongPassword { .. }
            | RepositoryError::NoSnapshot { .. }
            | RepositoryError::AmbiguousSnapshot { .. }
            | RepositoryError::NoSuchPath { .. } => FailureCode::BadSpec,
            RepositoryError::Panicked => FailureCode::Internal,
            _ => FailureCode::EngineFailed,
        };
        Failure::new(Step::Copy, code, chain(error))
    }
}

/// Tells of something as the first half of the work.
struct FirstHalf<'a>(&'a dyn Monitor);

impl Monitor for FirstHalf<'_> {
    fn progress(&self, progress: &Progress) {
        let stage = if progress.stage == Stage::Done { Stage::Sync } else { progress.stage };
        self.0.progress(&Progress { stage, percent: progress.percent / 2.0, ..progress.clone() });
    }

    fn fault(&self, fault: &Fault) {
        self.0.fault(fault);
    }

    fn failed(&self, fault: &Fault) {
        self.0.failed(fault);
    }

    fn warning(&self, text: &str) {
        self.0.warning(text);
    }

    fn record(&self, record: EntryRecord) {
        self.0.record(record);
    }
}

/// Where the tree is in its snapshot: a share under its name, a directory at its own path as restic has it.
fn path_in_snapshot(share: Option<&str>, endpoint: &Endpoint) -> RelPath {
    let names = |path: &std::path::Path| {
        RelPath::from_components(path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.as_encoded_bytes()),
            _ => None,
        }))
    };
    let path = match (share, endpoint) {
        (Some(share), _) => names(share.as_ref()),
        (None, Endpoint::Directory { path }) => names(path),
        (None, Endpoint::Mount { source, .. }) => names(source.as_ref()),
        (None, _) => RelPath::root(),
    };
    if path.is_root() { names(PLAIN_TREE.as_ref()) } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_a_place_of_its_own_in_the_snapshot() {
        let directory = Endpoint::Directory { path: "/srv/a".into() };
        assert_eq!(path_in_snapshot(None, &directory), RelPath::from_components([&b"srv"[..], b"a"]));
        assert_eq!(path_in_snapshot(Some("s-1"), &directory), RelPath::from_components([&b"s-1"[..]]));
        let root = Endpoint::Directory { path: "/".into() };
        assert_eq!(path_in_snapshot(None, &root), RelPath::from_components([&b"share"[..]]));
        assert_eq!(path_in_snapshot(Some("../.."), &root), RelPath::from_components([&b"share"[..]]));
    }
}
