//! Names of tables and columns, so that each is spelled once.

pub(crate) mod jobs {
    pub(crate) const TABLE: &str = "jobs";
    pub(crate) const ID: &str = "id";
    pub(crate) const VERSION: &str = "version";
    pub(crate) const GENERATION: &str = "generation";
    pub(crate) const OWNER: &str = "owner";
    pub(crate) const LEASE_UNTIL_MS: &str = "lease_until_ms";
    pub(crate) const STATE: &str = "state";
    pub(crate) const KIND: &str = "kind";
    pub(crate) const NAME: &str = "name";
    pub(crate) const REQUESTER: &str = "requester";
    pub(crate) const PRIORITY: &str = "priority";
    pub(crate) const CREATED_AT_NS: &str = "created_at_ns";
    pub(crate) const SPEC_VERSION: &str = "spec_version";
    pub(crate) const SPEC: &str = "spec";
    pub(crate) const SECRETS: &str = "secrets";
    pub(crate) const RECORD_VERSION: &str = "record_version";
    pub(crate) const RECORD: &str = "record";
    pub(crate) const DELIVERY_TRIES: &str = "delivery_tries";
    pub(crate) const DELIVERY_NEXT_AT_NS: &str = "delivery_next_at_ns";
    pub(crate) const DELIVERY_LAST_ERROR: &str = "delivery_last_error";
}

pub(crate) mod progress {
    pub(crate) const TABLE: &str = "progress";
    pub(crate) const JOB_ID: &str = "job_id";
    pub(crate) const PROGRESS: &str = "progress";
}

pub(crate) mod events {
    pub(crate) const TABLE: &str = "events";
    pub(crate) const SEQ: &str = "seq";
    pub(crate) const JOB_ID: &str = "job_id";
    pub(crate) const AT_NS: &str = "at_ns";
    pub(crate) const KIND: &str = "kind";
    pub(crate) const STATE: &str = "state";
    pub(crate) const MESSAGE: &str = "message";
}

pub(crate) mod requests {
    pub(crate) const TABLE: &str = "requests";
    pub(crate) const REQUESTER: &str = "requester";
    pub(crate) const REQUEST_KEY: &str = "request_key";
    pub(crate) const FINGERPRINT: &str = "fingerprint";
    pub(crate) const JOB_ID: &str = "job_id";
}

/// Which migrations a database has seen.
pub(crate) const SCHEMA_VERSIONS: &str = "schema_versions";
