//! An error as people see it: what failed, why, and after a blank line what to do.

use super::console::Console;
use crate::error::CliError;

pub fn show(console: &Console, error: &CliError) {
    console.error(&error.headline());
    for cause in error.causes() {
        console.line(&format!("  caused by: {cause}"));
    }
    if let Some(hint) = error.hint() {
        console.line("");
        console.line(&format!("{} {hint}", console.palette.note("hint:")));
    }
}
