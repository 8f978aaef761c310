//! The end of a backup, and its quota.

use std::time::Duration;

use manila::Database as _;
use manila::database::{BackupChange, QuotaSettings};

use crate::kit::{Bed, Row, check_row, id, text};

const QUOTA: QuotaSettings = QuotaSettings { is_counted: true, reservation_expire: Duration::from_hours(24) };

pub(crate) async fn check(bed: &Bed) {
    if !bed.release.has_backups() {
        return;
    }
    rows_end_as_upstream_leaves_them(bed).await;
    usage_that_is_missing_or_wrong_is_counted(bed).await;
    it_is_charged_once(bed).await;
    where_nothing_is_counted_only_the_row_goes(bed).await;
    what_is_in_use_stays(bed).await;
}

/// A backup of size 3 of a project that nobody else has.
async fn backup(bed: &Bed, project: &str) -> String {
    let (share, _) = bed.share().await;
    let backup = bed.backup(&share, "deleting").await;
    bed.execute(&format!("UPDATE share_backups SET project_id = '{project}' WHERE id = '{backup}'")).await;
    backup
}

async fn add_usage(bed: &Bed, project: &str, user: &str, resource: &str, in_use: i32) {
    bed.execute(&format!(
        "INSERT INTO quota_usages (project_id, user_id, resource, in_use, reserved, deleted) \
         VALUES ('{project}', '{user}', '{resource}', {in_use}, 0, 0)"
    ))
    .await;
}

/// The rows of a project, by user and resource.
async fn usages(bed: &Bed, project: &str) -> Vec<(String, String, i32)> {
    let rows = bed.rows("quota_usages", &format!("project_id = '{project}'")).await;
    let column = |row: &Row, column| text(row, column).unwrap().to_owned();
    let usage = |row| (column(row, "user_id"), column(row, "resource"), column(row, "in_use").parse().unwrap());
    let mut usages: Vec<_> = rows.iter().map(usage).collect();
    usages.sort();
    usages
}

fn usage(user: &str, resource: &str, in_use: i32) -> (String, String, i32) {
    (user.into(), resource.into(), in_use)
}

async fn rows_end_as_upstream_leaves_them(bed: &Bed) {
    let project = id();
    let backup = backup(bed, &project).await;
    add_usage(bed, &project, "admin", "backups", 1).await;
    add_usage(bed, &project, "u", "backups", 2).await;
    add_usage(bed, &project, "u", "backup_gigabytes", 7).await;
    add_usage(bed, &project, "u", "shares", 5).await;
    assert_eq!(bed.database.delete_backup(&backup, &QUOTA).await.unwrap(), BackupChange::Changed);
    // UPDATE share_backups SET deleted=<id>, status='deleted', updated_at=.., deleted_at=..
    let row = bed.row("share_backups", &backup).await;
    assert_eq!((text(&row, "deleted"), text(&row, "status")), (Some(&*backup), Some("deleted")));
    assert!(text(&row, "deleted_at").is_some() && text(&row, "updated_at").is_some());
    // The owner's quota, not that of whoever asked for it.
    let expected = [
        usage("admin", "backups", 1),
        usage("u", "backup_gigabytes", 4),
        usage("u", "backups", 1),
        usage("u", "shares", 5),
    ];
    assert_eq!(usages(bed, &project).await, expected);
    let mut reservations = bed.rows("reservations", &format!("project_id = '{project}'")).await;
    reservations.sort_by_key(|row| row["resource"].clone());
    assert_eq!(reservations.len(), 2);
    for (row, (resource, delta)) in reservations.iter().zip([("backup_gigabytes", "-3"), ("backups", "-1")]) {
        let condition = format!("project_id = '{project}' AND user_id = 'u' AND resource = '{resource}'");
        let usage = bed.rows("quota_usages", &condition).await.remove(0);
        let expected = [
            ("id", text(row, "id")),
            ("deleted", text(row, "id")),
            ("uuid", text(row, "uuid")),
            ("usage_id", text(&usage, "id")),
            ("project_id", Some(&*project)),
            ("user_id", Some("u")),
            ("resource", Some(resource)),
            ("delta", Some(delta)),
        ];
        check_row(row, &expected, &["created_at", "deleted_at", "expire"]);
        assert!(text(&usage, "updated_at").is_some());
    }
}

