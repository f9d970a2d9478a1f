//! The whole inspection: find, read, include, select.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::element::{Element, Place};
use crate::files::{self, Unreadable};
use crate::find::{self, Found, KIWI_FILES, Nothing};
use crate::finding::Finding;
use crate::include::Included;
use crate::selection::{self, Selected, Target};
use crate::view::BoxView;
use crate::{include, links, markup, programs, text, xml};

/// The oldest version of the schema that kiwi 11 reads (`xsl/convert74to75.xsl`).
const OLDEST_SCHEMA: (u32, u32) = (7, 4);
/// The newest that kiwi 11.1.6 reads.
const NEWEST_SCHEMA: (u32, u32) = (8, 5);
/// The first kiwi that reads none older than [`OLDEST_SCHEMA`].
const STRICT_KIWI: u32 = 11;

/// What a build takes of a description.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The file, by name (`--kiwi-file`).
    pub kiwi_file: Option<PathBuf>,
    /// What is built of it.
    pub target: Target,
    /// The box reads as root what the user may not read here (a container with sudo).
    pub box_reads_all: bool,
}

/// The markup of a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// XML, which each kiwi reads.
    Xml,
    /// YAML or JSON, which a kiwi with Python's anymarkup reads.
    Yaml,
    /// INI or TOML, likewise; it is not looked at here.
    Other,
}

/// What came of it.
#[derive(Debug)]
pub struct Inspection {
    /// Errors and notes, in the order of what was looked at.
    pub findings: Vec<Finding>,
    /// The description, if it could be read.
    pub description: Option<Description>,
}

/// A description that could be read.
#[derive(Debug, Clone)]
pub struct Description {
    root: Element,
    file: String,
    folder: PathBuf,
    format: Format,
    includes: Vec<Included>,
    is_whole: bool,
    brought: Vec<&'static str>,
}

impl Inspection {
    /// Inspects the description that a build would take.
    ///
    /// # Errors
    /// Fails if the folder cannot be read.
    pub fn of(view: &BoxView, wanted: &Wanted) -> io::Result<Inspection> {
        let mut inspection = Inspection {
            findings: Vec::new(),
            description: None,
        };
        let asked = wanted.kiwi_file.as_deref();
        match find::find(view, asked)? {
            Found::File { path, host, others } => {
                inspection.note_others(view, &path, &others);
                inspection.read(view, &path, &host, wanted);
            }
            Found::InBox { path, target } => {
                let place = Place::file(&view.shown(&path));
                inspection.findings.push(in_box(&place, &target));
            }
            Found::Nothing(nothing) => {
                inspection.findings.push(no_file(view, asked, &nothing));
            }
        }
        inspection.findings.extend(links::leaving(view));
        if let Some(description) = &inspection.description {
            inspection
                .findings
                .extend(description.check(&wanted.target));
        }
        Ok(inspection)
    }

    /// Returns the findings that end a build.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_error())
    }

    fn note_others(&mut self, view: &BoxView, path: &Path, others: &[OsString]) {
        let [other, ..] = others else { return };
        let place = Place::file(&view.shown(path));
        self.findings.push(Finding::note(
            &place,
            format!(
                "kiwi takes this file, the first of {} that end with .kiwi, before {}: --kiwi-file \
                 selects another",
                others.len() + 1,
                other.to_string_lossy()
            ),
        ));
    }

    fn read(&mut self, view: &BoxView, path: &Path, host: &Path, wanted: &Wanted) {
        let file = view.shown(path);
        let place = Place::file(&file);
        let bytes = match files::read(host) {
            Ok(bytes) => bytes,
            Err(problem) => {
                self.findings.push(unreadable(&place, problem, wanted));
                return;
            }
        };
        let format = format_of(path, &bytes);
        let name: Arc<str> = file.as_str().into();
        let root = match format {
            Format::Other => {
                self.findings.push(Finding::note(
                    &place,
                    "is neither XML nor YAML: it is not looked at on this host",
                ));
                return;
            }
            Format::Xml => text::decode(&bytes)
                .map_err(|error| (error.text, error.line, error.certain))
                .and_then(|text| {
                    xml::parse(&text, &name)
                        .map_err(|error| (error.text, error.line, error.certain))
                }),
            Format::Yaml => String::from_utf8(bytes)
                .map_err(|_| (String::from("is not text in UTF-8"), 0, false))
                .and_then(|text| {
                    markup::parse(&text, &name)
                        .map_err(|error| (error.text, error.line, error.certain))
                }),
        };
        let mut root = match root {
            Ok(root) => root,
            Err((text, line, certain)) => {
                let place = Place { line, ..place };
                self.findings.push(if certain {
                    Finding::error(&place, text)
                } else {
                    Finding::note(&place, text)
                });
                return;
            }
        };
        if root.name != "image" {
            let text = format!(
                "the root element is <{}>, where kiwi wants <image>",
                root.name
            );
            self.findings.push(Finding::error(&root.place, text));
            return;
        }
        let includes = include::splice(&mut root, path, view);
        self.findings.extend(includes.findings);
        self.description = Some(Description {
            root,
            file,
            folder: view.folder().to_owned(),
            format,
            includes: includes.files,
            is_whole: !includes.incomplete,
            brought: programs::brought(view.folder()),
        });
    }
}

