//! Rows of backups, and of the shares that they keep busy.

use manila::Database as _;
use manila::database::{BackupChange, BackupEnd, BackupWork, DatabaseError, ExportLocation, QuotaSettings};

use crate::kit::{Bed, check_row, id, text};

pub(crate) async fn check(bed: &Bed) {
    export_locations_come_in_their_order(bed).await;
    if !bed.release.has_backups() {
        return old_releases_have_none(bed).await;
    }
    a_backup_is_found(bed).await;
    work_begins_once(bed).await;
    progress_never_falls(bed).await;
    a_backup_ends_well(bed).await;
    a_backup_ends_before_its_share_is_free(bed).await;
    a_restore_ends_well(bed).await;
    a_backup_fails(bed).await;
    a_restore_fails(bed).await;
    any_reason_fits(bed).await;
    what_somebody_has_reset_stays(bed).await;
    a_deletion_fails(bed).await;
}

async fn export_locations_come_in_their_order(bed: &Bed) {
    let (_, instance) = bed.share().await;
    let (yes, no) = if bed.url.starts_with("postgres") { ("true", "false") } else { ("1", "0") };
    let rows = [("h:/b", no, 0), ("h:/admin", yes, 0), ("h:/gone", yes, 7), ("", no, 0), ("h:/a b%", no, 0)];
    for (path, is_admin_only, deleted) in rows {
        bed.execute(&format!(
            "INSERT INTO share_instance_export_locations (uuid, share_instance_id, path, is_admin_only, deleted) \
             VALUES ('{}', '{instance}', '{path}', {is_admin_only}, {deleted})",
            id()
        ))
        .await;
    }
    let condition = format!("share_instance_id = '{instance}' AND path = 'h:/a b%'");
    let preferred = bed.rows("share_instance_export_locations", &condition).await.remove(0);
    let preferred = text(&preferred, "id").unwrap();
    for (key, value, deleted) in [("preferred", "True", "0"), ("preferred", "False", "9"), ("other", "x", "0")] {
        bed.execute(&format!(
            "INSERT INTO share_instance_export_locations_metadata (export_location_id, \"key\", value, deleted) \
             VALUES ({preferred}, '{key}', '{value}', {deleted})"
        ))
        .await;
    }
    let location =
        |path: &str, is_admin_only, is_preferred| ExportLocation { path: path.into(), is_admin_only, is_preferred };
    let expected =
        [location("h:/b", false, false), location("h:/admin", true, false), location("h:/a b%", false, true)];
    assert_eq!(bed.database.export_locations(&instance).await.unwrap(), expected);
    assert_eq!(bed.database.export_locations(&id()).await.unwrap(), []);
}

async fn old_releases_have_none(bed: &Bed) {
    let database = &bed.database;
    let quota = QuotaSettings { is_counted: true, reservation_expire: std::time::Duration::from_hours(24) };
    let end = end(&id(), &id(), BackupWork::Create);
    let errors = [
        database.backup(&id()).await.unwrap_err(),
        database.backups_in(&["creating"]).await.unwrap_err(),
        database.shares_restored_from(&id()).await.unwrap_err(),
        database.begin_backup(&id(), "creating", None).await.unwrap_err(),
        database.set_backup_progress(&id(), "creating", 1).await.unwrap_err(),
        database.end_backup(&end).await.unwrap_err(),
        database.fail_deletion(&id(), "").await.unwrap_err(),
        database.delete_backup(&id(), &quota).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, DatabaseError::NoBackups), "{error:?}");
    }
}

fn end(backup: &str, share: &str, work: BackupWork) -> BackupEnd {
    BackupEnd {
        backup_id: backup.into(),
        share_id: share.into(),
        work,
        fail_reason: None,
        is_lost: false,
        keeps_share: false,
    }
}

fn failed(end: &BackupEnd, reason: &str) -> BackupEnd {
    BackupEnd { fail_reason: Some(reason.into()), ..end.clone() }
}

