//! `--config-file` and `--config-dir`, in the order in which they stand on the command line: the later one wins.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint, value_parser};
use oslo::config::Location;

use super::CONFIGURATION;

const FILE: &str = "config_file";
const DIR: &str = "config_dir";

/// Files and directories of the configuration that somebody names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locations(pub Vec<Location>);

impl FromArgMatches for Locations {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut found = Vec::new();
        for (id, location) in [(FILE, Location::File as fn(PathBuf) -> Location), (DIR, Location::Dir)] {
            let paths = matches.get_many::<PathBuf>(id).into_iter().flatten();
            found.extend(matches.indices_of(id).into_iter().flatten().zip(paths.cloned().map(location)));
        }
        found.sort_by_key(|(index, _)| *index);
        Ok(Self(found.into_iter().map(|(_, location)| location).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Locations {
    fn augment_args(command: Command) -> Command {
        let arg = |id: &'static str, flag: &'static str, value: &'static str, hint, help: &'static str| {
            Arg::new(id)
                .long(flag)
                .value_name(value)
                .value_hint(hint)
                .value_parser(value_parser!(PathBuf))
                .action(ArgAction::Append)
                .help_heading(CONFIGURATION)
                .help(help)
        };
        command
            .arg(arg(
                FILE,
                "config-file",
                "FILE",
                ValueHint::FilePath,
                "Read FILE instead of the default one; may be repeated, what stands later wins",
            ))
            .arg(arg(
                DIR,
                "config-dir",
                "DIR",
                ValueHint::DirPath,
                "Read all *.conf files of DIR in the order of their names; may be repeated",
            ))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_command_line_is_kept() {
        let command = Locations::augment_args(Command::new("x"));
        let words = "x --config-file a --config-dir b --config-file=c --config-dir d";
        let matches = command.try_get_matches_from(words.split(' ')).expect("parses");
        let found = Locations::from_arg_matches(&matches).expect("reads").0;
        let expected = [
            Location::File("a".into()),
            Location::Dir("b".into()),
            Location::File("c".into()),
            Location::Dir("d".into()),
        ];
        assert_eq!(found, expected);
    }
}
