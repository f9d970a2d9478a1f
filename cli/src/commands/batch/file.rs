//! The batch file, as typed (docs/batch.md). Mistakes are reported with their line.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
pub(super) use toml::Spanned;

use boxbuild_host::arch::Arch;

/// Options with their values, by their names without the dashes.
pub(super) type Options = BTreeMap<String, Spanned<Value>>;

/// A batch file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct BatchFile {
    /// How many builds run at once.
    pub(super) jobs: Option<NonZeroUsize>,
    /// Folder for the logs.
    pub(super) log_dir: Option<PathBuf>,
    /// Template for the names of the matrix's builds.
    pub(super) name: Option<Spanned<String>>,
    /// Values for everything that a build leaves out.
    #[serde(default)]
    pub(super) defaults: Entry,
    /// Axes; every combination is a build.
    pub(super) matrix: Option<Spanned<Matrix>>,
    /// Combinations that are left out.
    #[serde(default)]
    pub(super) exclude: Vec<Spanned<Selector>>,
    /// Changes to some builds.
    #[serde(default, rename = "override")]
    pub(super) overrides: Vec<Spanned<Override>>,
    /// Single builds.
    #[serde(default, rename = "build")]
    pub(super) builds: Vec<Spanned<Entry>>,
}

/// A build, or the defaults for builds.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Entry {
    /// Its name.
    pub(super) name: Option<Spanned<String>>,
    /// Folder with the image description.
    pub(super) description: Option<String>,
    /// Profiles of the description.
    pub(super) profile: Option<Profiles>,
    /// Image type.
    #[serde(rename = "type")]
    pub(super) image_type: Option<String>,
    /// The box to build in.
    #[serde(rename = "box")]
    pub(super) box_name: Option<String>,
    /// Its architecture.
    pub(super) arch: Option<ArchName>,
    /// Its target folder; a template.
    pub(super) target_dir: Option<Spanned<String>>,
    /// Options of boxbuild.
    #[serde(default)]
    pub(super) options: Options,
    /// Options of `kiwi-ng system build`.
    #[serde(default)]
    pub(super) build_args: Options,
}

/// The axes of the matrix.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Matrix {
    #[serde(default)]
    pub(super) description: Axis<String>,
    #[serde(default)]
    pub(super) profile: Axis<Profiles>,
    #[serde(default, rename = "type")]
    pub(super) image_type: Axis<String>,
    #[serde(default, rename = "box")]
    pub(super) box_name: Axis<String>,
    #[serde(default)]
    pub(super) arch: Axis<ArchName>,
}

/// Selects the builds that agree in everything that it names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selector {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) profile: Option<Profiles>,
    #[serde(rename = "type")]
    pub(super) image_type: Option<String>,
    #[serde(rename = "box")]
    pub(super) box_name: Option<String>,
    pub(super) arch: Option<ArchName>,
}

/// Changes to the builds that `match` selects.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Override {
    /// The builds.
    #[serde(rename = "match")]
    pub(super) selector: Selector,
    pub(super) target_dir: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) options: Options,
    #[serde(default)]
    pub(super) build_args: Options,
}

/// The values of an axis: a list, or one value.
#[derive(Debug)]
pub(super) struct Axis<T>(pub(super) Vec<T>);

impl<T> Default for Axis<T> {
    fn default() -> Axis<T> {
        Axis(Vec::new())
    }
}

/// An architecture by any of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct ArchName(pub(super) Arch);

impl TryFrom<String> for ArchName {
    type Error = boxbuild_host::arch::UnknownArch;

    fn try_from(name: String) -> Result<ArchName, Self::Error> {
        name.parse().map(ArchName)
    }
}

/// Profiles that are selected together: one name, a list, or none (an empty name or list).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Profiles(pub(super) Vec<String>);

/// The value of an option in a batch file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A flag, given or not.
    Flag(bool),
    /// One value, or several of an option that repeats.
    Words(Vec<String>),
}

/// Reads one value or a list of them.
struct OneOrMany<T> {
    expecting: &'static str,
    item: std::marker::PhantomData<T>,
}

