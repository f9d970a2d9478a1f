//! From a batch file to its builds: combinations, names, and the words of each command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;

use clap::CommandFactory;

use super::file::{
    ArchName, BatchFile, Entry, Matrix, Options, Profiles, Selector, Spanned, Value, line_of,
};
use crate::args;
use boxbuild_core::build_args::{self, BuildArgs, BuildArgsError};
use boxbuild_host::nearest::{TYPO, nearest};

/// Most builds of one batch: a matrix with more is a mistake.
const MOST: usize = 1000;

/// One build of a batch, not checked yet.
#[derive(Debug, Clone)]
pub(super) struct Build {
    /// Unique in the batch; a file name.
    pub(super) name: String,
    /// Where it comes from in the batch file, for messages.
    pub(super) line: usize,
    description: String,
    profiles: Profiles,
    image_type: Option<String>,
    box_name: String,
    arch: Option<ArchName>,
    target_dir: String,
    options: Options,
    build_args: Options,
}

/// Options that batches have keys of their own for, and how these are called.
const OWN_KEYS: &[(&str, &str)] = &[
    ("box", "box"),
    ("arch", "arch"),
    ("x86_64", "arch"),
    ("aarch64", "arch"),
    ("profile", "profile"),
    ("type", "type"),
    ("description", "description"),
    ("target-dir", "target-dir"),
];

/// Options that make no sense for one of several builds without a terminal.
const ALONE: &[&str] = &[
    "box-debug",
    "dry-run",
    "json",
    "verbose",
    "list-boxes",
    "help",
    "version",
];

impl Build {
    /// The words of the command line, without the program's name.
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
        words.extend(spelled(&self.options));
        words.push("--".into());
        words.push(format!("--description={}", self.description).into());
        words.push(format!("--target-dir={}", self.target_dir).into());
        words.extend(spelled(&self.build_args));
        words
    }

    fn selected(&self, selector: &Selector) -> bool {
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
}

/// Options as words of a command line.
fn spelled(options: &Options) -> Vec<OsString> {
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

/// Every build of the file, in order. Errors are all of them, each with its line.
pub(super) fn expand(file: &BatchFile, text: &str) -> Result<Vec<Build>, Vec<String>> {
    let mut expansion = Expansion {
        text,
        errors: Vec::new(),
    };
    let builds = expansion.builds(file);
    if expansion.errors.is_empty() {
        Ok(builds)
    } else {
        Err(expansion.errors)
    }
}

struct Expansion<'a> {
    text: &'a str,
    errors: Vec<String>,
}

