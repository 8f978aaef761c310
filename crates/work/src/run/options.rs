//! What a job's specification means to the engine, for one pass.

use copy::{
    Compare, CompareOptions, CopyOptions, Delete, Devices, Filter, HashKind, Limits, Mover, Movers, OnFault, OnLoss,
    Records, RelPath, Sparse, Sync, Verify,
};
use job::spec::{self, Options};
use job::{Failure, FailureCode, Kind, PassKind, Step, WorkOrder};

/// How the pass copies. `only`: the entries that alone take part.
pub(crate) fn copy_options(order: &WorkOrder, only: Option<Vec<RelPath>>) -> Result<CopyOptions, Failure> {
    let options = &order.spec.options;
    // A pass with more to come leaves what failed to the next one; only what ends the job may fail it.
    let lenient = !order.pass_kind.is_last();
    let verify = if lenient { Verify::None } else { verify(order.spec.verify()) };
    // Where content is verified, that gives every file its checksum, also those that an earlier pass copied; and the
    // movers that never show the data may be taken.
    let hash = hash(options.hash).filter(|_| !options.dry_run);
    let (hash, verify_hash) = if verify == Verify::Content { (None, hash) } else { (hash, None) };
    Ok(CopyOptions {
        filter: filter(options, only)?,
        compare: if options.checksum { Compare::Content } else { Compare::SizeAndTime },
        delete: if deletes(order) {
            Delete::Extraneous { max_entries: options.max_delete.unwrap_or(u64::MAX) }
        } else {
            Delete::Never
        },
        on_fault: match options.on_fault {
            spec::OnFault::Stop if !lenient => OnFault::Stop,
            spec::OnFault::Stop | spec::OnFault::Continue => OnFault::Continue,
        },
        on_loss: match options.on_loss {
            spec::OnLoss::Fail if !lenient => OnLoss::Fail,
            spec::OnLoss::Fail | spec::OnLoss::Report => OnLoss::Report,
        },
        devices: devices(options.devices),
        sparse: match options.sparse {
            spec::Sparse::Auto => Sparse::Auto,
            spec::Sparse::Detect => Sparse::Detect,
            spec::Sparse::Keep => Sparse::Keep,
        },
        movers: movers(options)?,
        verify,
        hash,
        verify_hash,
        sync: match options.sync {
            spec::Sync::AtEnd => Sync::AtEnd,
            spec::Sync::Never => Sync::Never,
        },
        one_file_system: options.one_file_system,
        dry_run: options.dry_run,
        records: records(options),
        state_dir: Some(order.state_dir.clone()),
        limits: limits(options),
    })
}

/// How a job of kind `verify` compares.
pub(crate) fn compare_options(order: &WorkOrder, only: Option<Vec<RelPath>>) -> Result<CompareOptions, Failure> {
    let options = &order.spec.options;
    let content = order.spec.verify() == spec::Verify::Content;
    let hash = hash(options.hash).filter(|_| content);
    Ok(CompareOptions {
        filter: filter(options, only)?,
        content,
        hash,
        atime: options.atime,
        extra: !options.ignore_extra,
        devices: devices(options.devices),
        one_file_system: options.one_file_system,
        // Those that are the same have checksums, too.
        records: if hash.is_some() { Records::All } else { records(options) },
        limits: limits(options),
    })
}

/// `migrate` removes in every pass but the first. A retry goes on where a job with several passes ended.
fn deletes(order: &WorkOrder) -> bool {
    let is_later = order.pass > 1 || order.retry_report_dir.is_some() || order.pass_kind == PassKind::Incremental;
    order.spec.options.delete || order.spec.kind == Kind::Migrate && is_later
}

fn filter(options: &Options, only: Option<Vec<RelPath>>) -> Result<Filter, Failure> {
    let names: Vec<_> = options.ignore.iter().map(|name| name.as_bytes().to_vec()).collect();
    let filter = Filter::new(&names, &options.exclude, &options.include).map_err(|error| bad(super::chain(&error)))?;
    Ok(match only {
        Some(paths) => filter.only(paths),
        None => filter,
    })
}

