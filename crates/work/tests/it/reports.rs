//! What a report holds, who may read it, and that nobody can lead it elsewhere.

use std::os::unix::fs::{MetadataExt as _, symlink};

use job::documents::Summary;
use job::spec::{Hash, ReportEntries, Verify, Webhook};
use job::{Kind, PassKind, Sensitive, Step, WorkEnding, WorkEvent};
use testkit::disk::{TempDir, Tmpfs};
use testkit::lend;
use work::report::{ENTRIES, FAULTS, MANIFEST, SUMMARY, verify_manifest};

use crate::kit::{Job, entries, names, read_summary, summary_of, unpack, write};

#[test]
fn a_report_is_whole_and_the_owners_alone() {
    let job = Job::new(Kind::Copy).with(|spec| {
        spec.options.hash = Hash::Sha256;
        let webhook = Webhook { url: "https://host.example/".into(), secret: Some(Sensitive::secret("geheim")) };
        spec.webhook = Some(webhook);
    });
    write(job.source("abc"), "abc");
    write(job.source("line\nend"), "");
    symlink("abc", job.source("link")).unwrap();
    let (result, told) = job.try_run();
    let (result, report) = (result.unwrap(), &job.order.report_dir);
    assert_eq!(names(report), [ENTRIES, FAULTS, MANIFEST, SUMMARY]);
    assert_eq!(std::fs::metadata(report).unwrap().mode() & 0o7777, 0o700);
    for name in names(report) {
        assert_eq!(std::fs::metadata(report.join(&name)).unwrap().mode() & 0o7777, 0o600, "{name}");
    }

    let lines = entries(report);
    let paths: Vec<_> = lines.keys().map(|(kind, path)| (kind.as_str(), path.as_str())).collect();
    assert_eq!(paths, [("entry", "."), ("entry", "abc"), ("entry", "line\nend"), ("entry", "link")]);
    // FIPS 180-2 appendix B.1.
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(lines[&("entry".into(), "abc".into())]["checksum"]["digest"], digest);

    let manifest = unpack(&report.join(MANIFEST));
    let mut manifest: Vec<_> = manifest.lines().collect();
    manifest.sort_unstable();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(manifest, [format!("{digest} sha256 3 abc"), format!("{empty} sha256 0 line\\x0aend")]);
    let verified = verify_manifest(report).unwrap();
    assert_eq!((Some(verified.root), verified.files), (result.manifest_root, 2));

    let summary = read_summary(report);
    assert_eq!(serde_json::from_value::<Summary>(summary["summary"].clone()).unwrap(), summary_of(&told));
    assert_eq!((&summary["pass"], &summary["pass_kind"]), (&1.into(), &"single".into()));
    assert_eq!((&summary["spec"]["kind"], &summary["spec"]["webhook"]["secret"]), (&"copy".into(), &"***".into()));
    assert_eq!((&summary["manifest"]["covers"], &summary["manifest"]["files"]), (&"copied".into(), &2.into()));
    assert!(summary["started_at"].as_str().unwrap() <= summary["ended_at"].as_str().unwrap());
    assert!(!summary.to_string().contains("geheim"));
}

#[test]
fn a_verified_pass_has_the_checksum_of_every_file_and_one_root_whatever_it_copied() {
    let mut roots = Vec::new();
    for workers in [1, 8] {
        let mut job = Job::new(Kind::Migrate).with(|spec| spec.options.workers = Some(workers));
        (0..200).for_each(|n| write(job.source(&format!("f{n}")), &format!("content {n}")));
        job.pass(1, PassKind::Baseline);
        assert!(job.run().manifest_root.is_some());
        assert_eq!(read_summary(&job.order.report_dir)["manifest"]["covers"], "copied");
        // The second pass copies nothing, so its manifest is empty.
        job.pass(2, PassKind::Incremental);
        job.run();
        assert_eq!(verify_manifest(&job.order.report_dir).unwrap().files, 0);
        job.pass(3, PassKind::Final);
        let root = job.run().manifest_root.unwrap();
        assert_eq!(verify_manifest(&job.order.report_dir).unwrap().files, 200);
        assert_eq!(read_summary(&job.order.report_dir)["manifest"]["covers"], "verified");
        roots.push(root);
    }
    assert_eq!(roots[0], roots[1]);
}

