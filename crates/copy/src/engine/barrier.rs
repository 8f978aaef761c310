//! Makes what was written durable every few seconds and at the end, and remembers up to where that is proven.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::copy::Copy;
use super::run::{Run, lock};
use crate::error::{CopyError, FsError};
use crate::meta::Timestamp;
use crate::state::State;
use crate::tree::DestTree;

/// The barriers of one run.
pub(super) struct Barriers<'a> {
    dest: &'a dyn DestTree,
    shared: Arc<Shared>,
    enabled: bool,
    durable: bool,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    wake: Condvar,
}

#[derive(Default)]
struct Inner {
    state: Option<State>,
    ended: bool,
    /// The first write error that storage told.
    error: Option<FsError>,
    state_error: Option<CopyError>,
    last_clock: Option<Timestamp>,
}

/// Ends the barrier thread.
pub(super) struct End(Arc<Shared>);

impl End {
    pub(super) fn end(&self) {
        self.0.lock().ended = true;
        self.0.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps; `false` when the run has ended meanwhile.
    fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut inner = self.lock();
        while !inner.ended {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return true };
            inner = self.wake.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

impl<'a> Barriers<'a> {
    pub(super) fn new(dest: &'a dyn DestTree, state: Option<State>, enabled: bool) -> Self {
        let shared = Arc::new(Shared { inner: Mutex::new(Inner { state, ..Inner::default() }), ..Shared::default() });
        Self { dest, shared, enabled, durable: false }
    }

    /// Starts the thread that sets a barrier every `interval`.
    pub(super) fn start<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        run: &'scope Run<'_>,
        interval: Duration,
    ) -> End {
        let (shared, enabled) = (self.shared.clone(), self.enabled);
        if enabled {
            let dest = run.cx.dest;
            scope.spawn(move || {
                while shared.sleep(interval) {
                    set_barrier(&shared, dest, run);
                }
            });
        }
        End(self.shared.clone())
    }

    /// The last barrier: after it, everything the run wrote is durable. Returns what storage lost.
    pub(super) fn finish(&mut self, copy: &Copy<'_>, stopped: bool) -> Result<Option<FsError>, CopyError> {
        if let Some(error) = self.shared.lock().state_error.take() {
            return Err(error);
        }
        // A run that is stopped has to end quickly; what is not durable is compared or copied again.
        if self.enabled && !stopped {
            let sampled = *lock(&copy.run.clock);
            let root = copy.dest_root.metadata().ok().map(|meta| meta.ctime);
            let result = self.dest.sync();
            let mut inner = self.shared.lock();
            let at = inner.last_clock.max(sampled).max(root);
            match result {
                Ok(()) if inner.error.is_none() => {
                    self.durable = true;
                    let clean = copy.run.totals().faults == 0;
                    if let Some(state) = &mut inner.state {
                        if clean { state.complete(at)? } else { at.map_or(Ok(()), |at| state.barrier(at))? }
                    }
                }
                Ok(()) => {}
                Err(error) => {
                    inner.error.get_or_insert(error);
                    if let Some(state) = &mut inner.state {
                        state.doubt()?;
                    }
                }
            }
        }
        Ok(self.shared.lock().error.take())
    }

    pub(super) fn is_durable(&self) -> bool {
        self.durable
    }
}

/// Takes the time from an entry that was just finished, makes everything durable, and only then remembers the time: what
/// was last changed before it is on storage.
fn set_barrier(shared: &Shared, dest: &dyn DestTree, run: &Run<'_>) {
    *lock(&run.clock) = None;
    run.wants_clock.store(true, Ordering::Relaxed);
    let clock = loop {
        if let Some(clock) = *lock(&run.clock) {
            break clock;
        }
        if !shared.sleep(Duration::from_millis(20)) {
            return;
        }
    };
    let result = dest.sync();
    let mut inner = shared.lock();
    // A clock that was set back makes older barriers meaningless for what came between; the smaller time is safe.
    let set_back = inner.last_clock.is_some_and(|last| clock < last);
    inner.last_clock = Some(clock);
    match result {
        Ok(()) => {
            let answer = match &mut inner.state {
                Some(state) if set_back => state.doubt(),
                Some(state) => state.barrier(clock),
                None => Ok(()),
            };
            if let Err(error) = answer {
                inner.state_error.get_or_insert(error);
                run.halt();
            }
        }
        Err(error) => {
            inner.error.get_or_insert(error);
            if let Some(state) = &mut inner.state
                && let Err(error) = state.doubt()
            {
                inner.state_error.get_or_insert(error);
            }
            run.halt();
        }
    }
}
