//! The machine as a table and at random, and the service against strict fakes of its ports in virtual time.

mod crash;
mod doors;
mod fake;
mod faults;
mod files;
mod following;
mod machine_random;
mod machine_table;
mod migration;
mod nodes;
mod queueing;
mod schedules;
mod stopping;
