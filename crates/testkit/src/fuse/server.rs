//! Takes requests from the kernel and answers them out of the store, or as a rule says.

use std::io::Read as _;

use copy::Timestamp;
use rustix::io::Errno;

use super::store::{Maker, Node, ROOT, Store, now};
use super::wire::{self, Header, Input, Output, refusal};
use super::{Answer, FuseOp, Shared, lock};
use crate::Content;
use crate::model::{Body, join};

/// Bytes of the largest write, and of the buffer that holds it with its head.
const WRITE_BYTES_MAX: u32 = 256 << 10;
const BUFFER_BYTES: usize = (256 + 64) << 10;

/// Serves until the file system is unmounted or given up.
pub(super) fn serve(shared: &Shared) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let len = match (&shared.device).read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => len,
            // The request was taken back meanwhile.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::ENOENT)) => continue,
            Err(_) => return,
        };
        if let Some(answer) = answer(shared, &buffer[..len]) {
            // A caller that went away meanwhile is told by an error that means nothing here.
            let _ = rustix::io::write(&shared.device, &answer);
        }
    }
}

fn answer(shared: &Shared, request: &[u8]) -> Option<Vec<u8>> {
    let (header, input) = Header::read(request);
    match header.opcode {
        wire::FORGET | wire::BATCH_FORGET | wire::DESTROY => return None,
        wire::INIT => return Some(init(shared, input).finish(header.unique)),
        wire::INTERRUPT => {
            let mut input = input;
            let unique = input.u64();
            return lock(&shared.hung).remove(&unique).then(|| refusal(unique, Errno::INTR));
        }
        _ => {}
    }
    let Some(op) = wire::operation(header.opcode) else { return Some(refusal(header.unique, Errno::NOSYS)) };
    let path = subject(&lock(&shared.store), op, &header, input);
    let planned = lock(&shared.plan).answer(op, path);
    let mut short = usize::MAX;
    match planned {
        Some(Answer::Error(errno)) => return Some(refusal(header.unique, errno)),
        Some(Answer::Hang) => {
            lock(&shared.hung).insert(header.unique);
            return None;
        }
        Some(Answer::HangForGood) => return None,
        Some(Answer::Late(time)) => std::thread::sleep(time),
        Some(Answer::Short(bytes)) => short = bytes,
        None => {}
    }
    let mut store = lock(&shared.store);
    let result = handle(&mut store, shared, op, &header, input, short);
    Some(result.map_or_else(|errno| refusal(header.unique, errno), |output| output.finish(header.unique)))
}

/// The path that a request is about.
fn subject(store: &Store, op: FuseOp, header: &Header, mut input: Input<'_>) -> Vec<u8> {
    let before_name = match op {
        FuseOp::Lookup | FuseOp::Symlink | FuseOp::Unlink | FuseOp::RemoveDir => 0,
        FuseOp::MakeNode | FuseOp::Create => 16,
        FuseOp::MakeDir | FuseOp::Rename | FuseOp::Link => 8,
        _ => return store.path(header.node),
    };
    input.skip(before_name);
    join(&store.path(header.node), input.name())
}

fn init(shared: &Shared, mut input: Input<'_>) -> Output {
    const ASYNC_READ: u32 = 1;
    const BIG_WRITES: u32 = 1 << 5;
    const WRITEBACK_CACHE: u32 = 1 << 16;
    const PARALLEL_DIROPS: u32 = 1 << 18;
    const MAX_PAGES: u32 = 1 << 22;
    input.skip(8);
    let (readahead, offered) = (input.u32(), input.u32());
    let mut wanted = ASYNC_READ | BIG_WRITES | PARALLEL_DIROPS | MAX_PAGES;
    if shared.options.writeback_cache {
        wanted |= WRITEBACK_CACHE;
    }
    let mut output = Output::new();
    // The version whose structures this file knows.
    output.u32(7).u32(31).u32(readahead).u32(wanted & offered).u16(64).u16(48).u32(WRITE_BYTES_MAX).u32(1);
    output.u16((WRITE_BYTES_MAX / 4096) as u16).bytes(&[0; 34]);
    output
}

fn attributes(output: &mut Output, id: u64, node: &Node) {
    let (size, blocks) = match &node.body {
        Body::File(content) => (content.size_bytes(), content.allocated_bytes().div_ceil(512)),
        Body::Symlink(target) => (target.len() as u64, 0),
        _ => (0, 0),
    };
    output.u64(id).u64(size).u64(blocks);
    let times = [node.atime, node.mtime, node.ctime];
    for time in times {
        output.u64(time.seconds as u64);
    }
    for time in times {
        output.u32(time.nanos);
    }
    output.u32(node.body.kind().mode_bits() | node.mode).u32(node.links).u32(node.uid).u32(node.gid);
    // Device numbers of up to 8 and 8 bits are the same in both forms.
    output.u32(node.body.rdev() as u32).u32(4096).u32(0);
}

