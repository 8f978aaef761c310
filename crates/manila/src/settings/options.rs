//! The table of upstream's options for the data service, with those that have no meaning here and why.

use oslo::config::{DEFAULT, Kind, OptionDef};

const DATA_SERVICE: &str = "data_service";
const CONCURRENCY: &str = "oslo_concurrency";
const QUOTA: &str = "quota";
const PROFILER: &str = "profiler";
const REPORTS: &str = "oslo_reports";

/// Seconds; a century is for ever.
const SECONDS: Kind = Kind::Int { min: 0, max: 3_155_760_000 };
const CLEANUP_SECONDS: Kind = Kind::Int { min: 300, max: 3_155_760_000 };

const PYTHON: &str = "it is about upstream's Python program";
const NO_REFRESH: &str = "usage is counted anew by the API, which checks limits by it";
const LIMITS_OF_THE_API: &str = "limits are checked by the API";
const NO_PROFILER: &str = "requests are traced by OpenTelemetry here, not by osprofiler";
const NO_REPORTS: &str = "there are no Guru Meditation reports; `manila-data doctor` and the log tell what is wrong";

const fn text(name: &'static str) -> OptionDef {
    OptionDef::new(DEFAULT, name, Kind::Str)
}

const fn switch(name: &'static str) -> OptionDef {
    OptionDef::new(DEFAULT, name, Kind::Bool)
}

const fn seconds(name: &'static str) -> OptionDef {
    OptionDef::new(DEFAULT, name, SECONDS)
}

