//! The options of a program with their values.

use std::collections::BTreeMap;

use super::error::{ConfigError, ValueError};
use super::interpolate::{Piece, pieces};
use super::types::{Typed, typed};
use super::{DEFAULT, OptionDef, Origin, Sources};

/// Bytes of a value with everything in its place. Options that name each other twice would double it each time.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// What stands for the value of a secret option.
const MASK: &str = "***";

/// An option as it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    pub group: &'static str,
    pub name: &'static str,
    /// `None`: it has no value. Secrets are masked.
    pub value_shown: Option<String>,
    pub origin: Origin,
}

/// Something that was set and that nobody reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub group: String,
    pub name: String,
    pub origin: Origin,
    /// The option that may have been meant.
    pub nearest: Option<&'static str>,
}

/// An option that is set by an old name, or from which nothing follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub kind: NoticeKind,
    pub origin: Origin,
    /// One line, with what to do.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    OldName,
    Removed,
    /// Other programs that read the same file may need it; worth a line, not a warning.
    NoEffect,
}

/// All options of a program, by their definitions and by what was set.
#[derive(Debug)]
pub struct Values {
    defs: &'static [OptionDef],
    sources: Sources,
}

/// A value with everything in its place.
struct Resolved {
    text: String,
    /// A secret is part of it.
    is_secret: bool,
}