/// How long the kernel may believe what it is told. With its own cache of writes it must know size and times itself.
fn validity(shared: &Shared) -> u64 {
    if shared.options.writeback_cache { 3600 } else { 0 }
}

fn entry(store: &Store, shared: &Shared, id: u64) -> Result<Output, Errno> {
    let mut output = Output::new();
    let valid = validity(shared);
    output.u64(id).u64(0).u64(valid).u64(valid).u32(0).u32(0);
    attributes(&mut output, id, store.get(id)?);
    Ok(output)
}

fn handle_of_open(output: &mut Output, shared: &Shared) {
    const DIRECT_IO: u32 = 1;
    output.u64(0).u32(if shared.options.writeback_cache { 0 } else { DIRECT_IO }).u32(0);
}

fn handle(
    store: &mut Store,
    shared: &Shared,
    op: FuseOp,
    header: &Header,
    mut input: Input<'_>,
    short: usize,
) -> Result<Output, Errno> {
    let id = header.node;
    let maker = |mode| Maker { mode, uid: header.uid, gid: header.gid };
    let mut output = Output::new();
    match op {
        FuseOp::Lookup => return entry(store, shared, store.child(id, input.name())?),
        FuseOp::GetAttr => return attributes_answer(store, shared, id),
        FuseOp::SetAttr => {
            set_attributes(store.get_mut(id)?, input);
            return attributes_answer(store, shared, id);
        }
        FuseOp::ReadLink => match &store.get(id)?.body {
            Body::Symlink(target) => {
                output.bytes(target);
            }
            _ => return Err(Errno::INVAL),
        },
        FuseOp::Symlink => {
            let name = input.name();
            let new = store.make(id, name, Body::Symlink(input.name().into()), maker(0o777))?;
            return entry(store, shared, new);
        }
        FuseOp::MakeNode => {
            let (mode, rdev) = (input.u32(), u64::from(input.u32()));
            input.skip(8);
            let new = store.make(id, input.name(), node_body(mode, rdev)?, maker(mode))?;
            return entry(store, shared, new);
        }
        FuseOp::MakeDir => {
            let mode = input.u32();
            input.skip(4);
            let new = store.make(id, input.name(), Body::Dir, maker(mode))?;
            return entry(store, shared, new);
        }
        FuseOp::Create => {
            input.skip(4);
            let mode = input.u32();
            input.skip(8);
            let new = store.make(id, input.name(), Body::File(Content::new()), maker(mode))?;
            let mut output = entry(store, shared, new)?;
            handle_of_open(&mut output, shared);
            return Ok(output);
        }
        FuseOp::Unlink | FuseOp::RemoveDir => store.remove(id, input.name())?,
        FuseOp::Rename => {
            let new_dir = input.u64();
            let name = input.name();
            store.rename(id, name, new_dir, input.name())?;
        }
        FuseOp::Link => {
            let old = input.u64();
            let name = input.name();
            if store.child(id, name).is_ok() {
                return Err(Errno::EXIST);
            }
            store.enter(id, name, old)?;
            store.get_mut(old)?.links += 1;
            return entry(store, shared, old);
        }
        FuseOp::Open | FuseOp::OpenDir => handle_of_open(&mut output, shared),
        FuseOp::Read => {
            input.skip(8);
            let (offset, size) = (input.u64(), input.u32() as usize);
            let mut data = vec![0; size];
            let len = content(store.get_mut(id)?)?.read_at(&mut data, offset);
            output.bytes(&data[..len]);
        }
        FuseOp::Write => {
            input.skip(8);
            let (offset, size) = (input.u64(), input.u32() as usize);
            input.skip(20);
            let data = input.bytes(size.min(short));
            let node = store.get_mut(id)?;
            content(node)?.write_at(data, offset);
            (node.mtime, node.ctime) = (now(), now());
            output.u32(data.len() as u32).u32(0);
        }
        FuseOp::StatFs => {
            let (blocks, files) = (1 << 22, 1 << 20);
            output.u64(blocks).u64(blocks).u64(blocks).u64(files).u64(files - store.len() as u64);
            output.u32(4096).u32(255).u32(4096).bytes(&[0; 28]);
        }
        FuseOp::SetXattr => {
            let size = input.u32() as usize;
            input.skip(4);
            let name = input.name();
            let node = store.get_mut(id)?;
            node.xattrs.insert(name.into(), input.bytes(size).into());
            node.ctime = now();
        }
        FuseOp::RemoveXattr => {
            let node = store.get_mut(id)?;
            node.xattrs.remove(input.name()).ok_or(Errno::NODATA)?;
            node.ctime = now();
        }
        FuseOp::GetXattr | FuseOp::ListXattr => {
            let size = input.u32() as usize;
            input.skip(4);
            let xattrs = &store.get(id)?.xattrs;
            let value = if op == FuseOp::GetXattr {
                xattrs.get(input.name()).ok_or(Errno::NODATA)?.clone()
            } else {
                xattrs.keys().flat_map(|name| [name, &b"\0"[..]].concat()).collect()
            };
            match size {
                0 => output.u32(value.len() as u32).u32(0),
                size if size < value.len() => return Err(Errno::RANGE),
                _ => output.bytes(&value),
            };
        }
        FuseOp::ReadDir => list(store, id, input, &mut output)?,
        FuseOp::Seek => {
            input.skip(8);
            let (offset, whence) = (input.u64(), input.u32());
            output.u64(seek(content(store.get_mut(id)?)?, offset, whence)?);
        }
        FuseOp::Allocate => {
            input.skip(8);
            let (offset, length, mode) = (input.u64(), input.u64(), input.u32());
            // Nothing but setting space aside.
            if mode & !1 != 0 {
                return Err(Errno::OPNOTSUPP);
            }
            let content = content(store.get_mut(id)?)?;
            content.allocate(&(offset..offset + length));
            if mode == 0 && content.size_bytes() < offset + length {
                content.set_len(offset + length);
            }
        }
        FuseOp::Flush | FuseOp::Fsync | FuseOp::Release | FuseOp::ReleaseDir | FuseOp::SyncFs => {}
    }
    Ok(output)
}

