//! Migrations as Manila asks for them, with its other parts and the work played by fakes, in virtual time.

mod ending;
mod fake;
mod flows;
mod requests;
mod service;
mod startup;
