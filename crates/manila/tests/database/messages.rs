//! Messages to users.

use std::time::Duration;

use manila::Database as _;
use manila::database::{SqlDatabase, UserMessage};

use crate::kit::{Bed, check_row, id, settings, text};

fn message() -> UserMessage {
    UserMessage {
        id: id(),
        project_id: "project".into(),
        request_id: Some(format!("req-{}", id())),
        resource_type: "SHARE".into(),
        resource_id: id(),
        action_id: "008".into(),
        detail_id: "001".into(),
        level: "ERROR".into(),
        keep: Duration::from_hours(720),
    }
}

pub(crate) async fn check(bed: &Bed) {
    let message = message();
    let add = || bed.database.add_message(&message);
    let (a, b, c) = tokio::join!(add(), add(), add());
    assert!(a.unwrap() && b.unwrap() && c.unwrap(), "the same told three times");
    let rows = bed.rows("messages", &format!("resource_id = '{}'", message.resource_id)).await;
    assert_eq!(rows.len(), 1);
    let expected = [
        ("id", Some(&*message.id)),
        ("project_id", Some("project")),
        ("request_id", message.request_id.as_deref()),
        ("resource_type", Some("SHARE")),
        ("resource_id", Some(&*message.resource_id)),
        ("action_id", Some("008")),
        ("detail_id", Some("001")),
        ("message_level", Some("ERROR")),
        ("deleted", Some("False")),
    ];
    check_row(&rows[0], &expected, &["created_at", "expires_at"]);
    assert!(text(&rows[0], "expires_at") > text(&rows[0], "created_at"));

    // A project that MySQL's tables cannot spell, and a time that no calendar has.
    let odd = UserMessage { project_id: "\u{1f980}".into(), request_id: None, keep: Duration::MAX, ..self::message() };
    assert!(bed.database.add_message(&odd).await.unwrap());

    // Gone while we run, and for one who starts then.
    bed.execute("ALTER TABLE messages RENAME TO messages_away").await;
    assert!(!bed.database.add_message(&message).await.unwrap());
    let later = SqlDatabase::connect(settings(&bed.url)).await.unwrap();
    assert!(!later.add_message(&message).await.unwrap());
    bed.execute("ALTER TABLE messages_away RENAME TO messages").await;
}
