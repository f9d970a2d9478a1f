//! Reads a batch file: TOML, and the keys that may be in it. What can be read is read, so that all
//! mistakes are told at once.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;

use boxbuild_host::arch::Arch;
use boxbuild_host::nearest::{TYPO, nearest};
use toml::de::{DeTable, DeValue};

use super::file::{
    ArchName, Axis, BatchFile, Entry, Matrix, Options, Override, Profiles, Selector, Spanned, Test,
    Value,
};
use super::mistakes::Mistakes;
use super::option_tables::Table;
use super::template::{self, Place};
use crate::args::MOST_JOBS;

const OF_FILE: &[&str] = &[
    "jobs", "log-dir", "name", "defaults", "matrix", "exclude", "override", "build",
];
const OF_ENTRY: &[&str] = &[
    "name",
    "description",
    "profile",
    "type",
    "box",
    "arch",
    "target-dir",
    "options",
    "build-args",
    "test",
];
const OF_MATRIX: &[&str] = &["description", "profile", "type", "box", "arch"];
const OF_SELECTOR: &[&str] = &["name", "description", "profile", "type", "box", "arch"];
const OF_OVERRIDE: &[&str] = &["match", "target-dir", "options", "build-args", "test"];

/// Reads the batch file `text`.
pub(super) fn read(text: &str, mistakes: &mut Mistakes<'_>) -> BatchFile {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let message = format!("not TOML: {}", error.message());
        mistakes.add(&error.span().unwrap_or_default(), message);
    }
    let mut decoder = Decoder { mistakes };
    let fields = decoder.fields(table.get_ref(), OF_FILE, "in a batch file");
    let entry = |decoder: &mut Decoder<'_, '_>, value| decoder.entry(value, "[[build]]");
    let mut file = BatchFile {
        jobs: fields.get("jobs").and_then(|value| decoder.jobs(value)),
        log_dir: decoder.text(&fields, "log-dir").map(PathBuf::from),
        name: decoder.template(&fields, "name", Place::Name),
        defaults: fields
            .get("defaults")
            .and_then(|value| decoder.entry(value, "[defaults]"))
            .map(Spanned::into_inner)
            .unwrap_or_default(),
        matrix: fields.get("matrix").and_then(|value| decoder.matrix(value)),
        exclude: decoder.tables(&fields, "exclude", Decoder::exclude),
        overrides: decoder.tables(&fields, "override", Decoder::change),
        builds: decoder.tables(&fields, "build", entry),
    };
    // What is missing may be where it cannot be read.
    file.defaults.damaged |= !errors.is_empty();
    file
}

/// The values of a table, by their keys.
type Fields<'t> = BTreeMap<&'static str, &'t Found<'t>>;
type Found<'t> = Spanned<DeValue<'t>>;

struct Decoder<'m, 'a> {
    mistakes: &'m mut Mistakes<'a>,
}

