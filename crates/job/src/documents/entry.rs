//! Lines of a report: one for each entry.

use copy::{Action, EntryKind, EntryRecord, FsError, Mover};
use serde::Serialize;

use super::{JsonPath, SCHEMA_VERSION};

/// A line of a report file.
#[derive(Debug, Serialize)]
pub struct ReportLine<'a, T> {
    r#type: &'static str,
    schema_version: u32,
    #[serde(flatten)]
    body: &'a T,
}

impl<'a, T: Serialize> ReportLine<'a, T> {
    /// The line with its end.
    pub fn line(r#type: &'static str, body: &'a T) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(&Self { r#type, schema_version: SCHEMA_VERSION, body })?;
        line.push(b'\n');
        Ok(line)
    }
}

/// What became of one entry.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    #[serde(flatten)]
    path: JsonPath<'a>,
    kind: Option<&'static str>,
    action: Option<&'static str>,
    mover: Option<&'static str>,
    size_bytes: u64,
    copied_bytes: u64,
    checksum: Option<Checksum>,
    losses: Vec<&'static str>,
    differences: Vec<&'static str>,
    fault: Option<EntryFault>,
}

#[derive(Debug, Serialize)]
struct Checksum {
    algorithm: &'static str,
    digest: String,
}

#[derive(Debug, Serialize)]
struct EntryFault {
    operation: &'static str,
    class: &'static str,
    /// 0 where the engine found the fault without the kernel.
    errno: i32,
    reason: String,
}

impl<'a> From<&'a EntryRecord> for Entry<'a> {
    fn from(record: &'a EntryRecord) -> Self {
        Self {
            path: JsonPath(&record.path),
            kind: record.kind.map(EntryKind::as_str),
            action: record.action.map(Action::as_str),
            mover: record.mover.map(Mover::as_str),
            size_bytes: record.size_bytes,
            copied_bytes: record.copied_bytes,
            checksum: record.checksum.map(|sum| Checksum { algorithm: sum.kind.as_str(), digest: sum.to_string() }),
            losses: record.losses.iter().map(|kind| kind.as_str()).collect(),
            differences: record.differences.iter().map(|kind| kind.as_str()).collect(),
            fault: record.error.as_ref().map(|error| {
                let FsError { op, class, errno } = *error;
                EntryFault { operation: op.as_str(), class: class.as_str(), errno, reason: error.reason() }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use copy::{DifferenceKind, ErrorClass, FsOp, HashKind, LossKind, RelPath};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_entry_has_all_its_fields() {
        let record = EntryRecord {
            path: RelPath::parse(b"a\xff").expect("a path"),
            kind: Some(EntryKind::File),
            action: Some(Action::Created),
            mover: Some(Mover::Buffered),
            size_bytes: 5,
            mtime: None,
            copied_bytes: 5,
            checksum: Some(copy::BlockSum::default().finish(5)),
            losses: vec![LossKind::Owner],
            differences: vec![DifferenceKind::Mode],
            error: Some(FsError { op: FsOp::SetOwner, class: ErrorClass::Denied, errno: 1 }),
        };
        let line = ReportLine::line("entry", &Entry::from(&record)).expect("encodes");
        assert_eq!(line.split_inclusive(|b| *b == b'\n').count(), 1, "one line");
        let digest = record.checksum.map(|sum| sum.to_string());
        assert_eq!(
            serde_json::from_slice::<Value>(&line).expect("JSON"),
            json!({
                "type": "entry", "schema_version": 1, "path_hex": "61ff", "kind": "file", "action": "created",
                "mover": "buffered", "size_bytes": 5, "copied_bytes": 5,
                "checksum": { "algorithm": HashKind::Xxh3Blocks.as_str(), "digest": digest },
                "losses": ["owner"], "differences": ["mode"],
                "fault": {
                    "operation": "set_owner", "class": "denied", "errno": 1, "reason": "operation not permitted",
                },
            })
        );
    }
}
