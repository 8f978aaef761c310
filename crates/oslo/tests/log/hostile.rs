//! What others put into messages and values, and many threads at once.

use std::collections::BTreeMap;
use std::sync::Barrier;

use oslo::log::{LogSettings, Rate, Rotation, Style};
use tracing::{debug, error, info, info_span, warn};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::kit::{PROGRAM, Place, facts, with_log};

const FORGED: &str = "a\n2026-11-22 08:51:19.592 1 ERROR root [-] forged\r\u{1b}[31m\u{85}\u{2028}b";

#[test]
fn nobody_forges_a_line() {
    let place = Place::new();
    for (style, json) in [(Style::Oslo, false), (Style::Oslo, true), (Style::Plain, false), (Style::Plain, true)] {
        let mut settings = LogSettings { style, json, ..place.bare() };
        settings.formats = LogSettings::default().formats;
        with_log(&settings, |_| {
            let span =
                info_span!("request", request_id = FORGED, user_id = FORGED, resource_uuid = FORGED, path = FORGED);
            let _entered = span.entered();
            error!(target: "job", name = FORGED, debugged = ?FORGED, shown = %FORGED, error = %FORGED, "{FORGED}");
        })
        .unwrap();
        let text = place.text("log");
        assert_eq!(text.lines().count(), 1, "{style:?} {json}: {text}");
        assert!(!text.trim_end().contains(['\r', '\u{1b}']), "{style:?} {json}: {text:?}");
        std::fs::remove_file(place.path("log")).unwrap();
    }
}

#[test]
fn what_is_said_beyond_the_message_stands_behind_it() {
    let place = Place::new();
    with_log(&place.bare(), |_| {
        let _span = info_span!("job", job_id = 7, state = "old").entered();
        info!(state = "new", name = "a b", path = ?"x", none = tracing::field::Empty, user = "u", "message");
        warn!(error = %"no \"room\"", critical = true, "failed");
        info!(error = "a=b", "did not matter");
        debug!("not logged");
        info!(only = true);
    })
    .unwrap();
    let expected = [
        "INFO message state=new name=\"a b\" path=\"x\" user=u job_id=7",
        "WARNING failed job_id=7 state=old: no \"room\"",
        "INFO did not matter error=a=b job_id=7 state=old",
        "INFO  only=true job_id=7 state=old",
    ];
    assert_eq!(place.lines("log"), expected);
}

#[test]
fn threads_do_not_write_into_each_others_lines() {
    const THREADS: usize = 8;
    const LINES: usize = 500;
    let place = Place::new();
    let rotation = Rotation::Size { bytes_max: 100 << 10, count_max: 1000 };
    let built = oslo::log::Log::build(&LogSettings { rotation, ..place.bare() }, PROGRAM, facts()).unwrap();
    let subscriber = tracing::Dispatch::new(tracing_subscriber::registry().with(vec![built.layer]));
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (subscriber, barrier) = (&subscriber, &barrier);
            scope.spawn(move || {
                tracing::dispatcher::with_default(subscriber, || {
                    barrier.wait();
                    for number in 0..LINES {
                        info!("{thread} {number} {}", "x".repeat(number % 300));
                    }
                });
            });
        }
    });
    let mut numbers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for name in place.names() {
        for line in place.lines(&name) {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, thread, number, filler] = *words else { panic!("{line}") };
            let (thread, number): (usize, usize) = (thread.parse().unwrap(), number.parse().unwrap());
            assert_eq!(filler.len(), number % 300, "{line}");
            numbers.entry(thread).or_default().push(number);
        }
    }
    assert_eq!(numbers.len(), THREADS);
    for numbers in numbers.values_mut() {
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..LINES), "each line once");
    }
}

#[test]
fn too_many_lines_are_dropped_and_that_is_told() {
    let place = Place::new();
    let rate = Some(Rate { interval_seconds: 3600, burst: 2, except: Some(40) });
    with_log(&LogSettings { rate, ..place.bare() }, |_| {
        (0..5).for_each(|number| info!("{number}"));
        error!("always");
    })
    .unwrap();
    let expected = ["INFO 0", "INFO 1", "ERROR Logging rate limit: drop after 2 records/3600 sec", "ERROR always"];
    assert_eq!(place.lines("log"), expected);
}

#[test]
fn a_request_is_known_where_its_own_target_is_silent() {
    let place = Place::new();
    let mut settings = LogSettings { levels: vec!["web=error".into()], ..place.bare() };
    settings.formats.context = "%(request_id)s %(message)s".into();
    with_log(&settings, |_| {
        let _span = info_span!(target: "web", "request", request_id = "req-1").entered();
        info!(target: "web", "silent");
        info!(target: "job", "known");
    })
    .unwrap();
    assert_eq!(place.lines("log"), ["req-1 known"]);
}
