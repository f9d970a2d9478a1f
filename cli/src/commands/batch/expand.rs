//! From a batch file to its builds: the combinations of the matrix, and the single ones.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::build::Build;
use super::file::{BatchFile, Entry, Matrix, Options, Spanned, line_of};
use super::option_tables::Table;

/// Most builds of one batch: a matrix with more is a mistake.
const MOST_BUILDS: usize = 1000;

/// Returns every build of the file, in order.
///
/// # Errors
/// Fails with all mistakes, each with its line where there is one.
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
    /// The batch file, for line numbers.
    text: &'a str,
    errors: Vec<String>,
}

impl Expansion<'_> {
    fn report(&mut self, span: &Range<usize>, text: impl fmt::Display) {
        let line = line_of(self.text, span);
        self.errors.push(format!("line {line}: {text}"));
    }

    fn builds(&mut self, file: &BatchFile) -> Vec<Build> {
        self.check_options(&file.defaults.options, &file.defaults.build_args);
        if let Some(name) = &file.defaults.name {
            self.report(
                &name.span(),
                "builds cannot all have one name: leave it out",
            );
        }
        let mut builds = match &file.matrix {
            Some(matrix) => self.matrix(file, matrix),
            None => Vec::new(),
        };
        self.exclude(file, &mut builds);
        for single in &file.builds {
            self.check_options(&single.get_ref().options, &single.get_ref().build_args);
            builds.extend(self.single(file, single));
        }
        self.override_some(file, &mut builds);
        if builds.is_empty() && self.errors.is_empty() {
            self.errors.push(String::from(
                "nothing to build: write a [matrix] with descriptions, or [[build]] tables",
            ));
        }
        for build in &mut builds {
            if let Err(error) = build.fill_target_dir() {
                self.errors
                    .push(format!("target-dir of {}: {error}", build.name));
            }
        }
        self.check_names(&builds);
        builds
    }

    fn exclude(&mut self, file: &BatchFile, builds: &mut Vec<Build>) {
        for exclude in &file.exclude {
            let before = builds.len();
            builds.retain(|build| !build.is_selected(exclude.get_ref()));
            if builds.len() == before {
                self.report(&exclude.span(), "[[exclude]] fits no build of the matrix");
            }
        }
    }

    fn override_some(&mut self, file: &BatchFile, builds: &mut [Build]) {
        for entry in &file.overrides {
            let change = entry.get_ref();
            self.check_options(&change.options, &change.build_args);
            let mut fits = false;
            for build in builds
                .iter_mut()
                .filter(|build| build.is_selected(&change.selector))
            {
                fits = true;
                build.change(change);
            }
            if !fits {
                self.report(&entry.span(), "[[override]] fits no build");
            }
        }
    }

    fn matrix(&mut self, file: &BatchFile, matrix: &Spanned<Matrix>) -> Vec<Build> {
        let span = matrix.span();
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
        if count > MOST_BUILDS {
            self.report(
                &span,
                format!("[matrix] makes {count} builds (at most {MOST_BUILDS})"),
            );
            return Vec::new();
        }
        let name = match &file.name {
            Some(name) => name.get_ref().clone(),
            // Axes with one value do not tell builds apart.
            None => name_of_fields(&[
                ("{description}", true),
                ("{profile}", axes.profile.0.len() > 1),
                ("{type}", axes.image_type.0.len() > 1),
                ("{box}", axes.box_name.0.len() > 1),
                ("{arch}", axes.arch.0.len() > 1),
            ]),
        };
        let line = line_of(self.text, &span);
        let builds: Result<Vec<Build>, String> = combinations(axes)
            .iter()
            .map(|entry| Build::new(entry, &file.defaults, &name, line))
            .collect();
        builds.unwrap_or_else(|error| {
            self.report(&span, format!("[matrix]: {error}"));
            Vec::new()
        })
    }

    fn single(&mut self, file: &BatchFile, single: &Spanned<Entry>) -> Option<Build> {
        let entry = single.get_ref();
        let name = match &entry.name {
            Some(name) => name.get_ref().clone(),
            None => name_of_fields(&[
                ("{description}", true),
                ("{profile}", entry.profile.is_some()),
                ("{type}", entry.image_type.is_some()),
                ("{box}", entry.box_name.is_some()),
                ("{arch}", entry.arch.is_some()),
            ]),
        };
        let line = line_of(self.text, &single.span());
        Build::new(entry, &file.defaults, &name, line)
            .map_err(|error| self.report(&single.span(), format!("[[build]]: {error}")))
            .ok()
    }

    fn check_options(&mut self, options: &Options, build_args: &Options) {
        for (given, table) in [(options, Table::Options), (build_args, Table::BuildArgs)] {
            for (name, value) in given {
                if let Some(problem) = table.problem_with(name) {
                    self.report(&value.span(), problem);
                }
            }
        }
    }

    /// Checks that names are unique: they tell lines and log files apart.
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

/// Returns every combination of the axes; the last one varies first.
fn combinations(axes: &Matrix) -> Vec<Entry> {
    let mut entries = vec![Entry::default()];
    vary(&mut entries, &axes.description.0, |entry, value| {
        entry.description = Some(value);
    });
    vary(&mut entries, &axes.profile.0, |entry, value| {
        entry.profile = Some(value);
    });
    vary(&mut entries, &axes.image_type.0, |entry, value| {
        entry.image_type = Some(value);
    });
    vary(&mut entries, &axes.box_name.0, |entry, value| {
        entry.box_name = Some(value);
    });
    vary(&mut entries, &axes.arch.0, |entry, value| {
        entry.arch = Some(value);
    });
    entries
}

/// Replaces each entry by one for each value of an axis; an axis without values changes nothing.
fn vary<T: Clone>(entries: &mut Vec<Entry>, axis: &[T], set: impl Fn(&mut Entry, T)) {
    if axis.is_empty() {
        return;
    }
    *entries = entries
        .iter()
        .flat_map(|entry| {
            axis.iter().map(|value| {
                let mut entry = entry.clone();
                set(&mut entry, value.clone());
                entry
            })
        })
        .collect();
}

/// Returns a template with the fields that tell builds apart.
fn name_of_fields(fields: &[(&str, bool)]) -> String {
    let telling: Vec<&str> = fields
        .iter()
        .filter(|(_, telling)| *telling)
        .map(|(field, _)| *field)
        .collect();
    telling.join("-")
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
                    "line 6: options.add-package: this option belongs in build-args",
                    "line 7: build-args.timeout: this option belongs in options",
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
}