fn content(node: &mut Node) -> Result<&mut Content, Errno> {
    match &mut node.body {
        Body::File(content) => Ok(content),
        Body::Dir => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}

fn attributes_answer(store: &Store, shared: &Shared, id: u64) -> Result<Output, Errno> {
    let mut output = Output::new();
    output.u64(validity(shared)).u32(0).u32(0);
    attributes(&mut output, id, store.get(id)?);
    Ok(output)
}

fn set_attributes(node: &mut Node, mut input: Input<'_>) {
    let valid = input.u32();
    let has = |bit: u32| valid & (1 << bit) != 0;
    input.skip(12);
    let size = input.u64();
    input.skip(8);
    let seconds = [input.u64(), input.u64(), input.u64()];
    let nanos = [input.u32(), input.u32(), input.u32()];
    let mode = input.u32();
    input.skip(4);
    let (uid, gid) = (input.u32(), input.u32());
    let time = |index: usize| Timestamp { seconds: seconds[index] as i64, nanos: nanos[index] };
    if has(3)
        && let Body::File(content) = &mut node.body
    {
        content.set_len(size);
        node.mtime = now();
    }
    if has(0) {
        node.mode = mode & 0o7777;
    }
    if has(1) {
        node.uid = uid;
    }
    if has(2) {
        node.gid = gid;
    }
    if has(4) {
        node.atime = if has(7) { now() } else { time(0) };
    }
    if has(5) {
        node.mtime = if has(8) { now() } else { time(1) };
    }
    node.ctime = if has(10) { time(2) } else { now() };
}

fn node_body(mode: u32, rdev: u64) -> Result<Body, Errno> {
    match copy::EntryKind::from_mode(mode) {
        Some(copy::EntryKind::File) => Ok(Body::File(Content::new())),
        Some(copy::EntryKind::Fifo) => Ok(Body::Fifo),
        Some(copy::EntryKind::Socket) => Ok(Body::Socket),
        Some(copy::EntryKind::CharDevice) => Ok(Body::CharDevice(rdev)),
        Some(copy::EntryKind::BlockDevice) => Ok(Body::BlockDevice(rdev)),
        _ => Err(Errno::INVAL),
    }
}

fn seek(content: &Content, offset: u64, whence: u32) -> Result<u64, Errno> {
    const SEEK_DATA: u32 = 3;
    const SEEK_HOLE: u32 = 4;
    let size = content.size_bytes();
    if offset >= size {
        return Err(Errno::NXIO);
    }
    let data = content.next_data(offset);
    match (whence, data) {
        (SEEK_DATA, Some(data)) => Ok(data.start.max(offset)),
        (SEEK_DATA, None) => Err(Errno::NXIO),
        (SEEK_HOLE, Some(data)) if data.start <= offset => Ok(data.end.min(size)),
        (SEEK_HOLE, _) => Ok(offset),
        _ => Err(Errno::INVAL),
    }
}

fn list(store: &Store, id: u64, mut input: Input<'_>, output: &mut Output) -> Result<(), Errno> {
    input.skip(8);
    let (offset, size) = (input.u64(), input.u32() as usize);
    let node = store.get(id)?;
    let dots = [(1, &b"."[..]), (2, b"..")].into_iter();
    let names = node.order.range(offset.max(2) + 1..).map(|(order, name)| (*order, &**name));
    for (order, name) in dots.filter(|(order, _)| *order > offset).chain(names) {
        let child = node.children.get(name).map_or(ROOT, |child| child.node);
        let padded = (24 + name.len()).next_multiple_of(8);
        if output.len() + padded > size {
            break;
        }
        let kind = store.get(child)?.body.kind().mode_bits() >> 12;
        output.u64(child).u64(order).u32(name.len() as u32).u32(kind).bytes(name);
        output.bytes(&[0; 8][..padded - 24 - name.len()]);
    }
    Ok(())
}
