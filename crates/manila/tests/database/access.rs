//! Access rules, as upstream's data service writes them.

use manila::Database as _;
use manila::database::{AccessRule, DatabaseError, Mapping, NewRule};

use crate::kit::{Bed, check_row, id, text};

pub(crate) async fn check(bed: &Bed) {
    rules_are_written_as_upstream_writes_them(bed).await;
    one_rule_serves_two_instances(bed).await;
    what_is_there_is_not_made_again(bed).await;
    rules_are_not_made_for_what_is_gone(bed).await;
    rules_are_found_by_their_exact_address(bed).await;
    only_what_is_not_on_its_way_out_is_denied(bed).await;
    callers_at_once_do_not_double(bed).await;
}

fn rule(share: &str, instance: &str) -> NewRule {
    NewRule {
        rule_id: id(),
        mapping_id: id(),
        share_id: share.into(),
        instance_id: instance.into(),
        access_type: "ip".into(),
        access_to: "127.0.0.1".into(),
    }
}

async fn status(bed: &Bed, instance: &str) -> String {
    bed.database.instance(instance).await.unwrap().unwrap().access_rules_status.unwrap()
}

async fn set_active(bed: &Bed, instance: &str) {
    bed.execute(&format!(
        "UPDATE share_instances SET access_rules_status = 'active', updated_at = NULL WHERE id = '{instance}'"
    ))
    .await;
}

async fn set_state(bed: &Bed, mapping: &str, state: &str) {
    bed.execute(&format!("UPDATE share_instance_access_map SET state = '{state}' WHERE id = '{mapping}'")).await;
}

async fn rules_are_written_as_upstream_writes_them(bed: &Bed) {
    let (share, instance) = bed.share().await;
    let rule = rule(&share, &instance);
    assert!(bed.database.allow(&rule).await.unwrap());
    // INSERT INTO share_access_map (id, deleted, share_id, access_type, access_to, access_key, access_level,
    // created_at, updated_at, deleted_at) VALUES (.., 'False', .., 'ip', '127.0.0.1', NULL, 'rw', .., NULL, NULL)
    let expected = [
        ("id", Some(&*rule.rule_id)),
        ("deleted", Some("False")),
        ("share_id", Some(&*share)),
        ("access_type", Some("ip")),
        ("access_to", Some("127.0.0.1")),
        ("access_key", None),
        ("access_level", Some("rw")),
    ];
    check_row(&bed.row("share_access_map", &rule.rule_id).await, &expected, &["created_at"]);
    // INSERT INTO share_instance_access_map (id, deleted, share_instance_id, access_id, state, created_at, updated_at,
    // deleted_at) VALUES (.., 'False', .., .., 'queued_to_apply', .., NULL, NULL)
    let expected = [
        ("id", Some(&*rule.mapping_id)),
        ("deleted", Some("False")),
        ("share_instance_id", Some(&*instance)),
        ("access_id", Some(&*rule.rule_id)),
        ("state", Some("queued_to_apply")),
    ];
    check_row(&bed.row("share_instance_access_map", &rule.mapping_id).await, &expected, &["created_at"]);
    let row = bed.row("share_instances", &instance).await;
    assert_eq!(text(&row, "access_rules_status"), Some("syncing"));
    assert!(text(&row, "updated_at").is_some());

    set_active(bed, &instance).await;
    set_state(bed, &rule.mapping_id, "active").await;
    assert_eq!(bed.database.deny(&instance, &[&rule.mapping_id]).await.unwrap(), 1);
    let mapping = bed.row("share_instance_access_map", &rule.mapping_id).await;
    assert_eq!(text(&mapping, "state"), Some("queued_to_deny"));
    assert_eq!((text(&mapping, "deleted"), text(&mapping, "deleted_at")), (Some("False"), None));
    let row = bed.row("share_access_map", &rule.rule_id).await;
    assert_eq!(text(&row, "updated_at"), text(&mapping, "updated_at"));
    assert!(text(&row, "updated_at").is_some());
    assert_eq!((text(&row, "deleted"), text(&row, "access_level")), (Some("False"), Some("rw")));
    let row = bed.row("share_instances", &instance).await;
    assert_eq!(text(&row, "access_rules_status"), Some("syncing"));
    assert!(text(&row, "updated_at").is_some());
}

