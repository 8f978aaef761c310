//! Exactly the chosen operation fails, and everything is counted.

use std::sync::Arc;

use copy::tree::{DestDir, DestTree, SourceTree};
use copy::{ErrorClass, FsOp, FsResult};
use rustix::io::Errno;
use testkit::faulty::{Effect, Faults, FaultyTree, On};
use testkit::memory::MemoryTree;
use testkit::model::{Entry, TreeModel, diff};
use testkit::{Call, Side};

fn source() -> MemoryTree {
    MemoryTree::from_model(&TreeModel::new().with("d", Entry::dir()).with("d/f", Entry::file(b"0123456789")))
}

/// A copy of one file, as simple as can be: it stops at the first error.
fn copy_one(source: &dyn SourceTree, dest: &dyn DestTree) -> FsResult<Vec<u8>> {
    let from = source.root()?.open_dir(b"d")?;
    let to: Arc<dyn DestDir> = dest.root()?;
    let (reader, metadata) = from.open_file(b"f")?;
    let writer = to.create_file(b"f", 0o600)?;
    let mut bytes = vec![0; metadata.size_bytes as usize];
    let read = reader.read_at(&mut bytes, 0)?;
    let written = writer.write_at(&bytes[..read.max(1)], 0)?;
    writer.set_mode(0o600)?;
    writer.close()?;
    to.create_dir(b"e")?.link_from(&*to, b"f", b"g")?;
    dest.sync()?;
    bytes.truncate(written);
    Ok(bytes)
}

struct Run {
    result: FsResult<Vec<u8>>,
    faults: Faults,
    source: MemoryTree,
    dest: MemoryTree,
}

fn run(prepare: impl FnOnce(&Faults, &MemoryTree)) -> Run {
    let (source, dest, faults) = (source(), MemoryTree::new(), Faults::new());
    prepare(&faults, &source);
    let result = copy_one(&FaultyTree::new(source.clone(), &faults), &FaultyTree::new(dest.clone(), &faults));
    dest.assert_no_violations();
    Run { result, faults, source, dest }
}

#[test]
fn without_rules_nothing_changes_and_both_sides_are_in_one_sequence() {
    let good = run(|_, _| {});
    assert_eq!(good.result.unwrap(), b"0123456789");
    let calls: Vec<_> = good.faults.record().iter().map(|o| (o.side, o.call)).collect();
    let (s, d) = (Side::Source, Side::Dest);
    assert_eq!(
        calls,
        [
            (s, Call::Root),
            (s, Call::OpenDir),
            (d, Call::Root),
            (s, Call::OpenFile),
            (d, Call::CreateFile),
            (s, Call::Read),
            (d, Call::Write),
            (d, Call::SetMode),
            (d, Call::Close),
            (d, Call::CreateDir),
            (d, Call::LinkFrom),
            (d, Call::Sync),
        ]
    );
    let record = good.faults.record();
    assert!(record.iter().enumerate().all(|(i, o)| o.number == i as u64 && o.injected.is_none()));
    assert_eq!((&*record[3].path, record[3].name()), (&b"d/f"[..], &b"f"[..]));
    assert_eq!(record[10].path, b"e/g");
}

#[test]
fn each_operation_fails_once_and_alone() {
    for operation in run(|_, _| {}).faults.record() {
        let bad = run(|faults, _| faults.fail_nth(operation.number, Errno::STALE));
        let error = bad.result.unwrap_err();
        assert_eq!((error.op, error.class), (operation.op(), ErrorClass::Transient), "{operation:?}");
        let injected = bad.faults.injected();
        assert_eq!(injected.len(), 1);
        assert_eq!((injected[0].number, injected[0].call), (operation.number, operation.call));
        assert_eq!(bad.faults.count(), operation.number + 1, "the copy stops there");
        assert_eq!(diff(&source().snapshot(), &bad.source.snapshot()), Vec::<String>::new());
    }
}

#[test]
fn a_failed_operation_is_not_done_unless_its_answer_got_lost() {
    let call = On::dest().call(Call::CreateDir);
    let failed = run(|faults, _| faults.add(call.clone(), Effect::Fail(Errno::IO)));
    assert!(failed.result.is_err() && failed.dest.snapshot().get("e").is_none());
    let lost = run(|faults, _| faults.add(call, Effect::FailAfter(Errno::IO)));
    assert!(lost.result.is_err() && lost.dest.snapshot().get("e").is_some());
}

#[test]
fn rules_choose_by_number_operation_and_name() {
    let from = run(|faults, _| faults.fail_from(5, Errno::IO));
    assert_eq!(from.faults.injected()[0].number, 5);
    let named = run(|faults, _| faults.fail_on(FsOp::Open, b"f", Errno::ACCESS));
    assert_eq!(named.faults.injected()[0].call, Call::OpenFile);
    let none = run(|faults, _| faults.fail_on(FsOp::Open, b"other", Errno::ACCESS));
    assert!(none.result.is_ok());
    let skipped = run(|faults, _| faults.add(On::dest().changes().after(2).once(), Effect::Fail(Errno::IO)));
    assert_eq!(skipped.faults.injected()[0].call, Call::SetMode);
    let limited = Faults::new();
    limited.add(On::source().call(Call::Root).times(2), Effect::Fail(Errno::INTR));
    let tree = FaultyTree::new(source(), &limited);
    let ok: Vec<_> = (0..4).map(|_| SourceTree::root(&tree).is_ok()).collect();
    assert_eq!(ok, [false, false, true, true]);
}

#[test]
fn reads_and_writes_come_up_short() {
    assert_eq!(run(|faults, _| faults.short_reads(4)).result.unwrap(), b"0123");
    assert_eq!(run(|faults, _| faults.short_writes(3)).result.unwrap(), b"012");
    assert_eq!(run(|faults, _| faults.short_writes(0)).result.unwrap(), b"");
    let ended = run(|faults, _| faults.add(On::any().call(Call::Read), Effect::Short(0)));
    assert_eq!(ended.result.unwrap(), b"\0");
}

#[test]
fn lost_writes_show_at_close_and_sync() {
    for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT] {
        let closed = run(|faults, _| faults.close_gives(errno));
        assert!(closed.result.unwrap_err().is(errno));
        assert_eq!(closed.dest.unclosed_files(), 0, "it is closed all the same");
        let synced = run(|faults, _| faults.sync_gives(errno));
        assert_eq!(synced.result.unwrap_err().op, FsOp::Sync);
    }
}

#[test]
fn the_source_changes_right_before_an_operation() {
    let changed = run(|faults, source| {
        let tenant = source.clone();
        faults.before_first(On::source().call(Call::Read).name(b"f"), move || tenant.write("d/f", 0, b"X"));
    });
    assert_eq!(changed.result.unwrap(), b"X123456789");
    let gone = run(|faults, source| {
        let tenant = source.clone();
        faults.before(3, move || tenant.remove("d/f"));
    });
    assert_eq!(gone.result.unwrap_err().class, ErrorClass::NotFound);
}
