//! The table of all options: what is read, shown, sampled and documented comes from here.

use oslo::config::{Kind, OptionDef};

use super::Mode;

pub const DEFAULT: &str = oslo::config::DEFAULT;
pub const DATA_SERVICE: &str = "data_service";
pub const API: &str = "api";
/// `[hook:NAME]`
pub const HOOK_PREFIX: &str = "hook:";
/// `[repository:NAME]`
pub const REPOSITORY_PREFIX: &str = "repository:";
/// `[schedule:NAME]`
pub const SCHEDULE_PREFIX: &str = "schedule:";

/// Where clients look for the service.
pub const DEFAULT_SOCKET: &str = "/run/manila-data/api.sock";

const fn int(min: i64, max: i64) -> Kind {
    Kind::Int { min, max }
}

/// A century is for ever.
const DAYS: Kind = int(0, 36_500);

pub const OPTIONS: [OptionDef; 36] = [
    OptionDef::new(DEFAULT, "host", Kind::Str)
        .help("Name of this service, which owns its jobs. It must stay the same over restarts, and be another one for each \
         service that shares a job store. Not set: the machine's host name."),
    OptionDef::new(DEFAULT, "state_path", Kind::Str)
        .default("/var/lib/manila-data")
        .help("Directory of jobs, reports and mount points: on a local file system, owned by the service's user, mode 0700."),
    OptionDef::new(DEFAULT, "log_file", Kind::Str)
        .help("File of the log, relative to log_dir. SIGHUP opens it again. Not set: standard error, unless log_dir is set."),
    OptionDef::new(DEFAULT, "log_dir", Kind::Str)
        .help("Directory of the log file; alone it means a file named manila-data.log in it."),
    OptionDef::new(DEFAULT, "debug", Kind::Bool)
        .default("false")
        .help("Logs what happens inside, too."),
    OptionDef::new(DEFAULT, "use_json", Kind::Bool)
        .default("false")
        .help("Logs a JSON object on each line instead of text."),
    OptionDef::new(DEFAULT, "log_levels", Kind::List)
        .default("")
        .help("Levels for single parts of the program, TARGET=LEVEL each: job=debug, web=warn."),
    OptionDef::new(DEFAULT, "otlp_endpoint", Kind::Str)
        .help("Collector of traces (OTLP over HTTP): http://127.0.0.1:4318. Only builds with the feature `otlp` send any. Not \
         set: none are sent."),
    OptionDef::new(DEFAULT, "otlp_sample_ratio", Kind::Float)
        .default("1.0")
        .help("Which share of all traces is sent, from 0.0 to 1.0."),
    OptionDef::new(DATA_SERVICE, "job_store", Kind::Str)
        .default("$state_path/jobs.sqlite")
        .help("Where jobs are kept: a file on a local file system."),
    OptionDef::new(DATA_SERVICE, "jobs_max", int(1, 1024))
        .default("4")
        .help("Jobs that run at the same time."),
    OptionDef::new(DATA_SERVICE, "jobs_per_host_max", int(0, 1024))
        .default("2")
        .help("Jobs that use the same storage host at the same time. 0: no limit but jobs_max."),
    OptionDef::new(DATA_SERVICE, "queue_max", int(1, 1_000_000))
        .default("10000")
        .help("Jobs that wait; requests beyond are refused."),
    OptionDef::new(DATA_SERVICE, "bandwidth_limit", Kind::Str)
        .help("Bytes a second of a job that names no limit: 100MiB. Not set: no limit."),
    OptionDef::new(DATA_SERVICE, "stop_grace_seconds", int(1, 600))
        .default("10")
        .help("How long a worker has to come to an end when its job is stopped; then it is killed."),
    OptionDef::new(DATA_SERVICE, "lease_seconds", int(10, 3600))
        .default("30")
        .help("How long jobs stay with a service that gives no sign of life. Workers stop when two thirds of it have passed \
         without one."),
    OptionDef::new(DATA_SERVICE, "sandbox", Kind::Str)
        .default("auto")
        .help("Shuts workers in (Landlock, seccomp, few capabilities): as far as the kernel can (auto), refusing jobs where it \
         cannot (required), or not at all (off)."),
    OptionDef::new(DATA_SERVICE, "mount_helpers", Kind::List)
        .default("mount, mount.*, umount, umount.*, ceph-fuse, glusterfs, bindfs, sshfs, fusermount, fusermount3")
        .help(
            "Programs that mount commands and mounts of FUSE types may run: names that are looked up in the system's \
             directories, and absolute paths.",
        ),
    OptionDef::new(DATA_SERVICE, "mount_timeout_seconds", int(1, 3600))
        .default("60")
        .help("How long mounting one tree may take; then the helper is killed and the job fails."),
    OptionDef::new(DATA_SERVICE, "allowed_roots", Kind::List)
        .help("Directories that jobs on directories may work in. Not set: anywhere for callers of the unix socket, nowhere for \
         those of TCP."),
    OptionDef::new(DATA_SERVICE, "report_keep_days", DAYS)
        .default("90")
        .help("Reports of jobs that ended longer ago are removed. 0: kept."),
    OptionDef::new(DATA_SERVICE, "report_keep_bytes", Kind::Str)
        .default("10GiB")
        .help("Size of all reports together, beyond which the oldest are removed. 0: no bound."),
    OptionDef::new(DATA_SERVICE, "job_keep_days", DAYS)
        .default("90")
        .help("Jobs that ended longer ago are removed, with all that is left of them. 0: kept."),
    OptionDef::new(DATA_SERVICE, "event_keep_days", DAYS)
        .default("90")
        .help("Events that are older are removed, except those of jobs that have not ended. 0: kept."),
    OptionDef::new(API, "socket", Kind::Str)
        .default(DEFAULT_SOCKET)
        .help("Unix socket of the REST interface, mode 0600: who may open it may do everything. Empty: none."),
    OptionDef::new(API, "listen", Kind::Str)
        .help("Address and port of the REST interface over TCP: 0.0.0.0:8443. Not set: none."),
    OptionDef::new(API, "tls_cert", Kind::Str)
        .help("PEM file with the certificate for TCP, and what leads to its authority."),
    OptionDef::new(API, "tls_key", Kind::Str)
        .help("PEM file with the key of the certificate."),
    OptionDef::new(API, "tokens_file", Kind::Str)
        .default("$state_path/tokens")
        .help("File of the tokens that TCP needs, mode 0600. `manila-data token` changes it, SIGHUP reads it again."),
    OptionDef::new(API, "allow_plain", Kind::Bool)
        .default("false")
        .help("Speaks TCP without TLS also on addresses that other machines reach. Tokens can then be overheard."),
    OptionDef::new(API, "allow_mounts", Kind::Bool)
        .default("false")
        .help("Lets callers of TCP name mounts and mount commands, which run here with the service's rights."),
    OptionDef::new(API, "metrics_public", Kind::Bool)
        .default("false")
        .help("Serves /metrics over TCP without a token."),
    OptionDef::new(API, "body_bytes_max", Kind::Str)
        .default("1MiB")
        .help("The largest request."),
    OptionDef::new(API, "requests_per_second", int(1, 1_000_000))
        .default("200")
        .help("Requests of one caller, on average; five seconds' worth may come at once."),
    OptionDef::new(API, "webhook_secret", Kind::Str)
        .secret()
        .help("Key of the signature of webhooks that bring no key of their own. Not set: those are not signed."),
    OptionDef::new(API, "webhook_hosts", Kind::List)
        .help("Hosts that webhooks may go to, with the port where it is not the usual one. Not set: any."),
];

