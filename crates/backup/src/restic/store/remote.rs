//! What stores over a network have in common: requests that end within bounded time, are tried again where the error may
//! pass, and are given up when the order to stop comes.

use std::future::Future;
use std::time::Duration;

use copy::StopToken;
use tokio::runtime::{Builder, Runtime};

use super::{StoreError, StoreErrorClass, StoreResult};

/// One request. A pack of 16 MiB in this time is 1 Mbit/s, below which a backup makes no sense.
const REQUEST_MAX: Duration = Duration::from_mins(2);
/// Tries of a request whose error may pass, with pauses that double: half a minute altogether, a restart of a server.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at the order to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Runs requests from any thread that is not part of an asynchronous runtime.
#[derive(Debug)]
pub(super) struct Remote {
    runtime: Option<Runtime>,
    stop: StopToken,
}

/// Why a request failed, as the protocol tells it.
#[derive(Debug)]
pub(super) struct RequestError {
    pub(super) class: StoreErrorClass,
    pub(super) reason: String,
}

impl Remote {
    pub(super) fn new(stop: StopToken) -> StoreResult<Self> {
        // Only the network is waited for here; sealing and unpacking is done by those who call.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().thread_name("repository").build();
        match runtime {
            Ok(runtime) => Ok(Self { runtime: Some(runtime), stop }),
            Err(error) => Err(StoreError {
                action: "start a thread for",
                path: "requests".to_owned(),
                class: StoreErrorClass::Other,
                reason: error.to_string(),
            }),
        }
    }

    /// Makes a request until it succeeds, fails for good, or is not wanted any more.
    pub(super) fn call<T, F>(&self, action: &'static str, path: &str, request: impl Fn() -> F) -> StoreResult<T>
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        let runtime = self.runtime.as_ref().expect("is there until it is dropped");
        let answer = runtime.block_on(async {
            let mut pause = PAUSE;
            for last in (0..TRIES).map(|number| number + 1 == TRIES) {
                let answer = self.unless_stopped(tokio::time::timeout(REQUEST_MAX, request())).await?;
                let error = match answer {
                    Ok(Err(error)) => error,
                    Ok(answer) => return answer,
                    Err(_) => {
                        let reason = format!("no answer within {} s", REQUEST_MAX.as_secs());
                        RequestError { class: StoreErrorClass::Transient, reason }
                    }
                };
                if last || error.class != StoreErrorClass::Transient {
                    return Err(error);
                }
                self.unless_stopped(tokio::time::sleep(pause)).await?;
                pause *= 2;
            }
            unreachable!("the last try returns")
        });
        answer.map_err(|error| StoreError { action, path: path.to_owned(), class: error.class, reason: error.reason })
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, RequestError> {
        let mut work = std::pin::pin!(work);
        loop {
            if self.stop.is_stopped() {
                let reason = "the work was stopped".to_owned();
                return Err(RequestError { class: StoreErrorClass::Stopped, reason });
            }
            if let Ok(done) = tokio::time::timeout(LOOK, &mut work).await {
                return Ok(done);
            }
        }
    }
}

impl Drop for Remote {
    /// Does not wait: requests that nobody waits for are dropped with their connections.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
