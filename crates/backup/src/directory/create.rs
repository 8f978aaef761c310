//! Making a backup: a copy to a directory that says it is not complete, its manifest, and then its name.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use copy::tree::SourceTree;
use copy::{
    CopyContext, CopyOptions, CopyReport, Delete, Ending, HashKind, LocalTree, Monitor, Records, StopToken, Sync,
    Throttle, Verify,
};
use rustix::fs::OFlags;

use super::error::Attempt as _;
use super::export::Export;
use super::id::Part;
use super::manifest::{Manifest, ManifestWriter, Proof};
use super::prove::{Inventory, Proving};
use super::sums::Sums;
use super::watch::Watch;
use super::{BackupId, DirectoryError};

/// What an operation on an export works with; all of it belongs to the caller.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub monitor: &'a dyn Monitor,
    pub stop: &'a StopToken,
    pub throttle: &'a Throttle,
    /// A directory of the caller's own, on local storage, for what does not fit into memory: about 40 bytes an entry.
    /// Nothing that stays is written there.
    pub scratch: &'a Path,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("scratch", &self.scratch).finish_non_exhaustive()
    }
}

/// A backup that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub id: &'a BackupId,
    /// Any text that is the same each time this backup is asked for, and no other time: the id of the job. A backup that
    /// is complete and has it is done, and not in the way.
    pub token: &'a str,
    pub publish: Publish,
}

/// Which copies become backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// Those in which nothing is missing.
    Complete,
    /// Those that went to their end, too: entries that could not be read are not in them, and their number is in the
    /// manifest.
    WithFaults,
}

/// How making a backup ended.
#[derive(Debug)]
pub enum Created {
    Published {
        report: CopyReport,
        manifest: Manifest,
        root: String,
    },
    /// An earlier run of the same request has made it.
    Already {
        manifest: Manifest,
    },
    /// It was stopped, or has faults: what is there waits for the next run under a name that says so.
    Withheld {
        report: CopyReport,
    },
}

/// Parts of the whole, in percent, after the copy and after the inventory.
const COPIED: f64 = 90.0;
const PROVEN: f64 = 97.0;

impl Export {
    /// Copies a tree into the export, and gives it the backup's name when it is complete and durable.
    ///
    /// Of `options`, the caller decides all that concerns the copy. These are set here: `hash` is taken where none is
    /// given, because the manifest holds a checksum of each file; `sync` is always at the end; what an earlier run of
    /// this backup copied and the source has not any more is removed.
    ///
    /// Costs beside the copy: one look at each entry of it, for the manifest. Where an earlier run copied a part, the
    /// checksums it noted are taken; a file without one is read in source and copy, and compared.
    pub fn create(
        &self,
        cx: &Context<'_>,
        request: &Request<'_>,
        source: &dyn SourceTree,
        options: &CopyOptions,
    ) -> Result<Created, DirectoryError> {
        let id = request.id;
        if options.dry_run {
            return Err(DirectoryError::DryRun);
        }
        if self.look(&Part::Published.name(id))?.is_some() {
            return self.is_ours(request).map(|manifest| Created::Already { manifest });
        }
        if self.look(&Part::Deleting.name(id))?.is_some() {
            return Err(DirectoryError::BeingDeleted(id.clone()));
        }
        let resumes = self.look(&Part::Partial.name(id))?.is_some();
        let dir = self.make_dir(&Part::Partial.name(id))?;
        self.lock(id, &dir, &Part::Partial.name(id))?;
        for part in [Part::Manifest, Part::NewManifest] {
            self.remove(&part.name(id))?;
        }
        let tree = LocalTree::from_dir(dir.as_fd()).map_err(DirectoryError::Tree)?;
        let hash = options.hash.unwrap_or(HashKind::Xxh3Blocks);
        let sums = self.open_sums(id, hash, resumes)?;
        let watch = Watch::copy(cx.monitor, &sums, options);
        let options = with_proof(options, hash, resumes);
        let copy_cx = CopyContext { source, dest: &tree, monitor: &watch, stop: cx.stop, throttle: cx.throttle };
        watch.step(0.0, COPIED);
        let mut report = copy::copy_tree(&copy_cx, &options)?;
        if !may_publish(request.publish, &report) {
            return Ok(Created::Withheld { report });
        }
        watch.step(COPIED, PROVEN);
        let proving = Proving { cx: &copy_cx, copy: &tree, options: &options, sums: &sums, hash, scratch: cx.scratch };
        let Some(inventory) = proving.inventory(&mut report, &dir)? else { return Ok(Created::Withheld { report }) };
        watch.step(PROVEN, 100.0);
        let Some((manifest, root)) = self.write_manifest(cx, request, &inventory, &report, hash)? else {
            report.ending = Ending::Stopped(cx.stop.reason().expect("only a stop ends the writing"));
            return Ok(Created::Withheld { report });
        };
        self.publish(request, &dir)?;
        watch.done();
        drop(watch);
        drop(sums);
        // It proves nothing any more; where it stays, deleting the backup takes it along.
        let _ = self.remove(&Part::Checksums.name(id));
        Ok(Created::Published { report, manifest, root })
    }