impl<T> OneOrMany<T> {
    fn new(expecting: &'static str) -> OneOrMany<T> {
        OneOrMany {
            expecting,
            item: std::marker::PhantomData,
        }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        T::deserialize(de::value::StrDeserializer::new(text)).map(|value| vec![value])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(values)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Axis<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Axis<T>, D::Error> {
        let values = deserializer.deserialize_any(OneOrMany::new("a name or a list of names"))?;
        if values.is_empty() {
            return Err(de::Error::custom(
                "an empty list: nothing would be built; leave the key out",
            ));
        }
        Ok(Axis(values))
    }
}

impl<'de> Deserialize<'de> for Profiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Profiles, D::Error> {
        let mut names: Vec<String> =
            deserializer.deserialize_any(OneOrMany::new("a profile or a list of profiles"))?;
        names.retain(|name| !name.is_empty());
        // kiwi takes them as a set.
        names.sort();
        names.dedup();
        Ok(Profiles(names))
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word, a whole number, true, false, or a list of words")
            }

            fn visit_bool<E>(self, given: bool) -> Result<Value, E> {
                Ok(Value::Flag(given))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Words(vec![number.to_string()]))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Words(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Value, A::Error> {
                OneOrMany::new("a list of words")
                    .visit_seq(list)
                    .map(Value::Words)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Parses a batch file.
///
/// # Errors
/// Fails with a message that shows the line.
pub(super) fn parse(text: &str) -> Result<BatchFile, String> {
    toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
}

/// Returns the number of the line, from 1, that a span begins in.
pub(super) fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = &text.as_bytes()[..span.start.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file() {
        let text = r#"
            jobs = 2
            name = "{description}"
            [defaults]
            box = "debian"
            options = { box-memory = 4, no-accel = true, setenv = ["A=1", "B=2"] }
            [matrix]
            description = ["a", "b"]
            profile = ["", "P", ["Q", "P"]]
            arch = "arm64"
            [[exclude]]
            profile = ["P", "Q"]
            [[override]]
            match.arch = "aarch64"
            options.timeout = "6h"
            [[build]]
            name = "other"
            description = "c"
        "#;
        let file = parse(text).unwrap();
        let matrix = file.matrix.unwrap().into_inner();
        assert_eq!(matrix.arch.0, [ArchName(Arch::Aarch64)]);
        let both = Profiles(vec!["P".to_owned(), "Q".to_owned()]);
        assert_eq!(matrix.profile.0[2], both);
        assert_eq!(matrix.profile.0[0], Profiles::default());
        assert_eq!(file.exclude[0].get_ref().profile, Some(both));
        let options = &file.defaults.options;
        assert_eq!(
            *options["box-memory"].get_ref(),
            Value::Words(vec!["4".into()])
        );
        assert_eq!(*options["no-accel"].get_ref(), Value::Flag(true));
        let span = file.builds[0].span();
        assert!((15..=17).contains(&line_of(text, &span)), "{span:?}");
        assert_eq!(file.builds[0].get_ref().description.as_deref(), Some("c"));
    }

    #[test]
    fn a_mistake_is_reported_with_its_line() {
        let cases = [
            ("jobs = 0", 1, "nonzero"),
            ("\njob = 1", 2, "`job`"),
            ("[matrix]\ndescripton = ['a']", 2, "descripton"),
            ("[matrix]\narch = ['x86_64', 'vax']", 2, "vax"),
            ("[matrix]\ndescription = []", 2, "empty list"),
            ("[matrix]\ndescription = 7", 2, "a name or a list"),
            ("[[exclude]]\nprofiles = 'x'", 2, "profiles"),
            ("[[override]]\noptions.timeout = '1h'", 1, "match"),
            ("[[build]]\nname = 'a'\nfoo = 1", 3, "foo"),
            ("[defaults]\noptions.timeout = 1.5", 2, "whole number"),
            ("[defaults]\nbox = 'a'\nbox = 'b'", 3, "duplicate"),
            ("[defaults\n", 1, "]"),
        ];
        for (text, line, what) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(&format!("line {line},")), "{text}: {error}");
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