async fn set(bed: &Bed, table: &str, id: &str, values: &str) {
    bed.execute(&format!("UPDATE {table} SET {values} WHERE id = '{id}'")).await;
}

/// A share in the middle of a backup: share, instance, backup.
async fn creating(bed: &Bed) -> (String, String, String) {
    let (share, instance) = bed.share().await;
    let backup = bed.backup(&share, "creating").await;
    set(bed, "shares", &share, "task_state = 'data_copying_completed'").await;
    set(bed, "share_instances", &instance, "status = 'backup_creating'").await;
    (share, instance, backup)
}

/// A share in the middle of a restore of another share's backup.
async fn restoring(bed: &Bed) -> (String, String, String) {
    let (source, _) = bed.share().await;
    let (share, instance) = bed.share().await;
    let backup = bed.backup(&source, "restoring").await;
    let values = format!("task_state = 'data_copying_completed', source_backup_id = '{backup}'");
    set(bed, "shares", &share, &values).await;
    set(bed, "share_instances", &instance, "status = 'backup_restoring'").await;
    (share, instance, backup)
}

/// Status of the backup, its progress of both kinds, its reason; status of the instance; task state of the share.
async fn seen(bed: &Bed, share: &str, instance: &str, backup: &str) -> [Option<String>; 6] {
    let row = bed.row("share_backups", backup).await;
    let of_backup = |column| text(&row, column).map(ToOwned::to_owned);
    let instance = bed.row("share_instances", instance).await;
    let share = bed.row("shares", share).await;
    [
        of_backup("status"),
        of_backup("progress"),
        of_backup("restore_progress"),
        of_backup("fail_reason"),
        text(&instance, "status").map(ToOwned::to_owned),
        text(&share, "task_state").map(ToOwned::to_owned),
    ]
}

#[track_caller]
fn assert_seen(seen: &[Option<String>; 6], expected: [&str; 6]) {
    let seen = seen.each_ref().map(|text| text.as_deref().unwrap_or("NULL"));
    assert_eq!(seen, expected);
}

async fn a_backup_is_found(bed: &Bed) {
    let (share, _) = bed.share().await;
    let backup = bed.backup(&share, "creating").await;
    let found = bed.database.backup(&backup).await.unwrap().unwrap();
    assert_eq!((&found.id, &found.share_id, found.size_gib), (&backup, &share, Some(3)));
    assert_eq!(
        (found.status.as_deref(), found.host, found.topic.as_deref()),
        (Some("creating"), None, Some("manila-data"))
    );
    assert_eq!((found.project_id.as_deref(), found.user_id.as_deref()), (Some("p"), Some("u")));
    assert_eq!(bed.database.backup(&backup.to_uppercase()).await.unwrap(), None);
    let creating = bed.database.backups_in(&["creating", "restoring"]).await.unwrap();
    assert!(creating.iter().any(|row| row.id == backup), "{creating:?}");
    assert!(!bed.database.backups_in(&["deleting"]).await.unwrap().iter().any(|row| row.id == backup));
    assert_eq!(bed.database.backups_in(&[]).await.unwrap(), []);
    set(bed, "share_backups", &backup, "deleted = id").await;
    assert_eq!(bed.database.backup(&backup).await.unwrap(), None);

    let (share, instance, backup) = restoring(bed).await;
    assert_eq!(bed.database.shares_restored_from(&backup).await.unwrap(), std::slice::from_ref(&share));
    set(bed, "share_instances", &instance, "status = 'available'").await;
    assert_eq!(bed.database.shares_restored_from(&backup).await.unwrap(), Vec::<String>::new());
}