/// Every option of upstream's data service but those of messaging, database and log, which the code that connects and
/// logs defines. `host` and `state_path` are the service's as a whole, with upstream's defaults.
pub const MANILA_OPTIONS: &[OptionDef] = &[
    // ---- copying and mounting
    text("mount_tmp_location")
        .default("/tmp/")
        .help("Where progress says that files are. Mounts stand in a place of their own, which nobody else can see."),
    switch("check_hash")
        .default("false")
        .help("Compares the content of every file after the copy."),
    OptionDef::new(DEFAULT, "data_node_mount_options", Kind::Dict)
        .default("")
        .help("What `%(options)s` of a mount command becomes, by protocol: `nfs:-o nfsvers=4.1, cifs:-o vers=3.0`."),
    OptionDef::new(DEFAULT, "data_node_access_ips", Kind::List)
        .default("")
        .help("Addresses of this machine, or networks, that access rules of type `ip` let in."),
    text("data_node_access_cert").help("Whom access rules of type `cert` let in."),
    text("data_node_access_admin_user").help("Whom access rules of type `user` let in."),
    seconds("data_access_wait_access_rules_timeout")
        .default("180")
        .help("How many seconds the share manager of an instance has to apply or to remove access rules."),
    text("data_node_access_ip").removed("write the address into data_node_access_ips"),
    // ---- backups
    text("backup_driver").default("manila.data.drivers.nfs.NFSBackupDriver").help(
        "How backups are kept: `manila.data.drivers.nfs.NFSBackupDriver` for a directory of files for each on \
         backup_mount_export, as upstream's driver makes and reads them; `restic` for a restic repository.",
    ),
    text("backup_share_mount_template")
        .default("mount -vt %(proto)s %(options)s %(export)s %(path)s")
        .help("Command that mounts a share for its backup, or to be restored."),
    text("backup_share_unmount_template").default("umount -v %(path)s").help("Command that unmounts it."),
    OptionDef::new(DEFAULT, "backup_ignore_files", Kind::List)
        .default("lost+found")
        .help("Names that backups and restores leave out, at any depth."),
    OptionDef::new(DEFAULT, "backup_protocol_access_mapping", Kind::ListDict)
        .default("ip: [nfs]")
        .help("Access types with the protocols of shares for which this machine is let in so while it backs up or restores."),
    seconds("backup_continue_update_interval")
        .default("10")
        .help("Seconds between two writes of how far backups are that are being made."),
    seconds("restore_continue_update_interval")
        .default("10")
        .help("Seconds between two writes of how far backups are that are being restored."),
    text("backup_mount_template")
        .default("mount -vt %(proto)s %(options)s %(export)s %(path)s")
        .help("Command that mounts the export that backups are kept on."),
    text("backup_unmount_template").default("umount -v %(path)s").help("Command that unmounts it."),
    text("backup_mount_export").help(
        "Export that backups are kept on, `host:path`. With the driver `restic`, where backup_repository is not set: the \
         repositories are at its root.",
    ),
    text("backup_mount_proto").default("nfs").help("Protocol of that export."),
    text("backup_mount_options").default("").help("Options for mounting it, with their own `-o`."),
    text("backup_mount_tmp_location")
        .default("/tmp/")
        .help("Where progress says that files of backups are. Mounts stand in a place of their own, which nobody else can see."),
    OptionDef::new(DEFAULT, "backup_repository", Kind::Str).secret().help(
        "For the driver `restic`: where the repository is: the path of a directory, `rest:https://host:8000/path`, or \
         `s3:https://host/bucket/path`.",
    ),
    text("backup_repository_password_file")
        .help("For the driver `restic`: file whose first line is the password of the repository, or of all of them."),
    text("backup_repository_credentials_file").help(
        "For the driver `restic` and a repository that is a URL: file whose first line is `user:password` for `rest:`, \
         `access key:secret key` for `s3:`.",
    ),
    switch("backup_repository_per_project").default("true").help(
        "For the driver `restic`: each project has a repository of its own, in a directory that is named after the \
         project; none shows by its size what another has stored.",
    ),
    OptionDef::new(DEFAULT, "backup_retention", Kind::Dict).default("").help(
        "For the driver `restic`: which backups of each share stay when somebody prunes this repository, such as \
         `last:7, daily:30`, of `last`, `hourly`, `daily`, `weekly`, `monthly`, `yearly`. Not set: all that Manila has not \
         deleted. A backup that is pruned cannot be restored, though Manila still shows it.",
    ),
    OptionDef::new(DEFAULT, "data_manager_backup_supported_share_protocols", Kind::List)
        .default("NFS")
        .help("Protocols whose shares may be backed up.")
        .no_effect("the API reads it"),
    // ---- the service
    text("host").help(
        "Name of this service towards the other services: of its queue, and of its row in the list of services. Not set: \
         the machine's host name.",
    ),
    text("storage_availability_zone")
        .default("nova")
        .help("Availability zone of this service; made where there is none of that name."),
    text("data_topic")
        .default("manila-data")
        .help("Topic that callers send to.")
        .no_effect("the service listens to `manila-data`, as upstream's does whatever this says"),
    text("share_topic").default("manila-share").help("Topic of the share managers."),
    text("data_manager")
        .default("manila.data.manager.DataManager")
        .help("Python class of the service.")
        .no_effect(PYTHON),
    text("state_path")
        .default("/var/lib/manila")
        .help("Directory of jobs, reports and mount points: on a local file system, owned by the service's user."),
    text("rootwrap_config")
        .help("Configuration of rootwrap.")
        .no_effect("nothing runs through rootwrap: the service has the capabilities that it needs, or says what it lacks"),
    seconds("report_interval").default("10").help("Seconds between two heartbeats. 0: none."),
    seconds("service_down_time")
        .default("60")
        .help("Seconds without a heartbeat after which a service counts as dead."),
    OptionDef::new(DEFAULT, "cleanup_interval", CLEANUP_SECONDS)
        .default("1800")
        .help("Seconds between two removals of rows of services that were stopped."),
    seconds("periodic_interval")
        .default("60")
        .help("Seconds between two runs of periodic tasks.")
        .no_effect("progress is told as it is made; nothing waits for a tick"),
    seconds("periodic_fuzzy_delay")
        .default("60")
        .help("Random delay of the first run of periodic tasks.")
        .no_effect("progress is told as it is made; nothing waits for a tick"),
    switch("enable_new_services")
        .default("true")
        .help("A service that is new is enabled. Otherwise the migration API does not see it until somebody enables it."),
    text("db_backend").default("sqlalchemy").help("Python module of the database.").no_effect(PYTHON),
    text("share_name_template")
        .default("share-%s")
        .help("Names of shares at the back ends.")
        .no_effect("the data service asks for no share by such a name"),
    text("share_backup_name_template")
        .default("share-backup-%s")
        .help("Names of backups at the back ends.")
        .no_effect("the data service asks for no backup by such a name"),
    switch("monkey_patch").default("false").help("Decorates Python modules.").no_effect(PYTHON),
    OptionDef::new(DEFAULT, "monkey_patch_modules", Kind::List)
        .default("")
        .help("Python modules to decorate.")
        .no_effect(PYTHON),
    switch("fatal_exception_format_errors")
        .default("false")
        .help("Errors in the texts of errors are fatal.")
        .no_effect(PYTHON),
    text("backdoor_port").help("Port of a Python debugger.").no_effect(PYTHON),
    text("backdoor_socket").help("Socket of a Python debugger.").no_effect(PYTHON),
    switch("log_options")
        .default("true")
        .help("Logs all options at the start.")
        .no_effect("`manila-data config show` prints them"),
    seconds("graceful_shutdown_timeout")
        .default("60")
        .help("Seconds that the end of the service may take.")
        .no_effect("jobs are parked within seconds, and resumed at the next start; nothing is waited for"),
    switch("run_external_periodic_tasks").default("true").help("Runs tasks of plug-ins.").no_effect(PYTHON),
    OptionDef::new(DEFAULT, "message_ttl", SECONDS)
        .default("2592000")
        .help("Seconds for which messages to users are kept."),
    OptionDef::new(DATA_SERVICE, "data_copy_notify_on_success", Kind::Bool).default("false").help(
        "Tells the source's share manager that a copy has succeeded, so that the migration completes by itself. Otherwise \
         somebody runs `migration-complete`, as with upstream.",
    ),
    // ---- other groups
    OptionDef::new(CONCURRENCY, "lock_path", Kind::Str).help(
        "Directory of the locks that the services of Manila on one machine have in common. Not set: that of the variable \
         OSLO_LOCK_PATH, or no locks between them.",
    ),
    OptionDef::new(CONCURRENCY, "disable_process_locking", Kind::Bool)
        .default("false")
        .help("Takes no locks between services."),
    OptionDef::new("coordination", "backend_url", Kind::Str)
        .default("file://$state_path")
        .secret()
        .help("Coordination of services.")
        .no_effect("the data service needs none, as upstream's"),
    OptionDef::new(QUOTA, "reservation_expire", SECONDS)
        .default("86400")
        .deprecated(&[(DEFAULT, "reservation_expire")])
        .help("Seconds for which a reservation of quota holds. Deleting a backup makes one that has ended already."),
    OptionDef::new(QUOTA, "until_refresh", Kind::INT)
        .default("0")
        .deprecated(&[(DEFAULT, "until_refresh")])
        .help("Reservations until usage is counted anew.")
        .no_effect(NO_REFRESH),
    OptionDef::new(QUOTA, "max_age", Kind::INT)
        .default("0")
        .deprecated(&[(DEFAULT, "max_age")])
        .help("Seconds until usage is counted anew.")
        .no_effect(NO_REFRESH),
    OptionDef::new(QUOTA, "backups", Kind::INT)
        .default("10")
        .deprecated(&[(DEFAULT, "quota_backups")])
        .help("Backups that a project may have.")
        .no_effect(LIMITS_OF_THE_API),
    OptionDef::new(QUOTA, "backup_gigabytes", Kind::INT)
        .default("1000")
        .deprecated(&[(DEFAULT, "quota_backup_gigabytes")])
        .help("Size of backups that a project may have.")
        .no_effect(LIMITS_OF_THE_API),
    OptionDef::new(QUOTA, "driver", Kind::Str)
        .default("manila.quota.DbQuotaDriver")
        .help("Python class that counts. With another than the default, backups that are deleted release no quota here."),
    OptionDef::new(PROFILER, "enabled", Kind::Bool).default("false").help("Profiles requests.").no_effect(NO_PROFILER),
    OptionDef::new(PROFILER, "trace_sqlalchemy", Kind::Bool)
        .default("false")
        .help("Profiles SQL, too.")
        .no_effect(NO_PROFILER),
    OptionDef::new(PROFILER, "hmac_keys", Kind::Str)
        .default("SECRET_KEY")
        .secret()
        .help("Keys of requests that may be profiled.")
        .no_effect(NO_PROFILER),
    OptionDef::new(PROFILER, "connection_string", Kind::Str)
        .default("messaging://")
        .secret()
        .help("Where profiles go.")
        .no_effect(NO_PROFILER),
    OptionDef::new(REPORTS, "log_dir", Kind::Str).help("Directory of reports.").no_effect(NO_REPORTS),
    OptionDef::new(REPORTS, "file_event_handler", Kind::Str)
        .help("File whose change makes a report.")
        .no_effect(NO_REPORTS),
    OptionDef::new(REPORTS, "file_event_handler_interval", Kind::INT)
        .default("1")
        .help("Seconds between two looks at that file.")
        .no_effect(NO_REPORTS),
];
