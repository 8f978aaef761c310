//! Shares, their instances, and how far their jobs are.

use manila::Database as _;
use manila::database::{DatabaseError, Share, ShareInstance, TaskStateChange};

use crate::kit::{Bed, id, text};

pub(crate) async fn check(bed: &Bed) {
    shares_and_instances_are_read(bed).await;
    task_states_change_only_from_what_was_expected(bed).await;
    of_two_changes_at_once_one_is_made(bed).await;
    shares_are_found_by_their_task_state(bed).await;
}

async fn shares_and_instances_are_read(bed: &Bed) {
    let (share, instance) = bed.share().await;
    let expected = Share {
        id: share.clone(),
        project_id: Some("p".into()),
        user_id: Some("u".into()),
        share_proto: Some("NFS".into()),
        size_gib: Some(3),
        task_state: None,
    };
    assert_eq!(bed.database.share(&share).await.unwrap(), Some(expected));
    let first = ShareInstance {
        id: instance.clone(),
        share_id: share.clone(),
        host: Some("h@b#p".into()),
        status: Some("available".into()),
        access_rules_status: Some("active".into()),
        cast_rules_to_readonly: false,
    };
    assert_eq!(bed.database.instance(&instance).await.unwrap(), Some(first.clone()));
    let second = bed.instance(&share).await;
    let mut ids = vec![instance.clone(), second.clone()];
    ids.sort();
    let listed = bed.database.instances(&share).await.unwrap();
    assert_eq!(listed.iter().map(|it| it.id.clone()).collect::<Vec<_>>(), ids);
    assert!(listed.contains(&first));
    let yes = if bed.url.starts_with("postgres") { "true" } else { "1" };
    bed.execute(&format!("UPDATE share_instances SET cast_rules_to_readonly = {yes} WHERE id = '{instance}'")).await;
    assert!(bed.database.instance(&instance).await.unwrap().unwrap().cast_rules_to_readonly);

    bed.execute(&format!("UPDATE share_instances SET deleted = id WHERE id = '{instance}'")).await;
    assert_eq!(bed.database.instance(&instance).await.unwrap(), None);
    assert_eq!(bed.database.instances(&share).await.unwrap().len(), 1);
    bed.execute(&format!("UPDATE shares SET deleted = id WHERE id = '{share}'")).await;
    assert_eq!(bed.database.share(&share).await.unwrap(), None);

    let (share, instance) = bed.share().await;
    // Only identifiers with a letter tell.
    if share.to_uppercase() != share {
        assert_eq!(bed.database.share(&share.to_uppercase()).await.unwrap(), None, "identifiers are exact");
    }
    if instance.to_uppercase() != instance {
        assert_eq!(bed.database.instance(&instance.to_uppercase()).await.unwrap(), None);
    }
    for none in [id(), String::new(), "' OR 1=1 --".into(), "\u{1f980}".into(), "\0".into()] {
        assert_eq!(bed.database.share(&none).await.unwrap(), None);
        assert_eq!(bed.database.instance(&none).await.unwrap(), None);
        assert_eq!(bed.database.instances(&none).await.unwrap(), []);
        assert_eq!(bed.database.rules_for(&none, &none, &none).await.unwrap(), []);
        assert_eq!(bed.database.mappings(&[&none]).await.unwrap(), []);
        assert_eq!(bed.database.deny(&none, &[&none]).await.unwrap(), 0);
        assert_eq!(bed.database.shares_in(&[&none]).await.unwrap(), []);
        assert_eq!(bed.database.services(&none).await.unwrap(), []);
    }
    bed.execute(&format!("UPDATE shares SET project_id = NULL, size = NULL, share_proto = NULL WHERE id = '{share}'"))
        .await;
    let share = bed.database.share(&share).await.unwrap().unwrap();
    assert_eq!((share.project_id, share.size_gib, share.share_proto), (None, None, None));
}

async fn task_states_change_only_from_what_was_expected(bed: &Bed) {
    let (share, _) = bed.share().await;
    let set = |to, from| bed.database.set_task_state(&share, to, from);
    let updated_at = async || text(&bed.row("shares", &share).await, "updated_at").map(str::to_owned);
    assert_eq!(set(Some("a"), &[Some("x")]).await.unwrap(), TaskStateChange::Other(None));
    assert_eq!(set(Some("a"), &[]).await.unwrap(), TaskStateChange::Other(None));
    assert_eq!(updated_at().await, None, "nothing was written");
    assert_eq!(set(None, &[None, Some("x")]).await.unwrap(), TaskStateChange::Same);
    assert_eq!(updated_at().await, None);
    assert_eq!(set(Some("a"), &[Some("x"), None]).await.unwrap(), TaskStateChange::Changed);
    let first = updated_at().await;
    assert!(first.is_some());
    assert_eq!(set(Some("a"), &[None, Some("a")]).await.unwrap(), TaskStateChange::Same);
    assert_eq!(set(Some("a"), &[]).await.unwrap(), TaskStateChange::Same);
    assert_eq!(set(Some("b"), &[None]).await.unwrap(), TaskStateChange::Other(Some("a".into())));
    assert_eq!(updated_at().await, first, "nothing was written");
    assert_eq!(set(Some("b"), &[None, Some("a")]).await.unwrap(), TaskStateChange::Changed);
    assert_eq!(set(None, &[Some("b")]).await.unwrap(), TaskStateChange::Changed);
    assert_eq!(bed.database.share(&share).await.unwrap().unwrap().task_state, None);

    bed.execute(&format!("UPDATE shares SET deleted = id WHERE id = '{share}'")).await;
    for gone in [share, id()] {
        let error = bed.database.set_task_state(&gone, Some("a"), &[None]).await.unwrap_err();
        assert!(matches!(&error, DatabaseError::NotFound { what: "share", id } if *id == gone), "{error:?}");
    }
}

async fn of_two_changes_at_once_one_is_made(bed: &Bed) {
    let (share, _) = bed.share().await;
    let change = |to: &'static str| bed.database.set_task_state(&share, Some(to), &[None]);
    let (a, b, c) = tokio::join!(change("a"), change("b"), change("c"));
    let changes = [a, b, c].map(Result::unwrap);
    let made = changes.iter().filter(|change| **change == TaskStateChange::Changed).count();
    assert_eq!(made, 1, "{changes:?}");
    let state = bed.database.share(&share).await.unwrap().unwrap().task_state;
    let others = changes.iter().filter(|change| **change == TaskStateChange::Other(state.clone())).count();
    assert_eq!(others, 2, "{changes:?}");
}

async fn shares_are_found_by_their_task_state(bed: &Bed) {
    let state = format!("state-{}", id());
    let mut shares = Vec::new();
    for _ in 0..4 {
        let (share, _) = bed.share().await;
        bed.execute(&format!("UPDATE shares SET task_state = '{state}' WHERE id = '{share}'")).await;
        shares.push(share);
    }
    let yes = if bed.url.starts_with("postgres") { "true" } else { "1" };
    bed.execute(&format!("UPDATE shares SET is_soft_deleted = {yes} WHERE id = '{}'", shares[2])).await;
    bed.execute(&format!("UPDATE shares SET deleted = id WHERE id = '{}'", shares[3])).await;
    shares.truncate(2);
    shares.sort();
    let found = bed.database.shares_in(&["other", &state]).await.unwrap();
    assert_eq!(found.into_iter().map(|share| share.id).collect::<Vec<_>>(), shares);
    assert_eq!(bed.database.shares_in(&[]).await.unwrap(), []);
    assert_eq!(bed.database.shares_in(&["other"]).await.unwrap(), []);
}