fn movers(options: &Options) -> Result<Movers, Failure> {
    let movers = match options.mover {
        Some(word) => Movers::forced(mover(word)),
        None => options.no_mover.iter().fold(Movers::default(), |movers, word| movers.without(mover(*word))),
    };
    if Mover::ALL.iter().any(|mover| movers.allows(*mover)) {
        return Ok(movers);
    }
    Err(bad("`no_mover` leaves no way to move content"))
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(Step::Copy, FailureCode::BadSpec, message)
}

fn mover(word: spec::Mover) -> Mover {
    match word {
        spec::Mover::Reflink => Mover::Reflink,
        spec::Mover::CopyFileRange => Mover::CopyFileRange,
        spec::Mover::Sparse => Mover::Sparse,
        spec::Mover::Buffered => Mover::Buffered,
        spec::Mover::Ranges => Mover::Ranges,
    }
}

fn devices(word: spec::Devices) -> Devices {
    match word {
        spec::Devices::Recreate => Devices::Recreate,
        spec::Devices::Skip => Devices::Skip,
    }
}

fn hash(word: spec::Hash) -> Option<HashKind> {
    match word {
        spec::Hash::None => None,
        spec::Hash::Xxh3 => Some(HashKind::Xxh3Blocks),
        spec::Hash::Blake3 => Some(HashKind::Blake3),
        spec::Hash::Sha256 => Some(HashKind::Sha256),
    }
}

fn verify(word: spec::Verify) -> Verify {
    match word {
        spec::Verify::None => Verify::None,
        spec::Verify::Attributes => Verify::Attributes,
        spec::Verify::Content => Verify::Content,
    }
}

/// What the engine is asked for. The report names fewer where fewer are wanted; manifest and retry need these.
fn records(options: &Options) -> Records {
    match options.report_entries {
        spec::ReportEntries::All => Records::All,
        spec::ReportEntries::Changes | spec::ReportEntries::None => Records::Changes,
    }
}

