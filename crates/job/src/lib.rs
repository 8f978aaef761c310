//! What a data job is, which step follows which, and who runs; and the ports through which jobs reach the world.
//!
//! A request becomes a [`Job`], durable in a [`JobStore`] before it is acknowledged. It changes in [`machine::apply`]
//! alone; [`queue`] says who may begin, and [`Service`] brings both to life behind [`DataService`]. Knows no SQL, no
//! HTTP, no AMQP and no mount command; those are adapters of the ports.

pub mod documents;
mod door;
mod id;
mod limits;
pub mod machine;
mod model;
mod place;
mod ports;
mod predict;
pub mod queue;
mod runner;
mod schedule;
mod sensitive;
mod service;
mod settings;
pub mod spec;
mod validate;
mod window;

pub use door::{CutoverPrediction, DataService, DoorError, Figures, JobView, LiveEvent, Submitted, WaitsFor};
pub use id::{BadJobId, EventSeq, Generation, JobId, NodeName, Version};
pub use limits::{LIMITS, Limits};
pub use model::{
    CutoverState, Failure, FailureCode, Hold, Intent, Job, Next, OnBehalf, Origin, Outcome, PASSES_KEPT, Pass,
    PassFigures, PassKind, Side, State, StateName, Step, StopReason, WorkEnding, WorkResult,
};
pub use ports::{
    AccessError, Clock, Control, Created, Delivery, EventKind, Executor, FollowError, Follower, IdempotencyKey,
    JobEvent, JobFilter, JobStore, NobodyFollows, Notifier, NotifyError, Page, ShareAccess, StoreError, StoredEvent,
    SystemClock, WorkError, WorkEvent, WorkOrder,
};
pub use predict::predict;
pub use schedule::{
    Firing, MissedFirings, OnMissed, ScheduleCounts, ScheduleJob, ScheduleProblem, ScheduleSettings, ScheduleView,
    SkippedFirings, Timetable,
};
pub use sensitive::{MASK, Secrets, Sensitive, is_secret_key, mask};
pub use service::Service;
pub use settings::{Ports, Retention, Scheduling, Settings};
pub use spec::{BackupPlan, Endpoint, Format, JobSpec, Keep, Kind};
pub use validate::{Known, validate};
pub use window::{control_at, limit_problems};
