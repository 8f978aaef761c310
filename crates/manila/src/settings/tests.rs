//! Upstream's defaults, what is refused, and what is only shown.

use std::path::Path;

use oslo::config::{NoticeKind, Sources};

use super::*;
use crate::database::QuotaSettings;

fn values(text: &str) -> Values {
    let mut sources = Sources::new();
    sources.add_text(Path::new("manila.conf"), text.as_bytes()).unwrap();
    Values::new(MANILA_OPTIONS, sources)
}

fn settings(text: &str) -> Settings {
    Settings::of(&values(text)).unwrap()
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = Settings::of(&values(text)).unwrap_err();
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    assert_eq!(message, expected);
}

#[test]
fn what_nobody_sets_is_as_upstream_has_it() {
    let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    let expected = Settings {
        host,
        storage_availability_zone: "nova".into(),
        enable_new_services: true,
        report_interval: Duration::from_secs(10),
        service_down_time: Duration::from_mins(1),
        cleanup_interval: Duration::from_mins(30),
        share_topic: "manila-share".into(),
        mount_tmp_location: "/tmp/".into(),
        data_node_mount_options: BTreeMap::new(),
        data_node_access_ips: Vec::new(),
        data_node_access_cert: None,
        data_node_access_admin_user: None,
        data_access_wait_access_rules_timeout: Duration::from_mins(3),
        check_hash: false,
        lock_path: None,
        message_ttl: Duration::from_hours(30 * 24),
        notify_on_success: false,
        backup: BackupSettings {
            driver: BackupDriver::Directory,
            share_mount_template: "mount -vt %(proto)s %(options)s %(export)s %(path)s".into(),
            share_unmount_template: "umount -v %(path)s".into(),
            ignore_files: vec!["lost+found".into()],
            protocol_access_mapping: [("ip".to_owned(), vec!["nfs".to_owned()])].into(),
            create_update_interval: Duration::from_secs(10),
            restore_update_interval: Duration::from_secs(10),
            mount_tmp_location: "/tmp/".into(),
            export: None,
            quota: QuotaSettings { is_counted: true, reservation_expire: Duration::from_hours(24) },
        },
    };
    assert_eq!(settings(""), expected);
    assert!(values("").errors().is_empty());
}

#[test]
fn what_is_set_is_read_as_upstream_reads_it() {
    let read = settings(
        "[DEFAULT]\nhost = data1\nstate_path = /srv/manila\nreport_interval = 0\nenable_new_services = no\n\
         data_node_access_ips = 10.0.0.5, fd00::5 ,10.0.0.0/24,10.0.0.5\ndata_node_access_cert =\n\
         data_node_access_admin_user = copier\ncheck_hash = True\n\
         data_node_mount_options = NFS:-o nfsvers=4.1, cifs:-o vers=3.0 -o user=\"a b\"\n\
         [oslo_concurrency]\nlock_path = $state_path/tmp\n[data_service]\ndata_copy_notify_on_success = on",
    );
    assert_eq!(read.host, "data1");
    assert_eq!(read.report_interval, Duration::ZERO);
    assert!(!read.enable_new_services && read.check_hash && read.notify_on_success);
    assert_eq!(read.data_node_access_ips, ["10.0.0.5", "fd00::5", "10.0.0.0/24"]);
    assert_eq!(read.data_node_access_cert, None);
    assert_eq!(read.data_node_access_admin_user.as_deref(), Some("copier"));
    assert_eq!(read.lock_path.as_deref(), Some(Path::new("/srv/manila/tmp")));
    let options: Vec<_> = read.data_node_mount_options.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(options, [("cifs", "-o vers=3.0 -o user=\"a b\""), ("nfs", "-o nfsvers=4.1")]);
}

#[test]
fn the_directory_of_locks_is_that_of_the_file_then_that_of_the_environment() {
    let check = |text: &str, variable: Option<&str>, expected: Option<&str>| {
        let values = values(text);
        let found = Reader { values: &values }.lock_path(variable.map(Into::into)).unwrap();
        assert_eq!(found.as_deref(), expected.map(Path::new), "{text} {variable:?}");
    };
    check("[oslo_concurrency]\nlock_path = /a", Some("/b"), Some("/a"));
    check("", Some("/b"), Some("/b"));
    check("", Some(""), None);
    check("[oslo_concurrency]\nlock_path =", None, None);
    check("[oslo_concurrency]\nlock_path = /a\ndisable_process_locking = true", Some("/b"), None);
}

