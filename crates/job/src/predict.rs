//! How long a migration's cutover would take, from what its passes showed.

use jiff::Timestamp;

use crate::door::CutoverPrediction;
use crate::model::{Pass, PassFigures};
use crate::spec::{JobSpec, Verify};

/// What the last pass would take if the source stood still from `now` on. `None` before a second pass has shown how
/// fast the source changes.
///
/// Three parts, all of them observed. *Scan*: what the last pass took beside its copying. *Copy*: the changes that
/// pile up since the last pass began, at the fastest rate that any pass had; by bytes or by entries, whichever takes
/// longer. *Verify*: as long as it took before, or reading everything once more.
pub fn predict(spec: &JobSpec, passes: &[Pass], now: Timestamp) -> Option<CutoverPrediction> {
    let [.., before, last] = passes else { return None };
    if last.number != before.number + 1 {
        return None;
    }
    let gathered_seconds = seconds_between(began(before), began(last));
    if gathered_seconds <= 0.0 {
        return None;
    }
    let byte_rate = fastest(passes, |figures| figures.copied_bytes);
    let entry_rate = fastest(passes, |figures| figures.changed_entries);
    let copy_time = |bytes: f64, entries: f64| per(bytes, byte_rate).max(per(entries, entry_rate));

    let changed = last.figures.changed_entries as f64;
    let copied = last.figures.copied_bytes as f64;
    let scan_seconds = (busy_seconds(&last.figures) - copy_time(copied, changed)).max(0.0);
    let waiting = seconds_between(began(last), now).max(0.0) / gathered_seconds;
    let copy_seconds = copy_time(copied * waiting, changed * waiting);
    let verify_seconds = verify_seconds(spec, passes, last, scan_seconds, byte_rate);
    Some(CutoverPrediction {
        seconds: scan_seconds + copy_seconds + verify_seconds,
        scan_seconds,
        copy_seconds,
        verify_seconds,
        changed_entries_per_second: changed / gathered_seconds,
    })
}

fn verify_seconds(spec: &JobSpec, passes: &[Pass], last: &Pass, scan_seconds: f64, byte_rate: f64) -> f64 {
    let measured = passes.iter().rev().map(|pass| pass.figures.verify_seconds).find(|seconds| *seconds > 0.0);
    match spec.verify() {
        Verify::None => 0.0,
        // Looks at every entry of both trees, as a scan does.
        Verify::Attributes => measured.unwrap_or(scan_seconds),
        Verify::Content => measured.unwrap_or_else(|| scan_seconds + per(last.figures.scanned_bytes as f64, byte_rate)),
    }
}

/// Without verification.
fn busy_seconds(figures: &PassFigures) -> f64 {
    (figures.elapsed_seconds - figures.verify_seconds).max(0.0)
}

fn fastest(passes: &[Pass], amount: impl Fn(&PassFigures) -> u64) -> f64 {
    passes.iter().map(|pass| per(amount(&pass.figures) as f64, busy_seconds(&pass.figures))).fold(0.0, f64::max)
}

/// `amount / rate`, and nothing where there is no rate to speak of.
fn per(amount: f64, rate: f64) -> f64 {
    if rate > 0.0 { amount / rate } else { 0.0 }
}

fn began(pass: &Pass) -> Timestamp {
    let elapsed = jiff::SignedDuration::try_from_secs_f64(pass.figures.elapsed_seconds).unwrap_or_default();
    pass.ended_at.checked_sub(elapsed).unwrap_or(Timestamp::MIN)
}

fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PassKind;
    use crate::spec::{Endpoint, Kind};

    fn spec(verify: Verify) -> JobSpec {
        let dir = |path: &str| Endpoint::Directory { path: path.into() };
        let mut spec = JobSpec::new(Kind::Migrate, dir("/a"), dir("/b"));
        spec.options.verify = Some(verify);
        spec
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    fn pass(number: u32, ended: i64, elapsed_seconds: f64, changed_entries: u64, copied_bytes: u64) -> Pass {
        let figures = PassFigures {
            elapsed_seconds,
            scanned_entries: 10_000,
            scanned_bytes: 1_000_000,
            changed_entries,
            copied_bytes,
            ..PassFigures::default()
        };
        let kind = if number == 1 { PassKind::Baseline } else { PassKind::Incremental };
        Pass { number, kind, ended_at: at(ended), figures }
    }

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 0.001, "{value} is not {expected}");
    }

    #[test]
    fn one_pass_shows_no_rate_of_change() {
        assert_eq!(predict(&spec(Verify::None), &[], at(0)), None);
        assert_eq!(predict(&spec(Verify::None), &[pass(1, 100, 100.0, 10_000, 1_000_000)], at(100)), None);
    }

    #[test]
    fn what_piles_up_until_now_is_copied_at_the_fastest_rate_seen() {
        // The baseline ran from 0 to 100 (10,000 bytes and 100 entries a second), the second pass from 1000 to 1012.
        let passes = [pass(1, 100, 100.0, 10_000, 1_000_000), pass(2, 1012, 12.0, 200, 20_000)];
        let now = |seconds| predict(&spec(Verify::None), &passes, at(seconds)).expect("two passes");
        let prediction = now(1012);
        close(prediction.scan_seconds, 10.0);
        close(prediction.changed_entries_per_second, 0.2);
        close(prediction.copy_seconds, 2.0 * 0.012);
        close(prediction.seconds, prediction.scan_seconds + prediction.copy_seconds);
        close(now(2000).copy_seconds, 2.0);
        close(now(3000).copy_seconds, 4.0);
        close(now(0).copy_seconds, 0.0);
    }

    #[test]
    fn verification_is_measured_or_costs_a_further_reading() {
        let mut passes = vec![pass(1, 100, 100.0, 10_000, 1_000_000), pass(2, 1012, 12.0, 200, 20_000)];
        let verify = |kind, passes: &[Pass]| predict(&spec(kind), passes, at(1012)).expect("two passes").verify_seconds;
        close(verify(Verify::None, &passes), 0.0);
        close(verify(Verify::Attributes, &passes), 10.0);
        close(verify(Verify::Content, &passes), 110.0);
        passes[0].figures.verify_seconds = 7.0;
        close(verify(Verify::Content, &passes), 7.0);
    }

    #[test]
    fn odd_figures_give_finite_predictions() {
        let passes = [pass(1, 100, 0.0, 0, 0), pass(2, 200, f64::INFINITY, u64::MAX, u64::MAX)];
        assert!(predict(&spec(Verify::Content), &passes, at(300)).is_none_or(|found| !found.seconds.is_nan()));
        let still = [pass(1, 100, 10.0, 0, 0), pass(2, 200, 1.0, 0, 0)];
        close(predict(&spec(Verify::Content), &still, at(300)).expect("two passes").seconds, 2.0);
        let apart = [pass(1, 100, 10.0, 5, 5), pass(9, 200, 1.0, 5, 5)];
        assert_eq!(predict(&spec(Verify::None), &apart, at(300)), None, "passes between them are not known");
    }
}