/// Tables of what upstream's own data service reads.
const UPSTREAM: [&[OptionDef]; 5] = [
    manila::settings::MANILA_OPTIONS,
    manila::database::DATABASE_OPTIONS,
    &oslo::messaging::rabbit::MESSAGING_OPTIONS,
    &oslo::messaging::rabbit::RABBIT_OPTIONS,
    oslo::log::LOG_OPTIONS,
];

/// Options of each `[hook:NAME]`.
pub const HOOK_OPTIONS: [OptionDef; 2] = [
    OptionDef::new(HOOK_PREFIX, "command", Kind::Str)
        .help("Program that makes the source of a migration read-only before the cutover, with fixed arguments. No shell is \
         used. MANILA_DATA_ACTION in its environment is `read-only` or `read-write`; MANILA_DATA_SOURCE, MANILA_DATA_DEST, \
             MANILA_DATA_JOB_ID and MANILA_DATA_JOB_NAME say of what."),
    OptionDef::new(HOOK_PREFIX, "timeout_seconds", int(1, 86_400))
        .default("60")
        .help("How long it may take; then it is killed."),
];

/// Options of each `[repository:NAME]`.
pub const REPOSITORY_OPTIONS: [OptionDef; 9] = [
    OptionDef::new(REPOSITORY_PREFIX, "location", Kind::Str).help(
        "A directory of this machine, `rest:https://HOST:PORT/PATH` or `s3:https://HOST/BUCKET/PATH`. Not set: the \
         repository is mounted, as mount_source says.",
    ),
    OptionDef::new(REPOSITORY_PREFIX, "format", Kind::Str).default("restic").help(
        "How backups lie in it: `restic`, or `directory` for a directory of files for each backup, as Manila's NFS \
         backup driver makes them.",
    ),
    OptionDef::new(REPOSITORY_PREFIX, "password_file", Kind::Str).help(
        "File whose first line opens the repository, mode 0600. It is read for each job. The format restic needs it.",
    ),
    OptionDef::new(REPOSITORY_PREFIX, "credentials_file", Kind::Str).help(
        "File whose first line is `USER:PASSWORD` for a REST server, or `ACCESS_KEY:SECRET_KEY` for S3, mode 0600. It \
         is read for each job.",
    ),
    OptionDef::new(REPOSITORY_PREFIX, "retention", Kind::Dict).help(
        "Which backups of each share stay when a prune job names none itself: `last:3, daily:7, monthly:12`, with the \
         words last, hourly, daily, weekly, monthly and yearly. Not set: all. Only for the format restic.",
    ),
    OptionDef::new(REPOSITORY_PREFIX, "mount_type", Kind::Str)
        .default("nfs")
        .help("What mount_source is, as `mount -t` takes it: nfs, cifs, ceph, ext4."),
    OptionDef::new(REPOSITORY_PREFIX, "mount_source", Kind::Str)
        .help("What is mounted for each job on this repository, as `mount` takes it: `host:/export`, `//host/share`."),
    OptionDef::new(REPOSITORY_PREFIX, "mount_options", Kind::List)
        .secret()
        .help("Options of that mount. Never shown, since passwords may be among them."),
    OptionDef::new(REPOSITORY_PREFIX, "mount_subdir", Kind::Str)
        .help("A directory below the mount that is the repository, instead of all of it."),
];