async fn usage_that_is_missing_or_wrong_is_counted(bed: &Bed) {
    let project = id();
    let (first, _second) = (backup(bed, &project).await, backup(bed, &project).await);
    add_usage(bed, &project, "u", "backups", -1).await;
    assert_eq!(bed.database.delete_backup(&first, &QUOTA).await.unwrap(), BackupChange::Changed);
    assert_eq!(usages(bed, &project).await, [usage("u", "backup_gigabytes", 3), usage("u", "backups", 1)]);
    let row = bed.rows("quota_usages", &format!("project_id = '{project}' AND resource = 'backup_gigabytes'")).await;
    assert_eq!((text(&row[0], "reserved"), text(&row[0], "deleted")), (Some("0"), Some("0")));
    // Too little is never less than nothing.
    let project = id();
    let backup = backup(bed, &project).await;
    add_usage(bed, &project, "u", "backups", 0).await;
    add_usage(bed, &project, "u", "backup_gigabytes", 2).await;
    assert_eq!(bed.database.delete_backup(&backup, &QUOTA).await.unwrap(), BackupChange::Changed);
    assert_eq!(usages(bed, &project).await, [usage("u", "backup_gigabytes", 0), usage("u", "backups", 0)]);
}

async fn it_is_charged_once(bed: &Bed) {
    let project = id();
    let backup = backup(bed, &project).await;
    add_usage(bed, &project, "u", "backups", 5).await;
    add_usage(bed, &project, "u", "backup_gigabytes", 15).await;
    let delete = || bed.database.delete_backup(&backup, &QUOTA);
    let (a, b, c) = tokio::join!(delete(), delete(), delete());
    let changes = [a, b, c].map(Result::unwrap);
    assert_eq!(changes.iter().filter(|change| **change == BackupChange::Changed).count(), 1, "{changes:?}");
    assert_eq!(usages(bed, &project).await, [usage("u", "backup_gigabytes", 12), usage("u", "backups", 4)]);
    assert_eq!(bed.database.delete_backup(&backup, &QUOTA).await.unwrap(), BackupChange::Same);
    assert_eq!(bed.database.delete_backup(&id(), &QUOTA).await.unwrap(), BackupChange::Same);
}

async fn where_nothing_is_counted_only_the_row_goes(bed: &Bed) {
    let project = id();
    let first = backup(bed, &project).await;
    let quota = QuotaSettings { is_counted: false, ..QUOTA };
    assert_eq!(bed.database.delete_backup(&first, &quota).await.unwrap(), BackupChange::Changed);
    // Of nobody.
    let second = backup(bed, &project).await;
    bed.execute(&format!("UPDATE share_backups SET user_id = NULL WHERE id = '{second}'")).await;
    assert_eq!(bed.database.delete_backup(&second, &QUOTA).await.unwrap(), BackupChange::Changed);
    assert_eq!(usages(bed, &project).await, []);
    assert_eq!(bed.database.backup(&second).await.unwrap(), None);
}

async fn what_is_in_use_stays(bed: &Bed) {
    for status in ["creating", "restoring"] {
        let project = id();
        let backup = backup(bed, &project).await;
        bed.execute(&format!("UPDATE share_backups SET status = '{status}' WHERE id = '{backup}'")).await;
        let other = BackupChange::Other(Some(status.into()));
        assert_eq!(bed.database.delete_backup(&backup, &QUOTA).await.unwrap(), other);
        assert_eq!(usages(bed, &project).await, []);
    }
}
