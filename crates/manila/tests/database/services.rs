//! The row that shows a service alive.

use std::time::Duration;

use chrono::{NaiveDateTime, TimeDelta, Utc};
use manila::Database as _;
use manila::database::{DatabaseError, ServiceId, SqlDatabase};

use crate::kit::{Bed, DOWN_TIME, Row, check_row, id, service, settings, text};

pub(crate) async fn check(bed: &Bed) {
    a_new_row_is_as_upstream_makes_it(bed).await;
    a_row_that_is_there_goes_down_and_comes_up_again(bed).await;
    who_was_silent_is_down_once_more(bed).await;
    a_row_that_was_removed_is_made_again(bed).await;
    a_zone_that_changes_is_written(bed).await;
    services_that_stopped_long_ago_are_removed(bed).await;
    services_are_listed_by_topic(bed).await;
    odd_names_fit(bed).await;
    callers_at_once_make_one_row(bed).await;
    a_column_that_goes_is_noticed(bed).await;
}

async fn row(bed: &Bed, id: ServiceId) -> Row {
    bed.row("services", &id.0.to_string()).await
}

fn state(bed: &Bed, state: &'static str) -> Option<&'static str> {
    bed.release.has_state().then_some(state)
}

fn check_state(bed: &Bed, row: &Row, expected: &'static str) {
    assert_eq!(row.get("state").cloned().flatten().as_deref(), state(bed, expected), "{row:?}");
}

async fn a_new_row_is_as_upstream_makes_it(bed: &Bed) {
    let service = service();
    let id = bed.database.register(&service).await.unwrap();
    let row = row(bed, id).await;
    let zones = bed.rows("availability_zones", "name = 'nova'").await;
    assert_eq!(zones.len(), 1, "{zones:?}");
    let zone_id = text(&zones[0], "id").unwrap();
    check_row(&zones[0], &[("id", Some(zone_id)), ("name", Some("nova")), ("deleted", Some("False"))], &["created_at"]);
    let no = if bed.url.starts_with("postgres") { "false" } else { "0" };
    let id = id.0.to_string();
    let mut expected = vec![
        ("id", Some(id.as_str())),
        ("host", Some(&*service.host)),
        ("binary", Some("manila-data")),
        ("topic", Some("manila-data")),
        ("report_count", Some("0")),
        ("disabled", Some(no)),
        ("availability_zone_id", Some(zone_id)),
        ("deleted", Some("0")),
    ];
    if bed.release.has_state() {
        expected.push(("state", Some("up")));
    }
    if bed.release.has_disabled_reason() {
        expected.push(("disabled_reason", None));
    }
    if bed.release.has_ensuring() {
        expected.push(("ensuring", Some(no)));
    }
    check_row(&row, &expected, &["created_at"]);
    check_is_now(text(&row, "created_at").unwrap());

    let mut disabled = crate::kit::service();
    disabled.is_enabled = false;
    let id = bed.database.register(&disabled).await.unwrap();
    let yes = if bed.url.starts_with("postgres") { "true" } else { "1" };
    assert_eq!(text(&self::row(bed, id).await, "disabled"), Some(yes));
}

/// UTC, and to the microsecond: of a few hundred rows one may end in three zeros by chance, not in all runs.
fn check_is_now(time: &str) {
    let time = NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S%.f").unwrap();
    assert!((Utc::now().naive_utc() - time).abs() < TimeDelta::minutes(10), "{time}");
}

async fn a_row_that_is_there_goes_down_and_comes_up_again(bed: &Bed) {
    let service = service();
    let id = bed.database.register(&service).await.unwrap();
    assert_eq!(bed.database.register(&service).await.unwrap(), id);
    let first = row(bed, id).await;
    check_state(bed, &first, "down");
    // Before Manila 16 there is nothing to write.
    assert_eq!(text(&first, "updated_at").is_some(), bed.release.has_state());
    assert_eq!(bed.database.register(&service).await.unwrap(), id);
    let again = row(bed, id).await;
    assert_eq!(text(&again, "updated_at"), text(&first, "updated_at"), "it was down already");

    assert_eq!(bed.database.beat(id, &service, DOWN_TIME).await.unwrap(), id);
    let beaten = row(bed, id).await;
    check_state(bed, &beaten, "up");
    assert_eq!(text(&beaten, "report_count"), Some("1"));
    assert_ne!(text(&beaten, "updated_at"), text(&first, "updated_at"));
    check_is_now(text(&beaten, "updated_at").unwrap());

    bed.database.set_stopped(id).await.unwrap();
    let stopped = row(bed, id).await;
    check_state(bed, &stopped, "stopped");
    bed.database.set_stopped(id).await.unwrap();
    assert_eq!(row(bed, id).await, stopped, "nothing is written twice");
    bed.database.beat(id, &service, DOWN_TIME).await.unwrap();
    check_state(bed, &row(bed, id).await, "up");
}

async fn who_was_silent_is_down_once_more(bed: &Bed) {
    let service = service();
    let id = bed.database.register(&service).await.unwrap();
    // Before and behind our clock alike.
    for silent_at in ["2020-01-01 00:00:00.000000", "2200-01-01 00:00:00.000000"] {
        let silence = format!("UPDATE services SET updated_at = '{silent_at}' WHERE id = {}", id.0);
        bed.execute(&silence).await;
        bed.database.beat(id, &service, DOWN_TIME).await.unwrap();
        check_state(bed, &row(bed, id).await, "down");
        bed.database.beat(id, &service, DOWN_TIME).await.unwrap();
        check_state(bed, &row(bed, id).await, "up");
        bed.database.set_stopped(id).await.unwrap();
        bed.execute(&silence).await;
        bed.database.beat(id, &service, DOWN_TIME).await.unwrap();
        check_state(bed, &row(bed, id).await, "stopped");
        bed.database.beat(id, &service, DOWN_TIME).await.unwrap();
        check_state(bed, &row(bed, id).await, "up");
    }
    assert_eq!(text(&row(bed, id).await, "report_count"), Some("8"));
}

async fn a_row_that_was_removed_is_made_again(bed: &Bed) {
    let service = service();
    let id = bed.database.register(&service).await.unwrap();
    bed.execute(&format!("UPDATE services SET deleted = id WHERE id = {}", id.0)).await;
    let new = bed.database.beat(id, &service, DOWN_TIME).await.unwrap();
    assert_ne!(new, id);
    check_state(bed, &row(bed, new).await, "up");
    assert_eq!(bed.database.beat(id, &service, DOWN_TIME).await.unwrap(), new, "the old one leads to the new one");
    bed.execute(&format!("DELETE FROM services WHERE id = {}", new.0)).await;
    // SQLite gives the same number to the next one.
    let newer = bed.database.beat(new, &service, DOWN_TIME).await.unwrap();
    check_state(bed, &row(bed, newer).await, "up");
    for gone in [ServiceId(2_000_000_000), ServiceId(i64::MAX)] {
        let error = bed.database.set_stopped(gone).await.unwrap_err();
        assert!(matches!(error, DatabaseError::NotFound { what: "service", .. }), "{error:?}");
    }
}

async fn a_zone_that_changes_is_written(bed: &Bed) {
    let mut service = service();
    let id = bed.database.register(&service).await.unwrap();
    service.availability_zone = format!("zone-{}", crate::kit::id());
    bed.database.beat(id, &service, DOWN_TIME).await.unwrap();
    let zones = bed.rows("availability_zones", &format!("name = '{}'", service.availability_zone)).await;
    assert_eq!(text(&row(bed, id).await, "availability_zone_id"), text(&zones[0], "id"));
    // One that was deleted is none.
    bed.execute(&format!("UPDATE availability_zones SET deleted = id WHERE name = '{}'", service.availability_zone))
        .await;
    bed.database.beat(id, &service, DOWN_TIME).await.unwrap();
    let condition = format!("name = '{}' AND deleted = 'False'", service.availability_zone);
    let alive = bed.rows("availability_zones", &condition).await;
    assert_eq!(text(&row(bed, id).await, "availability_zone_id"), text(&alive[0], "id"));
    assert_ne!(text(&zones[0], "id"), text(&alive[0], "id"));
    if bed.is_mysql() {
        // One that differs in case cannot stand beside it there.
        service.availability_zone = service.availability_zone.to_uppercase();
        bed.database.beat(id, &service, DOWN_TIME).await.unwrap();
        assert_eq!(text(&row(bed, id).await, "availability_zone_id"), text(&alive[0], "id"));
    }
}

async fn services_that_stopped_long_ago_are_removed(bed: &Bed) {
    let topic = format!("topic-{}", id());
    let mut ids = Vec::new();
    for _ in 0..4 {
        let mut service = service();
        service.topic.clone_from(&topic);
        let id = bed.database.register(&service).await.unwrap();
        bed.database.set_stopped(id).await.unwrap();
        ids.push(id);
    }
    let [old, fresh, disabled, running] = ids[..] else { panic!("four were made") };
    let long_ago = "updated_at = '2020-01-01 00:00:00.000000'";
    let yes = if bed.url.starts_with("postgres") { "true" } else { "1" };
    bed.execute(&format!("UPDATE services SET {long_ago} WHERE id <> {} AND topic = '{topic}'", fresh.0)).await;
    bed.execute(&format!("UPDATE services SET disabled = {yes} WHERE id = {}", disabled.0)).await;
    if bed.release.has_state() {
        bed.execute(&format!("UPDATE services SET state = 'down' WHERE id = {}", running.0)).await;
    }
    let removed = bed.database.remove_stopped(&topic, DOWN_TIME).await.unwrap();
    assert_eq!(removed, u64::from(bed.release.has_state()));
    let row = row(bed, old).await;
    if bed.release.has_state() {
        assert_eq!(text(&row, "deleted"), text(&row, "id"));
        assert_eq!(text(&row, "deleted_at"), text(&row, "updated_at"));
        check_is_now(text(&row, "deleted_at").unwrap());
    } else {
        assert_eq!(text(&row, "deleted"), Some("0"));
    }
    assert_eq!(bed.database.remove_stopped(&topic, DOWN_TIME).await.unwrap(), 0);
    let left = 4 - removed as usize;
    assert_eq!(bed.database.services(&topic).await.unwrap().len(), left);
}

async fn services_are_listed_by_topic(bed: &Bed) {
    let mut service = service();
    service.topic = format!("topic-{}", id());
    assert_eq!(bed.database.services(&service.topic).await.unwrap(), []);
    let id = bed.database.register(&service).await.unwrap();
    let listed = bed.database.services(&service.topic).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, &*listed[0].host, listed[0].is_disabled), (id, &*service.host, false));
    assert_eq!(listed[0].state.as_deref(), state(bed, "up"));
    assert!(listed[0].age < Duration::from_mins(10), "{:?}", listed[0].age);
    bed.execute(&format!("UPDATE services SET updated_at = '2020-01-01 00:00:00.000000' WHERE id = {}", id.0)).await;
    let age = bed.database.services(&service.topic).await.unwrap()[0].age;
    assert!(age > Duration::from_hours(24 * 365), "{age:?}");
    bed.execute(&format!("UPDATE services SET updated_at = NULL, created_at = NULL WHERE id = {}", id.0)).await;
    assert_eq!(bed.database.services(&service.topic).await.unwrap()[0].age, Duration::MAX);
}

