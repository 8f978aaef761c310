//! Keeps, checks, restores and deletes backups of file trees, in two formats.
//!
//! [`directory`] is the one of Manila's own driver: a backup is a directory of files. [`restic`] is a restic
//! repository: incremental, deduplicated, compressed, encrypted. Both read and write trees through the ports of the
//! engine alone, so that its rules hold here too, and both answer with the engine's report.
//!
//! Knows nothing of jobs, mounts and processes; every function blocks until it is done.

pub mod directory;
pub mod restic;