impl Expansion<'_> {
    fn complain(&mut self, span: &Range<usize>, text: impl std::fmt::Display) {
        let line = line_of(self.text, span);
        self.errors.push(format!("line {line}: {text}"));
    }

    fn builds(&mut self, file: &BatchFile) -> Vec<Build> {
        self.check_options(&file.defaults.options, &file.defaults.build_args);
        if let Some(name) = &file.defaults.name {
            self.complain(
                &name.span(),
                "builds cannot all have one name: leave it out",
            );
        }
        let mut builds = match &file.matrix {
            Some(matrix) => self.of_matrix(file, matrix),
            None => Vec::new(),
        };
        for exclude in &file.exclude {
            let before = builds.len();
            builds.retain(|build| !build.selected(exclude.get_ref()));
            if builds.len() == before {
                self.complain(&exclude.span(), "[[exclude]] fits no build of the matrix");
            }
        }
        for single in &file.builds {
            self.check_options(&single.get_ref().options, &single.get_ref().build_args);
            builds.extend(self.single(file, single));
        }
        for entry in &file.overrides {
            let change = entry.get_ref();
            self.check_options(&change.options, &change.build_args);
            let mut fits = false;
            for build in &mut builds {
                if build.selected(&change.selector) {
                    fits = true;
                    merge(&mut build.options, &change.options);
                    merge(&mut build.build_args, &change.build_args);
                    if let Some(target) = &change.target_dir {
                        build.target_dir.clone_from(target.get_ref());
                    }
                }
            }
            if !fits {
                self.complain(&entry.span(), "[[override]] fits no build");
            }
        }
        if builds.is_empty() && self.errors.is_empty() {
            self.errors.push(String::from(
                "nothing to build: write a [matrix] with descriptions, or [[build]] tables",
            ));
        }
        for build in &mut builds {
            let target = std::mem::take(&mut build.target_dir);
            match filled(&target, build) {
                Ok(target) => build.target_dir = target,
                Err(error) => self
                    .errors
                    .push(format!("target-dir of {}: {error}", build.name)),
            }
        }
        self.check_names(&builds);
        builds
    }

    fn of_matrix(&mut self, file: &BatchFile, matrix: &Spanned<Matrix>) -> Vec<Build> {
        let span = matrix.span();
        let line = line_of(self.text, &span);
        let axes = matrix.get_ref();
        let count = [
            axes.description.0.len(),
            axes.profile.0.len(),
            axes.image_type.0.len(),
            axes.box_name.0.len(),
            axes.arch.0.len(),
        ]
        .iter()
        .fold(1_usize, |product, len| product.saturating_mul(*len.max(&1)));
        if count > MOST {
            self.complain(
                &span,
                format!("[matrix] makes {count} builds (at most {MOST})"),
            );
            return Vec::new();
        }
        // What does not vary does not stand in the names.
        let varying: Vec<&str> = [
            ("{description}", true),
            ("{profile}", axes.profile.0.len() > 1),
            ("{type}", axes.image_type.0.len() > 1),
            ("{box}", axes.box_name.0.len() > 1),
            ("{arch}", axes.arch.0.len() > 1),
        ]
        .iter()
        .filter(|(_, varies)| *varies)
        .map(|(field, _)| *field)
        .collect();
        let name = match &file.name {
            Some(name) => name.get_ref().clone(),
            None => varying.join("-"),
        };
        let mut builds = Vec::new();
        for description in or_none(&axes.description.0) {
            for profile in or_none(&axes.profile.0) {
                for image_type in or_none(&axes.image_type.0) {
                    for box_name in or_none(&axes.box_name.0) {
                        for arch in or_none(&axes.arch.0) {
                            let entry = Entry {
                                description: description.cloned(),
                                profile: profile.cloned(),
                                image_type: image_type.cloned(),
                                box_name: box_name.cloned(),
                                arch: arch.copied(),
                                ..Entry::default()
                            };
                            match build(&entry, &file.defaults, &name, line) {
                                Ok(build) => builds.push(build),
                                Err(error) => {
                                    // It is the same for all of them.
                                    self.complain(&span, format!("[matrix]: {error}"));
                                    return Vec::new();
                                }
                            }
                        }
                    }
                }
            }
        }
        builds
    }

    fn single(&mut self, file: &BatchFile, single: &Spanned<Entry>) -> Option<Build> {
        let entry = single.get_ref();
        let name = match &entry.name {
            Some(name) => name.get_ref().clone(),
            None => {
                let fields = [
                    ("{description}", true),
                    ("{profile}", entry.profile.is_some()),
                    ("{type}", entry.image_type.is_some()),
                    ("{box}", entry.box_name.is_some()),
                    ("{arch}", entry.arch.is_some()),
                ];
                let given: Vec<&str> = fields
                    .iter()
                    .filter(|(_, given)| *given)
                    .map(|(field, _)| *field)
                    .collect();
                given.join("-")
            }
        };
        let line = line_of(self.text, &single.span());
        match build(entry, &file.defaults, &name, line) {
            Ok(build) => Some(build),
            Err(error) => {
                self.complain(&single.span(), format!("[[build]]: {error}"));
                None
            }
        }
    }

    fn check_options(&mut self, options: &Options, build_args: &Options) {
        for (given, table) in [(options, Table::Options), (build_args, Table::BuildArgs)] {
            for (name, value) in given {
                let dashed = format!("--{name}");
                let own = OWN_KEYS.iter().find(|(option, _)| option == name);
                let problem = if let Some((_, key)) = own {
                    format!("{table}.{name}: write it as {key} = \"…\"")
                } else if ALONE.contains(&name.as_str()) {
                    format!("{table}.{name}: not for a build of a batch")
                } else if table.knows(&dashed) {
                    continue;
                } else if table.other().knows(&dashed) {
                    format!("{table}.{name}: this option belongs into {}", table.other())
                } else if name.starts_with('-') {
                    format!("{table}.{name}: write the option without the dashes")
                } else {
                    let hint = table
                        .nearest(name)
                        .map_or_else(String::new, |near| format!("; did you mean {near}?"));
                    format!("{table}.{name}: there is no option {dashed}{hint}")
                };
                self.complain(&value.span(), problem);
            }
        }
    }

    /// Names tell lines and log files apart.
    fn check_names(&mut self, builds: &[Build]) {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for build in builds {
            if let Some(first) = seen.insert(&build.name, build.line) {
                self.errors.push(format!(
                    "line {}: two builds are called {} (the other one: line {first}): tell them \
                     apart with name = \"…\"",
                    build.line, build.name
                ));
            }
        }
    }
}