async fn work_begins_once(bed: &Bed) {
    let (share, _) = bed.share().await;
    let backup = bed.backup(&share, "creating").await;
    let database = &bed.database;
    assert_eq!(database.begin_backup(&backup, "creating", Some("here")).await.unwrap(), BackupChange::Changed);
    // UPDATE share_backups SET host='rig', updated_at=.. WHERE share_backups.id = ..
    let expected = [
        ("id", Some(&*backup)),
        ("deleted", Some("False")),
        ("share_id", Some(&*share)),
        ("project_id", Some("p")),
        ("user_id", Some("u")),
        ("size", Some("3")),
        ("status", Some("creating")),
        ("progress", Some("0")),
        ("restore_progress", Some("0")),
        ("topic", Some("manila-data")),
        ("host", Some("here")),
    ];
    check_row(&bed.row("share_backups", &backup).await, &expected, &["updated_at"]);
    set(bed, "share_backups", &backup, "updated_at = NULL").await;
    assert_eq!(database.begin_backup(&backup, "creating", Some("here")).await.unwrap(), BackupChange::Same);
    assert_eq!(text(&bed.row("share_backups", &backup).await, "updated_at"), None);
    let other = BackupChange::Other(Some("creating".into()));
    assert_eq!(database.begin_backup(&backup, "restoring", None).await.unwrap(), other);
    assert_eq!(database.begin_backup(&id(), "restoring", None).await.unwrap(), BackupChange::Gone);
    // What an earlier restore left.
    for (left, expected) in [("100", "0"), ("31", "31")] {
        let values = format!("status = 'restoring', restore_progress = '{left}'");
        set(bed, "share_backups", &backup, &values).await;
        database.begin_backup(&backup, "restoring", None).await.unwrap();
        assert_eq!(text(&bed.row("share_backups", &backup).await, "restore_progress"), Some(expected));
    }
}

async fn progress_never_falls(bed: &Bed) {
    for (status, column, other_column) in
        [("creating", "progress", "restore_progress"), ("restoring", "restore_progress", "progress")]
    {
        let (share, _) = bed.share().await;
        let backup = bed.backup(&share, status).await;
        let steps =
            [(7, BackupChange::Changed), (7, BackupChange::Same), (3, BackupChange::Same), (60, BackupChange::Changed)];
        for (percent, expected) in steps {
            assert_eq!(
                bed.database.set_backup_progress(&backup, status, percent).await.unwrap(),
                expected,
                "{percent}"
            );
        }
        let row = bed.row("share_backups", &backup).await;
        assert_eq!((text(&row, column), text(&row, other_column)), (Some("60"), Some("0")));
        set(bed, "share_backups", &backup, &format!("{column} = 'odd'")).await;
        assert_eq!(bed.database.set_backup_progress(&backup, status, 0).await.unwrap(), BackupChange::Changed);
        set(bed, "share_backups", &backup, "status = 'error'").await;
        let other = BackupChange::Other(Some("error".into()));
        assert_eq!(bed.database.set_backup_progress(&backup, status, 70).await.unwrap(), other);
    }
    assert_eq!(bed.database.set_backup_progress(&id(), "creating", 70).await.unwrap(), BackupChange::Gone);
}

async fn a_backup_ends_well(bed: &Bed) {
    let (share, instance, backup) = creating(bed).await;
    set(bed, "share_backups", &backup, "fail_reason = 'an earlier one'").await;
    let end = end(&backup, &share, BackupWork::Create);
    assert_eq!(bed.database.end_backup(&end).await.unwrap(), BackupChange::Changed);
    let expected = ["available", "100", "0", "NULL", "available", "NULL"];
    assert_seen(&seen(bed, &share, &instance, &backup).await, expected);
    assert!(text(&bed.row("share_instances", &instance).await, "updated_at").is_some());
    // Told again, also as a failure, it changes nothing.
    let other = BackupChange::Other(Some("available".into()));
    assert_eq!(bed.database.end_backup(&end).await.unwrap(), other);
    assert_eq!(bed.database.end_backup(&failed(&end, "x")).await.unwrap(), other);
    assert_seen(&seen(bed, &share, &instance, &backup).await, expected);
}

