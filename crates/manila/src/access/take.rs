//! Letting this machine in to one instance.

use job::Side;
use tracing::info;

use super::grant::{Grant, GrantedRule};
use super::steps::{Pauses, StepError, Told, Work};
use crate::database::{AccessRule, Mapping};

/// Makes the rules of a grant, and returns when all of them are in force.
pub(super) async fn take(work: &Work<'_>, grant: &Grant, side: Side) -> Result<(), StepError> {
    if let Some(reason) = &grant.refused {
        return Err(StepError::Said(reason.clone()));
    }
    let id = &grant.instance;
    let instance = work.instance().await?;
    let instance = instance.ok_or_else(|| StepError::Said(format!("Share instance {id} could not be found.")))?;
    if instance.share_id != grant.share {
        let share = &grant.share;
        return Err(StepError::Said(format!("share instance {id} is not one of share {share}")));
    }
    let host = instance.host.filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| {
        StepError::Said(format!("share instance {id} has no host, so there is no share manager to apply access rules"))
    })?;
    // All are queued, then the share manager is told once: it applies what it finds.
    let mut ours = Vec::new();
    for rule in &grant.rules {
        if make(work, grant, rule, side).await? {
            ours.push(rule.mapping.as_str());
        }
    }
    if ours.is_empty() {
        info!(instance = id, "the share's own access rules let this machine in already");
        return Ok(());
    }
    let told = work.tell(&host).await?;
    wait_until_active(work, &ours, &host, told).await?;
    info!(instance = id, rules = ours.len(), "access rules are in force");
    Ok(())
}

/// Makes one rule; `false`: it is not needed.
async fn make(work: &Work<'_>, grant: &Grant, rule: &GrantedRule, side: Side) -> Result<bool, StepError> {
    let new = grant.new_rule(rule);
    work.change(move |database| {
        let new = new.clone();
        async move {
            let rules = database.rules_for(&new.share_id, &new.access_type, &new.access_to).await?;
            let mut others = rules.iter().filter(|other| other.id != new.rule_id);
            if others.any(|other| lets_in(other, &new.instance_id, side)) {
                return Ok(false);
            }
            // That it is there already means that an earlier try did arrive.
            database.allow(&new).await?;
            Ok(true)
        }
    })
    .await
}

/// Whether somebody's own rule for the same address does here what ours would do. Then there must be no second one: back
/// ends know addresses, not rules, and with ours they would take away theirs.
fn lets_in(rule: &AccessRule, instance_id: &str, side: Side) -> bool {
    let is_enough = match side {
        // It is only read, and Manila shows it read-only to everybody while it migrates.
        Side::Source => true,
        Side::Dest => rule.access_level.as_deref() == Some("rw"),
    };
    let is_in_force = |mapping: &Mapping| mapping.instance_id == instance_id && is(mapping, "active");
    is_enough && rule.mappings.iter().any(is_in_force)
}

fn is(mapping: &Mapping, state: &str) -> bool {
    mapping.state.as_deref() == Some(state)
}

async fn wait_until_active(work: &Work<'_>, ours: &[&str], host: &str, mut told: Told) -> Result<(), StepError> {
    let id = work.instance_id;
    let said = |text: String| Err(StepError::Said(text));
    let mut pauses = Pauses::new();
    loop {
        // Rules before their summary, which the share manager writes last.
        let mappings = work.mappings(ours).await?;
        let Some(instance) = work.instance().await? else {
            return said(format!("share instance {id} was deleted while its access rules were applied"));
        };
        if mappings.iter().any(|mapping| is(mapping, "error")) {
            return said(format!(
                "the share manager of {host} could not apply the access rules of share instance {id}"
            ));
        }
        let is_leaving = |mapping: &Mapping| is(mapping, "queued_to_deny") || is(mapping, "denying");
        if mappings.len() < ours.len() || mappings.iter().any(is_leaving) {
            return said(format!("somebody removed access rules of share instance {id} while they were applied"));
        }
        let status = instance.access_rules_status.as_deref().unwrap_or("unknown");
        if mappings.iter().all(|mapping| is(mapping, "active")) {
            match status {
                "active" => return Ok(()),
                "error" => {
                    return said(format!(
                        "access_rules_status of share instance {id} is error because of another rule of the share"
                    ));
                }
                _ => {}
            }
        }
        if mappings.iter().any(|mapping| is(mapping, "queued_to_apply")) {
            work.tell_again(&mut told, host).await;
        }
        if !pauses.pause(work.deadline).await {
            let seconds = work.world.limit.as_secs();
            return said(format!(
                "the share manager of {host} did not apply the access rules of share instance {id} within {seconds} s \
                 (data_access_wait_access_rules_timeout; access_rules_status is {status})"
            ));
        }
    }
}
