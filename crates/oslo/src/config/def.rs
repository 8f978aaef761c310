//! What is known of an option before any file is read.

/// How the text of a value is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text.
    Str,
    /// `true 1 yes on`, `false 0 no off`, in any case.
    Bool,
    /// A decimal number within bounds. Empty: no value.
    Int { min: i64, max: i64 },
    /// A decimal fraction.
    Float,
    /// `a, b, c`. There is no quoting.
    List,
    /// `key:value, key:value`. A value cannot hold a comma.
    Dict,
    /// `key:[a, b], key:[c]`.
    ListDict,
}

impl Kind {
    /// A number without bounds.
    pub const INT: Self = Self::Int { min: i64::MIN, max: i64::MAX };
}

/// An option: its name, its kind, and what holds where nobody sets it. Made as a constant:
///
/// ```
/// use oslo::config::{Kind, OptionDef};
/// const STATE_PATH: OptionDef = OptionDef::new("DEFAULT", "state_path", Kind::Str)
///     .default("/var/lib/manila-data")
///     .help("Directory for everything that must outlive the service.");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptionDef {
    pub group: &'static str,
    /// With underscores, as in files.
    pub name: &'static str,
    pub kind: Kind,
    /// As a file would have it, `$interpolation` too.
    pub default: Option<&'static str>,
    /// Never shown.
    pub secret: bool,
    pub help: &'static str,
    /// Group and name of earlier days, which are still read from files.
    pub deprecated: &'static [(&'static str, &'static str)],
    /// Not read any more, and why, or what to use instead. Setting it is no error.
    pub removed: Option<&'static str>,
    /// Read and shown, but nothing follows from it, and why. For files that several programs read.
    pub no_effect: Option<&'static str>,
}

impl OptionDef {
    pub const fn new(group: &'static str, name: &'static str, kind: Kind) -> Self {
        Self {
            group,
            name,
            kind,
            default: None,
            secret: false,
            help: "",
            deprecated: &[],
            removed: None,
            no_effect: None,
        }
    }

    #[must_use]
    pub const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    #[must_use]
    pub const fn help(mut self, text: &'static str) -> Self {
        self.help = text;
        self
    }

    #[must_use]
    pub const fn deprecated(mut self, names: &'static [(&'static str, &'static str)]) -> Self {
        self.deprecated = names;
        self
    }

    #[must_use]
    pub const fn removed(mut self, explanation: &'static str) -> Self {
        self.removed = Some(explanation);
        self
    }

    #[must_use]
    pub const fn no_effect(mut self, reason: &'static str) -> Self {
        self.no_effect = Some(reason);
        self
    }

    /// The variable of the environment that sets it.
    pub fn variable(&self) -> String {
        let word = |text: &str| text.to_uppercase().replace('-', "_");
        format!("OS_{}__{}", word(self.group), word(self.name))
    }
}
