-- Jobs, what happened to them, and which requests made them.
--
-- Times are nanoseconds since 1970 (`_ns`), but for leases, which the database's own clock measures in milliseconds.
-- A migration that was released is never changed: the next one comes after it.

CREATE TABLE jobs (
    -- A UUID of version 7: the order of the identifiers is the order of making.
    id TEXT NOT NULL PRIMARY KEY,
    -- Raised by each save and each claim; a writer names the one that it saw.
    version INTEGER NOT NULL,
    -- Raised by each claim: work of an older one is void.
    generation INTEGER NOT NULL,
    owner TEXT,
    lease_until_ms INTEGER,
    state TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT,
    requester TEXT NOT NULL,
    priority INTEGER NOT NULL,
    created_at_ns INTEGER NOT NULL,
    -- The specification with its secrets masked, and the secrets apart from it for as long as they are needed.
    spec_version INTEGER NOT NULL,
    spec TEXT NOT NULL,
    secrets TEXT,
    -- Everything else, as JSON.
    record_version INTEGER NOT NULL,
    record TEXT NOT NULL,
    -- How far the answer to the job's end is on its way.
    delivery_tries INTEGER NOT NULL DEFAULT 0,
    delivery_next_at_ns INTEGER,
    delivery_last_error TEXT
) STRICT;

CREATE INDEX jobs_by_state ON jobs (state, id);
CREATE INDEX jobs_by_name ON jobs (name, id);
CREATE INDEX jobs_by_requester ON jobs (requester, id);
CREATE INDEX jobs_by_delivery ON jobs (delivery_next_at_ns);

-- Apart from the job, so that a look at the figures is no new version of it.
CREATE TABLE progress (
    job_id TEXT NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    progress TEXT
) STRICT;

CREATE TABLE events (
    -- AUTOINCREMENT: the number of an event that was removed is never given again.
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    at_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;

CREATE INDEX events_by_job ON events (job_id, seq);
CREATE INDEX events_by_time ON events (at_ns);

-- Requests that may be sent again and still make one job.
CREATE TABLE requests (
    requester TEXT NOT NULL,
    request_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (requester, request_key)
) STRICT;

CREATE INDEX requests_by_job ON requests (job_id);