async fn a_backup_ends_before_its_share_is_free(bed: &Bed) {
    let (share, instance, backup) = creating(bed).await;
    let end = end(&backup, &share, BackupWork::Create);
    let first = BackupEnd { keeps_share: true, ..end.clone() };
    assert_eq!(bed.database.end_backup(&first).await.unwrap(), BackupChange::Changed);
    let row = seen(bed, &share, &instance, &backup).await;
    assert_eq!((row[0].as_deref(), row[4].as_deref()), (Some("available"), Some("backup_creating")));
    assert_eq!(bed.database.end_backup(&end).await.unwrap(), BackupChange::Changed);
    let expected = ["available", "100", "0", "NULL", "available", "NULL"];
    assert_seen(&seen(bed, &share, &instance, &backup).await, expected);
}

async fn a_restore_ends_well(bed: &Bed) {
    let (share, instance, backup) = restoring(bed).await;
    let end = end(&backup, &share, BackupWork::Restore);
    assert_eq!(bed.database.end_backup(&end).await.unwrap(), BackupChange::Changed);
    let expected = ["available", "0", "100", "NULL", "available", "NULL"];
    assert_seen(&seen(bed, &share, &instance, &backup).await, expected);
    assert_eq!(bed.database.end_backup(&end).await.unwrap(), BackupChange::Other(Some("available".into())));
}

async fn a_backup_fails(bed: &Bed) {
    for is_lost in [false, true] {
        let (share, instance, backup) = creating(bed).await;
        set(bed, "shares", &share, "task_state = 'data_copying_error'").await;
        set(bed, "share_backups", &backup, "progress = '37'").await;
        let end = failed(&end(&backup, &share, BackupWork::Create), "no route to host");
        assert_eq!(bed.database.end_backup(&BackupEnd { is_lost, ..end }).await.unwrap(), BackupChange::Changed);
        let progress = if is_lost { "0" } else { "37" };
        let expected = ["error", progress, "0", "no route to host", "available", "NULL"];
        assert_seen(&seen(bed, &share, &instance, &backup).await, expected);
    }
}

async fn a_restore_fails(bed: &Bed) {
    let (share, instance, backup) = restoring(bed).await;
    set(bed, "shares", &share, "task_state = NULL").await;
    set(bed, "share_backups", &backup, "restore_progress = '9'").await;
    let end = failed(&end(&backup, &share, BackupWork::Restore), "cancelled");
    assert_eq!(bed.database.end_backup(&end).await.unwrap(), BackupChange::Changed);
    let expected = ["available", "0", "9", "cancelled", "backup_restoring_error", "NULL"];
    assert_seen(&seen(bed, &share, &instance, &backup).await, expected);
}

async fn any_reason_fits(bed: &Bed) {
    let crab = if bed.is_mysql() { "\u{fffd}" } else { "\u{1f980}" };
    for (reason, expected) in [
        ("x".repeat(255), "x".repeat(255)),
        ("x".repeat(256), format!("{}...", "x".repeat(252))),
        ("\u{fc}".repeat(4000), format!("{}...", "\u{fc}".repeat(252))),
        ("\u{1f980}".repeat(300), format!("{}...", crab.repeat(252))),
        ("a\nb\tc".into(), "a b c".into()),
        ("a\0b".into(), "a b".into()),
        ("it's \"50%\"".into(), "it's \"50%\"".into()),
    ] {
        let (share, _, backup) = creating(bed).await;
        let end = failed(&end(&backup, &share, BackupWork::Create), &reason);
        assert_eq!(bed.database.end_backup(&end).await.unwrap(), BackupChange::Changed);
        assert_eq!(text(&bed.row("share_backups", &backup).await, "fail_reason"), Some(&*expected));
    }
}