async fn odd_names_fit(bed: &Bed) {
    let mut service = service();
    service.host.push_str(" \u{e4}\u{20ac}'\"\\%_\u{1f980}");
    service.availability_zone = format!("'\"\u{1f980}{}", id());
    let id = bed.database.register(&service).await.unwrap();
    assert_eq!(bed.database.register(&service).await.unwrap(), id, "it is found again");
    assert_eq!(bed.database.beat(id, &service, DOWN_TIME).await.unwrap(), id);
    // Another host, though MySQL compares without case.
    let mut other = service.clone();
    other.host = other.host.to_uppercase();
    assert_ne!(bed.database.register(&other).await.unwrap(), id);
}

async fn callers_at_once_make_one_row(bed: &Bed) {
    let mut service = service();
    service.availability_zone = format!("zone-{}", id());
    let (service, database) = (&service, &bed.database);
    let register = || database.register(service);
    let (a, b, c, d) = tokio::join!(register(), register(), register(), register());
    let ids = [a, b, c, d].map(Result::unwrap);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let condition = format!("name = '{}'", service.availability_zone);
    assert_eq!(bed.rows("availability_zones", &condition).await.len(), 1);

    let beat = || database.beat(ids[0], service, DOWN_TIME);
    let (a, b, c, d) = tokio::join!(beat(), beat(), beat(), beat());
    assert_eq!([a, b, c, d].map(Result::unwrap), ids);
    assert_eq!(text(&row(bed, ids[0]).await, "report_count"), Some("4"));

    bed.execute(&format!("DELETE FROM services WHERE id = {}", ids[0].0)).await;
    let (a, b, c, d) = tokio::join!(beat(), beat(), beat(), beat());
    let ids = [a, b, c, d].map(Result::unwrap);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

async fn a_column_that_goes_is_noticed(bed: &Bed) {
    if !bed.release.has_state() {
        return;
    }
    let service = service();
    // Another one: what it knows of the schema is its own.
    let database = SqlDatabase::connect(settings(&bed.url)).await.unwrap();
    let id = database.register(&service).await.unwrap();
    bed.execute("ALTER TABLE services RENAME COLUMN state TO state_away").await;
    assert_eq!(database.beat(id, &service, DOWN_TIME).await.unwrap(), id);
    assert_eq!(database.services(&service.topic).await.unwrap()[0].state, None);
    bed.execute("ALTER TABLE services RENAME COLUMN state_away TO state").await;
    check_state(bed, &row(bed, id).await, "up");
}
