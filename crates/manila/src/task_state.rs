//! Words of `shares.task_state` that the data service writes or waits for.

/// The share manager has asked for the copy.
pub const MIGRATION_IN_PROGRESS: &str = "migration_in_progress";
/// What the share manager leaves at the end of a migration.
pub const MIGRATION_SUCCESS: &str = "migration_success";
pub const MIGRATION_ERROR: &str = "migration_error";
pub const MIGRATION_CANCELLED: &str = "migration_cancelled";
pub const DATA_COPYING_STARTING: &str = "data_copying_starting";
pub const DATA_COPYING_IN_PROGRESS: &str = "data_copying_in_progress";
pub const DATA_COPYING_COMPLETING: &str = "data_copying_completing";
pub const DATA_COPYING_COMPLETED: &str = "data_copying_completed";
pub const DATA_COPYING_CANCELLED: &str = "data_copying_cancelled";
pub const DATA_COPYING_ERROR: &str = "data_copying_error";

/// A data service is at work on the share.
pub const COPYING: [&str; 3] = [DATA_COPYING_STARTING, DATA_COPYING_IN_PROGRESS, DATA_COPYING_COMPLETING];