async fn what_somebody_has_reset_stays(bed: &Bed) {
    // The share alone: the backup has its end.
    let (share, instance, backup) = creating(bed).await;
    set(bed, "share_instances", &instance, "status = 'available'").await;
    set(bed, "shares", &share, "task_state = 'migration_in_progress'").await;
    let create = end(&backup, &share, BackupWork::Create);
    assert_eq!(bed.database.end_backup(&failed(&create, "x")).await.unwrap(), BackupChange::Changed);
    let expected = ["error", "0", "0", "x", "available", "migration_in_progress"];
    assert_seen(&seen(bed, &share, &instance, &backup).await, expected);

    // The backup alone: the share is free.
    let (share, instance, backup) = creating(bed).await;
    set(bed, "share_backups", &backup, "status = 'available'").await;
    let create = failed(&end(&backup, &share, BackupWork::Create), "x");
    assert_eq!(bed.database.end_backup(&create).await.unwrap(), BackupChange::Changed);
    assert_seen(&seen(bed, &share, &instance, &backup).await, ["available", "0", "0", "NULL", "available", "NULL"]);

    // Another backup has begun since.
    let (share, instance, backup) = creating(bed).await;
    set(bed, "share_backups", &backup, "status = 'error'").await;
    bed.backup(&share, "creating").await;
    let create = end(&backup, &share, BackupWork::Create);
    assert_eq!(bed.database.end_backup(&create).await.unwrap(), BackupChange::Other(Some("error".into())));
    let expected = ["error", "0", "0", "NULL", "backup_creating", "data_copying_completed"];
    assert_seen(&seen(bed, &share, &instance, &backup).await, expected);

    // Another one is being restored there.
    let (share, instance, backup) = restoring(bed).await;
    let newer = bed.backup(&share, "restoring").await;
    set(bed, "shares", &share, &format!("source_backup_id = '{newer}'")).await;
    let restore = end(&backup, &share, BackupWork::Restore);
    assert_eq!(bed.database.end_backup(&restore).await.unwrap(), BackupChange::Changed);
    let expected = ["available", "0", "100", "NULL", "backup_restoring", "data_copying_completed"];
    assert_seen(&seen(bed, &share, &instance, &backup).await, expected);

    // One of them is gone, or both.
    let (share, instance, backup) = creating(bed).await;
    set(bed, "share_backups", &backup, "deleted = id").await;
    let create = end(&backup, &share, BackupWork::Create);
    assert_eq!(bed.database.end_backup(&create).await.unwrap(), BackupChange::Changed);
    assert_eq!(text(&bed.row("share_instances", &instance).await, "status"), Some("available"));
    assert_eq!(bed.database.end_backup(&create).await.unwrap(), BackupChange::Gone);
    let (share, _, backup) = creating(bed).await;
    set(bed, "shares", &share, "deleted = id").await;
    let create = end(&backup, &share, BackupWork::Create);
    assert_eq!(bed.database.end_backup(&create).await.unwrap(), BackupChange::Changed);
    assert_eq!(text(&bed.row("share_backups", &backup).await, "status"), Some("available"));
}

async fn a_deletion_fails(bed: &Bed) {
    let (share, _) = bed.share().await;
    let backup = bed.backup(&share, "deleting").await;
    assert_eq!(bed.database.fail_deletion(&backup, "stale file handle").await.unwrap(), BackupChange::Changed);
    let row = bed.row("share_backups", &backup).await;
    assert_eq!((text(&row, "status"), text(&row, "fail_reason")), (Some("error_deleting"), Some("stale file handle")));
    assert_eq!(bed.database.fail_deletion(&backup, "again").await.unwrap(), BackupChange::Same);
    assert_eq!(text(&bed.row("share_backups", &backup).await, "fail_reason"), Some("stale file handle"));
    set(bed, "share_backups", &backup, "status = 'available'").await;
    let other = BackupChange::Other(Some("available".into()));
    assert_eq!(bed.database.fail_deletion(&backup, "again").await.unwrap(), other);
    assert_eq!(bed.database.fail_deletion(&id(), "again").await.unwrap(), BackupChange::Gone);
}
