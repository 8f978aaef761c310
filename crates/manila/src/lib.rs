//! Manila's words, spoken nowhere else: its requests, its tables, its statuses, its access rules, its heartbeat.

pub mod database;

pub use database::Database;