/// Writes the manifest anew with other lines.
fn tamper(report: &std::path::Path, change: impl FnOnce(&mut Vec<String>)) -> String {
    let path = report.join(MANIFEST);
    let before = std::fs::read(&path).unwrap();
    let mut lines: Vec<_> = unpack(&path).lines().map(str::to_owned).collect();
    change(&mut lines);
    let text = lines.join("\n") + "\n";
    std::fs::write(&path, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    let root = verify_manifest(report).unwrap().root;
    std::fs::write(&path, before).unwrap();
    root
}

#[test]
fn a_manifest_that_was_tampered_with_has_another_root() {
    let job = Job::new(Kind::Copy);
    (0..20).for_each(|n| write(job.source(&format!("f{n}")), &format!("content {n}")));
    let root = job.run().manifest_root.unwrap();
    let report = &job.order.report_dir;
    assert_eq!(tamper(report, |lines| lines.reverse()), root, "the order does not matter");
    assert_eq!(tamper(report, |lines| lines.sort()), root, "the order does not matter");
    for at in 0..20 {
        assert_ne!(tamper(report, |lines| drop(lines.remove(at))), root, "a missing line");
        assert_ne!(tamper(report, |lines| lines[at].push('x')), root, "a changed line");
        assert_ne!(tamper(report, |lines| lines.push(lines[at].clone())), root, "an added line");
    }
    let whole = std::fs::read(report.join(MANIFEST)).unwrap();
    std::fs::write(report.join(MANIFEST), &whole[..whole.len() - 5]).unwrap();
    assert!(verify_manifest(report).is_err(), "a cut file is no manifest");
}

#[test]
fn entries_are_named_as_asked_for() {
    let run = |wanted: ReportEntries| {
        let mut job = Job::new(Kind::Copy).with(|spec| {
            spec.options.report_entries = wanted;
            spec.options.verify = Some(Verify::Content);
        });
        write(job.source("a"), "1");
        job.run();
        write(job.source("b"), "2");
        job.pass(2, PassKind::Single);
        job.run();
        assert_eq!(verify_manifest(&job.order.report_dir).unwrap().files, 2, "{wanted:?}");
        job
    };
    // Without the root: whether its time changed depends on how coarse the clock is.
    let paths = |job: &Job| {
        let paths = entries(&job.order.report_dir).into_keys().map(|(_, path)| path);
        paths.filter(|path| path != ".").collect::<Vec<_>>()
    };
    assert_eq!(paths(&run(ReportEntries::All)), ["a", "b"]);
    assert_eq!(paths(&run(ReportEntries::Changes)), ["b"]);
    assert!(!run(ReportEntries::None).order.report_dir.join(ENTRIES).exists());
}

#[test]
fn a_pass_that_is_run_again_begins_its_report_anew() {
    let job = Job::new(Kind::Copy).with(|spec| spec.options.hash = Hash::None);
    let outside = TempDir::new();
    write(outside.path().join("precious"), "precious");
    std::fs::create_dir_all(&job.order.report_dir).unwrap();
    // What an attempt left that was killed, and what somebody planted who could.
    write(job.order.report_dir.join(MANIFEST), "old");
    write(job.order.report_dir.join("faults.jsonl.partial"), "old");
    symlink(outside.path().join("precious"), job.order.report_dir.join("summary.json.partial")).unwrap();
    symlink(outside.path().join("precious"), job.order.report_dir.join(ENTRIES)).unwrap();
    write(job.source("f"), "content");
    assert_eq!(job.run().manifest_root, None);
    assert_eq!(names(&job.order.report_dir), [ENTRIES, FAULTS, SUMMARY]);
    assert_eq!(entries(&job.order.report_dir).len(), 2);
    assert_eq!(std::fs::read_to_string(outside.path().join("precious")).unwrap(), "precious");
}

#[test]
fn a_report_directory_that_is_a_link_is_refused() {
    let job = Job::new(Kind::Copy);
    let outside = TempDir::new();
    std::fs::create_dir_all(job.order.report_dir.parent().unwrap()).unwrap();
    symlink(outside.path(), &job.order.report_dir).unwrap();
    assert_eq!(job.try_run().0.unwrap_err().step, Step::Report);
    assert_eq!(names(outside.path()), Vec::<String>::new());
}

#[test]
fn a_report_that_cannot_be_written_fails_the_pass_and_not_the_copy() {
    // Incompressible names in more pages than there are.
    let small = lend!("a_report_that_cannot_be_written_fails_the_pass_and_not_the_copy", Tmpfs::new(16 << 10, None));
    let mut job = Job::new(Kind::Copy);
    job.order.report_dir = small.path().join("report");
    (0..3000_u64).for_each(|n| write(job.source(&format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))), "x"));
    let (result, told) = job.try_run();
    let failure = result.unwrap_err();
    assert_eq!(failure.step, Step::Report);
    assert!(failure.message.contains("No space"), "{failure}");
    assert_eq!(names(&job.dest("")).len(), 3000);
    assert_eq!(summary_of(&told).counts().copied_files, 3000);
    // One that is stopped goes on later, and has its report then.
    for name in names(&job.order.report_dir) {
        std::fs::remove_file(job.order.report_dir.join(name)).unwrap();
    }
    std::fs::write(small.path().join("fill"), vec![1; 64 << 10]).unwrap_err();
    job.live.stop.stop(copy::StopReason::Cancel);
    let (result, told) = job.try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Stopped);
    let warned = |event: &WorkEvent| matches!(event, WorkEvent::Warning(text) if text.contains("No space"));
    assert!(told.iter().any(warned), "{told:?}");
}