#[test]
fn what_makes_no_sense_is_refused_with_the_place() {
    refused(
        "[DEFAULT]\ndata_node_access_ips = 10.0.0.5,data1",
        "manila.conf:2: `data_node_access_ips` in [DEFAULT] must be IPv4 or IPv6 addresses or networks with commas \
         between them, and `data1` is none",
    );
    for wrong in ["10.0.0.5,,10.0.0.6", "10.0.0.5/33", "fd00::5/129", "10.0.0.5/", "10.0.0.5/+1", "10.0.0", "[fd00::5]"]
    {
        assert!(Settings::of(&values(&format!("[DEFAULT]\ndata_node_access_ips = {wrong}"))).is_err(), "{wrong}");
    }
    refused(
        "[DEFAULT]\nreport_interval = -1",
        "manila.conf:2: `report_interval` in [DEFAULT] cannot be used: must be at least 0, not `-1`",
    );
    refused(
        "[DEFAULT]\ncleanup_interval = 10",
        "manila.conf:2: `cleanup_interval` in [DEFAULT] cannot be used: must be at least 300, not `10`",
    );
    refused(
        "[DEFAULT]\nservice_down_time =",
        "manila.conf:2: `service_down_time` in [DEFAULT] must be a number of seconds",
    );
    refused(
        "[DEFAULT]\ndata_node_mount_options = nfs:-o \"x",
        "manila.conf:2: `data_node_mount_options` in [DEFAULT] has options for `nfs` with a quote or a backslash that \
         nothing follows",
    );
    refused(
        "[DEFAULT]\ndata_node_mount_options = nfs:-o a, NFS:-o b",
        "manila.conf:2: `data_node_mount_options` in [DEFAULT] names the protocol `nfs` twice",
    );
    refused(
        "[DEFAULT]\nhost = a b",
        "manila.conf:2: `host` in [DEFAULT] must be a host name or an address, without blanks",
    );
    refused("[DEFAULT]\nshare_topic =", "manila.conf:2: `share_topic` in [DEFAULT] must not be empty");
    refused(
        &format!("[DEFAULT]\ndata_node_access_cert = {}", "x".repeat(256)),
        "manila.conf:2: `data_node_access_cert` in [DEFAULT] must not be longer than 255 characters",
    );
}

#[test]
fn every_option_is_told_once_and_in_whole_sentences() {
    for (index, def) in MANILA_OPTIONS.iter().enumerate() {
        if let Some(reason) = def.removed.or(def.no_effect) {
            assert!(!reason.is_empty() && !reason.ends_with('.'), "{}", def.name);
        }
        assert!(def.removed.is_some() || def.help.ends_with('.') && !def.help.contains('\n'), "{}", def.name);
        let again = MANILA_OPTIONS[..index].iter().any(|other| (other.group, other.name) == (def.group, def.name));
        assert!(!again, "[{}] {} stands there twice", def.group, def.name);
    }
}

#[test]
fn options_without_effect_are_accepted_and_named_where_they_are_set() {
    let values = values(
        "[DEFAULT]\nrootwrap_config = /etc/manila/rootwrap.conf\ndata_node_access_ip = 10.0.0.1\nquota_backups = many\n\
         unheard_of = 1\n[quota]\nshares = 50\n[profiler]\nhmac_keys = geheim",
    );
    assert!(Settings::of(&values).is_ok() && values.errors().is_empty());
    let kinds: Vec<_> = values.notices().into_iter().map(|notice| (notice.kind, notice.text)).collect();
    let names: Vec<_> = kinds.iter().map(|(kind, text)| (*kind, text.split('`').nth(1).unwrap())).collect();
    for expected in [
        (NoticeKind::Removed, "data_node_access_ip"),
        (NoticeKind::NoEffect, "rootwrap_config"),
        (NoticeKind::NoEffect, "quota_backups"),
        (NoticeKind::NoEffect, "hmac_keys"),
    ] {
        assert!(names.contains(&expected), "{expected:?} in {names:?}");
    }
    assert_eq!(names.len(), 4);
    assert!(!format!("{kinds:?} {:?}", values.effective()).contains("geheim"));
}

/// The settings of backups that `text` leads to, in `[DEFAULT]`.
fn backup(text: &str) -> BackupSettings {
    settings(&format!("[DEFAULT]\n{text}")).backup
}

#[test]
fn backups_are_read_as_upstream_reads_them() {
    let read = settings(
        "[DEFAULT]\nbackup_driver = manila.data.drivers.nfs.NFSBackupDriver\nbackup_mount_export = [fd00::1]:/b\n\
         backup_mount_options = -o nfsvers=4.1\nbackup_ignore_files = a,b\n\
         backup_protocol_access_mapping = ip: [NFS, cifs], user: [cifs]\nbackup_continue_update_interval = 0\n\
         quota_driver = x\nreservation_expire = 60\n[quota]\ndriver = manila.quota.NoopQuotaDriver",
    )
    .backup;
    let export = read.export.expect("is set");
    assert_eq!((export.export.as_str(), export.proto.as_str()), ("[fd00::1]:/b", "nfs"));
    assert_eq!(export.options, "-o nfsvers=4.1");
    assert_eq!(read.ignore_files, ["a", "b"]);
    assert_eq!(read.protocol_access_mapping["ip"], ["nfs", "cifs"]);
    assert_eq!(read.create_update_interval, Duration::ZERO);
    let quota = QuotaSettings { is_counted: false, reservation_expire: Duration::from_mins(1) };
    assert_eq!(read.quota, quota);
}

