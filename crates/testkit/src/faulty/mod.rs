//! Trees that fail on demand: every operation of both sides gets a number, and rules decide what happens to it.
//!
//! With one worker the numbers of two equal runs are the same, so a test can learn the operations of a good run from
//! [`Faults::record`] and fail each of them once. Descriptors are hidden: kernel movers would go past the rules.

mod tree;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use copy::{FsError, FsOp, FsResult, escape};
use rustix::io::Errno;

use crate::{Call, Side};

pub use tree::FaultyTree;

/// One operation of a run.
#[derive(Clone, PartialEq, Eq)]
pub struct Operation {
    /// Counted from zero over both sides.
    pub number: u64,
    pub side: Side,
    pub call: Call,
    /// The entry it was about, components joined by slashes.
    pub path: Vec<u8>,
    /// What a rule made of it.
    pub injected: Option<Errno>,
}

impl Operation {
    pub fn op(&self) -> FsOp {
        self.call.op()
    }

    /// The last component of the path; empty for the root.
    pub fn name(&self) -> &[u8] {
        crate::model::split(&self.path).1
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {:?} {:?} `{}`", self.number, self.side, self.call, escape(&self.path))?;
        self.injected.map_or(Ok(()), |errno| write!(f, " -> {errno}"))
    }
}

/// Which operations a rule is about; a condition that is not set holds for all.
#[derive(Clone, Debug, Default)]
#[must_use = "conditions do nothing without an effect"]
pub struct On {
    side: Option<Side>,
    call: Option<Call>,
    op: Option<FsOp>,
    name: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    numbers: Option<Range<u64>>,
    changes: bool,
    skip: u64,
    times: Option<u64>,
}

impl On {
    /// Every operation.
    pub fn any() -> Self {
        Self::default()
    }

    pub fn source() -> Self {
        Self { side: Some(Side::Source), ..Self::default() }
    }

    pub fn dest() -> Self {
        Self { side: Some(Side::Dest), ..Self::default() }
    }

    pub fn side(self, side: Side) -> Self {
        Self { side: Some(side), ..self }
    }

    pub fn call(self, call: Call) -> Self {
        Self { call: Some(call), ..self }
    }

    pub fn op(self, op: FsOp) -> Self {
        Self { op: Some(op), ..self }
    }

    /// Entries of this name, wherever they are.
    pub fn name(self, name: &[u8]) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    pub fn path(self, path: &[u8]) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    pub fn number(self, number: u64) -> Self {
        Self { numbers: Some(number..number + 1), ..self }
    }

    /// Operations from this number on.
    pub fn from_number(self, number: u64) -> Self {
        Self { numbers: Some(number..u64::MAX), ..self }
    }

    /// Operations that change the tree.
    pub fn changes(self) -> Self {
        Self { changes: true, ..self }
    }

    /// Lets the first `count` of the matching operations pass.
    pub fn after(self, count: u64) -> Self {
        Self { skip: count, ..self }
    }

    /// Only so many times.
    pub fn times(self, count: u64) -> Self {
        Self { times: Some(count), ..self }
    }

    pub fn once(self) -> Self {
        self.times(1)
    }

    fn matches(&self, operation: &Operation) -> bool {
        self.side.is_none_or(|side| side == operation.side)
            && self.call.is_none_or(|call| call == operation.call)
            && self.op.is_none_or(|op| op == operation.op())
            && self.name.as_ref().is_none_or(|name| name == operation.name())
            && self.path.as_ref().is_none_or(|path| *path == operation.path)
            && self.numbers.as_ref().is_none_or(|numbers| numbers.contains(&operation.number))
            && (!self.changes || operation.call.is_change())
    }
}

/// Runs before an operation, outside all locks.
pub type Hook = Arc<dyn Fn(&Operation) + Send + Sync>;

/// What a rule does to an operation.
#[derive(Clone)]
pub enum Effect {
    /// It is not done. `close` closes nevertheless, as in the kernel, and `start_writeback` cannot fail.
    Fail(Errno),
    /// It is done, and told to have failed: the answer of a server got lost.
    FailAfter(Errno),
    /// At most so many bytes are read or written, or names listed; zero bytes are an answer too.
    Short(usize),
    Run(Hook),
}

impl Effect {
    /// A closure for the first operation that matches.
    pub fn run_once(act: impl FnOnce() + Send + 'static) -> Self {
        let act = Mutex::new(Some(act));
        Self::Run(Arc::new(move |_| {
            let act = act.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(act) = act {
                act();
            }
        }))
    }
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(errno) => write!(f, "Fail({errno})"),
            Self::FailAfter(errno) => write!(f, "FailAfter({errno})"),
            Self::Short(bytes) => write!(f, "Short({bytes})"),
            Self::Run(_) => f.write_str("Run(..)"),
        }
    }
}