impl Decoder<'_, '_> {
    /// Returns the values of keys in `known`; those of misspelt keys, too, under the right ones.
    fn fields<'t>(
        &mut self,
        table: &'t DeTable<'t>,
        known: &'static [&'static str],
        place: &str,
    ) -> Fields<'t> {
        let find = |key: &str| known.iter().find(|known| **known == key).copied();
        let mut fields: Fields<'t> = table
            .iter()
            .filter_map(|(key, value)| Some((find(key.get_ref())?, value)))
            .collect();
        for (key, value) in table.iter() {
            let name = key.get_ref();
            if find(name).is_some() {
                continue;
            }
            // Of a short word, two edits make any other.
            let edits = TYPO.min(name.chars().count() / 3);
            let near = nearest(name, known.iter().copied(), edits).and_then(find);
            let hint = near.map_or_else(
                || format!("; keys here: {}", known.join(", ")),
                |near| format!("; did you mean '{near}'?"),
            );
            let message = format!("there is no key '{name}' {place}{hint}");
            self.mistakes.add(&key.span(), message);
            if let Some(near) = near {
                fields.entry(near).or_insert(value);
            }
        }
        fields
    }

    fn expected(&mut self, value: &Found<'_>, key: &str, what: &str) {
        let found = value.get_ref().type_str();
        self.mistakes.add(
            &value.span(),
            format!("{key}: {what} is expected, not {}", article(found)),
        );
    }

    fn table<'t>(&mut self, value: &'t Found<'t>, key: &str) -> Option<&'t DeTable<'t>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.expected(value, key, "a table");
        }
        table
    }

    /// Returns what `read` makes of each table of an array of tables.
    fn tables<'t, T>(
        &mut self,
        fields: &Fields<'t>,
        key: &'static str,
        mut read: impl FnMut(&mut Self, &'t Found<'t>) -> Option<Spanned<T>>,
    ) -> Vec<Spanned<T>> {
        match fields.get(key).map(|value| (value, value.get_ref())) {
            None => Vec::new(),
            Some((_, DeValue::Array(items))) => {
                items.iter().filter_map(|item| read(self, item)).collect()
            }
            Some((value, _)) => {
                let what = format!("[[{key}]], with two brackets,");
                self.expected(value, key, &what);
                Vec::new()
            }
        }
    }

    fn text(&mut self, fields: &Fields<'_>, key: &'static str) -> Option<String> {
        self.spanned(fields, key).map(Spanned::into_inner)
    }

    fn spanned(&mut self, fields: &Fields<'_>, key: &'static str) -> Option<Spanned<String>> {
        let value = *fields.get(key)?;
        self.word(value, key)
            .map(|text| Spanned::new(value.span(), text))
    }

    fn word(&mut self, value: &Found<'_>, key: &str) -> Option<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.expected(value, key, "a text in quotes");
        }
        text
    }

    fn template(
        &mut self,
        fields: &Fields<'_>,
        key: &'static str,
        place: Place,
    ) -> Option<Spanned<String>> {
        let text = self.spanned(fields, key)?;
        for problem in template::problems(text.get_ref(), place) {
            self.mistakes.add(&text.span(), format!("{key}: {problem}"));
        }
        Some(text)
    }

    fn jobs(&mut self, value: &Found<'_>) -> Option<NonZeroUsize> {
        let Some(text) = number(value.get_ref()) else {
            self.expected(value, "jobs", "a whole number");
            return None;
        };
        let jobs = text.parse().ok();
        let jobs = jobs.filter(|jobs: &NonZeroUsize| jobs.get() <= MOST_JOBS);
        if jobs.is_none() {
            let message = format!("jobs: {text} is not a whole number from 1 to {MOST_JOBS}");
            self.mistakes.add(&value.span(), message);
        }
        jobs
    }

    fn arch(&mut self, value: &Found<'_>) -> Option<ArchName> {
        let name = self.word(value, "arch")?;
        match name.parse::<Arch>() {
            Ok(arch) => Some(ArchName(arch)),
            Err(error) => {
                self.mistakes.add(&value.span(), format!("arch: {error}"));
                None
            }
        }
    }

    fn profiles(&mut self, value: &Found<'_>) -> Option<Profiles> {
        let items = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        let mut names = Vec::new();
        for item in items {
            names.push(self.word(item, "profile")?);
        }
        names.retain(|name| !name.is_empty());
        // kiwi takes them as a set.
        names.sort();
        names.dedup();
        Some(Profiles(names))
    }

    /// Returns the values of an axis of the matrix.
    fn axis<'t, T>(
        &mut self,
        fields: &Fields<'t>,
        key: &'static str,
        mut item: impl FnMut(&mut Self, &'t Found<'t>) -> Option<T>,
    ) -> Axis<T> {
        let Some(value) = fields.get(key) else {
            return Axis::default();
        };
        let items: Vec<&Found<'t>> = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        if items.is_empty() {
            let message =
                format!("{key}: an empty list: nothing would be built; leave the key out");
            self.mistakes.add(&value.span(), message);
        }
        Axis(items.iter().filter_map(|value| item(self, value)).collect())
    }

    fn entry(&mut self, value: &Found<'_>, place: &str) -> Option<Spanned<Entry>> {
        let table = self.table(value, place)?;
        let before = self.mistakes.count();
        let fields = self.fields(table, OF_ENTRY, &format!("in {place}"));
        let mut entry = Entry {
            name: self.template(&fields, "name", Place::Name),
            description: self.spanned(&fields, "description"),
            profile: fields.get("profile").and_then(|value| self.profiles(value)),
            image_type: self.text(&fields, "type"),
            box_name: self.spanned(&fields, "box"),
            arch: fields.get("arch").and_then(|value| self.arch(value)),
            target_dir: self.template(&fields, "target-dir", Place::Target),
            damaged: false,
            options: Options::new(),
            build_args: Options::new(),
            test: None,
        };
        entry.damaged = self.mistakes.count() > before;
        entry.test = fields.get("test").and_then(|value| self.test(value));
        entry.options = self.options(&fields, Table::Options);
        entry.build_args = self.options(&fields, Table::BuildArgs);
        Some(Spanned::new(value.span(), entry))
    }

    fn matrix(&mut self, value: &Found<'_>) -> Option<Spanned<Matrix>> {
        let table = self.table(value, "[matrix]")?;
        let before = self.mistakes.count();
        let fields = self.fields(table, OF_MATRIX, "in [matrix]");
        let named = |key: &'static str| {
            move |decoder: &mut Self, value: &Found<'_>| {
                let text = decoder.word(value, key)?;
                Some(Spanned::new(value.span(), text))
            }
        };
        let mut matrix = Matrix {
            description: self.axis(&fields, "description", named("description")),
            profile: self.axis(&fields, "profile", Self::profiles),
            image_type: self.axis(&fields, "type", |decoder, value| {
                decoder.word(value, "type")
            }),
            box_name: self.axis(&fields, "box", named("box")),
            arch: self.axis(&fields, "arch", Self::arch),
            damaged: false,
        };
        matrix.damaged = self.mistakes.count() > before;
        Some(Spanned::new(value.span(), matrix))
    }

    fn exclude(&mut self, value: &Found<'_>) -> Option<Spanned<Selector>> {
        let selector = self.selector(value, "[[exclude]]")?;
        Some(Spanned::new(value.span(), selector))
    }

    fn selector(&mut self, value: &Found<'_>, place: &str) -> Option<Selector> {
        let table = self.table(value, place)?;
        let before = self.mistakes.count();
        let fields = self.fields(table, OF_SELECTOR, &format!("in {place}"));
        let mut selector = Selector {
            name: self.text(&fields, "name"),
            description: self.text(&fields, "description"),
            profile: fields.get("profile").and_then(|value| self.profiles(value)),
            image_type: self.text(&fields, "type"),
            box_name: self.text(&fields, "box"),
            arch: fields.get("arch").and_then(|value| self.arch(value)),
            damaged: false,
        };
        selector.damaged = self.mistakes.count() > before;
        Some(selector)
    }

    fn change(&mut self, value: &Found<'_>) -> Option<Spanned<Override>> {
        let table = self.table(value, "[[override]]")?;
        let fields = self.fields(table, OF_OVERRIDE, "in [[override]]");
        let selector = match fields.get("match") {
            Some(value) => self.selector(value, "match"),
            None => {
                let message =
                    "[[override]]: no match is given: write e.g. match.arch = \"aarch64\"";
                self.mistakes.add(&value.span(), message);
                None
            }
        };
        let change = Override {
            selector: selector.unwrap_or_else(|| Selector {
                damaged: true,
                ..Selector::default()
            }),
            target_dir: self.template(&fields, "target-dir", Place::Target),
            options: self.options(&fields, Table::Options),
            build_args: self.options(&fields, Table::BuildArgs),
            test: fields.get("test").and_then(|value| self.test(value)),
        };
        Some(Spanned::new(value.span(), change))
    }

    /// Returns what is said of a test: `true`, `false`, or a table with its options.
    fn test(&mut self, value: &Found<'_>) -> Option<Spanned<Test>> {
        let test = match value.get_ref() {
            DeValue::Boolean(true) => Test::With(Options::new()),
            DeValue::Boolean(false) => Test::No,
            DeValue::Table(table) => Test::With(self.given(table, Table::Test)),
            _ => {
                self.expected(value, "test", "true, false or a table of options");
                return None;
            }
        };
        Some(Spanned::new(value.span(), test))
    }

    /// Returns the options in a table of options that may be in it.
    fn options(&mut self, fields: &Fields<'_>, table: Table) -> Options {
        let Some(value) = fields.get(table.key()) else {
            return Options::new();
        };
        match self.table(value, table.key()) {
            Some(given) => self.given(given, table),
            None => Options::new(),
        }
    }

    /// Returns those of a table.
    fn given(&mut self, given: &DeTable<'_>, table: Table) -> Options {
        let mut options = Options::new();
        for (name, value) in given {
            let span = value.span();
            if let Some(problem) = table.problem_with(name.get_ref()) {
                self.mistakes.add(&name.span(), problem);
            } else if let Some(value) = self.value(value, &format!("{table}.{}", name.get_ref())) {
                options.insert(name.get_ref().to_string(), Spanned::new(span, value));
            }
        }
        options
    }

    fn value(&mut self, value: &Found<'_>, key: &str) -> Option<Value> {
        match value.get_ref() {
            DeValue::Boolean(given) => Some(Value::Flag(*given)),
            DeValue::Array(items) => {
                let mut words = Vec::new();
                for item in items.iter() {
                    words.push(self.word(item, key)?);
                }
                Some(Value::Words(words))
            }
            DeValue::String(text) => Some(Value::Words(vec![text.to_string()])),
            other => match number(other) {
                Some(text) => Some(Value::Words(vec![text])),
                None => {
                    let what = "a text, a whole number, true, false, or a list of texts";
                    self.expected(value, key, what);
                    None
                }
            },
        }
    }
}

/// A whole number in digits; one beyond all limits, as it is written.
fn number(value: &DeValue<'_>) -> Option<String> {
    let integer = value.as_integer()?;
    let number = i64::from_str_radix(integer.as_str(), integer.radix());
    Some(number.map_or_else(|_| integer.to_string(), |number| number.to_string()))
}

/// The name of a type of TOML with its article.
fn article(name: &str) -> String {
    let vowel = name.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {name}", if vowel { "an" } else { "a" })
}

/// A span of nothing, for what is of the whole file.
pub(super) const NOWHERE: Range<usize> = 0..0;

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
        let mut mistakes = Mistakes::of(text);
        let file = read(text, &mut mistakes);
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
        assert_eq!(mistakes.line_of(&options["no-accel"].span()), 6);
        let line = mistakes.line_of(&file.builds[0].span());
        assert!((15..=17).contains(&line), "{line}");
        let description = file.builds[0].get_ref().description.as_ref();
        assert_eq!(description.map(|text| text.get_ref().as_str()), Some("c"));
        assert_eq!(mistakes.into_list().0, []);
    }
}