macro_rules! getter {
    ($(#[$doc:meta])* $name:ident, $variant:ident, $type:ty) => {
        $(#[$doc])*
        pub fn $name(&self, group: &str, name: &str) -> Result<Option<$type>, ConfigError> {
            match self.typed(self.def(group, name))? {
                None => Ok(None),
                Some(Typed::$variant(value)) => Ok(Some(value)),
                Some(_) => panic!("`{name}` in [{group}] is defined as another kind"),
            }
        }
    };
}

impl Values {
    pub fn new(defs: &'static [OptionDef], sources: Sources) -> Self {
        Self { defs, sources }
    }

    getter!(
        /// `None` where it has no value. Panics, as all of these, for an option that is not defined as this kind.
        get_str, Str, String
    );
    getter!(get_bool, Bool, bool);
    getter!(get_int, Int, i64);
    getter!(get_float, Float, f64);
    getter!(get_list, List, Vec<String>);
    getter!(get_dict, Dict, BTreeMap<String, String>);
    getter!(get_list_dict, ListDict, BTreeMap<String, Vec<String>>);

    /// Where the value of an option comes from.
    pub fn origin(&self, group: &str, name: &str) -> Origin {
        self.text(self.def(group, name)).1
    }

    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Everything that is wrong with values, so that it can be said at once and at the start. What has no effect is not
    /// worth refusing.
    pub fn errors(&self) -> Vec<ConfigError> {
        let with_effect = self.read_defs().filter(|def| def.no_effect.is_none());
        with_effect.filter_map(|def| self.typed(def).err()).collect()
    }

    /// All options in the order of their definitions.
    pub fn effective(&self) -> Vec<Effective> {
        let effective = |def: &'static OptionDef| {
            let (text, origin) = self.text(def);
            let shown = |text: &str| match self.resolved(def, text) {
                _ if def.secret => MASK.into(),
                Ok(resolved) if resolved.is_secret => MASK.into(),
                Ok(resolved) => resolved.text,
                // What is wrong with it is told by `errors`.
                Err(_) => text.into(),
            };
            Effective { group: def.group, name: def.name, value_shown: text.map(shown), origin }
        };
        self.read_defs().map(effective).collect()
    }

    /// What is set in groups that are the program's own, and is none of its options.
    pub fn unknown(&self, own_groups: &[&str]) -> Vec<Unknown> {
        let mut unknown = Vec::new();
        for (group, name, origin) in self.sources.file_settings() {
            if own_groups.contains(&group) && !self.defs.iter().any(|def| is_called(def, group, name)) {
                unknown.push(Unknown {
                    nearest: self.nearest(group, name),
                    group: group.into(),
                    name: name.into(),
                    origin,
                });
            }
        }
        for variable in self.sources.variables().filter(|name| !self.defs.iter().any(|def| def.variable() == **name)) {
            let words = variable.strip_prefix("OS_").and_then(|words| words.split_once("__"));
            let Some((group_word, name)) = words else { continue };
            let own = own_groups.iter().find(|group| group.to_uppercase().replace('-', "_") == group_word);
            if let Some(&group) = own {
                let name = name.to_lowercase();
                let origin = Origin::Environment(variable.into());
                unknown.push(Unknown { nearest: self.nearest(group, &name), group: group.into(), name, origin });
            }
        }
        unknown
    }

    /// Old names, options that are not read any more, and those without effect, where files set them.
    pub fn notices(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (group, name, origin) in self.sources.file_settings() {
            for def in self.defs {
                let is_now = def.group == group && def.name == name;
                if !is_called(def, group, name) {
                    continue;
                }
                let (kind, text) = match (def.removed, def.no_effect) {
                    (Some(why), _) => {
                        (NoticeKind::Removed, format!("`{name}` in [{group}] has no effect any more: {why}"))
                    }
                    (None, Some(why)) => (NoticeKind::NoEffect, format!("`{name}` in [{group}] has no effect: {why}")),
                    (None, None) if !is_now => {
                        let (new_group, new_name) = (def.group, def.name);
                        let text = format!("`{name}` in [{group}] is an old name; write `{new_name}` in [{new_group}]");
                        (NoticeKind::OldName, text)
                    }
                    (None, None) => continue,
                };
                notices.push(Notice { kind, origin: origin.clone(), text });
            }
        }
        notices
    }

    fn read_defs(&self) -> impl Iterator<Item = &'static OptionDef> {
        self.defs.iter().filter(|def| def.removed.is_none())
    }

    fn find(&self, group: &str, name: &str) -> Option<&'static OptionDef> {
        self.read_defs().find(|def| def.group == group && def.name == name)
    }

    fn def(&self, group: &str, name: &str) -> &'static OptionDef {
        self.find(group, name).unwrap_or_else(|| panic!("`{name}` in [{group}] is not defined"))
    }

    fn text(&self, def: &'static OptionDef) -> (Option<&str>, Origin) {
        match self.sources.text(def) {
            Some((text, origin)) => (Some(text), origin),
            None => (def.default, Origin::Default),
        }
    }

    fn typed(&self, def: &'static OptionDef) -> Result<Option<Typed>, ConfigError> {
        let (text, origin) = self.text(def);
        let Some(text) = text else { return Ok(None) };
        let error = |source| ConfigError::Value { group: def.group, name: def.name, origin: origin.clone(), source };
        let resolved = self.resolved(def, text).map_err(error)?;
        match typed(def.kind, &resolved.text) {
            Ok(Typed::Null) => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(reason) if def.secret || resolved.is_secret => Err(error(ValueError(reason))),
            Err(reason) => Err(error(ValueError(format!("{reason}, not `{}`", resolved.text.escape_debug())))),
        }
    }

    fn resolved(&self, def: &'static OptionDef, text: &str) -> Result<Resolved, ValueError> {
        self.resolve(def.group, text, &mut vec![(def.group.into(), def.name.into())])
    }

    /// Puts the values of options in the place of their names. `path` is who asked for whom, to notice a circle.
    fn resolve(&self, group: &str, text: &str, path: &mut Vec<(String, String)>) -> Result<Resolved, ValueError> {
        let mut resolved = Resolved { text: String::new(), is_secret: false };
        // oslo.config takes both for the sign itself.
        let text = text.replace("\\$", "$$");
        for piece in pieces(&text) {
            match piece {
                Piece::Text(text) => resolved.text.push_str(text),
                Piece::Option(name) => {
                    let named = self.named(group, name, path)?;
                    resolved.text.push_str(&named.text);
                    resolved.is_secret |= named.is_secret;
                }
            }
            if resolved.text.len() > VALUE_BYTES_MAX {
                return Err(ValueError(format!("is longer than {VALUE_BYTES_MAX} bytes with everything in its place")));
            }
        }
        Ok(resolved)
    }

    /// The value behind `$name`: of the same group, else of the top one; or of the group before the dot.
    fn named(&self, group: &str, name: &str, path: &mut Vec<(String, String)>) -> Result<Resolved, ValueError> {
        let places = match name.split_once('.') {
            Some(place) => vec![place],
            None => vec![(group, name), (DEFAULT, name)],
        };
        let ours = |&(group, name): &(_, _)| {
            self.find(group, name).map(|def| (def.group, def.name, self.text(def).0, def.secret))
        };
        // A shared file names options of other services, too.
        let theirs =
            |&(group, name)| self.sources.foreign_text(group, name).map(|text| (group, name, Some(text), false));
        let place = places.iter().find_map(ours).or_else(|| places.iter().find_map(theirs));
        let Some((group, name, text, is_secret)) = place else {
            return Err(ValueError(format!("refers to `${name}`, which is no option; write `$$` for the sign itself")));
        };
        let asked = (group.to_owned(), name.to_owned());
        if path.contains(&asked) {
            return Err(ValueError(format!("refers to itself by `${name}`")));
        }
        path.push(asked);
        // An option without a value leaves nothing, as with oslo.config.
        let mut resolved = self.resolve(group, text.unwrap_or_default(), path)?;
        path.pop();
        resolved.is_secret |= is_secret;
        Ok(resolved)
    }

    /// The option of the group whose name is most like this one, if any is like it at all.
    fn nearest(&self, group: &str, name: &str) -> Option<&'static str> {
        let near = self.read_defs().filter(|def| def.group == group);
        let near = near.map(|def| (strsim::damerau_levenshtein(def.name, name), def.name));
        near.filter(|(distance, _)| *distance <= 1 + name.len() / 4).min().map(|(_, name)| name)
    }
}

/// Whether a setting is this option, by its name or an old one.
fn is_called(def: &OptionDef, group: &str, name: &str) -> bool {
    std::iter::once(&(def.group, def.name)).chain(def.deprecated).any(|called| *called == (group, name))
}
