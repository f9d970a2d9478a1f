//! A settings file: TOML. All mistakes in it are told at once, each with its line.

use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;

use boxbuild_host::input;
use boxbuild_host::nearest::{TYPO, nearest};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::yes_no;
use super::error::{SettingsError, Wrong};
use super::given::{Given, Value};
use super::names::{Kind, Place, Setting};
use super::origin::{Layer, Origin};
use super::project;

/// Largest settings file, in bytes.
const LARGEST: u64 = 1 << 20;

/// Mistakes that are told at most.
const MOST: usize = 50;

/// Tables of the user's file that others read: their keys are not looked at here.
pub(super) const OWN_TABLES: &[&str] = &["runner"];

/// Words that people write for an option.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("memory", "box-memory"),
    ("ram", "box-memory"),
    ("cpus", "box-smp-cpus"),
    ("processors", "box-smp-cpus"),
    ("disk", "disk-size"),
    ("mirror", "box-create.mirror"),
    ("repository", "build-args.add-repo"),
    ("repositories", "build-args.add-repo"),
    ("repos", "build-args.add-repo"),
    ("key", "signed-by"),
    ("profiles", "profile"),
    ("jobs", "batch.jobs"),
];

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) given: Vec<Given>,
    pub(super) wrong: Vec<Wrong>,
    pub(super) text: String,
}

/// Reads the settings file at `path`.
///
/// # Errors
/// Fails if it cannot be read.
pub(super) fn read(all: &[Setting], layer: Layer, path: &Path) -> Result<Contents, SettingsError> {
    let failed = |source| SettingsError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = input::read(path, LARGEST).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        failed(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "it is not text in UTF-8",
        ))
    })?;
    Ok(parse(all, layer, path, text))
}

/// Reads `text`, which is in the file at `path`.
pub(super) fn parse(all: &[Setting], layer: Layer, path: &Path, text: String) -> Contents {
    let mut reader = Reader {
        all,
        layer,
        path,
        text: &text,
        given: Vec::new(),
        wrong: Vec::new(),
    };
    let (table, errors) = DeTable::parse_recoverable(&text);
    for error in errors.iter().take(MOST) {
        let message = format!("not TOML: {}", error.message());
        reader.wrong(&error.span().unwrap_or_default(), message);
    }
    reader.top(table.get_ref());
    let Reader { given, wrong, .. } = reader;
    Contents { given, wrong, text }
}

/// Returns the number of the line, from 1, that byte `at` of `text` is in.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    let before = text
        .as_bytes()
        .get(..at.min(text.len()))
        .unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

type Found<'t> = Spanned<DeValue<'t>>;

struct Reader<'a> {
    all: &'a [Setting],
    layer: Layer,
    path: &'a Path,
    text: &'a str,
    given: Vec<Given>,
    wrong: Vec<Wrong>,
}

