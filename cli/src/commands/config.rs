//! `boxbuild config`: the settings, and where each comes from.

use boxbuild_host::text::{shown, shown_path};
use serde::Serialize;
use serde_json::Value;

use crate::args::ConfigArgs;
use crate::exit_code::{ExitCode, Result};
use crate::output::json::print_document;
use crate::output::print::{print_line, print_text};
use crate::settings::{Effective, Given, Layer, LeftOut, Origin, Place, Setting, Settings, State};

/// A setting for programs.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Its key in a settings file.
    key: String,
    variable: String,
    /// Null if nothing is given.
    value: Value,
    /// environment, project, user, built-in; null if nothing is given.
    from: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// Places of other values, which do not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shadowed: Vec<String>,
}

/// A file for programs.
#[derive(Debug, Serialize)]
struct FileRow {
    layer: Layer,
    path: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Document {
    files: Vec<FileRow>,
    settings: Vec<Row>,
    notes: Vec<String>,
}

/// Carries out the command.
pub(super) fn run(args: &ConfigArgs, no_files: bool) -> Result<ExitCode> {
    let settings = Settings::load(no_files)?;
    let files: Vec<FileRow> = settings.candidates().iter().map(file_row).collect();
    let mut notes = settings.notes().to_vec();
    let mut rows = Vec::new();
    let mut places: Vec<&Place> = settings
        .all()
        .iter()
        .map(|setting| &setting.place)
        .collect();
    places.dedup();
    for place in places {
        let (found, left_out) = settings.effective(place);
        let told = |LeftOut { given, why }: &LeftOut| {
            format!("{}: {}: {why}", given.origin, given.setting)
        };
        for note in left_out.iter().map(told) {
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        let here = settings
            .all()
            .iter()
            .filter(|setting| setting.place == *place);
        for setting in here {
            let known = found.iter().find(|found| {
                found.given.setting.name == setting.name && found.given.setting.place == *place
            });
            rows.extend(match known {
                Some(known) => Some(Row::effective(known)),
                // What holds for all commands is built in there as well.
                None => (args.all || (*place == Place::Build && setting.default.is_some()))
                    .then(|| Row::built_in(setting)),
            });
        }
    }
    if args.json {
        print_document(&Document {
            files,
            settings: rows,
            notes,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let text: String = if args.files {
        files.iter().map(file_line).collect()
    } else {
        let width = |length: fn(&Row) -> usize| rows.iter().map(length).max().unwrap_or(0);
        let keys = width(|row| row.key.chars().count());
        let values = width(|row| row.text().chars().count()).min(40);
        let line = |row: &Row| row.line(keys, values);
        rows.iter().map(line).collect()
    };
    print_text(&text)?;
    notes.iter().for_each(|note| print_line(note));
    Ok(ExitCode::SUCCESS)
}

/// Returns the settings of a build for its plan in words.
pub(super) fn in_plan(used: &[Given]) -> String {
    let line = |given: &Given| {
        let value = given.shown();
        format!(
            "setting      {} = {} ({})\n",
            given.setting,
            shown(&value),
            given.origin
        )
    };
    used.iter().map(line).collect()
}

impl Row {
    /// A setting that counts.
    pub(super) fn of(given: &Given) -> Row {
        let (file, line) = match &given.origin {
            Origin::Variable(_) => (None, None),
            Origin::File { path, line, .. } => {
                (Some(path.to_string_lossy().into_owned()), Some(*line))
            }
        };
        Row {
            key: given.setting.to_string(),
            variable: given.setting.variable(),
            value: given.json(),
            from: Some(match given.origin.layer() {
                Layer::Environment => "environment",
                Layer::Project => "project",
                Layer::User => "user",
            }),
            file,
            line,
            shadowed: Vec::new(),
        }
    }

    fn effective(effective: &Effective) -> Row {
        let shadowed = effective.shadowed.iter();
        Row {
            shadowed: shadowed.map(|given| given.origin.to_string()).collect(),
            ..Row::of(&effective.given)
        }
    }

    fn built_in(setting: &Setting) -> Row {
        Row {
            key: setting.to_string(),
            variable: setting.variable(),
            value: setting.default.clone().map_or(Value::Null, Value::String),
            from: setting.default.is_some().then_some("built-in"),
            file: None,
            line: None,
            shadowed: Vec::new(),
        }
    }

    fn text(&self) -> String {
        match &self.value {
            Value::Null => String::from("-"),
            Value::String(text) => shown(text).into_owned(),
            Value::Array(items) => {
                let items = items.iter().filter_map(Value::as_str).map(shown);
                items.collect::<Vec<_>>().join(" ")
            }
            other => other.to_string(),
        }
    }

    fn line(&self, keys: usize, values: usize) -> String {
        let place = match (&self.file, self.line, self.from) {
            (Some(file), Some(line), _) => {
                format!("{}:{line}", shown_path(std::path::Path::new(file)))
            }
            (_, _, Some("environment")) => self.variable.clone(),
            (_, _, Some(from)) => from.to_owned(),
            (_, _, None) => format!("not given ({})", self.variable),
        };
        let shadowed = match &self.shadowed[..] {
            [] => String::new(),
            others => format!(", before {}", others.join(", ")),
        };
        format!(
            "{:<keys$}  {:<values$}  {place}{shadowed}\n",
            self.key,
            self.text()
        )
    }
}

fn file_row(candidate: &crate::settings::Candidate) -> FileRow {
    FileRow {
        layer: candidate.layer,
        path: candidate.path.to_string_lossy().into_owned(),
        state: match candidate.state {
            State::Used => "used",
            State::Missing => "missing",
            State::LeftOut(_) => "left-out",
        },
        problem: match candidate.state {
            State::LeftOut(why) => Some(why),
            _ => None,
        },
    }
}

fn file_line(row: &FileRow) -> String {
    let layer = match row.layer {
        Layer::User => "user",
        Layer::Project => "project",
        Layer::Environment => "environment",
    };
    let path = shown_path(std::path::Path::new(&row.path)).to_string();
    let state = match row.state {
        "used" => String::new(),
        "missing" => String::from(" (there is none)"),
        _ => format!(" ({})", row.problem.unwrap_or_default()),
    };
    format!("{layer:<8} {path}{state}\n")
}