#[test]
fn restic_is_told_where_it_is() {
    let password = "backup_driver = restic\nbackup_repository_password_file = /etc/manila/restic\n";
    let restic = |text: &str| match backup(&format!("{password}{text}")).driver {
        BackupDriver::Restic(restic) => restic,
        BackupDriver::Directory => panic!("the driver is restic"),
    };
    let at = |text: &str| restic(&format!("backup_repository = {text}")).repository;
    assert_eq!(at("/srv/backup"), job::Endpoint::Directory { path: "/srv/backup".into() });
    for url in ["rest:https://u:p@h:8000/x", "s3:http://h/b"] {
        assert_eq!(at(url), job::Endpoint::Url { url: job::Sensitive::new(url) });
    }
    let mounted = restic("backup_mount_export = h:/a b\nbackup_mount_options = -o vers=4");
    let job::Endpoint::Command { mount, options, .. } = &mounted.repository else { panic!("{mounted:?}") };
    assert_eq!(mount.expose(), "mount -vt nfs %(options)s 'h:/a b' %(path)s");
    assert_eq!(options.as_ref().map(job::Sensitive::expose), Some("-o vers=4"));
    assert!(mounted.is_per_project && mounted.keep.is_all());
    let keys = restic("backup_repository = s3:http://h/b\nbackup_repository_credentials_file = /etc/manila/s3");
    assert_eq!(keys.credentials_file.as_deref(), Some(Path::new("/etc/manila/s3")));
    let kept =
        restic("backup_repository = /b\nbackup_retention = last:7, yearly:1\nbackup_repository_per_project = no");
    assert_eq!(
        (kept.is_per_project, kept.keep.last, kept.keep.daily, kept.keep.yearly),
        (false, Some(7), None, Some(1))
    );
    assert!(!format!("{:?}", restic("backup_repository = rest:https://u:geheim@h/x")).contains("geheim"));
}

#[test]
fn what_cannot_be_backed_up_with_is_refused() {
    let driver = |name: &str, more: &str| format!("[DEFAULT]\nbackup_driver = {name}\n{more}");
    refused(
        &driver("manila.share.drivers.X", ""),
        "manila.conf:2: `backup_driver` in [DEFAULT] is `manila.share.drivers.X`, which this service does not know; it \
         knows `manila.data.drivers.nfs.NFSBackupDriver` and `restic`",
    );
    refused(
        &driver("restic", ""),
        "default: `backup_repository_password_file` in [DEFAULT] must be the absolute path of a file: the driver \
         `restic` needs a password",
    );
    refused(
        &driver("restic", "backup_repository_password_file = p"),
        "manila.conf:3: `backup_repository_password_file` in [DEFAULT] must be the absolute path of a file",
    );
    let password = "backup_repository_password_file = /p\n";
    refused(
        &driver("restic", password),
        "default: `backup_repository` in [DEFAULT] is not set, and neither is backup_mount_export: the driver `restic` \
         has no repository",
    );
    refused(
        &driver("restic", &format!("{password}backup_repository = ftp://h/x")),
        "manila.conf:4: `backup_repository` in [DEFAULT] must be the absolute path of a directory, or begin with \
         `rest:http://`, `rest:https://`, `s3:http://` or `s3:https://`",
    );
    for (retention, problem) in [("last:0", "last"), ("last:x", "last"), ("sometimes:1", "sometimes")] {
        refused(
            &driver("restic", &format!("{password}backup_repository = /b\nbackup_retention = {retention}")),
            &format!(
                "manila.conf:5: `backup_retention` in [DEFAULT] has `{problem}`: it is a number above 0 for each of last, \
                 hourly, daily, weekly, monthly, yearly"
            ),
        );
    }
    refused(
        "[DEFAULT]\nbackup_mount_template = mount %(export)s",
        "manila.conf:2: `backup_mount_template` in [DEFAULT] has no %(path)s for the mount point",
    );
    refused(
        "[DEFAULT]\nbackup_share_mount_template = mount %(exprot)s %(path)s",
        "manila.conf:2: `backup_share_mount_template` in [DEFAULT] has `%(exprot)s`; known are proto, export, options, path",
    );
    refused(
        "[DEFAULT]\nbackup_share_unmount_template = umount 100% %(path)s",
        "manila.conf:2: `backup_share_unmount_template` in [DEFAULT] has a `%` that begins no placeholder; write `%%`",
    );
    refused(
        "[DEFAULT]\nbackup_mount_options = -o 'x",
        "manila.conf:2: `backup_mount_options` in [DEFAULT] has a quote or a backslash that nothing follows",
    );
}
