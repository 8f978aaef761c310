//! Failures as Manila's services know them: `manila.exception`, with upstream's texts.

use oslo::messaging::Failure;

const MODULE: &str = "manila.exception";

/// A share, or an instance of it, that is not there.
pub(crate) fn not_found() -> Failure {
    Failure::new(MODULE, "NotFound", "Resource could not be found.").kwarg("code", 404)
}

pub(crate) fn no_progress(share_id: &str) -> Failure {
    invalid_share(format!("Migration of share {share_id} data copy progress cannot be obtained at this moment."))
}

pub(crate) fn not_cancellable(share_id: &str) -> Failure {
    invalid_share(format!("Data copy for migration of share {share_id} cannot be cancelled at this moment."))
}

fn invalid_share(reason: String) -> Failure {
    // The dot that ends the template is not doubled: upstream's constructor sees to that.
    Failure::new(MODULE, "InvalidShare", format!("Invalid share: {reason}")).kwarg("reason", reason).kwarg("code", 400)
}

pub(crate) fn copy_failed(source_instance_id: &str, dest_instance_id: &str) -> Failure {
    let reason = format!("Failed to copy contents from instance {source_instance_id} to instance {dest_instance_id}.");
    Failure::new(MODULE, "ShareDataCopyFailed", format!("Share Data copy failed: {reason}"))
        .kwarg("reason", reason)
        .kwarg("code", 500)
}

/// A backup that is not there.
pub(crate) fn backup_not_found(backup_id: &str) -> Failure {
    Failure::new(MODULE, "ShareBackupNotFound", format!("Backup {backup_id} could not be found."))
        .kwarg("backup_id", backup_id)
        .kwarg("code", 404)
}

pub(crate) fn backup_failed(reason: &str) -> Failure {
    Failure::new(MODULE, "BackupException", format!("Unable to perform a backup action: {reason}."))
        .kwarg("reason", reason)
        .kwarg("code", 500)
}
