//! From a batch file to its builds: the combinations of the matrix, and the single ones.

use std::collections::BTreeMap;

use super::build::Build;
use super::decode::NOWHERE;
use super::file::{BatchFile, Entry, Matrix, Spanned};
use super::mistakes::Mistakes;

/// Most builds of one batch: a matrix with more is a mistake.
const MOST_BUILDS: usize = 1000;

/// Returns every build of the file, in order, as far as mistakes leave any.
pub(super) fn expand(file: &BatchFile, mistakes: &mut Mistakes<'_>) -> Vec<Build> {
    let read_well = mistakes.is_empty();
    Expansion {
        mistakes,
        read_well,
    }
    .builds(file)
}

struct Expansion<'m, 'a> {
    mistakes: &'m mut Mistakes<'a>,
    /// There was no mistake in the file before.
    read_well: bool,
}

impl Expansion<'_, '_> {
    fn builds(&mut self, file: &BatchFile) -> Vec<Build> {
        if let Some(name) = &file.defaults.name {
            let message = "builds cannot all have one name: leave it out";
            self.mistakes.add(&name.span(), message);
        }
        let mut builds = match &file.matrix {
            Some(matrix) => self.matrix(file, matrix),
            None => Vec::new(),
        };
        self.exclude(file, &mut builds);
        for single in &file.builds {
            builds.extend(self.single(file, single));
        }
        self.override_some(file, &mut builds);
        if builds.is_empty() && self.mistakes.is_empty() {
            self.mistakes.add(
                &NOWHERE,
                if file.matrix.is_some() {
                    "nothing to build: each build of the matrix is excluded"
                } else {
                    "nothing to build: write a [matrix] with descriptions, or [[build]] tables"
                },
            );
        }
        for build in &mut builds {
            build.fill_target_dir();
        }
        self.check_names(&builds);
        builds
    }

    fn exclude(&mut self, file: &BatchFile, builds: &mut Vec<Build>) {
        for exclude in &file.exclude {
            let selector = exclude.get_ref();
            let before = builds.len();
            builds.retain(|build| selector.damaged || !build.is_selected(selector));
            // Builds may be missing, or a name be another one, where something is wrong.
            if builds.len() == before && !selector.damaged && self.read_well {
                let message = "[[exclude]] fits no build of the matrix";
                self.mistakes.add(&exclude.span(), message);
            }
        }
    }