impl Description {
    /// Returns the root element, with what is included in it.
    pub fn root(&self) -> &Element {
        &self.root
    }

    /// Returns the name of the file, as the user knows it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns the markup.
    pub fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Programs in the folder that is copied over the box.
    pub(crate) fn brought(&self) -> &[&'static str] {
        &self.brought
    }

    /// Whether all of it could be seen from this host.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(crate) fn includes(&self) -> &[Included] {
        &self.includes
    }

    /// Returns what `target` selects.
    ///
    /// # Errors
    /// Fails with what kiwi would refuse.
    pub fn select(&self, target: &Target) -> Result<Selected, Finding> {
        selection::select(&self.root, target)
    }

    /// Returns the elements of the types that a build may come to: the selected one, or all if that
    /// cannot be said.
    pub fn types(&self, target: &Target) -> Vec<&Element> {
        let all = self
            .root
            .all("preferences")
            .flat_map(|section| section.all("type").map(move |kind| (section, kind)));
        let Ok(selected) = self.select(target) else {
            return all.map(|(_, kind)| kind).collect();
        };
        let arch = target.arch.as_deref();
        let profiles = selected.profiles.iter().map(String::as_str).collect();
        let mut fitting = all.filter(|(section, kind)| {
            selection::applies(section, &profiles, arch)
                && kind.attribute("image") == Some(&selected.image_type)
        });
        // kiwi takes the primary one of several, or the first.
        let first = fitting.next();
        let primary = first
            .into_iter()
            .chain(fitting)
            .find(|(_, kind)| target.image_type.is_none() && kind.is_set("primary"));
        primary
            .or(first)
            .map(|(_, kind)| kind)
            .into_iter()
            .collect()
    }

    /// Returns the addresses of the repositories that a build with `target` uses, with where they
    /// stand.
    pub fn repositories(&self, target: &Target) -> Vec<(&str, &Place)> {
        let selected = self.select(target).ok();
        let profiles: Option<HashSet<&str>> = selected
            .as_ref()
            .map(|selected| selected.profiles.iter().map(String::as_str).collect());
        let arch = target.arch.as_deref();
        self.root
            .all("repository")
            .filter(|repository| {
                let applies = |profiles| selection::applies(repository, profiles, arch);
                profiles.as_ref().is_none_or(applies)
            })
            .filter(|repository| !repository.is_set("imageonly"))
            .filter_map(|repository| {
                let source = repository.all("source").next()?;
                Some((source.attribute("path")?, &source.place))
            })
            .collect()
    }

    /// Returns whether it is a description for kiwi rather than for a stand-in of it: kiwi takes none
    /// without the version of its schema.
    pub fn is_for_kiwi(&self) -> bool {
        self.root.attribute("schemaversion").is_some()
    }

    /// Returns a note about the file as a whole.
    pub fn note(&self, text: &str) -> Finding {
        Finding::note(&Place::file(&self.file), text)
    }

    /// Checks the selection: for an architecture, if `target` has one.
    pub fn check(&self, target: &Target) -> Option<Finding> {
        if !self.is_for_kiwi() {
            return None;
        }
        let error = self.select(target).err()?;
        // What is missing may be in a file that could not be seen.
        Some(if self.is_whole {
            error
        } else {
            Finding {
                severity: crate::Severity::Note,
                ..error
            }
        })
    }

    /// Checks the version of the schema for a kiwi of this version, if it is known.
    pub fn check_schema(&self, kiwi: Option<&str>) -> Option<Finding> {
        let Some(schema) = self.root.attribute("schemaversion") else {
            return Some(Finding::note(
                &self.root.place,
                "the root element has no schemaversion: kiwi refuses it",
            ));
        };
        let version = numbers(schema)?;
        let of_box = kiwi.map_or_else(String::new, |kiwi| format!(" (the box has {kiwi})"));
        if version < OLDEST_SCHEMA {
            let text = format!(
                "the schema version {schema} is too old for kiwi {STRICT_KIWI}{of_box}, which reads 7.4 \
                 and newer: convert the description with an older kiwi (kiwi-ng 10, image info \
                 --print-xml)"
            );
            let is_strict = kiwi
                .and_then(numbers)
                .is_some_and(|(major, _)| major >= STRICT_KIWI);
            return Some(if is_strict {
                Finding::error(&self.root.place, text)
            } else {
                Finding::note(&self.root.place, text)
            });
        }
        (version > NEWEST_SCHEMA).then(|| {
            Finding::note(
                &self.root.place,
                format!("the schema version {schema} is newer than 8.5: it wants a kiwi that is newer than 11.1.6{of_box}"),
            )
        })
    }
}

