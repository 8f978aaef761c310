//! Reports for unit tests.

use std::time::Duration;

use copy::{
    CompareReport, CopyReport, Counters, Difference, DifferenceKind, Ending, ErrorClass, Fault, FsError, FsOp, Loss,
    LossKind, Progress, RelPath, Stage,
};

pub fn path(bytes: &[u8]) -> RelPath {
    RelPath::parse(bytes).expect("a plain path")
}

/// A copy that had nothing to complain of.
pub fn copy_report() -> CopyReport {
    CopyReport {
        ending: Ending::Complete,
        counters: Counters {
            scanned_entries: 1_234,
            scanned_bytes: 3 << 30,
            done_entries: 1_234,
            done_bytes: 3 << 30,
            copied_bytes: 2 << 30,
            copied_files: 1_000,
            kinds: [1_200, 30, 4, 0, 0, 0, 0],
            actions: [1_000, 0, 0, 230, 4, 0, 0, 0, 0],
            mover_files: [0, 0, 0, 990, 10],
            mover_bytes: [0, 0, 0, 1 << 30, 1 << 30],
            ..Counters::default()
        },
        faults: Vec::new(),
        fault_classes: Vec::new(),
        losses: Vec::new(),
        warnings: Vec::new(),
        verification: None,
        elapsed: Duration::from_secs(8),
        sync_elapsed: Duration::from_millis(400),
        workers_max: 4,
        durable: true,
    }
}

/// A copy in which everything went wrong that can.
pub fn troubled_report() -> CopyReport {
    let mut report = copy_report();
    report.ending = Ending::WithFaults;
    report.durable = false;
    report.counters.actions[8] = 2;
    report.counters.faults = 2;
    report.counters.losses = 12;
    report.faults = vec![
        Fault { path: path(b"a/b"), error: FsError { op: FsOp::SetOwner, class: ErrorClass::Denied, errno: 1 } },
        Fault { path: path(b"bad\xff"), error: FsError { op: FsOp::Read, class: ErrorClass::Io, errno: 5 } },
    ];
    report.fault_classes = vec![(ErrorClass::Io, 1), (ErrorClass::Denied, 1)];
    report.losses = vec![Loss { kind: LossKind::Owner, count: 12, paths: vec![path(b"a"), path(b"c\n")] }];
    report.warnings = vec!["the destination has no ACLs".into()];
    let mut verification = compare_report();
    verification.counters.differences = 1;
    verification.differences = vec![Difference { kind: DifferenceKind::Mode, count: 1, paths: vec![path(b"m")] }];
    report.verification = Some(verification);
    report
}

/// A comparison that found nothing.
pub fn compare_report() -> CompareReport {
    CompareReport {
        ending: Ending::Complete,
        counters: Counters {
            scanned_entries: 1_234,
            done_entries: 1_234,
            verified_files: 1_200,
            verified_bytes: 3 << 30,
            kinds: [1_200, 30, 4, 0, 0, 0, 0],
            ..Counters::default()
        },
        differences: Vec::new(),
        faults: Vec::new(),
        fault_classes: Vec::new(),
        elapsed: Duration::from_secs(4),
    }
}

pub fn progress() -> Progress {
    Progress {
        stage: Stage::Transfer,
        percent: 41.26,
        counters: Counters {
            scanned_entries: 30_000,
            done_entries: 12_345,
            done_bytes: 1_288_490_189,
            faults: 2,
            ..Counters::default()
        },
        total_entries: Some(30_000),
        total_bytes: Some(3 << 30),
        elapsed: Duration::from_secs(4),
        bytes_per_second: 327_155_712.0,
        entries_per_second: 3_000.0,
        remaining: Some(Duration::from_secs(6)),
        current: Some(copy::Current { path: path(b"dir/file"), percent: Some(12.5) }),
        workers: 4,
    }
}
