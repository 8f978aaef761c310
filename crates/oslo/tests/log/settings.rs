//! Options and flags of the log, and what is wrong with them.

use oslo::log::{Every, Facility, FlagSets, LOG_FLAGS, LOG_OPTIONS, Log, LogError, LogSettings, Rate, Rotation, Style};

use crate::kit::{PROGRAM, Place, of_file};

#[test]
fn nothing_set_is_oslo_log_as_it_comes() {
    let settings = of_file("").unwrap();
    let levels = settings.default_levels.clone();
    assert_eq!(levels.len(), 20);
    assert_eq!(settings, LogSettings { default_levels: levels, ..LogSettings::default() });
    assert_eq!((settings.style, settings.path("manila-data")), (Style::Oslo, None));
}

#[test]
fn options_are_read() {
    let settings = of_file(
        "debug = yes\nlogfile = a.log\nlogdir = /var/log/manila\nuse_json = true\nuse_syslog = true\n\
         syslog_log_facility = daemon\nlog_rotation_type = Interval\nlog_rotate_interval_type = Midnight\n\
         max_logfile_count = 3\nrate_limit_interval = 5\nrate_limit_burst = 10\nrate_limit_except_level =\n\
         default_log_levels = amqp=WARN, manila=5",
    )
    .unwrap();
    assert!(settings.debug && settings.json && settings.syslog && !settings.journal);
    assert_eq!(settings.path("manila-data").unwrap().to_str(), Some("/var/log/manila/a.log"));
    assert_eq!(Some(settings.facility), Facility::named("LOG_DAEMON"));
    assert_eq!(settings.rotation, Rotation::Interval { every: Every::Midnights(1), count_max: 3 });
    assert_eq!(settings.rate, Some(Rate { interval_seconds: 5, burst: 10, except: None }));
    assert_eq!(settings.default_levels, ["amqp=WARN", "manila=5"]);
    let sized = of_file("log_rotation_type = size\nmax_logfile_size_mb = 2").unwrap();
    assert_eq!(sized.rotation, Rotation::Size { bytes_max: 2 << 20, count_max: 30 });
}

#[test]
fn what_cannot_be_honoured_is_told() {
    let settings = of_file("log_config = /etc/manila/logging.conf\npublish_errors = true").unwrap();
    let [config, errors] = &*settings.notices else { panic!("{:?}", settings.notices) };
    assert!(config.contains("log_config_append = /etc/manila/logging.conf"), "{config}");
    assert!(errors.contains("publish_errors"), "{errors}");
    assert_eq!(of_file("log_config_append =\npublish_errors = false").unwrap().notices, [""; 0]);
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    let check = |text: &str, name: &str, expected: &str| {
        let error = of_file(text).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.to_string().contains(&format!("manila.conf:2: `{name}`")), "{error}");
        assert!(source.contains(expected), "{source}");
    };
    check("log_rotation_type = weekly", "log_rotation_type", "none, size, interval");
    check("syslog_log_facility = LOG_X", "syslog_log_facility", "LOG_LOCAL7");
    check("default_log_levels = amqp", "default_log_levels", "LOGGER=LEVEL");
    check("logging_default_format_string = %(message", "logging_default_format_string", "`%`");
    check("rate_limit_except_level = LOUD", "rate_limit_except_level", "CRITICAL");
    check("log_rotate_interval = 0\nlog_rotation_type = interval", "log_rotate_interval", "at least 1");
}

#[test]
fn flags_set_options_that_there_are() {
    for flag in LOG_FLAGS {
        assert!(LOG_OPTIONS.iter().any(|def| def.name == flag.option), "{}", flag.long);
    }
    let named = |long: &str| LOG_FLAGS.iter().find(|flag| flag.long == long || flag.aliases.contains(&long)).unwrap();
    assert_eq!((named("debug").short, named("debug").sets), (Some('d'), FlagSets::Text("true")));
    assert_eq!((named("nodebug").option, named("nodebug").sets), ("debug", FlagSets::Text("false")));
    assert_eq!(named("logfile").option, "log_file");
    assert_eq!(named("log_config").option, "log_config_append");
}

#[test]
fn a_process_has_one_log() {
    let place = Place::new();
    let settings =
        LogSettings { notices: vec!["told at the start".into()], dir: Some(place.path("")), ..of_file("").unwrap() };
    Log::start(&settings, PROGRAM, None).unwrap();
    assert!(matches!(Log::start(&settings, PROGRAM, None), Err(LogError::Started)));
    let text = place.text("manila-data.log");
    let told = format!(" {} WARNING oslo.log [-] told at the start\n", std::process::id());
    assert!(text.ends_with(&told), "{text}");
}
