//! What a hold of access says: every rule that is going to be made, by its identifiers, before any is.

use job::{Hold, Side};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::backup::BackupTask;
use crate::database::NewRule;
use crate::migration::{AccessMapping, Migration};
use crate::settings::Settings;

const VERSION: u32 = 1;

/// The access rules of one instance, as they stand in the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grant {
    version: u32,
    pub(super) share: String,
    pub(super) instance: String,
    /// Why nothing can be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
    pub(super) rules: Vec<GrantedRule>,
}

/// One rule of the share, mapped to the instance of the grant. The other side has the same rule with another mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GrantedRule {
    pub(super) rule: String,
    pub(super) mapping: String,
    #[serde(rename = "type")]
    pub(super) access_type: String,
    #[serde(rename = "to")]
    pub(super) access_to: String,
}

impl Grant {
    /// Reads a hold again. Errors are of this program: nobody else writes them.
    pub(super) fn of(grant: &str) -> Result<Self, String> {
        let grant: Self = serde_json::from_str(grant).map_err(|error| format!("the hold cannot be read: {error}"))?;
        if grant.version != VERSION {
            return Err(format!("the hold has version {}, and this program reads {VERSION}", grant.version));
        }
        Ok(grant)
    }

    pub(super) fn new_rule(&self, rule: &GrantedRule) -> NewRule {
        NewRule {
            rule_id: rule.rule.clone(),
            mapping_id: rule.mapping.clone(),
            share_id: self.share.clone(),
            instance_id: self.instance.clone(),
            access_type: rule.access_type.clone(),
            access_to: rule.access_to.clone(),
        }
    }

    fn into_hold(self, side: Side) -> Hold {
        let grant = serde_json::to_string(&self).expect("a grant has nothing that JSON cannot hold");
        Hold::Access { side, grant }
    }
}

/// Whom rules let in, as the configuration says.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    ips: Vec<String>,
    cert: Option<String>,
    user: Option<String>,
}

impl Identity {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            ips: settings.data_node_access_ips.clone(),
            cert: settings.data_node_access_cert.clone(),
            user: settings.data_node_access_admin_user.clone(),
        }
    }

    /// Type and address of each rule that is needed; or why there can be none, in upstream's words.
    fn wanted(&self, mapping: &AccessMapping) -> Result<Vec<(&'static str, &str)>, String> {
        let mut wanted = Vec::new();
        for access_type in mapping.keys() {
            let unsupported = || format!("Unsupported access type provided: {access_type}.");
            match access_type.as_str() {
                "ip" if self.ips.is_empty() => {
                    return Err("Configuration for Data node mounting access type ip has not been set.".into());
                }
                "ip" => wanted.extend(self.ips.iter().map(|ip| ("ip", ip.as_str()))),
                "cert" => wanted.push(("cert", self.cert.as_deref().ok_or_else(unsupported)?)),
                "user" => wanted.push(("user", self.user.as_deref().ok_or_else(unsupported)?)),
                _ => return Err(unsupported()),
            }
        }
        Ok(wanted)
    }
}

/// One hold for each side, or none where both sides have no type of access in common: then nothing is changed, and the
/// mounts show whether the shares are open to this machine anyway.
pub(super) fn holds(migration: &Migration, identity: &Identity) -> Vec<Hold> {
    let mapping = in_common(&migration.source_access, &migration.dest_access);
    let sides = [(Side::Source, &*migration.source_instance_id), (Side::Dest, &*migration.dest_instance_id)];
    holds_on(&migration.share_id, &sides, &mapping, identity)
}

/// One hold for the share, or none where the configuration has no type of access for it, or nothing is mounted.
pub(super) fn holds_of_backup(task: &BackupTask, identity: &Identity) -> Vec<Hold> {
    let side = task.action.share_side().zip(task.instance_id.as_deref());
    holds_on(&task.share_id, side.as_slice(), &task.access, identity)
}

