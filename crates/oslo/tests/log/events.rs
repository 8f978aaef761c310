//! The events of `expected.py`, as tracing has them. Each answers the line of the code where it is.

use tracing::{debug, error, info, info_span, trace, warn};

const TARGET: &str = "manila::data::manager";

pub(crate) fn emit(name: &str) -> u32 {
    match name {
        "plain" => {
            info!(target: TARGET, "Copy of share {} has ended", "s1");
            line!() - 1
        }
        "letters" => {
            warn!(target: TARGET, "Größe \"x\" 100% \\n 😀");
            line!() - 1
        }
        "request" => within_request(|| {
            info!(target: TARGET, "Data copy completed.");
            line!() - 1
        }),
        "debug" => within_request(|| {
            debug!(target: TARGET, "Received request");
            line!() - 1
        }),
        "request_global" => {
            // Outer and inner spans, names of both kinds, a value that comes later.
            let outer = info_span!("request", request_id = "req-1", user = "other", project = tracing::field::Empty);
            outer.record("project", "p1");
            let _outer = outer.entered();
            let _inner = info_span!("nested", user_id = "u1", global_request_id = "req-0", is_admin = true).entered();
            error!(target: TARGET, "Cannot mount");
            line!() - 1
        }
        "resource" => {
            let _span = info_span!("resource", request_id = %"req-1", resource_uuid = %"r1").entered();
            info!(target: TARGET, "Access rule added");
            line!() - 1
        }
        "instance" => {
            info!(target: TARGET, instance_uuid = "i1", "Access rule added");
            line!() - 1
        }
        "failed" => {
            error!(target: TARGET, error = "Timeout: the line is dead", "Cannot reach the broker");
            line!() - 1
        }
        "critical" => {
            error!(target: TARGET, critical = true, "Unhandled error");
            line!() - 1
        }
        "trace" => {
            trace!(target: TARGET, "A byte");
            line!() - 1
        }
        "fields" => {
            info!(target: TARGET, number = 7, text = "two words", flag = true, ratio = 0.5, "With fields");
            line!() - 1
        }
        other => panic!("no event `{other}`"),
    }
}

fn within_request(run: impl FnOnce() -> u32) -> u32 {
    let span = info_span!(
        "migration_start",
        request_id = "req-8590babe",
        user_id = "u1",
        project_id = "p1",
        domain_id = "d1",
        user_domain_id = "ud1",
        project_domain_id = "pd1",
        user_name = "alice",
        project_name = "demo",
        global_request_id = "",
    );
    span.in_scope(run)
}
