//! Typed values, where they come from, and what is said about them.

use oslo::config::{ConfigError, NoticeKind, Origin, Values};

use crate::kit::{DEFS, sources, text, values, with_environment};

#[track_caller]
fn message(values: &Values) -> String {
    let errors = values.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let mut text = errors[0].to_string();
    let mut source = std::error::Error::source(&errors[0]);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn file(name: &str, line: u32) -> Origin {
    Origin::File { path: name.into(), line }
}

#[test]
fn what_nobody_sets_has_its_default_or_no_value() {
    let values = values(&[]);
    assert_eq!(text(&values, "state_path").as_deref(), Some("/var/lib/manila"));
    assert_eq!(text(&values, "transport_url"), None);
    assert_eq!(values.get_bool("DEFAULT", "debug").unwrap(), Some(false));
    assert_eq!(values.get_int("DEFAULT", "timeout").unwrap(), Some(180));
    assert_eq!(values.get_int("DEFAULT", "pin").unwrap(), None);
    assert_eq!(values.get_float("database", "delay").unwrap(), Some(0.5));
    assert_eq!(values.get_list("DEFAULT", "access_ips").unwrap(), Some(vec![]));
    assert!(values.get_dict("DEFAULT", "mount_options").unwrap().unwrap().is_empty());
    assert_eq!(values.get_list_dict("DEFAULT", "mapping").unwrap().unwrap()["ip"], ["nfs"]);
    assert_eq!(values.origin("DEFAULT", "debug"), Origin::Default);
    assert!(values.errors().is_empty());
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_files_of_which_the_last_wins() {
    let files = ["[DEFAULT]\nstate_path = /a\ndebug = yes", "[DEFAULT]\n\nstate_path = /b"];
    let both = values(&files);
    assert_eq!(text(&both, "state_path").as_deref(), Some("/b"));
    assert_eq!(both.origin("DEFAULT", "state_path"), file("b.conf", 3));
    assert_eq!(both.origin("DEFAULT", "debug"), file("a.conf", 3));

    let variables = [("OS_DEFAULT__STATE_PATH", "/x"), ("OS_DATABASE__DELAY", "2"), ("OS_AUTH_URL", "http://k")];
    let environment = with_environment(sources(&files), &variables);
    assert_eq!(text(&environment, "state_path").as_deref(), Some("/x"));
    assert_eq!(environment.get_float("database", "delay").unwrap(), Some(2.0));
    let origin = environment.origin("DEFAULT", "state_path");
    assert_eq!(origin.to_string(), "environment OS_DEFAULT__STATE_PATH");

    let mut sources = sources(&files);
    sources.set_argument("DEFAULT", "state_path", "/y", "--state-path");
    sources.set_argument("DEFAULT", "state_path", "/z", "--state-path");
    let arguments = with_environment(sources, &variables);
    assert_eq!(text(&arguments, "state_path").as_deref(), Some("/z"));
    assert_eq!(arguments.origin("DEFAULT", "state_path").to_string(), "command line --state-path");
}

#[test]
fn names_of_other_options_are_replaced_by_their_values() {
    let check = |line: &str, expected: &str| {
        let file = format!("[DEFAULT]\nstate_path = /s\nforeign = f\n{line}\n[database]\nconnection = mysql://h\n");
        assert_eq!(text(&values(&[&file]), "mount_path").as_deref(), Some(expected), "{line:?}");
    };
    check("", "/s/mnt");
    check("mount_path = ${state_path}x$$y", "/sx$y");
    check("mount_path = $database.connection", "mysql://h");
    check("mount_path = <$transport_url>", "<>");
    check("mount_path = $foreign", "f");
    check("mount_path = 5 $ is $1", "5 $ is $1");
    check("mount_path = p\\$w", "p$w");
    // The same group comes first, then the top one.
    let file = "[DEFAULT]\nstate_path = /s\n[database]\nshown = $state_path $delay";
    assert_eq!(values(&[file]).get_str("database", "shown").unwrap().as_deref(), Some("/s 0.5"));
    // Also in lists, and from the environment.
    let file = "[DEFAULT]\naccess_ips = $state_path, b\n";
    assert_eq!(values(&[file]).get_list("DEFAULT", "access_ips").unwrap().unwrap(), ["/var/lib/manila", "b"]);
    let environment = with_environment(sources(&[]), &[("OS_DEFAULT__MOUNT_PATH", "$state_path/e")]);
    assert_eq!(text(&environment, "mount_path").as_deref(), Some("/var/lib/manila/e"));
}

#[test]
fn names_that_lead_nowhere_or_in_a_circle_are_errors() {
    let nowhere = message(&values(&["[DEFAULT]\nmount_path = a$nothing"]));
    assert!(
        nowhere.starts_with("a.conf:2: `mount_path` in [DEFAULT] cannot be used: refers to `$nothing`"),
        "{nowhere}"
    );
    assert!(nowhere.contains("write `$$`"), "{nowhere}");
    let circle = values(&["[DEFAULT]\nstate_path = $mount_path\nmount_path = $state_path"]);
    assert_eq!(circle.errors().len(), 2);
    // Twenty times double: a million times as long.
    let lines: Vec<_> = (1..=20).map(|number| format!("x{number} = $x{0}$x{0}", number - 1)).collect();
    let doubling = format!("[DEFAULT]\nx0 = 0123456789abcdef\nmount_path = $x20\n{}", lines.join("\n"));
    assert!(message(&values(&[&doubling])).contains("is longer than"));
}

#[test]
fn errors_say_where_what_and_what_to_do() {
    let check = |line: &str, expected: &str| {
        assert_eq!(message(&values(&[&format!("[DEFAULT]\n\n{line}")])), expected);
    };
    check(
        "debug = maybe",
        "a.conf:3: `debug` in [DEFAULT] cannot be used: must be true, yes, on or 1, or false, no, off or 0, not `maybe`",
    );
    check("timeout = 5000", "a.conf:3: `timeout` in [DEFAULT] cannot be used: must be at most 3600, not `5000`");
    check("pin = geheim", "a.conf:3: `pin` in [DEFAULT] cannot be used: must be a whole decimal number");
    let environment = with_environment(sources(&[]), &[("OS_DEFAULT__TIMEOUT", "-1")]);
    assert_eq!(
        message(&environment),
        "environment OS_DEFAULT__TIMEOUT: `timeout` in [DEFAULT] cannot be used: must be at least 0, not `-1`"
    );
    assert!(matches!(environment.get_int("DEFAULT", "timeout"), Err(ConfigError::Value { .. })));
}

#[test]
fn an_error_that_a_secret_is_part_of_does_not_show_it() {
    let text = message(&values(&["[DEFAULT]\ntransport_url = geheim\ntimeout = $transport_url"]));
    assert!(!text.contains("geheim"), "{text}");
}

#[test]
fn an_old_name_is_read_and_told() {
    let values = values(&["[DEFAULT]\nlogfile = /l\nsql_connection = mysql://old"]);
    assert_eq!(text(&values, "log_file").as_deref(), Some("/l"));
    assert_eq!(values.get_str("database", "connection").unwrap().as_deref(), Some("mysql://old"));
    let notices = values.notices();
    let texts: Vec<_> = notices.iter().map(|notice| format!("{}: {}", notice.origin, notice.text)).collect();
    assert_eq!(
        texts,
        [
            "a.conf:2: `logfile` in [DEFAULT] is an old name; write `log_file` in [DEFAULT]",
            "a.conf:3: `sql_connection` in [DEFAULT] is an old name; write `connection` in [database]",
        ]
    );
}

#[test]
fn the_last_file_wins_by_whichever_name_and_in_one_file_the_new_name() {
    let old_later = values(&["[DEFAULT]\nlog_file = /new", "[DEFAULT]\nlogfile = /old"]);
    assert_eq!(text(&old_later, "log_file").as_deref(), Some("/old"));
    let both = values(&["[DEFAULT]\nlog_file = /new\nlogfile = /old"]);
    assert_eq!(text(&both, "log_file").as_deref(), Some("/new"));
}

#[test]
fn an_option_that_is_not_read_any_more_is_told_with_its_replacement() {
    let values = values(&["[DEFAULT]\ndata_node_access_ip = 10.0.0.1"]);
    let notices = values.notices();
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].text, "`data_node_access_ip` in [DEFAULT] has no effect any more: use data_node_access_ips");
    assert!(values.effective().iter().all(|option| option.name != "data_node_access_ip"));
}

