//! The suite on SQLite.

use std::sync::Arc;

use store::SqlStore;
use testkit::disk::TempDir;

use crate::kit::{file_in, open};
use crate::{races, suite};

macro_rules! over_the_port {
    ($($name:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $name() {
            let dir = TempDir::new();
            let store = open(&file_in(&dir)).await;
            suite::$name(&store).await;
            store.close().await.unwrap();
        }
    )+ };
}

over_the_port!(
    a_new_job_is_kept_as_it_is,
    an_identifier_is_taken_once,
    the_same_request_makes_one_job,
    a_removed_job_takes_its_key_with_it,
    a_save_replaces_the_job_and_raises_its_version,
    who_saw_an_older_version_saves_nothing,
    a_save_does_not_change_the_owner,
    secrets_go_when_they_are_not_needed_any_more,
    the_newest_jobs_are_listed_first_and_in_pages,
    filters_narrow_and_add_up,
    unfinished_jobs_are_read_the_oldest_first,
    every_state_is_counted,
    a_claim_makes_an_owner_and_fences_others_out,
    a_node_claims_its_own_job_again,
    a_lease_that_ran_out_can_be_taken_over,
    a_renewed_lease_does_not_run_out,
    renewing_tells_which_jobs_are_lost,
    a_job_that_is_given_back_can_be_claimed_at_once,
    progress_is_of_the_current_generation_only,
    events_keep_their_order_and_their_job,
    old_events_of_ended_jobs_are_forgotten,
    deliveries_are_due_at_their_time_the_longest_due_first,
    only_an_ended_job_is_removed_and_with_all_that_belongs_to_it,
);

macro_rules! at_once {
    ($($name:ident),+ $(,)?) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            let dir = TempDir::new();
            let store = Arc::new(open(&file_in(&dir)).await);
            races::$name(Arc::<SqlStore>::clone(&store)).await;
            store.close().await.unwrap();
        }
    )+ };
}

at_once!(
    of_many_claims_one_wins,
    no_save_is_lost_and_each_comes_with_its_event,
    one_request_sent_many_times_at_once_makes_one_job,
    reading_goes_on_while_jobs_are_written,
);
