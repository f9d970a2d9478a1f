//! A build of a batch: what the batch file says about it, and its command line.

use std::ffi::OsString;

use super::file::{ArchName, Entry, Options, Override, Profiles, Selector, Value};
use super::template::{self, Fields};

/// A build of a batch, not checked yet.
#[derive(Debug, Clone)]
pub(super) struct Build {
    /// Its name: a file name, unique in the batch.
    pub(super) name: String,
    /// The line of the batch file that it comes from, for messages.
    pub(super) line: usize,
    description: String,
    profiles: Profiles,
    image_type: Option<String>,
    box_name: String,
    arch: Option<ArchName>,
    /// May have fields in braces until [`Build::fill_target_dir`] is called.
    target_dir: String,
    options: Options,
    build_args: Options,
}

impl Build {
    /// Returns the build for `entry`; what it leaves out is taken from `defaults`. `name` is a
    /// template.
    ///
    /// # Errors
    /// Fails, with a message for the user, if something is missing or the template is wrong.
    pub(super) fn new(
        entry: &Entry,
        defaults: &Entry,
        name: &str,
        line: usize,
    ) -> Result<Build, String> {
        let missing = |key: &str, example: &str| {
            format!("no {key} is given: write {key} = \"{example}\", here or in [defaults]")
        };
        let or = |own: &Option<String>, default: &Option<String>| {
            own.clone()
                .or_else(|| default.clone())
                .filter(|text| !text.is_empty())
        };
        let target = entry.target_dir.as_ref().or(defaults.target_dir.as_ref());
        let profiles = entry.profile.as_ref().or(defaults.profile.as_ref());
        let mut build = Build {
            name: String::new(),
            line,
            description: or(&entry.description, &defaults.description)
                .ok_or_else(|| missing("description", "images/server"))?,
            profiles: profiles.cloned().unwrap_or_default(),
            image_type: or(&entry.image_type, &defaults.image_type),
            box_name: or(&entry.box_name, &defaults.box_name)
                .ok_or_else(|| missing("box", "debian"))?,
            arch: entry.arch.or(defaults.arch),
            target_dir: target
                .ok_or_else(|| missing("target-dir", "out/{name}"))?
                .get_ref()
                .clone(),
            options: merged(&defaults.options, &entry.options),
            build_args: merged(&defaults.build_args, &entry.build_args),
        };
        build.name = template::file_name(&template::fill(name, &build.fields())?);
        Ok(build)
    }

    /// Applies an override.
    pub(super) fn change(&mut self, change: &Override) {
        self.options = merged(&self.options, &change.options);
        self.build_args = merged(&self.build_args, &change.build_args);
        if let Some(target) = &change.target_dir {
            self.target_dir.clone_from(target.get_ref());
        }
    }

    /// Replaces the fields in the target folder.
    ///
    /// # Errors
    /// Fails, with a message for the user, if the template is wrong.
    pub(super) fn fill_target_dir(&mut self) -> Result<(), String> {
        self.target_dir = template::fill(&self.target_dir, &self.fields())?;
        Ok(())
    }

    /// Returns the words of the command line, without the program's name.
    pub(super) fn argv(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: &str| words.push(format!("--{name}={value}").into());
        option("box", &self.box_name);
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
        words.push(format!("--description={}", self.description).into());
        words.push(format!("--target-dir={}", self.target_dir).into());
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
        } = selector;
        let same = |wanted: &Option<String>, own: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == own)
        };
        same(name, &self.name)
            && same(description, &self.description)
            && same(image_type, self.image_type.as_deref().unwrap_or_default())
            && same(box_name, &self.box_name)
            && profile
                .as_ref()
                .is_none_or(|wanted| *wanted == self.profiles)
            && arch.is_none_or(|wanted| Some(wanted) == self.arch)
    }

    fn fields(&self) -> Fields<'_> {
        Fields {
            name: &self.name,
            description: &self.description,
            profiles: &self.profiles.0,
            image_type: self.image_type.as_deref(),
            box_name: &self.box_name,
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

/// Returns options as words of a command line.
fn option_words(options: &Options) -> Vec<OsString> {
    options
        .iter()
        .flat_map(|(name, value)| match value.get_ref() {
            Value::Flag(true) => vec![format!("--{name}")],
            Value::Flag(false) => Vec::new(),
            Value::Words(words) => words
                .iter()
                .map(|word| format!("--{name}={word}"))
                .collect(),
        })
        .map(OsString::from)
        .collect()
}
