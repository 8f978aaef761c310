//! Sizes, rates, counts and durations as people write them, and the one way back: a rate from the command line.

use std::fmt;
use std::time::Duration;

/// Bytes in binary units: `999 B`, `1.5 KiB`, `3.0 GiB`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = "B";
        for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
            // What would round to 1024.0 belongs to the next unit.
            if value < 1023.95 {
                break;
            }
            value /= 1024.0;
            unit = larger;
        }
        if unit == "B" { write!(f, "{} B", self.0) } else { write!(f, "{value:.1} {unit}") }
    }
}

/// Bytes a second.
#[derive(Clone, Copy, Debug)]
pub struct Rate(pub f64);

impl Rate {
    /// The mean over a time; none for a time too short to say anything.
    pub fn mean(bytes: u64, elapsed: Duration) -> Option<Self> {
        (elapsed >= Duration::from_millis(1)).then(|| Self(bytes as f64 / elapsed.as_secs_f64()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `as` saturates, so that no measurement, however odd, can panic here.
        write!(f, "{}/s", Bytes(self.0.max(0.0) as u64))
    }
}

/// A count in groups of three digits: `1,234,567`.
#[derive(Clone, Copy, Debug)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// A count with its noun: `1 file`, `2 files`, `3 entries`, `4 losses`.
pub fn counted(count: u64, noun: &str) -> String {
    match noun.strip_suffix('y') {
        _ if count == 1 => format!("1 {noun}"),
        Some(stem) => format!("{} {stem}ies", Count(count)),
        None if noun.ends_with('s') => format!("{} {noun}es", Count(count)),
        None => format!("{} {noun}s", Count(count)),
    }
}

/// A duration in at most two units: `0.4 s`, `32 s`, `2 min 5 s`, `1 h 2 min`, `3 d 4 h`.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..=9 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            10..60 => write!(f, "{seconds} s"),
            60..3_600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            3_600..86_400 => write!(f, "{} h {} min", seconds / 3_600, seconds / 60 % 60),
            _ => write!(f, "{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
        }
    }
}

/// Reads a rate in bytes a second: `1M`, `100MiB`, `1.5G/s`. `k`, `M`, `G`, `T` are powers of 1000, `Ki`, `Mi`, `Gi`,
/// `Ti` of 1024. A lower-case `b` is refused: it may mean bits.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let value: f64 = number.parse().map_err(|_| "expected a number such as 1M, 100MiB or 1.5G".to_owned())?;
    let unit = unit.trim_start();
    let unit = unit.strip_suffix("/s").unwrap_or(unit);
    if unit.ends_with('b') {
        return Err("`b` may mean bits; write `B` for bytes".into());
    }
    let factor: u64 = match unit.strip_suffix('B').unwrap_or(unit) {
        "" => 1,
        "k" | "K" => 1_000,
        "m" | "M" => 1_000_000,
        "g" | "G" => 1_000_000_000,
        "t" | "T" => 1_000_000_000_000,
        "ki" | "Ki" | "KI" => 1 << 10,
        "mi" | "Mi" | "MI" => 1 << 20,
        "gi" | "Gi" | "GI" => 1 << 30,
        "ti" | "Ti" | "TI" => 1 << 40,
        other => return Err(format!("unknown unit `{other}`; use k, M, G, T (1000) or Ki, Mi, Gi, Ti (1024)")),
    };
    let rate = (value * factor as f64).round();
    if rate < 1.0 {
        return Err("must be at least 1 byte a second; leave the option out for no limit".into());
    }
    if rate >= u64::MAX as f64 {
        return Err("too large".into());
    }
    Ok(rate as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_use_binary_units() {
        let check = |bytes, expected: &str| assert_eq!(Bytes(bytes).to_string(), expected);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1536, "1.5 KiB");
        check((1 << 20) - 1, "1.0 MiB");
        check(3 << 30, "3.0 GiB");
        check(u64::MAX, "16.0 EiB");
    }

    #[test]
    fn rates_counts_and_times_read_well() {
        assert_eq!(Rate(327_155_712.0).to_string(), "312.0 MiB/s");
        assert_eq!(Rate(f64::NAN).to_string(), "0 B/s");
        assert_eq!(Rate(f64::INFINITY).to_string(), "16.0 EiB/s");
        assert!(Rate::mean(1, Duration::ZERO).is_none());
        let count = |n| Count(n).to_string();
        assert_eq!([count(0), count(999), count(1_000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [counted(1, "entry"), counted(2, "entry"), counted(2, "loss")],
            ["1 entry", "2 entries", "2 losses"]
        );
        let check = |ms, expected: &str| assert_eq!(Time(Duration::from_millis(ms)).to_string(), expected);
        check(0, "0.0 s");
        check(420, "0.4 s");
        check(32_400, "32 s");
        check(125_000, "2 min 5 s");
        check(3_720_000, "1 h 2 min");
        check(273_600_000, "3 d 4 h");
    }

    #[test]
    fn rates_are_read_in_both_systems() {
        let check = |text: &str, expected: u64| assert_eq!(parse_rate(text), Ok(expected), "{text}");
        check("1", 1);
        check("1k", 1_000);
        check("1M", 1_000_000);
        check("1MB", 1_000_000);
        check("100MiB", 104_857_600);
        check("1.5G", 1_500_000_000);
        check("2 GiB/s", 2_147_483_648);
        check("0.5Ki", 512);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for bad in ["", "M", "-1", "0", "1X", "1Mb", "1e9", "1..5", "1 M B", "99999999999999T", "1MiBs"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }
}
