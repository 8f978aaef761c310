//! Runs a copy or a comparison on threads.

use crate::error::CopyError;
use crate::monitor::Monitor;
use crate::options::{CompareOptions, CopyOptions};
use crate::report::{CompareReport, CopyReport};
use crate::stop::StopToken;
use crate::throttle::Throttle;
use crate::tree::{DestTree, SourceTree};

/// What a run works with; all of it belongs to the caller.
#[derive(Clone, Copy)]
pub struct CopyContext<'a> {
    pub source: &'a dyn SourceTree,
    pub dest: &'a dyn DestTree,
    pub monitor: &'a dyn Monitor,
    pub stop: &'a StopToken,
    /// The caller may change its rates while the run goes on.
    pub throttle: &'a Throttle,
}

impl std::fmt::Debug for CopyContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyContext").field("source", &self.source).field("dest", &self.dest).finish_non_exhaustive()
    }
}

/// Makes the destination hold what the source holds.
pub fn copy_tree(_cx: &CopyContext<'_>, _options: &CopyOptions) -> Result<CopyReport, CopyError> {
    unimplemented!()
}

/// Compares the destination with the source, and changes neither.
pub fn compare_trees(_cx: &CopyContext<'_>, _options: &CompareOptions) -> Result<CompareReport, CopyError> {
    unimplemented!()
}