impl Reader<'_> {
    fn origin(&self, span: &Range<usize>) -> Origin {
        Origin::File {
            layer: self.layer,
            path: self.path.to_owned(),
            line: line_of(self.text, span.start),
        }
    }

    fn wrong(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let origin = self.origin(span);
        self.wrong.push(Wrong {
            origin,
            message: message.into(),
        });
    }

    /// Whether there are as many mistakes as are told: each takes a look at the whole file.
    fn is_full(&self) -> bool {
        self.wrong.len() >= MOST
    }

    fn top(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            if self.is_full() {
                return;
            }
            let name: &str = key.get_ref();
            if OWN_TABLES.contains(&name) {
                if self.layer != Layer::User {
                    let text = "a project's file cannot say what runs builds: put it into your own \
                                settings; --no-config leaves this file out";
                    self.wrong(&key.span(), format!("{name}: {text}"));
                }
                continue;
            }
            let place = self.place(name);
            match (place, value.get_ref()) {
                (Some(place), DeValue::Table(options)) => {
                    for (key, value) in options {
                        self.setting(&place, key, value);
                        if self.is_full() {
                            return;
                        }
                    }
                }
                (Some(_), other) if !self.has(&Place::Build, name) => {
                    let found = other.type_str();
                    self.wrong(
                        &value.span(),
                        format!("{name}: a table is expected, not {found}"),
                    );
                }
                _ => self.setting(&Place::Build, key, value),
            }
        }
    }

    /// The table of this name.
    fn place(&self, name: &str) -> Option<Place> {
        let mut places = self.all.iter().map(|setting| &setting.place);
        let found = places.find(|place| place.table().is_some_and(|table| table == name));
        found.cloned()
    }

    fn has(&self, place: &Place, name: &str) -> bool {
        self.all
            .iter()
            .any(|setting| setting.place == *place && setting.name == name)
    }

    fn setting(
        &mut self,
        place: &Place,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Found<'_>,
    ) {
        let name: &str = key.get_ref();
        let known = self
            .all
            .iter()
            .find(|setting| setting.place == *place && setting.name == name);
        let Some(setting) = known else {
            let message = self.unknown(place, name);
            self.wrong(&key.span(), message);
            return;
        };
        if setting.is_of_one_run() {
            let message = format!(
                "{setting}: is for one run, and has no place in a file; the variable is {}",
                setting.variable()
            );
            self.wrong(&key.span(), message);
            return;
        }
        let read = match value_of(setting, value.get_ref()) {
            Ok(read) => read,
            Err(what) => {
                let found = value.get_ref().type_str();
                let message = format!("{setting}: {what} is expected, not {found}");
                self.wrong(&value.span(), message);
                return;
            }
        };
        let mut given = Given {
            setting: setting.clone(),
            value: read,
            origin: self.origin(&key.span()),
        };
        // The rule is about what is written.
        let problem = match self.layer {
            Layer::Project => project::problem(&given),
            _ => None,
        };
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let home = etcetera::home_dir()
            .ok()
            .filter(|_| self.layer == Layer::User);
        given.value = given.value.with_paths(setting, folder, home.as_deref());
        match problem.or_else(|| given.problem()) {
            Some(problem) => self.wrong(&value.span(), problem),
            None => self.given.push(given),
        }
    }

    fn unknown(&self, place: &Place, name: &str) -> String {
        let here = || self.all.iter().filter(|setting| setting.place == *place);
        let elsewhere = self.all.iter().find(|setting| setting.name == name);
        let dashes = name.trim_start_matches('-');
        let table = match place.table() {
            Some(table) => format!("in [{table}]"),
            None => String::from("at the top of a settings file"),
        };
        let hint = if self.has(place, dashes) {
            format!("write it without the dashes: '{dashes}'")
        } else if self.has(place, &name.replace('_', "-")) {
            format!("did you mean '{}'?", name.replace('_', "-"))
        } else if let Some((_, near)) = OTHER_WORDS.iter().find(|(word, _)| *word == name) {
            format!("did you mean '{near}'?")
        } else if let Some(setting) = elsewhere {
            format!("it belongs elsewhere: '{setting}'")
        } else {
            let edits = TYPO.min(name.chars().count() / 3);
            let names = here().map(|setting| setting.name.as_str());
            match nearest(name, names, edits) {
                Some(near) => format!("did you mean '{near}'?"),
                None => String::from("'boxbuild config --all' lists all keys"),
            }
        };
        format!("there is no key '{name}' {table}; {hint}")
    }
}