#[test]
fn an_option_without_effect_is_shown_and_named_only_where_it_is_set() {
    let unset = values(&["[DEFAULT]\ndebug = on"]);
    assert_eq!(unset.notices(), []);
    assert!(unset.effective().iter().any(|option| option.name == "quota_age"));
    let set = values(&["[DEFAULT]\nquota_age = none"]);
    assert!(set.errors().is_empty());
    let notices = set.notices();
    assert_eq!((notices.len(), notices[0].kind), (1, NoticeKind::NoEffect));
    assert_eq!(notices[0].text, "`quota_age` in [DEFAULT] has no effect: the API counts");
}

#[test]
fn effective_values_are_shown_with_their_origin_and_without_secrets() {
    let values =
        values(&["[DEFAULT]\ndebug = on\ntransport_url = rabbit://u:geheim@h/\n[database]\nconnection = geheim"]);
    let shown: Vec<_> = values
        .effective()
        .into_iter()
        .map(|option| format!("{}.{}={:?} ({})", option.group, option.name, option.value_shown, option.origin))
        .collect();
    let check = |line: &str| assert!(shown.iter().any(|shown| shown == line), "{line} in {shown:#?}");
    check("DEFAULT.debug=Some(\"on\") (a.conf:2)");
    check("DEFAULT.transport_url=Some(\"***\") (a.conf:3)");
    check("DEFAULT.mount_path=Some(\"/var/lib/manila/mnt\") (default)");
    check("DEFAULT.pin=None (default)");
    // A secret travels with every value that names it.
    check("database.shown=Some(\"***\") (default)");
    assert!(!format!("{shown:?}{values:?}").contains("geheim"));
    assert_eq!(shown.len(), DEFS.len() - 1);
}

