//! Migrations and backups as Manila asks for them, with its other parts and the work played by fakes, in virtual time.

mod backup_requests;
mod backups;
mod ending;
mod fake;
mod flows;
mod lost;
mod requests;
mod service;
mod startup;