/// The speed is not among them: what is in force can change at any moment and reaches the engine by its throttle alone.
pub(super) fn limits(options: &Options) -> Limits {
    let workers = options.workers.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    Limits { workers, ..Limits::default() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use job::{Generation, JobId, JobSpec};
    use serde_json::json;

    use super::*;

    fn order(kind: &str, options: &serde_json::Value, pass: u32, pass_kind: PassKind) -> WorkOrder {
        let directory = |path| json!({ "type": "directory", "path": path });
        let spec: JobSpec = serde_json::from_value(
            json!({ "kind": kind, "source": directory("/a"), "dest": directory("/b"), "options": options }),
        )
        .expect("a specification");
        WorkOrder {
            job: JobId::from_u128(1),
            generation: Generation(1),
            pass,
            pass_kind,
            spec: Arc::new(spec),
            workspace: "/w".into(),
            state_dir: "/s".into(),
            report_dir: "/r".into(),
            retry_report_dir: None,
        }
    }

    fn single(options: &serde_json::Value) -> CopyOptions {
        copy_options(&order("copy", options, 1, PassKind::Single), None).expect("options")
    }

    #[test]
    fn nothing_asked_for_is_the_engines_default_with_a_checksum() {
        let (ours, default) = (single(&json!({})), CopyOptions::default());
        let expected = CopyOptions {
            hash: Some(HashKind::Xxh3Blocks),
            records: Records::All,
            state_dir: Some("/s".into()),
            ..default
        };
        assert_eq!(format!("{ours:?}"), format!("{expected:?}"));
    }

    #[test]
    fn every_option_reaches_the_engine() {
        let ours = single(&json!({
            "ignore": ["lost+found"], "exclude": ["*.tmp"], "include": ["*.c"], "one_file_system": true,
            "devices": "skip", "checksum": true, "delete": true, "max_delete": 7, "on_fault": "stop", "on_loss": "fail",
            "verify": "attributes", "hash": "sha256", "sync": "never", "sparse": "detect",
            "no_mover": ["reflink", "ranges"], "workers": 5, "report_entries": "changes",
        }));
        let filter = Filter::new(&[b"lost+found".to_vec()], &["*.tmp".into()], &["*.c".into()]).expect("patterns");
        let expected = CopyOptions {
            filter,
            compare: Compare::Content,
            delete: Delete::Extraneous { max_entries: 7 },
            on_fault: OnFault::Stop,
            on_loss: OnLoss::Fail,
            devices: Devices::Skip,
            sparse: Sparse::Detect,
            movers: Movers::default().without(Mover::Reflink).without(Mover::Ranges),
            verify: Verify::Attributes,
            hash: Some(HashKind::Sha256),
            verify_hash: None,
            sync: Sync::Never,
            one_file_system: true,
            dry_run: false,
            records: Records::Changes,
            state_dir: Some("/s".into()),
            limits: Limits { workers: Some(5), ..Limits::default() },
        };
        assert_eq!(format!("{ours:?}"), format!("{expected:?}"));
        assert_eq!(single(&json!({ "mover": "sparse" })).movers, Movers::forced(Mover::Sparse));
        let dry = single(&json!({ "dry_run": true }));
        assert!(dry.dry_run && dry.hash.is_none() && dry.verify_hash.is_none());
    }

    #[test]
    fn content_that_is_verified_is_hashed_there_and_not_on_the_way() {
        let ours = single(&json!({ "verify": "content", "hash": "blake3" }));
        assert_eq!((ours.hash, ours.verify_hash), (None, Some(HashKind::Blake3)));
    }

    #[test]
    fn passes_of_a_migration_remove_from_the_second_on_and_verify_in_the_last() {
        let options = json!({ "on_fault": "stop", "on_loss": "fail" });
        let check = |pass, kind, delete, verify, on_fault, on_loss| {
            let ours = copy_options(&order("migrate", &options, pass, kind), None).expect("options");
            assert_eq!(ours.delete != Delete::Never, delete, "{pass} {kind:?}");
            assert_eq!((ours.verify, ours.on_fault, ours.on_loss), (verify, on_fault, on_loss), "{pass} {kind:?}");
        };
        check(1, PassKind::Baseline, false, Verify::None, OnFault::Continue, OnLoss::Report);
        check(2, PassKind::Incremental, true, Verify::None, OnFault::Continue, OnLoss::Report);
        check(3, PassKind::Final, true, Verify::Content, OnFault::Stop, OnLoss::Fail);
        check(1, PassKind::Final, false, Verify::Content, OnFault::Stop, OnLoss::Fail);
        let retry =
            WorkOrder { retry_report_dir: Some("/old".into()), ..order("migrate", &options, 1, PassKind::Baseline) };
        let ours = copy_options(&retry, Some(Vec::new())).expect("options");
        assert!(ours.delete != Delete::Never && !ours.filter.is_empty());
    }

    #[test]
    fn a_comparison_reads_what_it_is_asked_to() {
        let compare = |options: &serde_json::Value| {
            compare_options(&order("verify", options, 1, PassKind::Single), None).expect("options")
        };
        let ours = compare(&json!({}));
        assert!(ours.content && ours.extra && !ours.atime && ours.hash == Some(HashKind::Xxh3Blocks));
        let ours = compare(&json!({ "verify": "attributes", "ignore_extra": true, "atime": true, "workers": 3 }));
        assert!(!ours.content && !ours.extra && ours.atime && ours.hash.is_none());
        assert_eq!(ours.limits.workers, Some(3));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |options: &serde_json::Value| {
            let failure =
                copy_options(&order("copy", options, 1, PassKind::Single), None).expect_err("must be refused");
            assert_eq!((failure.step, failure.code), (Step::Copy, FailureCode::BadSpec));
            failure.message
        };
        assert!(refused(&json!({ "exclude": ["a["] })).starts_with("not a valid pattern: `a[`: "));
        let all = json!(["reflink", "copy-file-range", "sparse", "buffered", "ranges"]);
        assert_eq!(refused(&json!({ "no_mover": all })), "`no_mover` leaves no way to move content");
    }
}