fn holds_on(share_id: &str, sides: &[(Side, &str)], mapping: &AccessMapping, identity: &Identity) -> Vec<Hold> {
    if mapping.is_empty() {
        return Vec::new();
    }
    let (wanted, refused) = match identity.wanted(mapping) {
        Ok(wanted) => (wanted, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    let new_id = || Uuid::new_v4().to_string();
    let rule_ids: Vec<_> = wanted.iter().map(|_| new_id()).collect();
    let grant = |instance: &str| Grant {
        version: VERSION,
        share: share_id.into(),
        instance: instance.into(),
        refused: refused.clone(),
        rules: std::iter::zip(&wanted, &rule_ids)
            .map(|((access_type, access_to), rule)| GrantedRule {
                rule: rule.clone(),
                mapping: new_id(),
                access_type: (*access_type).into(),
                access_to: (*access_to).into(),
            })
            .collect(),
    };
    sides.iter().map(|(side, instance)| grant(instance).into_hold(*side)).collect()
}

/// Types of access that both sides offer for a protocol of both, in lower case.
fn in_common(source: &AccessMapping, dest: &AccessMapping) -> AccessMapping {
    let offers = |mapping: &AccessMapping, access_type: &str, protocol: &str| {
        mapping
            .iter()
            .filter(|(other, _)| other.to_lowercase() == access_type)
            .any(|(_, protocols)| protocols.iter().any(|other| other.to_lowercase() == protocol))
    };
    let mut common = AccessMapping::new();
    for (access_type, protocols) in source {
        let access_type = access_type.to_lowercase();
        for protocol in protocols.iter().map(|protocol| protocol.to_lowercase()) {
            if offers(dest, &access_type, &protocol) {
                let protocols = common.entry(access_type.clone()).or_default();
                if !protocols.contains(&protocol) {
                    protocols.push(protocol);
                }
            }
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(pairs: &[(&str, &[&str])]) -> AccessMapping {
        let protocols = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        pairs.iter().map(|(access_type, names)| ((*access_type).into(), protocols(names))).collect()
    }

    fn identity(ips: &[&str], cert: Option<&str>, user: Option<&str>) -> Identity {
        Identity {
            ips: ips.iter().map(|ip| (*ip).into()).collect(),
            cert: cert.map(Into::into),
            user: user.map(Into::into),
        }
    }

    fn migration(source: &[(&str, &[&str])], dest: &[(&str, &[&str])]) -> Migration {
        Migration {
            share_id: "share".into(),
            source_instance_id: "source".into(),
            dest_instance_id: "dest".into(),
            source_access: mapping(source),
            dest_access: mapping(dest),
            context: oslo::messaging::Context::default(),
        }
    }

    fn grants(migration: &Migration, identity: &Identity) -> Vec<(Side, Grant)> {
        let grant = |hold| match hold {
            Hold::Access { side, grant } => (side, Grant::of(&grant).unwrap()),
            other => panic!("{other:?}"),
        };
        holds(migration, identity).into_iter().map(grant).collect()
    }

    #[test]
    fn what_both_sides_offer_for_one_protocol_is_in_common() {
        let check = |source: &[(&str, &[&str])], dest: &[(&str, &[&str])], expected: &[(&str, &[&str])]| {
            assert_eq!(in_common(&mapping(source), &mapping(dest)), mapping(expected), "{source:?} {dest:?}");
        };
        check(&[("ip", &["nfs"])], &[("ip", &["nfs"])], &[("ip", &["nfs"])]);
        check(&[("ip", &["nfs", "cifs"])], &[("ip", &["cifs"]), ("user", &["cifs"])], &[("ip", &["cifs"])]);
        check(&[("IP", &["NFS"])], &[("ip", &["nfs"])], &[("ip", &["nfs"])]);
        check(&[("ip", &["nfs"])], &[("ip", &["cifs"])], &[]);
        check(&[("ip", &["nfs"])], &[("user", &["nfs"])], &[]);
        check(&[("ip", &[])], &[("ip", &[])], &[]);
        check(&[], &[("ip", &["nfs"])], &[]);
    }

    #[test]
    fn both_sides_share_the_rules_and_each_has_its_own_mappings() {
        let nfs: &[(&str, &[&str])] = &[("ip", &["nfs"]), ("user", &["nfs"]), ("cert", &["nfs"])];
        let identity = identity(&["10.0.0.5", "fd00::5"], Some("cn"), Some("admin"));
        let grants = grants(&migration(nfs, nfs), &identity);
        let [(Side::Source, source), (Side::Dest, dest)] = grants.as_slice() else { panic!("{grants:?}") };
        assert_eq!((source.instance.as_str(), dest.instance.as_str()), ("source", "dest"));
        let whom = |grant: &Grant| -> Vec<_> {
            grant.rules.iter().map(|rule| format!("{}:{}", rule.access_type, rule.access_to)).collect()
        };
        assert_eq!(whom(source), ["cert:cn", "ip:10.0.0.5", "ip:fd00::5", "user:admin"]);
        assert_eq!(whom(dest), whom(source));
        let rules = |grant: &Grant| grant.rules.iter().map(|rule| rule.rule.clone()).collect::<Vec<_>>();
        assert_eq!(rules(source), rules(dest));
        let mut ids: Vec<_> = grants.iter().flat_map(|(_, grant)| &grant.rules).map(|rule| &rule.mapping).collect();
        ids.extend(source.rules.iter().map(|rule| &rule.rule));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 12);
    }

    #[test]
    fn a_backup_has_rules_on_the_shares_instance_alone() {
        use crate::backup::BackupAction::{Create, Delete, Restore};
        let identity = identity(&["10.0.0.5", "fd00::5"], None, None);
        let task = |action, instance: Option<&str>, access: &[(&str, &[&str])]| BackupTask {
            action,
            backup_id: "backup".into(),
            share_id: "share".into(),
            instance_id: instance.map(Into::into),
            access: mapping(access),
            context: oslo::messaging::Context::default(),
        };
        let nfs: &[(&str, &[&str])] = &[("ip", &["nfs"])];
        for (action, expected) in [(Create, Side::Source), (Restore, Side::Dest)] {
            let holds = holds_of_backup(&task(action, Some("instance"), nfs), &identity);
            let [Hold::Access { side, grant }] = holds.as_slice() else { panic!("{holds:?}") };
            let grant = Grant::of(grant).unwrap();
            assert_eq!((*side, grant.share.as_str(), grant.instance.as_str()), (expected, "share", "instance"));
            assert_eq!(grant.rules.len(), 2);
            assert_eq!(holds_of_backup(&task(action, Some("instance"), &[]), &identity), []);
        }
        assert_eq!(holds_of_backup(&task(Delete, None, nfs), &identity), []);
    }

    #[test]
    fn each_attempt_has_identifiers_of_its_own() {
        let migration = migration(&[("ip", &["nfs"])], &[("ip", &["nfs"])]);
        let identity = identity(&["10.0.0.5"], None, None);
        assert_ne!(grants(&migration, &identity), grants(&migration, &identity));
    }

    #[test]
    fn nothing_in_common_is_no_hold() {
        let identity = identity(&["10.0.0.5"], None, None);
        assert_eq!(grants(&migration(&[], &[("ip", &["nfs"])]), &identity), []);
        assert_eq!(grants(&migration(&[("ip", &["nfs"])], &[("user", &["nfs"])]), &identity), []);
    }

    #[test]
    fn what_the_configuration_does_not_name_is_refused_in_upstreams_words() {
        let check = |access_type: &str, expected: &str| {
            let sides: &[(&str, &[&str])] = &[("ip", &["nfs"]), (access_type, &["nfs"])];
            for ips in [&["10.0.0.5"][..], &[]] {
                if ips.is_empty() != (access_type == "ip") {
                    continue;
                }
                for (_, grant) in grants(&migration(sides, sides), &identity(ips, None, None)) {
                    assert_eq!(grant.refused.as_deref(), Some(expected));
                    assert!(grant.rules.is_empty());
                }
            }
        };
        check("ip", "Configuration for Data node mounting access type ip has not been set.");
        check("cert", "Unsupported access type provided: cert.");
        check("user", "Unsupported access type provided: user.");
        check("cephx", "Unsupported access type provided: cephx.");
    }

    #[test]
    fn holds_of_other_versions_are_not_guessed_at() {
        assert!(Grant::of("").is_err());
        let grant = Grant { version: 2, share: "s".into(), instance: "i".into(), refused: None, rules: Vec::new() };
        assert!(Grant::of(&serde_json::to_string(&grant).unwrap()).unwrap_err().contains("version 2"));
    }

    #[test]
    fn the_stored_form_stays() {
        let stored = r#"{"version":1,"share":"s","instance":"i","rules":[{"rule":"r","mapping":"m","type":"ip","to":"10.0.0.5"}]}"#;
        assert_eq!(serde_json::to_string(&Grant::of(stored).unwrap()).unwrap(), stored);
    }
}
