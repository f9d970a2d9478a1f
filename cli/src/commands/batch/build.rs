//! A build of a batch: what the batch file says about it, and its command line.

use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;

use super::file::{ArchName, Entry, Options, Override, Profiles, Selector, Spanned, Test, Value};
use super::option_tables::Table;
use super::template::{self, Fields};

/// A build of a batch, not checked yet.
#[derive(Debug, Clone)]
pub(super) struct Build {
    /// Its name: a file name, unique in the batch.
    pub(super) name: String,
    /// Where in the batch file it comes from, for messages.
    pub(super) span: Range<usize>,
    description: Spanned<String>,
    profiles: Profiles,
    image_type: Option<String>,
    box_name: Spanned<String>,
    arch: Option<ArchName>,
    /// May have fields in braces until [`Build::fill_target_dir`] is called.
    target_dir: Spanned<String>,
    options: Options,
    build_args: Options,
    /// The image is tested with these options, and where the file says so.
    test: Option<(Options, Range<usize>)>,
}

impl Build {
    /// Returns the build for `entry`; what it leaves out is taken from `defaults`. `name` is a
    /// template.
    ///
    /// # Errors
    /// Fails, with messages for the user, if something is missing.
    pub(super) fn new(
        entry: &Entry,
        defaults: &Entry,
        name: &str,
        span: &Range<usize>,
    ) -> Result<Build, Vec<String>> {
        let mut missing = Vec::new();
        let mut or = |own: &Option<Spanned<String>>,
                      default: &Option<Spanned<String>>,
                      key: &str,
                      example: &str| {
            let given = own.as_ref().or(default.as_ref());
            let given = given.filter(|text| !text.get_ref().is_empty()).cloned();
            if given.is_none() {
                missing.push(format!(
                    "no {key} is given: write {key} = \"{example}\", here or in [defaults]"
                ));
            }
            given
        };
        let description = or(
            &entry.description,
            &defaults.description,
            "description",
            "images/server",
        );
        let box_name = or(&entry.box_name, &defaults.box_name, "box", "debian");
        let target = (&entry.target_dir, &defaults.target_dir);
        let target_dir = or(target.0, target.1, "target-dir", "out/{name}");
        let (Some(description), Some(box_name), Some(target_dir)) =
            (description, box_name, target_dir)
        else {
            return Err(missing);
        };
        let profiles = entry.profile.as_ref().or(defaults.profile.as_ref());
        let image_type = entry.image_type.clone().or(defaults.image_type.clone());
        let mut build = Build {
            name: String::new(),
            span: span.clone(),
            description,
            profiles: profiles.cloned().unwrap_or_default(),
            image_type: image_type.filter(|name| !name.is_empty()),
            box_name,
            arch: entry.arch.or(defaults.arch),
            target_dir,
            options: merged(&defaults.options, &entry.options),
            build_args: merged(&defaults.build_args, &entry.build_args),
            test: None,
        };
        build.say_test(defaults.test.as_ref());
        build.say_test(entry.test.as_ref());
        build.name = template::file_name(&template::fill(name, &build.fields()));
        Ok(build)
    }

    /// Applies an override.
    pub(super) fn change(&mut self, change: &Override) {
        self.options = merged(&self.options, &change.options);
        self.build_args = merged(&self.build_args, &change.build_args);
        self.say_test(change.test.as_ref());
        if let Some(target) = &change.target_dir {
            self.target_dir.clone_from(target);
        }
    }

    /// Applies what is said of its test. Later options replace those of the same name.
    fn say_test(&mut self, said: Option<&Spanned<Test>>) {
        let Some(said) = said else {
            return;
        };
        self.test = match said.get_ref() {
            Test::No => None,
            Test::With(options) => {
                let before = self.test.take().map(|(options, _)| options);
                Some((merged(&before.unwrap_or_default(), options), said.span()))
            }
        };
    }

    /// Returns the words of the command line that tests what is in `target`, without the program's
    /// name, and where the batch file says so.
    pub(super) fn test_argv(&self, target: &Path) -> Option<(Vec<OsString>, Range<usize>)> {
        let (options, span) = self.test.as_ref()?;
        let mut words = vec![OsString::from("test")];
        words.extend(option_words(options));
        words.push(target.into());
        Some((words, span.clone()))
    }

