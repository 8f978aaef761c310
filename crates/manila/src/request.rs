//! What a `migration_start` brings, checked, and the job that it becomes.

use job::spec::{Hash, OnFault, OnLoss, Verify};
use job::{Endpoint, JobSpec, Kind};
use oslo::messaging::{Arguments, Context, Failure};
use serde_json::{Map, Value};
use tracing::warn;

use crate::failures;
use crate::lock::is_plain_id;
use crate::migration::{AccessMapping, Migration};
use crate::settings::Settings;
use crate::template;

/// Parameters of upstream's method, in its order, which shows in the text about missing ones.
const PARAMETERS: [&str; 6] = [
    "ignore_list",
    "share_id",
    "share_instance_id",
    "dest_share_instance_id",
    "connection_info_src",
    "connection_info_dest",
];

/// A request whose identifiers are sound. What else it says is checked once it is known whose migration fails by it.
#[derive(Clone, PartialEq)]
pub(crate) struct MigrationStart {
    pub(crate) share_id: String,
    pub(crate) source_instance_id: String,
    pub(crate) dest_instance_id: String,
    ignore_list: Value,
    source: Value,
    dest: Value,
}

/// How one side is reached, as the driver of its back end says.
struct ConnectionInfo {
    mount: String,
    unmount: String,
    access: AccessMapping,
}

impl MigrationStart {
    pub(crate) fn read(args: Map<String, Value>) -> Result<Self, Failure> {
        let mut args = Arguments::bind("DataManager.migration_start", args, &PARAMETERS, &[])?;
        let mut id = |name| Ok(args.string(name)?).and_then(|id| checked_id(id).ok_or_else(failures::not_found));
        Ok(Self {
            share_id: id("share_id")?,
            source_instance_id: id("share_instance_id")?,
            dest_instance_id: id("dest_share_instance_id")?,
            ignore_list: args.value("ignore_list"),
            source: args.value("connection_info_src"),
            dest: args.value("connection_info_dest"),
        })
    }

    /// What names the request among others with the same message identifier. It is stored: nothing of the mount
    /// commands, which may hold secrets, is in it.
    pub(crate) fn fingerprint(&self) -> String {
        [self.share_id.as_str(), &self.source_instance_id, &self.dest_instance_id].join("/")
    }

    /// Whether it asks for that very migration.
    pub(crate) fn asks_for(&self, migration: &Migration) -> bool {
        (&self.share_id, &self.source_instance_id, &self.dest_instance_id)
            == (&migration.share_id, &migration.source_instance_id, &migration.dest_instance_id)
    }

    /// The job, and what is to be remembered with it; or what is wrong with the request, without secrets.
    pub(crate) fn into_job(
        self,
        share_proto: Option<&str>,
        context: &Context,
        settings: &Settings,
    ) -> Result<(JobSpec, Migration), String> {
        let source = ConnectionInfo::read("connection_info_src", self.source)?;
        let dest = ConnectionInfo::read("connection_info_dest", self.dest)?;
        let protocol = share_proto.unwrap_or_default().to_ascii_lowercase();
        let options = settings.data_node_mount_options.get(&protocol).map(String::as_str).unwrap_or_default();
        let mut spec = JobSpec::new(Kind::Copy, endpoint(&source, options), endpoint(&dest, options));
        spec.name = Some(Migration::job_name(&self.share_id));
        spec.options.ignore = names(self.ignore_list)?;
        spec.options.on_fault = OnFault::Stop;
        spec.options.on_loss = OnLoss::Report;
        if settings.check_hash {
            spec.options.verify = Some(Verify::Content);
            spec.options.hash = Hash::Sha256;
        }
        let migration = Migration {
            share_id: self.share_id,
            source_instance_id: self.source_instance_id,
            dest_instance_id: self.dest_instance_id,
            source_access: source.access,
            dest_access: dest.access,
            context: context.without_secrets(),
        };
        Ok((spec, migration))
    }
}

/// Identifiers of Manila are UUIDs. Whatever may be part of a path, a line of a log or a row's key passes.
pub(crate) fn checked_id(id: String) -> Option<String> {
    is_plain_id(&id).then_some(id)
}

/// Names to leave out. No list is an empty one (upstream fails over it).
fn names(list: Value) -> Result<Vec<String>, String> {
    let list = match list {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        _ => return Err("ignore_list is not a list of names".into()),
    };
    let mut names = Vec::new();
    for item in list {
        let Value::String(name) = item else { return Err("ignore_list holds something that is no name".into()) };
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            // No entry can be called so: upstream ignores nothing by it either.
            warn!(
                name,
                "ignore_list names what no file is called; left out (see migration_ignore_files of the back end)"
            );
        } else {
            names.push(name);
        }
    }
    Ok(names)
}

impl ConnectionInfo {
    fn read(argument: &str, value: Value) -> Result<Self, String> {
        let Value::Object(mut info) = value else { return Err(format!("{argument} is not an object")) };
        let mut text = |key: &str| match info.remove(key) {
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
            Some(_) => Err(format!("`{key}` of {argument} is not a command")),
            None => Err(format!("{argument} has no `{key}`")),
        };
        let (mount, unmount) = (text("mount")?, text("unmount")?);
        let access = match info.remove("access_mapping") {
            None | Some(Value::Null) => AccessMapping::new(),
            Some(mapping) => access_mapping(mapping)
                .ok_or_else(|| format!("`access_mapping` of {argument} does not map access types to protocols"))?,
        };
        Ok(Self { mount, unmount, access })
    }
}

fn access_mapping(mapping: Value) -> Option<AccessMapping> {
    let Value::Object(mapping) = mapping else { return None };
    let protocols = |value: Value| match value {
        Value::Array(list) => {
            list.into_iter().map(|protocol| Some(protocol.as_str()?.to_ascii_lowercase())).collect::<Option<Vec<_>>>()
        }
        _ => None,
    };
    mapping.into_iter().map(|(access_type, value)| Some((access_type, protocols(value)?))).collect()
}

fn endpoint(info: &ConnectionInfo, options: &str) -> Endpoint {
    template::endpoint(template::quoted(&info.mount), &template::quoted(&info.unmount), options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_identifiers_are_identifiers() {
        for id in ["", "a/b", "..", "a b", "a\n", "é", "a_b", &"a".repeat(37)] {
            assert_eq!(checked_id(id.into()), None, "{id:?}");
        }
        let id = "5a5e0000-0000-4000-8000-000000000001";
        assert_eq!(checked_id(id.into()).as_deref(), Some(id));
    }
}
