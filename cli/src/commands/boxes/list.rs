//! `boxbuild box list`.

use boxbuild_host::secret;
use serde::Serialize;

use super::answer::Answer;
use crate::exit_code::Result;
use crate::output::json::value;
use crate::output::print::print_line;
use boxbuild_boxes::catalog::Catalog;
use boxbuild_boxes::store::{InstalledBox, Published, Store};
use boxbuild_host::arch::Arch;
use boxbuild_host::units::size;

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Listing {
    /// The folder of the box store.
    store: String,
    /// Where the list of published boxes comes from.
    catalog: String,
    /// Installed boxes, then published ones.
    boxes: Vec<Row>,
}

/// One box.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// `None` if it is not known.
    arch: Option<Arch>,
    state: State,
    /// What it was made or fetched from.
    origin: String,
    /// Size of its files in bytes.
    size: Option<u64>,
    /// When it was installed, seconds since the epoch.
    created: Option<u64>,
    /// Version of KIWI in the box.
    kiwi: Option<String>,
    /// Builds have written into its disk (`--no-snapshot`).
    changed_in_place: bool,
    /// Addresses of a published box's files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<String>,
    /// Where a published box was fetched from.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<Published>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Installed,
    Damaged,
    Published,
}

/// Returns the list of the installed boxes, and of the published ones that are not installed.
pub(super) fn list(store: &Store) -> Result<Answer> {
    let mut rows: Vec<Row> = store
        .names()?
        .into_iter()
        .map(|name| match store.get(&name) {
            Ok(installed) => Row::installed(&installed),
            Err(error) => Row::damaged(name, error.to_string()),
        })
        .collect();
    if rows.is_empty() {
        print_line(&format!(
            "There is no box in {} yet. A published one is fetched when a build asks for it; \
             create your own with: boxbuild box create debian --from debian:trixie",
            store.root().display()
        ));
    }
    let catalog = catalog()?;
    let published = Row::published(&catalog, &rows);
    rows.extend(published);
    let text = rows.iter().map(Row::line).collect();
    let listing = Listing {
        store: store.root().display().to_string(),
        catalog: catalog.origin.to_string(),
        boxes: rows,
    };
    Ok(Answer::new(text, value(&listing)?))
}

/// Returns the list of published boxes, and prints its note if it has one.
pub(super) fn catalog() -> Result<Catalog> {
    let catalog = Catalog::of_user(None)?;
    if let Some(note) = catalog.note() {
        print_line(&note);
    }
    Ok(catalog)
}

impl Row {
    fn installed(installed: &InstalledBox) -> Row {
        let info = &installed.info;
        Row {
            name: info.name.clone(),
            arch: Some(info.arch),
            state: State::Installed,
            origin: secret::redact(&info.origin).into_owned(),
            size: Some(info.files().iter().map(|file| file.size).sum()),
            created: Some(info.created),
            kiwi: info.kiwi.clone(),
            changed_in_place: installed.changed.is_some(),
            files: Vec::new(),
            published: info.published.as_ref().map(Published::redacted),
            problem: None,
        }
    }

    fn damaged(name: String, problem: String) -> Row {
        Row {
            name,
            arch: None,
            state: State::Damaged,
            origin: String::new(),
            size: None,
            created: None,
            kiwi: None,
            changed_in_place: false,
            files: Vec::new(),
            published: None,
            problem: Some(problem),
        }
    }

    /// Returns what is published and not among `installed`.
    fn published(catalog: &Catalog, installed: &[Row]) -> Vec<Row> {
        let is_installed = |name: &str, arch| {
            installed.iter().any(|row| {
                row.arch == Some(arch)
                    && row
                        .published
                        .as_ref()
                        .is_some_and(|published| published.name == name)
            })
        };
        let mut rows = Vec::new();
        for published in &catalog.boxes {
            for variant in &published.variants {
                if is_installed(&published.name, variant.arch) {
                    continue;
                }
                let repository = catalog.repository(variant);
                rows.push(Row {
                    name: published.name.clone(),
                    arch: Some(variant.arch),
                    state: State::Published,
                    origin: secret::redact(&variant.source).into_owned(),
                    size: None,
                    created: None,
                    kiwi: None,
                    changed_in_place: false,
                    files: repository
                        .iter()
                        .flat_map(|repository| {
                            [&variant.kernel_file, &variant.disk_file]
                                .map(|file| repository.file(file).to_string())
                                .map(|url| secret::redact(&url).into_owned())
                        })
                        .collect(),
                    published: None,
                    problem: repository
                        .err()
                        .map(|error| secret::redact(&error.to_string()).into_owned()),
                });
            }
        }
        rows
    }

    fn line(&self) -> String {
        if let (State::Damaged, Some(problem)) = (self.state, &self.problem) {
            return format!("{:<20} {problem}\n", self.name);
        }
        let state = match self.state {
            State::Published => String::from("not fetched yet"),
            _ => {
                let kiwi = self.kiwi.as_ref().map(|kiwi| format!(", KIWI {kiwi}"));
                size(self.size.unwrap_or_default()) + &kiwi.unwrap_or_default()
            }
        };
        format!(
            "{:<20} {:<8} {state:<26} {}{}\n",
            self.name,
            self.arch.map_or("?", Arch::name),
            self.origin,
            if self.changed_in_place {
                " (changed in place)"
            } else {
                ""
            },
        )
    }
}