#[derive(Debug)]
struct Rule {
    on: On,
    effect: Effect,
    matched: u64,
}

#[derive(Debug, Default)]
struct Log {
    rules: Vec<Rule>,
    operations: Vec<Operation>,
}

/// The rules and the log that the two trees of a copy share. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    log: Arc<Mutex<Log>>,
}

impl Faults {
    /// No rules: everything is only counted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule. All rules that match an operation apply, the first failure wins.
    pub fn add(&self, on: On, effect: Effect) {
        self.lock().rules.push(Rule { on, effect, matched: 0 });
    }

    /// Fails one operation.
    pub fn fail_nth(&self, number: u64, errno: Errno) {
        self.add(On::any().number(number), Effect::Fail(errno));
    }

    /// Fails an operation and all that follow: the storage is gone.
    pub fn fail_from(&self, number: u64, errno: Errno) {
        self.add(On::any().from_number(number), Effect::Fail(errno));
    }

    /// Fails every operation of a kind on entries of a name.
    pub fn fail_on(&self, op: FsOp, name: &[u8], errno: Errno) {
        self.add(On::any().op(op).name(name), Effect::Fail(errno));
    }

    /// No read gives more bytes than that.
    pub fn short_reads(&self, bytes_max: usize) {
        self.add(On::any().call(Call::Read), Effect::Short(bytes_max));
    }

    /// No write takes more bytes than that; with zero, none takes any.
    pub fn short_writes(&self, bytes_max: usize) {
        self.add(On::any().call(Call::Write), Effect::Short(bytes_max));
    }

    /// Every `close` tells of lost writes.
    pub fn close_gives(&self, errno: Errno) {
        self.add(On::dest().call(Call::Close), Effect::Fail(errno));
    }

    /// Every `sync` of the tree tells of lost writes.
    pub fn sync_gives(&self, errno: Errno) {
        self.add(On::dest().call(Call::Sync), Effect::Fail(errno));
    }

    /// Runs a closure before the operation of that number.
    pub fn before(&self, number: u64, act: impl FnOnce() + Send + 'static) {
        self.add(On::any().number(number), Effect::run_once(act));
    }

    /// Runs a closure before the first operation that matches.
    pub fn before_first(&self, on: On, act: impl FnOnce() + Send + 'static) {
        self.add(on.once(), Effect::run_once(act));
    }

    /// The operations so far, in order.
    pub fn record(&self) -> Vec<Operation> {
        self.lock().operations.clone()
    }

    /// How many operations were done so far.
    pub fn count(&self) -> u64 {
        self.lock().operations.len() as u64
    }

    /// Operations that a rule failed.
    pub fn injected(&self) -> Vec<Operation> {
        self.lock().operations.iter().filter(|o| o.injected.is_some()).cloned().collect()
    }

    /// Forgets rules and log: the next operation is number zero.
    pub fn reset(&self) {
        *self.lock() = Log::default();
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers an operation, runs its hooks and tells what is to become of it.
    fn enter(&self, side: Side, call: Call, path: Vec<u8>) -> Verdict {
        let mut verdict = Verdict { call, before: None, after: None, short: None };
        let mut hooks = Vec::new();
        let operation = {
            let mut log = self.lock();
            let mut operation = Operation { number: log.operations.len() as u64, side, call, path, injected: None };
            for rule in log.rules.iter_mut().filter(|rule| rule.on.matches(&operation)) {
                let turn = rule.matched;
                rule.matched += 1;
                let due = turn.checked_sub(rule.on.skip);
                if due.is_none_or(|due| rule.on.times.is_some_and(|times| due >= times)) {
                    continue;
                }
                match &rule.effect {
                    Effect::Fail(errno) => verdict.before = verdict.before.or(Some(*errno)),
                    Effect::FailAfter(errno) => verdict.after = verdict.after.or(Some(*errno)),
                    Effect::Short(limit) => verdict.short = Some(verdict.short.unwrap_or(*limit).min(*limit)),
                    Effect::Run(hook) => hooks.push(Arc::clone(hook)),
                }
            }
            operation.injected = verdict.before.or(verdict.after);
            log.operations.push(operation.clone());
            operation
        };
        for hook in hooks {
            hook(&operation);
        }
        verdict
    }
}

/// What the rules decided for one operation.
#[derive(Debug)]
struct Verdict {
    call: Call,
    before: Option<Errno>,
    after: Option<Errno>,
    short: Option<usize>,
}

impl Verdict {
    fn run<T>(self, act: impl FnOnce() -> FsResult<T>) -> FsResult<T> {
        if let Some(errno) = self.before {
            return Err(FsError::new(self.call.op(), errno));
        }
        let value = act()?;
        match self.after {
            Some(errno) => Err(FsError::new(self.call.op(), errno)),
            None => Ok(value),
        }
    }
}