#[test]
fn what_is_unknown_in_our_own_groups_is_named_with_what_is_like_it() {
    let file = "[DEFAULT]\nshare_name = x\n[data_service]\nlisten = unix\nlissen = tcp\njob-store = x\nmoon = full\n\
                [other]\nx = 1";
    let variables = [("OS_DATA_SERVICE__LISTN", "x"), ("OS_DATA_SERVICE__LISTEN", "x"), ("OS_OTHER__X", "x")];
    let values = with_environment(sources(&[file]), &variables);
    let unknown: Vec<_> = values
        .unknown(&["data_service"])
        .into_iter()
        .map(|unknown| format!("{}: {}.{} {:?}", unknown.origin, unknown.group, unknown.name, unknown.nearest))
        .collect();
    assert_eq!(
        unknown,
        [
            "a.conf:6: data_service.job-store Some(\"job_store\")",
            "a.conf:5: data_service.lissen Some(\"listen\")",
            "a.conf:7: data_service.moon None",
            "environment OS_DATA_SERVICE__LISTN: data_service.listn Some(\"listen\")",
        ]
    );
    assert!(values.unknown(&[]).is_empty());
}

#[test]
#[should_panic(expected = "is not defined")]
fn an_option_that_is_in_no_table_is_a_mistake_of_the_program() {
    let _ = values(&[]).get_str("DEFAULT", "nothing");
}

#[test]
#[should_panic(expected = "is defined as another kind")]
fn so_is_one_that_is_read_as_another_kind() {
    let _ = values(&[]).get_int("DEFAULT", "debug");
}
