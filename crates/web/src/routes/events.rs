//! Events as server-sent events: stored ones with their id, without gap or duplicate however often the caller comes back,
//! and progress in between, which nobody misses who missed it.
#![expect(unused_qualifications, reason = "the description's macro writes full paths")]

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use job::documents::Progress;
use job::{DoorError, EventKind, EventSeq, JobId, LiveEvent, StoredEvent};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use utoipa::IntoParams;

use crate::app::App;
use crate::bodies::{EventBody, ProgressEventBody};
use crate::extract::{Asked, Id};
use crate::problem::{Kind, Problem};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// Begins after the event of this number. The header `Last-Event-ID` goes before.
    #[param(minimum = 0, nullable = false)]
    after: Option<u64>,
    /// `false`: ends when it has told everything that happened so far.
    #[param(default = true, nullable = false)]
    follow: Option<bool>,
}

/// Follow a job
///
/// Server-sent events, from the job's first one or from where `Last-Event-ID` or `after` says. The name of an event is its
/// kind, its data an `Event`; `progress` has no id and the data of a `ProgressEvent`; `problem` precedes an early end.
/// The stream ends when the job has ended.
#[utoipa::path(
    get,
    operation_id = "follow_job",
    path = "/v1/jobs/{id}/events",
    tag = "events",
    params(("id" = JobId, Path, description = "The job"), EventsQuery,
        ("Last-Event-ID" = Option<u64>, Header, nullable = false, description = "The last event that was received")),
    responses((status = 200, description = "Events until the job has ended", body = String, content_type = "text/event-stream"))
)]
pub(super) async fn of_job(
    State(app): State<App>,
    Id(id): Id,
    headers: HeaderMap,
    Asked(query): Asked<EventsQuery>,
) -> Result<Response, Problem> {
    let live = app.service().subscribe();
    let is_over = app.service().get(id).await?.job.state.is_ended();
    let after = starting_point(&headers, &query)?.unwrap_or_default();
    // What a job that has ended tells is all stored.
    let follow = query.follow.unwrap_or(true) && !is_over;
    answer(&app, Some(id), after, follow, live)
}

/// Follow all jobs
///
/// Server-sent events as of one job, from now on, or from where `Last-Event-ID` or `after` says; with `follow=false` from
/// the first one that is kept.
#[utoipa::path(
    get,
    operation_id = "follow_all",
    path = "/v1/events",
    tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<u64>, Header, nullable = false, description = "The last event that was received")),
    responses((status = 200, description = "Events until the caller hangs up", body = String, content_type = "text/event-stream"))
)]
pub(super) async fn of_all(
    State(app): State<App>,
    headers: HeaderMap,
    Asked(query): Asked<EventsQuery>,
) -> Result<Response, Problem> {
    let live = app.service().subscribe();
    let follow = query.follow.unwrap_or(true);
    let after = match starting_point(&headers, &query)? {
        Some(after) => after,
        None if follow => app.service().last_event().await?,
        None => EventSeq::default(),
    };
    answer(&app, None, after, follow, live)
}

fn starting_point(headers: &HeaderMap, query: &EventsQuery) -> Result<Option<EventSeq>, Problem> {
    // The store counts in signed numbers.
    let in_range = |seq: &u64| i64::try_from(*seq).is_ok();
    let after = query.after.map(|seq| Some(seq).filter(in_range).ok_or((Kind::BadQuery, "`after`")));
    let header = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()).map(|value| {
        let seq = value.to_str().ok().and_then(|text| text.parse().ok());
        seq.filter(in_range).ok_or((Kind::BadHeader, "`Last-Event-ID`"))
    });
    let given = header.or(after).transpose();
    given
        .map(|seq| seq.map(EventSeq))
        .map_err(|(kind, name)| Problem::new(kind, format!("{name} is the number of an event")))
}