    /// Replaces the fields in the target folder.
    pub(super) fn fill_target_dir(&mut self) {
        let filled = template::fill(self.target_dir.get_ref(), &self.fields());
        *self.target_dir.get_mut() = filled;
    }

    /// Returns where the batch file has what an error is about: a key or an option by its name.
    pub(super) fn place_of(&self, key: &str) -> Range<usize> {
        match key {
            "description" => self.description.span(),
            "box" => self.box_name.span(),
            "target-dir" => self.target_dir.span(),
            option => self
                .options
                .get(option)
                .or_else(|| self.build_args.get(option))
                .map_or_else(|| self.span.clone(), Spanned::span),
        }
    }

    /// Returns each option by itself: its name, where it is, and the words before and after `--`.
    pub(super) fn single_options(&self) -> Vec<SingleOption> {
        let of = |options: &Options, table: Table| -> Vec<SingleOption> {
            let options = options.iter();
            let single = options.map(|(name, value)| SingleOption {
                name: name.clone(),
                span: value.span(),
                table,
                words: words_of(name, value.get_ref()),
            });
            single.collect()
        };
        let mut single = of(&self.options, Table::Options);
        single.extend(of(&self.build_args, Table::BuildArgs));
        single
    }

    /// Returns the same build without an option.
    pub(super) fn without(&self, option: &str) -> Option<Build> {
        let mut build = self.clone();
        let had = build.options.remove(option).is_some();
        (build.build_args.remove(option).is_some() || had).then_some(build)
    }

    /// Returns the words of the command line, without the program's name.
    pub(super) fn argv(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: &str| words.push(format!("--{name}={value}").into());
        option("box", self.box_name.get_ref());
        if let Some(ArchName(arch)) = self.arch {
            option("arch", arch.name());
        }
        for profile in &self.profiles.0 {
            option("profile", profile);
        }
        if let Some(name) = &self.image_type {
            option("type", name);
        }
        words.extend(option_words(&self.options));
        words.push("--".into());
        words.push(format!("--description={}", self.description.get_ref()).into());
        words.push(format!("--target-dir={}", self.target_dir.get_ref()).into());
        words.extend(option_words(&self.build_args));
        words
    }

    /// Returns whether the selector fits: a build has to agree in everything that it names.
    pub(super) fn is_selected(&self, selector: &Selector) -> bool {
        let Selector {
            name,
            description,
            profile,
            image_type,
            box_name,
            arch,
            damaged: _,
        } = selector;
        let same = |wanted: &Option<String>, own: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == own)
        };
        same(name, &self.name)
            && same(description, self.description.get_ref())
            && same(image_type, self.image_type.as_deref().unwrap_or_default())
            && same(box_name, self.box_name.get_ref())
            && profile
                .as_ref()
                .is_none_or(|wanted| *wanted == self.profiles)
            && arch.is_none_or(|wanted| Some(wanted) == self.arch)
    }

    /// Returns what names and target folders may have in braces.
    pub(super) fn fields(&self) -> Fields<'_> {
        Fields {
            name: &self.name,
            description: self.description.get_ref(),
            profiles: &self.profiles.0,
            image_type: self.image_type.as_deref(),
            box_name: self.box_name.get_ref(),
            arch: self.arch.map(|ArchName(arch)| arch.name()),
        }
    }
}

/// Returns `options` with those of `others` added; they replace options of the same name.
fn merged(options: &Options, others: &Options) -> Options {
    let mut merged = options.clone();
    merged.extend(
        others
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    merged
}

/// An option of a build by itself.
#[derive(Debug)]
pub(super) struct SingleOption {
    pub(super) name: String,
    pub(super) span: Range<usize>,
    pub(super) table: Table,
    pub(super) words: Vec<OsString>,
}

/// Returns options as words of a command line.
fn option_words(options: &Options) -> Vec<OsString> {
    let options = options.iter();
    options
        .flat_map(|(name, value)| words_of(name, value.get_ref()))
        .collect()
}

/// Returns an option as words of a command line.
fn words_of(name: &str, value: &Value) -> Vec<OsString> {
    match value {
        Value::Flag(true) => vec![format!("--{name}").into()],
        Value::Flag(false) => Vec::new(),
        Value::Words(words) => words
            .iter()
            .map(|word| format!("--{name}={word}").into())
            .collect(),
    }
}
