//! Backups of a repository as people and programs read them.

use std::collections::BTreeSet;

use backup::directory::{Listed, Proof};
use backup::restic::{Kept, Snapshot};
use copy::escape;
use jiff::Timestamp;
use serde::Serialize;

use super::summary::row;
use super::table::table;
use super::units::{Bytes, counted};

/// One backup, whatever the format of its repository. What is not known is left out.
#[derive(Debug, Serialize)]
pub struct Backup {
    /// The name of its directory, or the identifier of its snapshot.
    pub id: String,
    /// `complete`, `partial`, `being-deleted` or `leftover`.
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The name that a snapshot was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub paths: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Of its files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What the repository grew by when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added_bytes: Option<u64>,
    /// Entries that could not be read when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faults: Option<u64>,
    /// Whether a check can prove it: `yes`, `no` (another program made it) or why its manifest is of no use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
}

impl From<&Snapshot> for Backup {
    fn from(snapshot: &Snapshot) -> Self {
        let summary = snapshot.summary;
        Self {
            id: snapshot.id.to_string(),
            state: "complete",
            time: Some(snapshot.time),
            name: snapshot.name().map(ToOwned::to_owned),
            share: snapshot.share().map(ToOwned::to_owned),
            host: Some(snapshot.host.clone()),
            paths: snapshot.paths.clone(),
            tags: snapshot.tags.clone(),
            parent: snapshot.parent.map(|parent| parent.to_string()),
            program: Some(snapshot.program.clone()).filter(|program| !program.is_empty()),
            entries: summary.map(|summary| summary.total_files_processed + summary.total_dirs_processed),
            bytes: summary.map(|summary| summary.total_bytes_processed),
            added_bytes: summary.map(|summary| summary.data_added_packed),
            faults: None,
            manifest: None,
        }
    }
}

impl From<&Listed> for Backup {
    fn from(listed: &Listed) -> Self {
        let manifest = listed.proof.manifest();
        Self {
            id: listed.id.to_string(),
            state: listed.state.as_str(),
            time: manifest.and_then(|manifest| Timestamp::try_from(manifest.made_at).ok()),
            name: None,
            share: None,
            host: None,
            paths: BTreeSet::new(),
            tags: BTreeSet::new(),
            parent: None,
            program: None,
            entries: manifest.map(|manifest| manifest.entries),
            bytes: manifest.map(|manifest| manifest.bytes),
            added_bytes: None,
            faults: manifest.map(|manifest| manifest.faults),
            manifest: Some(match &listed.proof {
                Proof::Manifest { .. } => "yes".into(),
                Proof::None => "no".into(),
                Proof::Damaged(why) => why.clone(),
            }),
        }
    }
}

/// One line each.
pub fn table_of(backups: &[Backup]) -> String {
    let is_restic = backups.iter().any(|backup| backup.host.is_some());
    let text = |text: &Option<String>| text.as_deref().map(shown).unwrap_or_default();
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| Bytes(bytes).to_string()).unwrap_or_default();
    if is_restic {
        let rows = backups.iter().map(|backup| {
            let of: Vec<_> = backup.paths.iter().map(|path| shown(path)).collect();
            vec![
                short(&backup.id),
                backup.time.map(moment).unwrap_or_default(),
                text(&backup.name),
                text(&backup.share),
                text(&backup.host),
                bytes(backup.bytes),
                of.join(", "),
            ]
        });
        return table(&["SNAPSHOT", "TIME", "NAME", "SHARE", "HOST", "SIZE", "PATH"], rows);
    }
    let rows = backups.iter().map(|backup| {
        vec![
            shown(&backup.id),
            backup.state.to_owned(),
            backup.time.map(moment).unwrap_or_default(),
            backup.entries.map(|entries| entries.to_string()).unwrap_or_default(),
            bytes(backup.bytes),
        ]
    });
    table(&["BACKUP", "STATE", "TIME", "ENTRIES", "SIZE"], rows)
}

/// Everything that is known of one.
pub fn details(backup: &Backup) -> Vec<String> {
    let mut lines = vec![format!("backup {}: {}", shown(&backup.id), backup.state)];
    let mut add = |label: &str, text: Option<String>| lines.extend(text.map(|text| row(label, &shown(&text))));
    let list = |texts: &BTreeSet<String>| {
        (!texts.is_empty()).then(|| texts.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
    };
    add("made", backup.time.map(moment));
    add("name", backup.name.clone());
    add("share", backup.share.clone());
    add("of", list(&backup.paths));
    add("host", backup.host.clone());
    add("tags", list(&backup.tags));
    add("parent", backup.parent.clone());
    add("by", backup.program.clone());
    add(
        "holds",
        backup
            .entries
            .zip(backup.bytes)
            .map(|(entries, bytes)| format!("{}, {}", counted(entries, "entry"), Bytes(bytes))),
    );
    add("added", backup.added_bytes.map(|bytes| Bytes(bytes).to_string()));
    add(
        "faults",
        backup
            .faults
            .filter(|faults| *faults > 0)
            .map(|faults| format!("{} could not be read, and is not in it", counted(faults, "entry"))),
    );
    add("manifest", backup.manifest.clone());
    lines
}

/// What retention says of each snapshot.
pub fn judged_lines(judged: &[Kept]) -> Vec<String> {
    let line = |one: &Kept| {
        let word = if one.is_kept { "keep" } else { "remove" };
        let reasons = one.reasons.join(", ");
        format!("{word:<7} {} {} {}", one.snapshot.id.short(), moment(one.snapshot.time), shown(&reasons))
            .trim_end()
            .to_owned()
    };
    judged.iter().map(line).collect()
}

fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Text of other people, safe to print.
fn shown(text: &str) -> String {
    escape(text.as_bytes())
}