    fn override_some(&mut self, file: &BatchFile, builds: &mut [Build]) {
        for entry in &file.overrides {
            let change = entry.get_ref();
            let selector = &change.selector;
            let mut fits = selector.damaged;
            for build in builds
                .iter_mut()
                .filter(|build| !selector.damaged && build.is_selected(selector))
            {
                fits = true;
                build.change(change);
            }
            if !fits && self.read_well {
                let message = "[[override]] fits no build";
                self.mistakes.add(&entry.span(), message);
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
            let message = format!("[matrix] makes {count} builds (at most {MOST_BUILDS})");
            self.mistakes.add(&span, message);
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
        let combinations = combinations(axes);
        let builds = combinations.iter().filter_map(|entry| {
            let build = Build::new(entry, &file.defaults, &name, &span);
            // The same of each combination.
            build
                .map_err(|missing| {
                    if !axes.damaged && !file.defaults.damaged {
                        self.missing(&span, "[matrix]", &missing);
                    }
                })
                .ok()
        });
        builds.collect()
    }

    fn missing(&mut self, span: &std::ops::Range<usize>, place: &str, missing: &[String]) {
        for key in missing {
            self.mistakes.add(span, format!("{place}: {key}"));
        }
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
        Build::new(entry, &file.defaults, &name, &single.span())
            .map_err(|missing| {
                if !entry.damaged && !file.defaults.damaged {
                    self.missing(&single.span(), "[[build]]", &missing);
                }
            })
            .ok()
    }

    /// Checks that names are unique: they tell lines and log files apart.
    fn check_names(&mut self, builds: &[Build]) {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for build in builds {
            let line = self.mistakes.line_of(&build.span);
            if let Some(first) = seen.insert(&build.name, line) {
                self.mistakes.add(
                    &build.span,
                    format!(
                        "two builds are called {} (the other one: line {first}): tell them apart \
                         with name = \"…\"",
                        build.name
                    ),
                );
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
    use super::super::decode;
    use super::*;

    /// The builds of a batch file, or `LINE: MISTAKE` of each mistake.
    fn expanded(text: &str) -> Result<Vec<Build>, Vec<String>> {
        let mut mistakes = Mistakes::of(text);
        let file = decode::read(text, &mut mistakes);
        let builds = expand(&file, &mut mistakes);
        let (list, _) = mistakes.into_list();
        if list.is_empty() {
            return Ok(builds);
        }
        let mistakes = list.iter();
        let line = |line: Option<usize>| line.map_or_else(String::new, |line| line.to_string());
        Err(mistakes
            .map(|mistake| format!("{}: {}", line(mistake.line), mistake.message))
            .collect())
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

    /// E3: one mistake of six was told, and one of them had no line.
    #[test]
    fn all_mistakes_are_told_with_their_lines() {
        let text = "job = 2\n\
            name = '{descripton}'\n\
            [defaults]\n\
            box = 7\n\
            target-dir = 'out/{nmae}'\n\
            options.timeuot = '1h'\n\
            build-args.add-pakage = 'x'\n\
            build-args.timeout = '1h'\n\
            [matrix]\n\
            descripton = ['a', 'b', 'x/a']\n\
            arch = ['x86_64', 'vax']\n\
            [[exclude]]\n\
            profiles = 'x'\n\
            [[override]]\n\
            options.box-memory = 1.5\n\
            [[build]]\n\
            name = 'one'\n\
            foo = 1\n\
            [[build]]\n\
            box = 'b'\n\
            description = 'c'\n\
            name = 'one'\n\
            [[build]]\n\
            box = 'b'\n\
            description = 'c'\n\
            name = 'one'\n";
        let errors = expanded(text).unwrap_err();
        let expected = [
            (1, "no key 'job' in a batch file; did you mean 'jobs'?"),
            (2, "{descripton}; did you mean {description}?"),
            (4, "box: a text in quotes is expected, not an integer"),
            (5, "{nmae}; did you mean {name}?"),
            (
                6,
                "options.timeuot: there is no option --timeuot; did you mean timeout?",
            ),
            (7, "did you mean add-package?"),
            (8, "build-args.timeout: this option belongs in options"),
            (
                10,
                "no key 'descripton' in [matrix]; did you mean 'description'?",
            ),
            (11, "vax"),
            (
                13,
                "no key 'profiles' in [[exclude]]; did you mean 'profile'?",
            ),
            (14, "no match is given"),
            (
                15,
                "options.box-memory: a text, a whole number, true, false, or a list of texts",
            ),
            (
                18,
                "no key 'foo' in [[build]]; keys here: name, description",
            ),
            (23, "two builds are called one (the other one: line 19)"),
        ];
        for ((line, part), error) in expected.iter().zip(&errors) {
            let found = error.starts_with(&format!("{line}: ")) && error.contains(part);
            assert!(found, "{line}: {part} is not in:\n{}", errors.join("\n"));
        }
        assert_eq!(errors.len(), expected.len(), "{}", errors.join("\n"));
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        let errors = expanded("[defaults\n[matrix]\nbox = \ndescription = 'a\n").unwrap_err();
        assert!(errors[0].starts_with("1: not TOML: "), "{errors:?}");
        for line in ["3: not TOML", "4: not TOML"] {
            assert!(
                errors.iter().any(|error| error.starts_with(line)),
                "{errors:?}"
            );
        }
    }

    /// Mistakes and where they are.
    #[test]
    fn mistakes() {
        let cases: &[(&str, &[&str])] = &[
            ("", &["nothing to build"]),
            (
                "[matrix]\ndescription='a'",
                &["1: [matrix]: no box", "1: [matrix]: no target-dir"],
            ),
            (
                "[[build]]\nbox='b'\ndescription='a'",
                &["1: [[build]]: no target-dir"],
            ),
            (
                "[[build]]\nbox='b'\ntarget-dir='o'",
                &["no description is given"],
            ),
            (
                "[[build]]\nbox='b'\ndescription='a'\ntarget-dir='o'\noptions.box='c'\n\
                 options.dry-run=true\nbuild-args.--add-package='x'\noptions.add-package='x'",
                &[
                    "5: options.box: write it as box",
                    "6: options.dry-run: not for",
                    "7: build-args.--add-package: write the option without",
                    "8: options.add-package: this option belongs in build-args",
                ],
            ),
            (
                "[[build]]\nbox='b'\ndescription='a'\ntarget-dir='o/{name'",
                &["4: target-dir: 'o/{name' has a brace that is not closed"],
            ),
            (
                "[defaults]\nbox='b'\ntarget-dir='o/{name}'\n[matrix]\ndescription=['x/a','y/a']",
                &["4: two builds are called a (the other one: line 4)"],
            ),
            (
                "[[build]]\nbox='b'\ndescription='a'\ntarget-dir='o'\n[[exclude]]\nname='a'\n\
                 [[override]]\nmatch.name='c'",
                &["5: [[exclude]] fits no", "7: [[override]] fits no"],
            ),
            ("[defaults]\nname='a'", &["2: builds cannot all have"]),
            ("jobs = 0", &["1: jobs: 0 is not a whole number from 1"]),
            (
                "jobs = 99999999999999999999",
                &["1: jobs: 99999999999999999999 is not a whole number from 1"],
            ),
            (
                "[matrix]\ndescription = []",
                &["2: description: an empty list"],
            ),
            (
                "[build]\nbox = 'b'",
                &["[[build]], with two brackets, is expected"],
            ),
            (
                "[defaults]\nbox = 'a'\nbox = 'b'",
                &["3: not TOML: duplicate key"],
            ),
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