/// Returns the first two numbers of a version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    let major = parts.next()?.trim().parse().ok()?;
    let minor = parts.next().and_then(|part| part.trim().parse().ok());
    Some((major, minor.unwrap_or(0)))
}

/// Returns the markup as kiwi and anymarkup guess it: by the name, then by how the text begins.
fn format_of(path: &Path, bytes: &[u8]) -> Format {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension {
        Some("xml") => return Format::Xml,
        Some("yml" | "yaml" | "json") => return Format::Yaml,
        Some("ini" | "toml" | "json5") => return Format::Other,
        _ => {}
    }
    match bytes.trim_ascii_start() {
        // A byte order mark, or UTF-16 without one.
        [] | [b'<' | 0 | 0xef | 0xfe | 0xff, ..] => Format::Xml,
        [b'[', ..] => Format::Other,
        _ => Format::Yaml,
    }
}

fn unreadable(place: &Place, problem: Unreadable, wanted: &Wanted) -> Finding {
    match problem {
        Unreadable::Never(text) => Finding::error(place, text),
        Unreadable::TooLong => Finding::note(place, "is too long to be looked at on this host"),
        Unreadable::Forbidden if wanted.box_reads_all => {
            Finding::note(place, "permission denied: it is not looked at on this host")
        }
        Unreadable::Forbidden => Finding::error(
            place,
            "permission denied: the box reads the description as the user of this program",
        ),
    }
}

fn in_box(place: &Place, target: &Path) -> Finding {
    Finding::note(
        place,
        format!(
            "is a link to {} in the box, which cannot be seen from this host",
            target.display()
        ),
    )
}

fn no_file(view: &BoxView, asked: Option<&Path>, nothing: &Nothing) -> Finding {
    if let Some((path, target)) = &nothing.dangling {
        let place = Place::file(&view.shown(path));
        let text = if path == target {
            String::from("is a link that leads nowhere")
        } else {
            format!(
                "leads to {} in the box, where nothing is: the box has only what is in the description \
                 folder, and what --shared-path names",
                view.shown(target)
            )
        };
        return Finding::error(&place, text);
    }
    let place = Place::file(&view.shown(Path::new("/description")));
    if let Some(name) = asked {
        return Finding::error(
            &place,
            format!("there is no file {} (--kiwi-file)", name.display()),
        );
    }
    let hint = match nothing.likely.first() {
        Some(name) => format!(": --kiwi-file {} selects that one", name.to_string_lossy()),
        None => String::new(),
    };
    Finding::error(
        &place,
        format!("there is no KIWI description in it (kiwi looks for {KIWI_FILES}){hint}"),
    )
}

#[cfg(test)]
mod tests;
