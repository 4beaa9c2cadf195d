//! The settings as command-line flags: the flags of each command, and the values that were given.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::settings::{self, SEPARATOR, Setting, variable};

/// The flags of a command that starts a server, with their values.
#[derive(Debug, Clone, Default)]
pub struct Flags(pub(super) BTreeMap<&'static str, String>);

/// The subset of flags for collections and their indexes, for commands that start no server.
#[derive(Debug, Clone, Default)]
pub struct IndexFlags(pub Flags);

/// The settings of [`IndexFlags`].
const OF_INDEXES: [&str; 5] = ["config", "data_dir", "cpu", "ef_construction", "sketches"];

impl Flags {
    /// Returns true if this setting was given as a flag.
    pub fn give(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    fn augment<'a>(command: Command, settings: impl Iterator<Item = &'a Setting>) -> Command {
        settings.fold(command, |command, setting| {
            let default = match setting.default {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            let arg = Arg::new(setting.key)
                .long(setting.key.replace('_', "-"))
                .value_name(setting.value)
                .help(format!("{}{default} [env: {}]", setting.help, variable(setting.key)));
            let arg = if setting.value == "BOOL" { arg.num_args(0..=1).default_missing_value("true") } else { arg };
            command.arg(if setting.repeats() { arg.action(ArgAction::Append) } else { arg })
        })
    }

    fn given<'a>(matches: &ArgMatches, settings: impl Iterator<Item = &'a Setting>) -> Self {
        let values = |setting: &Setting| {
            let values: Vec<&str> = matches.get_many::<String>(setting.key)?.map(String::as_str).collect();
            Some((setting.key, values.join(&SEPARATOR.to_string())))
        };
        Self(settings.filter_map(values).collect())
    }
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        Self::augment(command, settings::all())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self::given(matches, settings::all()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn of_indexes() -> impl Iterator<Item = &'static Setting> {
    settings::all().filter(|setting| OF_INDEXES.contains(&setting.key))
}

impl clap::Args for IndexFlags {
    fn augment_args(command: Command) -> Command {
        Flags::augment(command, of_indexes())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for IndexFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Flags::given(matches, of_indexes())))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_indexes_are_settings() {
        assert_eq!(of_indexes().count(), OF_INDEXES.len());
    }
}
