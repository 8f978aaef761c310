//! Events as they come, across lost connections: no stored event is missed or told twice.

use std::collections::VecDeque;
use std::time::Duration;

use job::JobId;
use reqwest::Response;
use reqwest::header::ACCEPT;

use super::{Client, ClientError};
use crate::bodies::{EventBody, ProgressEventBody};
use crate::problem::ProblemBody;

/// What an event stream tells.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    Stored(EventBody),
    Progress(Box<ProgressEventBody>),
}

/// Tries in a row without any event in between; with the waits below about two minutes, enough for a restart.
const TRIES_MAX: u32 = 10;
const WAIT_FIRST: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(20);

/// An event is some kilobytes at most.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Events of one job, or of all.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    job: Option<JobId>,
    /// The last stored event that was told.
    after: Option<u64>,
    response: Option<Response>,
    parser: Parser,
    tries: u32,
    /// Otherwise it ends with the last event that there is.
    follows: bool,
    is_over: bool,
}

impl EventStream {
    pub(super) fn new(client: Client, job: Option<JobId>, after: Option<u64>, follows: bool) -> Self {
        Self { client, job, after, response: None, parser: Parser::default(), tries: 0, follows, is_over: false }
    }

    /// The next event; `None` once the job has ended. Connects again by itself; an error means that it gave up.
    pub async fn next(&mut self) -> Option<Result<ClientEvent, ClientError>> {
        while !self.is_over {
            if let Some(message) = self.parser.ready.pop_front() {
                match self.understand(&message) {
                    Ok(Some(event)) => return Some(Ok(event)),
                    Ok(None) => continue,
                    Err(error) => return Some(self.give_up(error)),
                }
            }
            let failure = match self.receive().await {
                Ok(()) => continue,
                Err(failure) => failure,
            };
            self.response = None;
            self.parser = Parser::default();
            self.tries += 1;
            if self.tries > TRIES_MAX || !may_pass(&failure) {
                return Some(self.give_up(failure));
            }
            tokio::time::sleep((WAIT_FIRST * 2_u32.pow(self.tries - 1)).min(WAIT_MAX)).await;
        }
        None
    }

    fn give_up(&mut self, error: ClientError) -> Result<ClientEvent, ClientError> {
        self.is_over = true;
        Err(error)
    }

    /// Reads some more of the stream, which is opened if it is not.
    async fn receive(&mut self) -> Result<(), ClientError> {
        let Some(response) = &mut self.response else {
            self.response = Some(self.open().await?);
            return Ok(());
        };
        let chunk = response.chunk().await.map_err(|error| ClientError::transport(&self.client.address, error))?;
        let lost = |what: &str| ClientError::Lost { address: self.client.address.clone(), what: what.into() };
        match chunk {
            Some(chunk) if self.parser.push(&chunk) => Ok(()),
            Some(_) => Err(lost("an event has no end")),
            None if !self.follows => {
                self.is_over = true;
                Ok(())
            }
            // The service ends streams when it ends; that of a job also after its last event, which was told before.
            None => Err(lost("the stream ended")),
        }
    }

    async fn open(&self) -> Result<Response, ClientError> {
        let path = self.job.map_or_else(|| "v1/events".into(), |id| format!("v1/jobs/{id}/events"));
        let mut request = self.client.http.get(self.client.url(&path)).header(ACCEPT, "text/event-stream");
        if !self.follows {
            request = request.query(&[("follow", "false")]);
        }
        if let Some(after) = self.after {
            request = request.header("Last-Event-ID", after.to_string());
        }
        self.client.send(request).await
    }

    fn understand(&mut self, message: &Message) -> Result<Option<ClientEvent>, ClientError> {
        let bad = |error: serde_json::Error| ClientError::BadAnswer {
            address: self.client.address.clone(),
            what: format!("cannot understand the event `{}`: {error}", message.event),
        };
        match message.event.as_str() {
            "progress" => {
                let progress = serde_json::from_str(&message.data).map_err(bad)?;
                Ok(Some(ClientEvent::Progress(Box::new(progress))))
            }
            "problem" => {
                let problem: ProblemBody = serde_json::from_str(&message.data).map_err(bad)?;
                let problem = ClientError::Problem(Box::new(problem));
                // The stream ends after it, and is then opened again.
                if may_pass(&problem) { Ok(None) } else { Err(problem) }
            }
            _ if message.id.is_some() => {
                let event: EventBody = serde_json::from_str(&message.data).map_err(bad)?;
                self.tries = 0;
                self.after = Some(event.seq);
                self.is_over = self.job.is_some() && event.kind == job::EventKind::Ended;
                Ok(Some(ClientEvent::Stored(event)))
            }
            // Of a later version.
            _ => Ok(None),
        }
    }
}

/// Whether trying again may help.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::Lost { .. } => true,
        ClientError::Problem(problem) => problem.status == 429 || problem.status >= 500,
        _ => false,
    }
}

/// One event of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    event: String,
    id: Option<String>,
    data: String,
}

/// Puts chunks together to events, by the rules of server-sent events.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    message: Message,
    ready: VecDeque<Message>,
}

impl Parser {
    /// `false`: an event that is too large.
    fn push(&mut self, chunk: &[u8]) -> bool {
        for &byte in chunk {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.end_line(String::from_utf8_lossy(&line).trim_end_matches('\r'));
            } else {
                self.line.push(byte);
            }
            if self.line.len() + self.message.data.len() > EVENT_BYTES_MAX {
                return false;
            }
        }
        true
    }

    fn end_line(&mut self, line: &str) {
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            if !message.data.is_empty() {
                self.ready.push_back(message);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.message.event = value.into(),
            "id" => self.message.id = Some(value.into()),
            "data" => {
                if !self.message.data.is_empty() {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            // Comments have an empty name.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_together_from_any_chunks() {
        let text = ": hello\n\nevent: created\nid: 7\ndata: {\"a\":\ndata: 1}\n\n:\n\nevent:progress\r\ndata:x\r\n\r\ndata: cut";
        let expected = [
            Message { event: "created".into(), id: Some("7".into()), data: "{\"a\":\n1}".into() },
            Message { event: "progress".into(), id: None, data: "x".into() },
        ];
        for size in 1..text.len() {
            let mut parser = Parser::default();
            assert!(text.as_bytes().chunks(size).all(|chunk| parser.push(chunk)));
            assert_eq!(parser.ready.make_contiguous(), expected, "chunks of {size}");
        }
        let mut parser = Parser::default();
        assert!(!parser.push(&vec![b'x'; EVENT_BYTES_MAX + 1]), "an endless line is refused");
    }
}
