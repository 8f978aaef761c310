//! Tables on standard output: columns of plain text, cut to the terminal where there is one.

use std::io::IsTerminal as _;

use comfy_table::{ContentArrangement, Table, presets};

/// Rows below their headings. What a cell holds must be safe to print.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    if let Some(columns) = terminal_columns() {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    for row in rows {
        table.add_row(row);
    }
    // Every column has its padding, which the last one does not need and the first one must not have.
    let lines = table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// Programs that read the lines get them whole.
fn terminal_columns() -> Option<u16> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(stdout).ok().map(|size| size.ws_col).filter(|columns| *columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_have_no_frame() {
        let rows = [vec!["a".to_owned(), "bcd".to_owned()], vec!["long word".to_owned(), "e".to_owned()]];
        assert_eq!(table(&["X", "Y"], rows), "X          Y\na          bcd\nlong word  e");
    }
}
