//! The log file: made, moved, rotated, lost and full.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use oslo::log::{Every, Log, LogError, LogSettings, Rotation, Style};
use testkit::disk::Tmpfs;
use testkit::lend;
use tracing::info;

use crate::kit::{Place, with_log};

#[test]
fn the_file_is_appended_to_and_closed_to_others() {
    let place = Place::new();
    fs::write(place.path("other"), "before\n").unwrap();
    for name in ["log", "other"] {
        let settings = LogSettings { file: Some(place.path(name)), ..place.bare() };
        with_log(&settings, |_| info!("after")).unwrap();
    }
    assert_eq!(place.text("other"), "before\nINFO after\n");
    let mode = fs::metadata(place.path("log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
}

#[test]
fn a_directory_alone_means_a_file_named_after_the_program() {
    let place = Place::new();
    let dir = Some(place.path(""));
    with_log(&LogSettings { dir: dir.clone(), file: None, ..place.bare() }, |_| info!("a")).unwrap();
    with_log(&LogSettings { dir, file: Some("b.log".into()), ..place.bare() }, |_| info!("b")).unwrap();
    assert_eq!(place.names(), ["b.log", "manila-data.log"]);
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let place = Place::new();
    let settings = LogSettings { file: Some(place.path("none/log")), ..place.bare() };
    let error = with_log(&settings, |_| ()).unwrap_err();
    assert!(matches!(&error, LogError::Open { path, .. } if path.ends_with("none/log")), "{error}");
}

#[test]
fn a_moved_or_removed_file_is_made_anew() {
    let place = Place::new();
    for (style, watch) in [(Style::Oslo, false), (Style::Plain, true)] {
        let settings = LogSettings { style, watch, ..place.bare() };
        with_log(&settings, |_| {
            info!("first");
            fs::rename(place.path("log"), place.path("log.1")).unwrap();
            info!("second");
            fs::remove_file(place.path("log")).unwrap();
            info!("third");
        })
        .unwrap();
        assert!(place.text("log.1").trim_end().ends_with("first"));
        assert!(place.text("log").trim_end().ends_with("third"));
        assert_eq!(place.lines("log").len(), 1);
        fs::remove_file(place.path("log")).unwrap();
    }
}

#[test]
fn a_plain_log_lets_go_of_its_file_when_it_is_told() {
    let place = Place::new();
    with_log(&LogSettings { style: Style::Plain, ..place.bare() }, |log| {
        info!("first");
        fs::rename(place.path("log"), place.path("old")).unwrap();
        info!("second");
        log.reopen().unwrap();
        info!("third");
    })
    .unwrap();
    assert_eq!((place.lines("old").len(), place.lines("log").len()), (2, 1));
}

#[test]
fn a_file_that_is_truncated_has_no_hole() {
    let place = Place::new();
    with_log(&place.bare(), |_| {
        info!("first");
        fs::File::options().write(true).open(place.path("log")).unwrap().set_len(0).unwrap();
        info!("second");
    })
    .unwrap();
    assert_eq!(place.text("log"), "INFO second\n");
}

#[test]
fn files_are_rotated_by_size_and_the_oldest_goes() {
    let place = Place::new();
    let rotation = Rotation::Size { bytes_max: 30, count_max: 2 };
    with_log(&LogSettings { rotation, ..place.bare() }, |_| {
        for number in 0..9 {
            info!("line {number}");
        }
    })
    .unwrap();
    // Two lines of twelve bytes, and no third.
    assert_eq!(place.names(), ["log", "log.1", "log.2"]);
    assert_eq!(place.text("log"), "INFO line 8\n");
    assert_eq!(place.text("log.1"), "INFO line 6\nINFO line 7\n");
    assert_eq!(place.text("log.2"), "INFO line 4\nINFO line 5\n");
}

#[test]
fn a_count_of_none_rotates_nothing_by_size() {
    let place = Place::new();
    let rotation = Rotation::Size { bytes_max: 5, count_max: 0 };
    with_log(&LogSettings { rotation, ..place.bare() }, |_| (0..3).for_each(|number| info!(number))).unwrap();
    assert_eq!((place.names().len(), place.lines("log").len()), (1, 3));
}

#[test]
fn a_file_of_yesterday_is_rotated_by_the_first_line_of_today() {
    let place = Place::new();
    fs::write(place.path("log"), "yesterday\n").unwrap();
    let begun = std::time::SystemTime::now() - std::time::Duration::from_hours(30);
    fs::File::options().write(true).open(place.path("log")).unwrap().set_modified(begun).unwrap();
    for name in ["log.2001-01-01", "log.2001-01-02", "log.2001-01-03.gz", "log.other", "log.1"] {
        fs::write(place.path(name), "").unwrap();
    }
    let rotation = Rotation::Interval { every: Every::Days(1), count_max: 2 };
    with_log(&LogSettings { rotation, ..place.bare() }, |_| {
        info!("today");
        info!("still today");
    })
    .unwrap();
    assert_eq!(place.text("log"), "INFO today\nINFO still today\n");
    let zone = crate::kit::facts().zone;
    let rotated = format!("log.{}", jiff::Timestamp::try_from(begun).unwrap().to_zoned(zone).date());
    assert_eq!(place.text(&rotated), "yesterday\n");
    assert_eq!(place.names(), ["log", "log.1", "log.2001-01-03.gz", &rotated, "log.other"]);
}

#[test]
fn a_lost_directory_costs_lines_and_is_told() {
    let place = Place::new();
    fs::create_dir(place.path("dir")).unwrap();
    let settings = LogSettings { file: Some(place.path("dir/log")), ..place.bare() };
    with_log(&settings, |log: &Log| {
        info!("first");
        fs::remove_dir_all(place.path("dir")).unwrap();
        info!("lost");
        info!("lost, too");
        assert_eq!(log.lost_lines(), 2);
        fs::create_dir(place.path("dir")).unwrap();
        info!("second");
        info!("third");
        assert_eq!(log.lost_lines(), 2);
    })
    .unwrap();
    let lines = place.lines("dir/log");
    assert!(lines[0].starts_with("WARNING 2 log lines could not be written to `"), "{lines:?}");
    assert_eq!(lines[1..], ["INFO second", "INFO third"]);
}

#[test]
fn a_full_disk_stops_nobody_and_tears_no_line() {
    let place = Place::new();
    let tmpfs = lend!("a_full_disk_stops_nobody_and_tears_no_line", Tmpfs::new(64 << 10, None));
    let path = tmpfs.path().join("log");
    for style in [Style::Oslo, Style::Plain] {
        let settings = LogSettings { style, file: Some(path.clone()), ..place.bare() };
        with_log(&settings, |log| {
            let filler = tmpfs.path().join("filler");
            fs::write(&filler, vec![0; 20 << 10]).unwrap();
            let mut count = 0;
            while log.lost_lines() == 0 {
                info!(count, "a line of some length, so that the disk is full before long");
                count += 1;
                assert!(count < 10_000, "the disk is never full");
            }
            fs::remove_file(filler).unwrap();
            info!("there is room again");
        })
        .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n'));
        let lines: Vec<&str> = text.lines().collect();
        let [.., told, last] = &*lines else { panic!("{lines:?}") };
        assert!(told.contains("1 log line could not be written to `") && told.contains("No space left"), "{told}");
        assert!(last.contains("there is room again"), "{last}");
        // One line may have its end cut off; none goes on in the next.
        assert!(lines.iter().all(|line| line.matches("a line of some length").count() <= 1));
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_reload_takes_other_files_levels_and_looks() {
    let place = Place::new();
    let before = place.bare();
    let mut after = LogSettings { file: Some(place.path("new")), debug: true, ..place.bare() };
    after.formats.default = "%(levelname)s: %(message)s".into();
    let wrong = LogSettings { file: Some(place.path("none/log")), ..place.bare() };
    let unread = LogSettings { levels: vec!["job=loud".into()], ..place.bare() };
    with_log(&before, |log| {
        let log_twice = || {
            info!("info");
            tracing::debug!("debug");
        };
        log_twice();
        assert!(matches!(log.reload(&wrong), Err(LogError::Open { .. })));
        assert!(matches!(log.reload(&unread), Err(LogError::Level { .. })));
        log_twice();
        log.reload(&after).unwrap();
        log_twice();
    })
    .unwrap();
    assert_eq!(place.text("log"), "INFO info\nINFO info\n");
    assert_eq!(place.text("new"), "INFO: info\nDEBUG: debug\n");
}
