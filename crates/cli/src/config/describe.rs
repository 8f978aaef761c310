//! The table of options as a text: a sample file. The page of the documentation is made from it in a test.

use std::fmt::Write as _;

use oslo::config::{Kind, OptionDef};

use super::options::{OPTIONS, of_named};

const COLUMNS: usize = 100;

const GROUPS: [(&str, &str); 6] = [
    ("DEFAULT", "The service as a whole, and its log."),
    ("data_service", "Jobs: how many, how long, and how their workers are kept in."),
    ("api", "The REST interface."),
    (
        "hook:NAME",
        "A program that makes the source of a migration read-only; there may be any number, each with its name.",
    ),
    ("repository:NAME", "A repository of backups that jobs may name; there may be any number, each with its name."),
    ("schedule:NAME", "A job that is made again and again; there may be any number, each with its name."),
];

fn options_of(group: &str) -> Vec<OptionDef> {
    if let Some(options) = of_named(group) {
        return options.to_vec();
    }
    OPTIONS.iter().filter(|def| def.group == group).copied().collect()
}

/// A file with every option at its default, commented out.
pub fn sample() -> String {
    let mut text = String::from(
        "# Configuration of manila-data: /etc/manila-data/manila-data.conf\n\
         # Every option is shown at its default. A line that is indented continues the one before; there are no comments\n\
         # after a value; `$name` is the value of another option, `$$` a dollar sign.\n",
    );
    for (group, about) in GROUPS {
        // `NAME` is no name that somebody gave.
        let comment = if of_named(group).is_some() { "#" } else { "" };
        let _ = writeln!(text, "\n{comment}[{group}]\n# {about}");
        for def in options_of(group) {
            text.push('\n');
            for line in wrapped(&explained(&def), COLUMNS - 2) {
                let _ = writeln!(text, "# {line}");
            }
            let _ = writeln!(text, "#{} = {}", def.name, def.default.unwrap_or_default());
        }
    }
    text
}

fn explained(def: &OptionDef) -> String {
    match def.kind {
        Kind::Int { min, max } => format!("{} From {min} to {max}.", def.help),
        Kind::List => format!("{} A list, with commas between its items.", def.help),
        _ => def.help.to_owned(),
    }
}

fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a first line");
        if !line.is_empty() && line.len() + 1 + word.len() > columns {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::{NAMED, is_reloaded};

    /// The page `docs/configuration.md`.
    fn reference() -> String {
        let mut text = String::from(
            "# Configuration\n\n\
             This page is made from the program's own table of options (`manila-data config sample` prints the same as a file); \
             a test compares both.\n\n\
             The service reads `/etc/manila-data/manila-data.conf` if it exists. \
             `--config-file FILE` and `--config-dir DIR` (all `*.conf` in it, by name) replace it; \
             files are read first, then directories, and later ones win.\n\
             The environment wins over files: `OS_<GROUP>__<OPTION>`, in capitals, such as `OS_DATA_SERVICE__JOBS_MAX=2`.\n\
             The command line wins over both: `--option jobs_max=2`.\n\
             `manila-data config show` prints the values in force and where each comes from, with secrets masked.\n\n\
             The syntax is that of oslo.config: `[group]`, `name = value`, comments in lines of their own, \
             indented lines continue a value, `$name` stands for another option, `$$` for a dollar sign.\n\
             Sizes have units: `k`, `M`, `G`, `T` are powers of 1000, `Ki`, `Mi`, `Gi`, `Ti` of 1024.\n\n\
             Options marked with * take effect at once when the service gets SIGHUP; tokens, certificates and the log file \
             are read again, too. All others need a restart.\n",
        );
        for (group, about) in GROUPS {
            let _ = writeln!(text, "\n## [{group}]\n\n{about}\n\n| option | default | meaning |\n|---|---|---|");
            for def in options_of(group) {
                let mark = if is_reloaded(def.group, def.name) { " *" } else { "" };
                let default = match def.default {
                    None | Some("") => String::new(),
                    Some(default) => format!("`{default}`"),
                };
                let _ =
                    writeln!(text, "| `{}`{mark} | {default} | {} |", def.name, explained(&def).replace('|', "\\|"));
            }
        }
        text
    }

    #[test]
    fn every_option_is_explained_in_whole_sentences() {
        for def in OPTIONS.iter().chain(NAMED.into_iter().flat_map(|(_, options)| options)) {
            assert!(def.help.ends_with('.') && !def.help.contains('\n'), "{}", def.name);
            assert!(GROUPS.iter().any(|(group, _)| group.trim_end_matches("NAME") == def.group), "{}", def.group);
        }
        for (group, name) in super::super::options::RELOADED {
            assert!(OPTIONS.iter().any(|def| (def.group, def.name) == (group, name)), "[{group}] {name}");
        }
    }

    #[test]
    fn no_line_of_the_sample_is_too_long() {
        assert!(sample().lines().all(|line| line.len() <= 120));
    }

    /// `UPDATE_SNAPSHOTS=1` accepts a change.
    #[test]
    fn the_page_of_the_documentation_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
            std::fs::write(path, reference()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(page, reference(), "UPDATE_SNAPSHOTS=1 accepts the change");
    }
}