fn answer(
    app: &App,
    job: Option<JobId>,
    after: EventSeq,
    follow: bool,
    live: Receiver<LiveEvent>,
) -> Result<Response, Problem> {
    let place = app.streams().try_acquire_owned();
    let place = place.map_err(|_| Problem::new(Kind::TooManyStreams, "all places for streams are taken"))?;
    let keep_alive = app.current().settings.limits.keep_alive;
    let source = Source {
        app: app.clone(),
        job,
        after,
        follow,
        live,
        read: VecDeque::new(),
        is_behind: true,
        is_over: false,
        _place: place,
    };
    let events = stream::unfold(source, |mut source| async {
        let event = source.next().await?;
        Some((Ok::<_, Infallible>(event), source))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(keep_alive)).into_response())
}

/// Tells stored events in the order of the store. What is heard live only says that there is more to read: so no order of
/// hearing, and no lost message, makes a gap.
struct Source {
    app: App,
    job: Option<JobId>,
    /// The last one told.
    after: EventSeq,
    follow: bool,
    live: Receiver<LiveEvent>,
    /// Read, and not told yet.
    read: VecDeque<StoredEvent>,
    /// There may be more in the store.
    is_behind: bool,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

enum Heard {
    Progress(JobId, Box<Progress>),
    Stored,
    NothingOfUse,
    End,
}

impl Source {
    /// `None`: the end.
    async fn next(&mut self) -> Option<Event> {
        let ending = self.app.ending().clone();
        loop {
            if self.is_over || ending.is_cancelled() {
                return None;
            }
            if let Some(stored) = self.read.pop_front() {
                self.after = stored.seq;
                self.is_over = self.job.is_some() && stored.event.kind == EventKind::Ended;
                return Some(stored_event(&stored));
            }
            if self.is_behind {
                if let Err(error) = self.read_more().await {
                    self.is_over = true;
                    return Some(problem_event(error));
                }
                continue;
            }
            if !self.follow {
                return None;
            }
            let heard = tokio::select! {
                heard = self.live.recv() => self.sort(heard),
                () = ending.cancelled() => Heard::End,
            };
            match heard {
                Heard::Progress(job, progress) => return Some(progress_event(job, *progress)),
                Heard::Stored => self.is_behind = true,
                Heard::NothingOfUse => {}
                Heard::End => return None,
            }
        }
    }

    fn sort(&self, heard: Result<LiveEvent, RecvError>) -> Heard {
        let is_ours = |job: JobId| self.job.is_none_or(|ours| ours == job);
        match heard {
            Ok(LiveEvent::Progress { job, progress }) if is_ours(job) => Heard::Progress(job, progress),
            Ok(LiveEvent::Stored(stored)) if is_ours(stored.job) && stored.seq > self.after => Heard::Stored,
            Ok(_) => Heard::NothingOfUse,
            // What was missed may have been ours.
            Err(RecvError::Lagged(_)) => Heard::Stored,
            Err(RecvError::Closed) => Heard::End,
        }
    }

    async fn read_more(&mut self) -> Result<(), DoorError> {
        let count_max = self.app.current().settings.limits.event_batch;
        let read = self.app.service().events_after(self.after, self.job, count_max).await?;
        self.is_behind = !read.is_empty();
        self.read = read.into();
        Ok(())
    }
}

fn stored_event(stored: &StoredEvent) -> Event {
    let event = Event::default().id(stored.seq.0.to_string()).event(stored.event.kind.as_str());
    event.json_data(EventBody::from(stored)).expect("an event is plain text and numbers")
}

fn progress_event(job: JobId, progress: Progress) -> Event {
    let body = ProgressEventBody { job, progress };
    Event::default().event("progress").json_data(body).expect("progress is plain text and numbers")
}

fn problem_event(error: DoorError) -> Event {
    let problem = Problem::from(error);
    problem.log();
    Event::default().event("problem").json_data(problem.body()).expect("a problem is plain text and numbers")
}