/// The two tables of options.
#[derive(Clone, Copy)]
enum Table {
    /// Options of boxbuild.
    Options,
    /// Options of `kiwi-ng system build`.
    BuildArgs,
}

impl Table {
    fn other(self) -> Table {
        match self {
            Table::Options => Table::BuildArgs,
            Table::BuildArgs => Table::Options,
        }
    }

    /// Whether an option, with its dashes, belongs here.
    fn knows(self, option: &str) -> bool {
        match self {
            Table::Options => args::is_option(option),
            Table::BuildArgs => build_args::is_option(option),
        }
    }

    /// The option that was probably meant, without its dashes.
    fn nearest(self, name: &str) -> Option<String> {
        match self {
            Table::Options => {
                let command = args::Cli::command();
                let known = command.get_arguments().filter_map(|arg| arg.get_long());
                nearest(name, known, TYPO).map(str::to_owned)
            }
            Table::BuildArgs => match BuildArgs::parse(&[format!("--{name}").into()]) {
                Err(BuildArgsError::Unknown { nearest, .. }) => {
                    nearest.map(|option| option.trim_start_matches('-').to_owned())
                }
                _ => None,
            },
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Table::Options => "options",
            Table::BuildArgs => "build-args",
        })
    }
}

/// The values of an axis, or once none.
fn or_none<T>(values: &[T]) -> Vec<Option<&T>> {
    if values.is_empty() {
        vec![None]
    } else {
        values.iter().map(Some).collect()
    }
}

/// `entry` with what it leaves open taken from `defaults`.
fn build(entry: &Entry, defaults: &Entry, name: &str, line: usize) -> Result<Build, String> {
    let lacks = |what: &str, example: &str| {
        format!("no {what} is given: write {what} = \"{example}\", here or in [defaults]")
    };
    let or = |own: &Option<String>, default: &Option<String>| {
        own.clone()
            .or_else(|| default.clone())
            .filter(|text| !text.is_empty())
    };
    let target = entry.target_dir.as_ref().or(defaults.target_dir.as_ref());
    let mut options = defaults.options.clone();
    merge(&mut options, &entry.options);
    let mut build_args = defaults.build_args.clone();
    merge(&mut build_args, &entry.build_args);
    let mut build = Build {
        name: String::new(),
        line,
        description: or(&entry.description, &defaults.description)
            .ok_or_else(|| lacks("description", "images/server"))?,
        profiles: entry
            .profile
            .clone()
            .or_else(|| defaults.profile.clone())
            .unwrap_or_default(),
        image_type: or(&entry.image_type, &defaults.image_type),
        box_name: or(&entry.box_name, &defaults.box_name).ok_or_else(|| lacks("box", "debian"))?,
        arch: entry.arch.or(defaults.arch),
        target_dir: target
            .ok_or_else(|| lacks("target-dir", "out/{name}"))?
            .get_ref()
            .clone(),
        options,
        build_args,
    };
    let name = filled(name, &build)?;
    build.name = file_name(&name);
    Ok(build)
}