async fn one_rule_serves_two_instances(bed: &Bed) {
    let (share, source) = bed.share().await;
    let dest = bed.instance(&share).await;
    let first = rule(&share, &source);
    let second = NewRule { mapping_id: id(), instance_id: dest.clone(), ..first.clone() };
    assert!(bed.database.allow(&first).await.unwrap());
    let row = bed.row("share_access_map", &first.rule_id).await;
    assert!(bed.database.allow(&second).await.unwrap());
    assert_eq!(bed.row("share_access_map", &first.rule_id).await, row, "the rule is left as it was");
    let rules = bed.database.rules_for(&share, "ip", "127.0.0.1").await.unwrap();
    let mapping = |id: &str, instance: &str| Mapping {
        id: id.into(),
        instance_id: instance.into(),
        state: Some("queued_to_apply".into()),
    };
    let mut mappings = vec![mapping(&first.mapping_id, &source), mapping(&second.mapping_id, &dest)];
    mappings.sort_by(|a, b| a.id.cmp(&b.id));
    let expected =
        AccessRule { id: first.rule_id.clone(), access_level: Some("rw".into()), mappings: mappings.clone() };
    assert_eq!(rules, [expected]);
    let mut found = bed.database.mappings(&[&second.mapping_id, &first.mapping_id, &id()]).await.unwrap();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(found, mappings);
    assert_eq!(bed.database.mappings(&[]).await.unwrap(), []);
    assert_eq!(bed.database.deny(&source, &[&second.mapping_id]).await.unwrap(), 0, "that is the other instance's");
    assert_eq!(bed.database.deny(&dest, &[&second.mapping_id, &first.mapping_id]).await.unwrap(), 1);
}

async fn what_is_there_is_not_made_again(bed: &Bed) {
    let (share, instance) = bed.share().await;
    let rule = rule(&share, &instance);
    assert!(bed.database.allow(&rule).await.unwrap());
    set_active(bed, &instance).await;
    set_state(bed, &rule.mapping_id, "active").await;
    assert!(!bed.database.allow(&rule).await.unwrap());
    assert_eq!(status(bed, &instance).await, "active", "nothing to be synced was queued");
    // The share manager removed it again.
    bed.execute(&format!(
        "UPDATE share_instance_access_map SET deleted = id, state = 'deleted' WHERE id = '{}'",
        rule.mapping_id
    ))
    .await;
    assert!(!bed.database.allow(&rule).await.unwrap());
    assert_eq!(status(bed, &instance).await, "active");
    assert_eq!(bed.database.mappings(&[&rule.mapping_id]).await.unwrap(), []);
    let rules = bed.database.rules_for(&share, "ip", "127.0.0.1").await.unwrap();
    assert_eq!((rules.len(), rules[0].mappings.len()), (1, 0));
}

async fn rules_are_not_made_for_what_is_gone(bed: &Bed) {
    let (share, instance) = bed.share().await;
    let (other_share, _) = bed.share().await;
    let check = async |rule: NewRule, what: &str| {
        let error = bed.database.allow(&rule).await.unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        let rules = bed.rows("share_access_map", &format!("id = '{}' AND deleted = 'False'", rule.rule_id)).await;
        let mappings = bed.rows("share_instance_access_map", &format!("id = '{}'", rule.mapping_id)).await;
        assert_eq!((rules.len(), mappings.len()), (0, 0), "nothing was left behind");
    };
    let unknown = id();
    check(rule(&share, &unknown), &format!("share instance {unknown} could not be found")).await;
    check(rule(&other_share, &instance), "is none of share").await;
    let removed = rule(&share, &instance);
    assert!(bed.database.allow(&removed).await.unwrap());
    bed.execute(&format!("UPDATE share_access_map SET deleted = id WHERE id = '{}'", removed.rule_id)).await;
    check(NewRule { mapping_id: id(), ..removed.clone() }, "access rule").await;
    let error = bed.database.allow(&NewRule { mapping_id: id(), ..removed }).await.unwrap_err();
    assert!(matches!(error, DatabaseError::NotFound { what: "access rule", .. }), "{error:?}");
    if bed.is_mysql() {
        let crab = NewRule { access_to: "\u{1f980}".into(), access_type: "user".into(), ..rule(&share, &instance) };
        check(crab, "cannot hold").await;
    }
    if !bed.url.starts_with("sqlite") {
        let long = NewRule { access_to: "x".repeat(256), ..rule(&share, &instance) };
        check(long, "cannot queue an access rule").await;
    }
    bed.execute(&format!("UPDATE share_instances SET deleted = id WHERE id = '{instance}'")).await;
    check(rule(&share, &instance), "could not be found").await;
}