/// Returns the value, or what is expected.
fn value_of(setting: &Setting, value: &DeValue<'_>) -> Result<Value, &'static str> {
    let words = |words: Vec<OsString>| Ok(Value::Words(words));
    match (setting.kind, value) {
        (Kind::Flag | Kind::One { optional: true }, DeValue::Boolean(on)) => Ok(Value::Flag(*on)),
        (Kind::YesNo, DeValue::Boolean(on)) => words(vec![yes_no(*on).into()]),
        (Kind::Flag, _) => Err("true or false"),
        (Kind::Many, DeValue::Array(items)) => {
            let items = items.iter().map(|item| word(item.get_ref()));
            let items: Option<Vec<OsString>> = items.collect();
            words(items.ok_or("a list of texts")?)
        }
        (Kind::YesNo, value) => words(vec![word(value).ok_or("true or false")?]),
        (_, value) => words(vec![word(value).ok_or(match setting.kind {
            Kind::Many => "a text, or a list of texts,",
            _ => "a text or a whole number",
        })?]),
    }
}

/// A text, or a whole number in digits.
fn word(value: &DeValue<'_>) -> Option<OsString> {
    if let Some(text) = value.as_str() {
        return Some(text.into());
    }
    let integer = value.as_integer()?;
    let number = i64::from_str_radix(integer.as_str(), integer.radix());
    let text = number.map_or_else(|_| integer.to_string(), |number| number.to_string());
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    fn read(layer: Layer, text: &str) -> (Vec<String>, Vec<String>) {
        let path = Path::new("/etc/x/boxbuild.toml");
        let found = parse(&names::all(), layer, path, text.to_owned());
        let given = found.given.iter();
        let given = given.map(|given| format!("{} = {}", given.setting, given.shown()));
        let wrong = found.wrong.iter();
        let wrong = wrong.map(|wrong| format!("{}: {}", wrong.origin, wrong.message));
        (given.collect(), wrong.collect())
    }

    #[test]
    fn a_whole_file() {
        let (given, wrong) = read(
            Layer::User,
            "box = 'debian'\nbox-memory = '6G'\nbox-smp-cpus = 4\noffline = true\n\
             keep-failed = false\nallow = ['a.example', 'b.example:443']\nsigned-by = 'keys/a.asc'\n\
             timings = true\n[build-args]\nadd-repo = 'http://x/y'\nignore-repos = true\n\
             [box-create]\nmirror = 'http://m/'\n[batch]\njobs = 0x2\n[runner]\nkind = 'ssh'\n",
        );
        assert_eq!(wrong, [] as [&str; 0]);
        let mut given: Vec<&str> = given.iter().map(String::as_str).collect();
        given.sort_unstable();
        assert_eq!(
            given,
            [
                "allow = a.example b.example:443",
                "batch.jobs = 2",
                "box = debian",
                "box-create.mirror = http://m/",
                "box-memory = 6G",
                "box-smp-cpus = 4",
                "build-args.add-repo = http://x/y",
                "build-args.ignore-repos = true",
                "keep-failed = no",
                "offline = true",
                "signed-by = /etc/x/keys/a.asc",
                "timings = true",
            ]
        );
    }

    #[test]
    fn every_mistake_is_told_with_its_line_and_what_was_meant() {
        let cases = [
            ("memory = '4G'", "did you mean 'box-memory'?"),
            ("box-memroy = '4G'", "did you mean 'box-memory'?"),
            ("box_memory = '4G'", "did you mean 'box-memory'?"),
            ("--offline = true", "write it without the dashes"),
            ("'--offline' = true", "write it without the dashes"),
            ("mirror = 'http://x'", "did you mean 'box-create.mirror'?"),
            (
                "add-repo = 'http://x'",
                "it belongs elsewhere: 'build-args.add-repo'",
            ),
            (
                "[build-args]\nengine = 'kvm'",
                "it belongs elsewhere: 'engine'",
            ),
            ("[bacth]\njobs = 1", "there is no key 'bacth'"),
            ("batch = 1", "batch: a table is expected, not integer"),
            (
                "offline = 'yes'",
                "offline: true or false is expected, not string",
            ),
            (
                "box-memory = 4.5",
                "box-memory: a text or a whole number is expected, not float",
            ),
            ("box-memory = 'lots'", "is not a size"),
            ("engine = 'xen'", "engine: invalid value 'xen'"),
            ("network = 'open'", "network: invalid value"),
            ("dry-run = true", "dry-run: is for one run"),
            ("[build-args]\nset-type-attr = 'x'", "ATTRIBUTE=VALUE"),
            ("allow = [1.5]", "allow: a list of texts is expected"),
            ("box = 'a'\nbox = 'b'", "not TOML: duplicate key"),
        ];
        for (text, expected) in cases {
            let (_, wrong) = read(Layer::User, text);
            let line = text.lines().count();
            let place = format!("/etc/x/boxbuild.toml:{line}: ");
            assert!(
                wrong.iter().any(|wrong| wrong.contains(expected)),
                "{text}: {expected} is not in {wrong:?}"
            );
            let table = text.starts_with("[bacth]");
            assert!(table || wrong[0].starts_with(&place), "{text}: {wrong:?}");
        }
    }

    /// A mistake costs a look at the whole file, and a comparison of its key with all others.
    #[test]
    fn a_file_of_mistakes_is_read_in_no_time() {
        let many: String = (0..100_000).map(|key| format!("k{key}=1\n")).collect();
        let long = "k".repeat(LARGEST as usize - 4) + "=1\n";
        let nested = format!("[build-args]\n{many}");
        let started = std::time::Instant::now();
        for text in [many, long, nested, "=\n".repeat(LARGEST as usize / 2)] {
            let (given, wrong) = read(Layer::Project, &text);
            assert_eq!(given, [] as [&str; 0]);
            assert!((1..=2 * MOST).contains(&wrong.len()), "{}", wrong.len());
        }
        let took = started.elapsed();
        assert!(took < std::time::Duration::from_secs(60), "{took:?}");
    }

    #[test]
    fn a_project_is_told_what_it_cannot_say() {
        let text = "box = 'debian'\nshared-path = '/home/me'\n[runner]\nkind = 'command'\n\
                    [box-create]\nmirror = 'http://evil.example/'\n\
                    [build-args]\nadd-repo = 'http://127.0.0.1:5432/'\n";
        let (given, wrong) = read(Layer::Project, text);
        assert_eq!(given, ["box = debian"]);
        let mut wrong = wrong;
        wrong.sort();
        let lines: Vec<&str> = wrong
            .iter()
            .map(|wrong| wrong.split(": ").next().unwrap())
            .collect();
        assert_eq!(
            lines,
            [
                "/etc/x/boxbuild.toml:2",
                "/etc/x/boxbuild.toml:3",
                "/etc/x/boxbuild.toml:6",
                "/etc/x/boxbuild.toml:8"
            ]
        );
        // The rule is about what is written, not about where it leads.
        let (given, wrong) = read(
            Layer::Project,
            "locked = true\nlock-file = 'ci/boxbuild.lock'",
        );
        assert_eq!(wrong, [] as [&str; 0]);
        assert!(
            given.contains(&"lock-file = /etc/x/ci/boxbuild.lock".into()),
            "{given:?}"
        );
    }

    #[test]
    fn a_secret_is_not_shown() {
        let text = "[build-args]\nadd-repo = 'https://me:s3cret@host/x'\n\
                    add-repo-credentials = 'me:s3cret'\n";
        let (given, wrong) = read(Layer::User, text);
        assert_eq!(wrong, [] as [&str; 0]);
        assert!(!given.join(" ").contains("s3cret"), "{given:?}");
    }
}