/// Later options replace earlier ones of the same name.
fn merge(options: &mut Options, others: &Options) {
    options.extend(
        others
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
}

/// `template` with the fields of `build` in place of their names in braces.
fn filled(template: &str, build: &Build) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (field, after) = behind
            .split_once('}')
            .ok_or_else(|| format!("'{template}' has a brace that is not closed"))?;
        text += before;
        text += &match field {
            "name" => build.name.clone(),
            // `.` and `..` have no name of their own.
            "description" => Path::new(&build.description)
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            "profile" => build.profiles.0.join("+"),
            "type" => build.image_type.clone().unwrap_or_default(),
            "box" => build.box_name.clone(),
            "arch" => build
                .arch
                .map_or_else(String::new, |arch| arch.0.to_string()),
            _ => {
                return Err(format!(
                    "'{template}' has {{{field}}}; known are {{name}}, {{description}}, \
                     {{profile}}, {{type}}, {{box}} and {{arch}}"
                ));
            }
        };
        rest = after;
    }
    Ok(text + rest)
}

/// A name that files and lines can have: what a field without a value leaves between dashes goes.
fn file_name(text: &str) -> String {
    let words: Vec<String> = text
        .split('-')
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.chars()
                .map(|c| {
                    if c.is_alphanumeric() || "._+".contains(c) {
                        c
                    } else {
                        '_'
                    }
                })
                .collect()
        })
        .collect();
    let name: String = words.join("-").chars().take(100).collect();
    match name.trim_start_matches('.') {
        "" => String::from("build"),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::parse;
    use super::*;

    fn expanded(text: &str) -> Result<Vec<Build>, Vec<String>> {
        expand(&parse(text).unwrap(), text)
    }

    fn names(builds: &[Build]) -> Vec<&str> {
        builds.iter().map(|build| build.name.as_str()).collect()
    }

    const BASE: &str = "[defaults]\nbox = 'debian'\ntarget-dir = 'out/{name}'\n";

    #[test]
    fn every_combination_but_the_excluded() {
        let builds = expanded(&format!(
            "{BASE}[matrix]\ndescription = ['images/a', 'images/b']\nprofile = ['', ['P', 'Q']]\n\
             arch = ['x86_64', 'arm64']\n\
             [[exclude]]\ndescription = 'images/b'\narch = 'aarch64'\n"
        ))
        .unwrap();
        assert_eq!(
            names(&builds),
            [
                "a-x86_64",
                "a-aarch64",
                "a-P+Q-x86_64",
                "a-P+Q-aarch64",
                "b-x86_64",
                "b-P+Q-x86_64"
            ]
        );
        assert_eq!(
            builds[3].argv(),
            [
                "--box=debian",
                "--arch=aarch64",
                "--profile=P",
                "--profile=Q",
                "--",
                "--description=images/a",
                "--target-dir=out/a-P+Q-aarch64",
            ]
        );
    }

    #[test]
    fn what_does_not_vary_is_not_in_the_name() {
        let builds = expanded(&format!(
            "{BASE}[matrix]\ndescription = 'images/a'\narch = 'arm64'"
        ));
        assert_eq!(names(&builds.unwrap()), ["a"]);
    }

    #[test]
    fn overrides_replace_and_remove() {
        let text = format!(
            "{BASE}options = {{ box-memory = '4G', no-accel = true }}\n\
             build-args.add-package = ['x', 'y']\n\
             [matrix]\ndescription = ['a', 'b']\n\
             [[override]]\nmatch.name = 'b'\ntarget-dir = 'elsewhere/{{name}}'\n\
             options = {{ box-memory = '8G', no-accel = false }}\nbuild-args.add-package = 'z'\n"
        );
        let builds = expanded(&text).unwrap();
        let words = |build: &Build| {
            let words = build.argv();
            words.join(" ".as_ref()).into_string().unwrap()
        };
        assert_eq!(
            words(&builds[0]),
            "--box=debian --box-memory=4G --no-accel -- --description=a --target-dir=out/a \
             --add-package=x --add-package=y"
        );
        assert_eq!(
            words(&builds[1]),
            "--box=debian --box-memory=8G -- --description=b --target-dir=elsewhere/b \
             --add-package=z"
        );
    }

    #[test]
    fn single_builds_stand_beside_the_matrix() {
        let builds = expanded(&format!(
            "{BASE}[[build]]\ndescription = 'x/server'\ntype = 'oem'\n\
             [[build]]\nname = 'other one'\ndescription = 'x/server'\nbox = 'b'"
        ))
        .unwrap();
        assert_eq!(names(&builds), ["server-oem", "other_one"]);
        assert!(builds[1].argv().contains(&"--box=b".into()));
    }

    /// All mistakes are told at once, each with its line.
    #[test]
    fn mistakes() {
        let cases: &[(&str, &[&str])] = &[
            ("", &["nothing to build"]),
            ("[matrix]\ndescription='a'", &["line 1: [matrix]: no box"]),
            (
                "[[build]]\nbox='b'\ndescription='a'",
                &["line 1: [[build]]: no target-dir"],
            ),
            (
                "[[build]]\nbox='b'\ntarget-dir='o'",
                &["no description is given"],
            ),
            (
                "[[build]]\nbox='b'\ndescription='a'\ntarget-dir='o'\noptions.timeuot='1h'\n\
                 options.add-package='x'\nbuild-args.timeout='1h'\noptions.box='c'\n\
                 options.dry-run=true\nbuild-args.--add-package='x'\n\
                 build-args.add-pakage='x'",
                &[
                    "line 5: options.timeuot: there is no option --timeuot; did you mean timeout?",
                    "line 6: options.add-package: this option belongs into build-args",
                    "line 7: build-args.timeout: this option belongs into options",
                    "line 8: options.box: write it as box",
                    "line 9: options.dry-run: not for",
                    "line 10: build-args.--add-package: write the option without",
                    "line 11: build-args.add-pakage: there is no option --add-pakage; did you mean \
                     add-package?",
                ],
            ),
            (
                "[[build]]\nbox='b'\ndescription='a'\ntarget-dir='o/{nmae}'",
                &["target-dir of a-b: 'o/{nmae}' has {nmae}; known are {name}"],
            ),
            (
                "[[build]]\nbox='b'\ndescription='a'\ntarget-dir='o/{name'",
                &["not closed"],
            ),
            (
                "[defaults]\nbox='b'\ntarget-dir='o/{name}'\n[matrix]\ndescription=['x/a','y/a']",
                &["line 4: two builds are called a (the other one: line 4)"],
            ),
            (
                "[[build]]\nbox='b'\ndescription='a'\ntarget-dir='o'\n[[exclude]]\nname='a'\n\
                 [[override]]\nmatch.name='c'",
                &[
                    "line 5: [[exclude]] fits no",
                    "line 7: [[override]] fits no",
                ],
            ),
            ("[defaults]\nname='a'", &["line 2: builds cannot all have"]),
        ];
        for (text, expected) in cases {
            let errors = expanded(text).unwrap_err().join("\n");
            for expected in *expected {
                assert!(
                    errors.contains(expected),
                    "{text}\n'{expected}' is not in:\n{errors}"
                );
            }
        }
        let many: String = (0..40).map(|number| format!("'d{number}',")).collect();
        let huge = format!("{BASE}[matrix]\ndescription=[{many}]\nprofile=[{many}]");
        assert!(expanded(&huge).unwrap_err()[0].contains("makes 1600 builds"));
    }

    #[test]
    fn names_are_file_names() {
        assert_eq!(file_name("a--b-"), "a-b");
        assert_eq!(file_name("../x y/ü"), "_x_y_ü");
        assert_eq!(file_name("--"), "build");
        assert_eq!(file_name("..."), "build");
    }
}