async fn rules_are_found_by_their_exact_address(bed: &Bed) {
    let (share, instance) = bed.share().await;
    let lower = NewRule { access_type: "user".into(), access_to: "mary".into(), ..rule(&share, &instance) };
    let upper = NewRule { access_to: "MARY".into(), rule_id: id(), mapping_id: id(), ..lower.clone() };
    assert!(bed.database.allow(&lower).await.unwrap());
    assert!(bed.database.allow(&upper).await.unwrap());
    let found = async |access_to: &str| {
        let rules = bed.database.rules_for(&share, "user", access_to).await.unwrap();
        rules.into_iter().map(|rule| rule.id).collect::<Vec<_>>()
    };
    assert_eq!(found("mary").await, std::slice::from_ref(&lower.rule_id));
    assert_eq!(found("MARY").await, [upper.rule_id]);
    assert_eq!(found("mary ").await, Vec::<String>::new());
    assert_eq!(bed.database.rules_for(&share, "ip", "mary").await.unwrap(), []);
    assert_eq!(bed.database.rules_for(&id(), "user", "mary").await.unwrap(), []);
    bed.execute(&format!("UPDATE share_access_map SET deleted = id WHERE id = '{}'", lower.rule_id)).await;
    assert_eq!(found("mary").await, Vec::<String>::new());
}

async fn only_what_is_not_on_its_way_out_is_denied(bed: &Bed) {
    let (share, instance) = bed.share().await;
    let states =
        ["queued_to_apply", "applying", "active", "error", "queued_to_update", "updating", "queued_to_deny", "denying"];
    let mut mappings = Vec::new();
    for (number, state) in states.iter().enumerate() {
        let rule = NewRule { access_to: format!("10.0.0.{number}"), ..rule(&share, &instance) };
        assert!(bed.database.allow(&rule).await.unwrap());
        set_state(bed, &rule.mapping_id, state).await;
        mappings.push(rule.mapping_id);
    }
    set_active(bed, &instance).await;
    let ids: Vec<_> = mappings.iter().map(String::as_str).collect();
    assert_eq!(bed.database.deny(&instance, &ids[6..]).await.unwrap(), 0);
    assert_eq!(bed.database.deny(&instance, &[]).await.unwrap(), 0);
    assert_eq!(bed.database.deny(&instance, &[&id()]).await.unwrap(), 0);
    assert_eq!(status(bed, &instance).await, "active", "nothing was queued");
    assert_eq!(bed.database.deny(&instance, &ids).await.unwrap(), 6);
    assert_eq!(status(bed, &instance).await, "syncing");
    for (mapping, state) in bed.database.mappings(&ids).await.unwrap().iter().zip(["queued_to_deny"; 8]) {
        let is_denying = mapping.id == mappings[7];
        assert_eq!(mapping.state.as_deref(), Some(if is_denying { "denying" } else { state }));
    }
    set_active(bed, &instance).await;
    assert_eq!(bed.database.deny(&instance, &ids).await.unwrap(), 0, "once more changes nothing");
    assert_eq!(status(bed, &instance).await, "active");
    set_state(bed, ids[0], "active").await;
    bed.execute(&format!("UPDATE share_instance_access_map SET deleted = id WHERE id = '{}'", ids[0])).await;
    assert_eq!(bed.database.deny(&instance, &ids[..1]).await.unwrap(), 0, "the share manager has removed it");
    set_state(bed, ids[1], "active").await;
    bed.execute(&format!("UPDATE share_instances SET deleted = id WHERE id = '{instance}'")).await;
    assert_eq!(bed.database.deny(&instance, &ids).await.unwrap(), 0, "the instance is gone");
}

async fn callers_at_once_do_not_double(bed: &Bed) {
    let (share, source) = bed.share().await;
    let dest = bed.instance(&share).await;
    let first = rule(&share, &source);
    let second = NewRule { mapping_id: id(), instance_id: dest.clone(), ..first.clone() };
    let allow = |rule| bed.database.allow(rule);
    let (a, b, c, d) = tokio::join!(allow(&first), allow(&first), allow(&second), allow(&second));
    let made = [a, b, c, d].map(Result::unwrap);
    assert_eq!(made.iter().filter(|made| **made).count(), 2, "{made:?}");
    assert_eq!(bed.rows("share_access_map", &format!("share_id = '{share}'")).await.len(), 1);
    let rules = bed.database.rules_for(&share, "ip", "127.0.0.1").await.unwrap();
    assert_eq!(rules[0].mappings.len(), 2);
    let ids = [first.mapping_id.as_str()];
    let deny = || bed.database.deny(&source, &ids);
    let (a, b, c) = tokio::join!(deny(), deny(), deny());
    assert_eq!(a.unwrap() + b.unwrap() + c.unwrap(), 1);
}
