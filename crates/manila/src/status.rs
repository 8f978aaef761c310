//! Words of `share_backups.status` and, for backups, of `share_instances.status`.

pub const CREATING: &str = "creating";
pub const AVAILABLE: &str = "available";
pub const ERROR: &str = "error";
pub const RESTORING: &str = "restoring";
pub const DELETING: &str = "deleting";
pub const ERROR_DELETING: &str = "error_deleting";
pub const DELETED: &str = "deleted";

/// Of the instance of a share that is being backed up.
pub const BACKUP_CREATING: &str = "backup_creating";
/// Of the instance of a share that is being restored.
pub const BACKUP_RESTORING: &str = "backup_restoring";
pub const BACKUP_RESTORING_ERROR: &str = "backup_restoring_error";
