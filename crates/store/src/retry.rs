//! From errors of the database to those of the port: what passes by itself is tried again, within bounds.

use std::future::Future;
use std::time::Duration;

use job::StoreError;
use sea_orm::DbErr;

use crate::dialect::{Trouble, trouble};

/// Tries of one transaction. Each has waited for the lock already, so more of them would only keep the caller waiting.
const TRIES_MAX: u32 = 4;

/// First pause before another try; doubles. Long enough for the one in the way to end.
const PAUSE: Duration = Duration::from_millis(10);

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The answer is already known.
    Answer(StoreError),
    Database(DbErr),
    /// Lost a race; seen again, the answer will be another one.
    Overtaken(DbErr),
}

impl From<DbErr> for Fault {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Answer(error)
    }
}

/// Carries out a transaction, again where somebody else was in the way. `what` completes "cannot ...".
pub(crate) async fn retried<T, F>(what: &str, mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut pause = PAUSE;
    let mut tries = 1;
    loop {
        let error = match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(Fault::Answer(error)) => return Err(error),
            Err(Fault::Overtaken(error)) => error,
            Err(Fault::Database(error)) if trouble(&error) == Trouble::Busy => error,
            Err(Fault::Database(error)) => return Err(answer(what, error)),
        };
        if tries == TRIES_MAX {
            return Err(StoreError::Unavailable(Box::new(error)));
        }
        tracing::debug!(%error, tries, "cannot {what} yet");
        tokio::time::sleep(pause).await;
        pause *= 2;
        tries += 1;
    }
}

fn answer(what: &str, error: DbErr) -> StoreError {
    match trouble(&error) {
        Trouble::Busy | Trouble::Unavailable => StoreError::Unavailable(Box::new(error)),
        Trouble::Duplicate | Trouble::Broken => {
            StoreError::Failed { what: format!("cannot {what}"), source: Some(Box::new(error)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn overtaken() -> Fault {
        Fault::Overtaken(DbErr::Custom("in the way".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_by_itself_is_tried_again() {
        let tries = Cell::new(0);
        let answer = retried("save", || async {
            tries.set(tries.get() + 1);
            if tries.get() < TRIES_MAX { Err(overtaken()) } else { Ok(tries.get()) }
        });
        assert_eq!(answer.await.unwrap(), TRIES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_have_an_end() {
        let answer = retried("save", || async { Err::<(), _>(overtaken()) }).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_not_asked_for_twice() {
        let tries = Cell::new(0);
        let answer = retried("save", || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(Fault::Answer(StoreError::Conflict))
        });
        assert!(matches!(answer.await, Err(StoreError::Conflict)));
        let broken = retried("save", || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(Fault::Database(DbErr::Custom("broken".into())))
        });
        assert_eq!(broken.await.unwrap_err().to_string(), "the job store failed: cannot save");
        assert_eq!(tries.get(), 2);
    }
}