    /// What stands under the name is this request's, or an error says whose it may be.
    fn is_ours(&self, request: &Request<'_>) -> Result<Manifest, DirectoryError> {
        let id = request.id;
        let exists = |made| DirectoryError::Exists { id: id.clone(), made };
        if self.dir_at(&Part::Published.name(id))?.is_none() {
            return Err(DirectoryError::Swapped { name: Part::Published.name(id) });
        }
        match self.proof(id)? {
            Proof::Manifest { manifest, .. } if manifest.token == copy::escape(request.token.as_bytes()) => {
                // Of a run that was killed after the last rename.
                self.sync()?;
                let _ = self.remove(&Part::Checksums.name(id));
                Ok(manifest)
            }
            Proof::Manifest { .. } => Err(exists("made by another request")),
            Proof::None => Err(exists("made by another program")),
            Proof::Damaged(_) => Err(exists("whose manifest cannot be read")),
        }
    }

    fn open_sums(&self, id: &BackupId, hash: HashKind, resumes: bool) -> Result<Sums, DirectoryError> {
        let name = Part::Checksums.name(id);
        let old = match self.file_at(&name, OFlags::RDWR) {
            Ok(file) if resumes => file,
            Ok(_) | Err(DirectoryError::Planted { .. }) => None,
            Err(error) => return Err(error),
        };
        let file = if let Some(file) = old {
            file
        } else {
            self.create_file(&name)?;
            self.file_at(&name, OFlags::RDWR)?.ok_or(DirectoryError::Swapped { name: name.clone() })?
        };
        Sums::open(file, hash).attempt(|| format!("use `{name}` in the export"))
    }

    /// `None`: stopped.
    fn write_manifest(
        &self,
        cx: &Context<'_>,
        request: &Request<'_>,
        inventory: &Inventory,
        report: &CopyReport,
        hash: HashKind,
    ) -> Result<Option<(Manifest, String)>, DirectoryError> {
        let name = Part::NewManifest.name(request.id);
        let manifest = Manifest {
            id: request.id.clone(),
            token: copy::escape(request.token.as_bytes()),
            made_at: to_the_second(SystemTime::now()),
            entries: inventory.entries(),
            bytes: inventory.bytes,
            hash,
            xattrs: inventory.xattrs,
            faults: report.counters.faults,
        };
        let file = self.create_file(&name)?;
        let write = || {
            let mut writer = ManifestWriter::new(file, &manifest)?;
            let mut lines = inventory.lines()?;
            while let Some(line) = lines.next()? {
                if cx.stop.is_stopped() {
                    return Ok(None);
                }
                writer.push(&line)?;
            }
            writer.finish().map(Some)
        };
        let root = write().attempt(|| format!("write `{name}` in the export"))?;
        Ok(root.map(|root| (manifest, root)))
    }

    /// The manifest first: a directory without one would look like another program's.
    fn publish(&self, request: &Request<'_>, dir: &OwnedFd) -> Result<(), DirectoryError> {
        let id = request.id;
        self.publish_manifest(id)?;
        self.sync()?;
        let (from, to) = (Part::Partial.name(id), Part::Published.name(id));
        let renamed = self.rename_dir(dir, &from, &to);
        if !matches!(renamed, Ok(true)) {
            // Whatever stands there is not what it describes.
            let _ = self.remove(&Part::Manifest.name(id));
        }
        if !renamed? {
            return Err(DirectoryError::Exists { id: id.clone(), made: "which came while this one was made" });
        }
        self.sync()
    }
}

/// The caller's options with what a manifest needs.
fn with_proof(options: &CopyOptions, hash: HashKind, resumes: bool) -> CopyOptions {
    let mut options = options.clone();
    options.hash = Some(hash);
    options.sync = Sync::AtEnd;
    if options.records == Records::None {
        options.records = Records::Changes;
    }
    if resumes {
        // Nobody but us has anything in there, and a backup is of the share as it is now.
        options.delete = Delete::Extraneous { max_entries: u64::MAX };
        if options.verify == Verify::Content {
            // What is read anyhow needs no comparison later.
            options.verify_hash = options.verify_hash.or(Some(hash));
        }
    }
    options
}

/// As a manifest keeps it.
fn to_the_second(time: SystemTime) -> SystemTime {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn may_publish(publish: Publish, report: &CopyReport) -> bool {
    report.durable
        && match report.ending {
            Ending::Complete => true,
            // Entries that failed are missing, and said so. What was read back and is not right stays out of sight.
            Ending::WithFaults => publish == Publish::WithFaults && report.unexplained_differences() == 0,
            Ending::Stopped(_) => false,
        }
}