/// Options of each `[schedule:NAME]`.
pub const SCHEDULE_OPTIONS: [OptionDef; 6] = [
    OptionDef::new(SCHEDULE_PREFIX, "cron", Kind::Str).help(
        "When it fires: minute, hour, day of the month, month and day of the week, `30 2 * * mon-fri`; or @hourly, \
         @daily, @weekly, @monthly, @yearly.",
    ),
    OptionDef::new(SCHEDULE_PREFIX, "time_zone", Kind::Str)
        .help("Time zone of the cron expression: Europe/Vienna. Not set: the machine's own."),
    OptionDef::new(SCHEDULE_PREFIX, "jitter_seconds", int(0, 86_400)).default("0").help(
        "Each firing is made up to so much later, so that not everything begins at once; the same on every node.",
    ),
    OptionDef::new(SCHEDULE_PREFIX, "missed", Kind::Str).default("run").help(
        "What becomes of firings that passed while the service was away: `run` makes one job for all of them as soon as \
         possible, `skip` makes none. Both are told.",
    ),
    OptionDef::new(SCHEDULE_PREFIX, "job", Kind::Str).help(
        "File with the job that each firing makes, as JSON: what `jobs create --spec` takes. Mode 0600 where it has \
         secrets. It is read at the start, and again at SIGHUP.",
    ),
    OptionDef::new(SCHEDULE_PREFIX, "enabled", Kind::Bool).default("true").help("Whether it fires."),
];

/// Sections of which there may be any number, each with a name behind its prefix.
pub const NAMED: [(&str, &[OptionDef]); 3] =
    [(HOOK_PREFIX, &HOOK_OPTIONS), (REPOSITORY_PREFIX, &REPOSITORY_OPTIONS), (SCHEDULE_PREFIX, &SCHEDULE_OPTIONS)];

/// The options of a section with a name; `None` for any other section.
pub fn of_named(group: &str) -> Option<&'static [OptionDef]> {
    NAMED.into_iter().find_map(|(prefix, options)| group.starts_with(prefix).then_some(options))
}

/// Options whose new value SIGHUP brings into force. All others need a restart.
pub const RELOADED: [(&str, &str); 19] = [
    (DEFAULT, "log_file"),
    (DEFAULT, "log_dir"),
    (DEFAULT, "debug"),
    (DEFAULT, "log_levels"),
    (DATA_SERVICE, "jobs_max"),
    (DATA_SERVICE, "jobs_per_host_max"),
    (DATA_SERVICE, "queue_max"),
    (DATA_SERVICE, "bandwidth_limit"),
    (DATA_SERVICE, "report_keep_days"),
    (DATA_SERVICE, "report_keep_bytes"),
    (DATA_SERVICE, "job_keep_days"),
    (DATA_SERVICE, "event_keep_days"),
    (API, "tls_cert"),
    (API, "tls_key"),
    (API, "tokens_file"),
    (API, "allow_mounts"),
    (API, "metrics_public"),
    (API, "body_bytes_max"),
    (API, "requests_per_second"),
];

/// Whether SIGHUP brings a new value into force.
pub fn is_reloaded(group: &str, name: &str) -> bool {
    group.starts_with(SCHEDULE_PREFIX) || RELOADED.contains(&(group, name))
}

/// Defaults that are others beside Manila's services, whose state directory everybody may look into.
const BESIDE_MANILA: [(&str, &str, &str); 2] = [
    (DATA_SERVICE, "job_store", "$state_path/manila-data/jobs.sqlite"),
    (API, "tokens_file", "$state_path/manila-data/tokens"),
];

/// Every option that is read in this mode. Where upstream and we have one of the same name, it is upstream's.
pub fn of(mode: Mode) -> Vec<OptionDef> {
    if mode == Mode::Standalone {
        return OPTIONS.to_vec();
    }
    let mut options: Vec<OptionDef> = UPSTREAM.concat();
    for mut option in OPTIONS {
        if options.iter().any(|known| (known.group, known.name) == (option.group, option.name)) {
            continue;
        }
        let other = BESIDE_MANILA.iter().find(|(group, name, _)| (*group, *name) == (option.group, option.name));
        if let Some((.., default)) = other {
            option.default = Some(default);
        }
        options.push(option);
    }
    options
}
