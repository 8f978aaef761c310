//! What this process knows of the jobs that have not ended: a copy of the store's, never ahead of it.
//!
//! It may lag behind what other nodes do. That harms nothing: every decision made by it is a compare and set.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::documents::Progress;
use crate::id::{Generation, JobId, NodeName};
use crate::model::{Job, State};
use crate::queue::{Plan, plan};
use crate::settings::Scheduling;

#[derive(Debug, Default)]
pub(crate) struct Board {
    jobs: HashMap<JobId, Arc<Job>>,
    runs: HashMap<JobId, Run>,
    /// Made anew when somebody asks after a change.
    plan: Option<Plan>,
}

/// A job that this process carries out.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) generation: Generation,
    pub(crate) handle: RunHandle,
    /// From when on the lease is known to have been ours.
    pub(crate) since: Instant,
    pub(crate) task: Option<AbortHandle>,
    pub(crate) progress: Option<Progress>,
}

/// What a runner listens to.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunHandle {
    /// The job was changed by somebody else.
    pub(crate) wake: Arc<Notify>,
    /// The lease is not ours any more, or cannot be proved to be.
    pub(crate) lost: CancellationToken,
}

impl Board {
    /// Takes in a job as it was saved or read. What is older than what is known is ignored.
    pub(crate) fn note(&mut self, job: &Job) {
        if self.jobs.get(&job.id).is_some_and(|known| known.version > job.version) {
            return;
        }
        self.plan = None;
        if job.state.is_ended() {
            self.jobs.remove(&job.id);
        } else {
            self.jobs.insert(job.id, Arc::new(job.clone()));
        }
    }

    /// Takes in all that have not ended. `known_before` are the identifiers from before they were read: of those, what
    /// is not among them has ended.
    pub(crate) fn note_all(&mut self, jobs: &[Job], known_before: &HashSet<JobId>) {
        let unfinished: HashSet<_> = jobs.iter().map(|job| job.id).collect();
        self.jobs.retain(|id, _| unfinished.contains(id) || !known_before.contains(id));
        for job in jobs {
            self.note(job);
        }
        self.plan = None;
    }

    pub(crate) fn ids(&self) -> HashSet<JobId> {
        self.jobs.keys().copied().collect()
    }

    pub(crate) fn job(&self, id: JobId) -> Option<Arc<Job>> {
        self.jobs.get(&id).cloned()
    }

    pub(crate) fn jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.values()
    }

    /// Ownership was given back, which is no new version of the job.
    pub(crate) fn note_disowned(&mut self, id: JobId, generation: Generation) {
        if let Some(job) = self.jobs.get_mut(&id).filter(|job| job.generation == generation) {
            Arc::make_mut(job).owner = None;
            self.plan = None;
        }
    }

    pub(crate) fn runs(&self) -> &HashMap<JobId, Run> {
        &self.runs
    }

    pub(crate) fn run_mut(&mut self, id: JobId) -> Option<&mut Run> {
        self.runs.get_mut(&id)
    }

    pub(crate) fn begin_run(&mut self, id: JobId, run: Run) {
        self.plan = None;
        self.runs.insert(id, run);
    }

    pub(crate) fn end_run(&mut self, id: JobId) {
        self.plan = None;
        self.runs.remove(&id);
    }

    pub(crate) fn forget_plan(&mut self) {
        self.plan = None;
    }

    pub(crate) fn plan(&mut self, node: &NodeName, scheduling: &Scheduling, now: Timestamp) -> &Plan {
        let Self { jobs, runs, plan: known } = self;
        let is_due = known.as_ref().is_some_and(|plan| plan.next_at.is_some_and(|at| at <= now));
        if is_due {
            *known = None;
        }
        known.get_or_insert_with(|| {
            let jobs: Vec<_> = jobs.values().cloned().collect();
            plan(&jobs, |id| runs.contains_key(&id), node, scheduling, now)
        })
    }

    /// Jobs that somebody began to carry out, and that nobody carries out in this process. Of those of other nodes
    /// only a claim can tell whether they still do.
    pub(crate) fn left_behind(&self, node: &NodeName) -> Vec<Arc<Job>> {
        let is_left = |job: &&Arc<Job>| {
            let is_of_another = job.owner.as_ref().is_some_and(|owner| owner != node);
            !self.runs.contains_key(&job.id) && (job.state != State::Accepted || is_of_another)
        };
        self.jobs.values().filter(is_left).cloned().collect()
    }
}
