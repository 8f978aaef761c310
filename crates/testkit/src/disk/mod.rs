//! Real directories and file systems on loan: each guard gives its own back, also when the test panics.
//!
//! What a machine cannot give is a [`SkipReason`]; a test that goes without says so through [`skip`].

mod mounts;
mod place;
mod temp_dir;

use std::fmt;

pub use mounts::{DiskOptions, FsKind, LoopDisk, Tmpfs};
pub use place::Place;
pub use temp_dir::TempDir;

/// With this variable set, a skipped test is a failed one. CI sets it.
pub const REQUIRE_ALL: &str = "MANILA_DATA_TEST_REQUIRE_ALL";

/// Why a test cannot run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkipReason(pub String);

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says that a test does not run and why; panics where [`REQUIRE_ALL`] is set.
#[track_caller]
pub fn skip(test_name: &str, reason: &dyn fmt::Display) {
    let required = std::env::var_os(REQUIRE_ALL).is_some_and(|value| !value.is_empty() && value != "0");
    assert!(!required, "{REQUIRE_ALL} is set and `{test_name}` cannot run: {reason}");
    say(&format!("SKIPPED {test_name}: {reason}"));
}

/// Gives what an expression lends, or skips the test that it stands in: `let disk = lend!("name", LoopDisk::new(..));`
#[macro_export]
macro_rules! lend {
    ($test_name:expr, $loan:expr) => {
        match $loan {
            Ok(loan) => loan,
            Err(reason) => {
                $crate::disk::skip($test_name, &reason);
                return;
            }
        }
    };
}

/// Tells whether the test runs as root, as mounts and device nodes need.
pub fn need_root() -> Result<(), SkipReason> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(SkipReason("needs root".into())) }
}

/// Past the capture of the test harness, which would hide it from those who look at a good run.
pub(crate) fn say(line: &str) {
    use std::io::Write as _;
    // A closed stderr is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "{line}");
}
