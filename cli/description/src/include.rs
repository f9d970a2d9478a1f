//! Included files: `<include from="this://file.xml"/>` (kiwi 11.1.6, `markup/base.py` and
//! `xsl/include.xsl`). kiwi puts what is in the root of the file in the place of the element, once:
//! an include in an included file stays as it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::element::Element;
use crate::files::{self, Unreadable};
use crate::finding::Finding;
use crate::view::{BoxView, Resolved};
use crate::{text, xml};

/// Most includes that are followed.
const MOST: usize = 1_000;

/// Most memory that all included files may come to, in bytes.
const MOST_MEMORY: usize = xml::MOST_EXPANDED;

/// What an element takes for each byte of its text, at most.
const MEMORY_OF_BYTE: usize = 64;

/// Most includes of one included file that are told of.
const MOST_NESTED: usize = 10;

/// An included file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Included {
    /// As it is written.
    pub from: String,
    /// The file, as the user knows it.
    pub file: String,
    /// The line of the include.
    pub line: u32,
}

/// What became of the includes of a description.
#[derive(Debug, Default)]
pub(crate) struct Includes {
    /// What was found on the way.
    pub(crate) findings: Vec<Finding>,
    /// The files.
    pub(crate) files: Vec<Included>,
    /// Not all of them could be seen from the host.
    pub(crate) incomplete: bool,
    /// How many were followed, to a file or to nothing.
    followed: usize,
    /// What the files come to in memory, at most.
    memory: usize,
}

/// Puts the elements of included files in the place of the includes of `root`. `config` is the path
/// of the description in the box.
pub(crate) fn splice(root: &mut Element, config: &Path, view: &BoxView) -> Includes {
    let mut includes = Includes::default();
    let children = std::mem::take(&mut root.children);
    for child in children {
        if child.name != "include" {
            root.children.push(child);
            continue;
        }
        if includes.followed >= MOST {
            includes.incomplete = true;
            continue;
        }
        includes.followed += 1;
        match includes.read(&child, config, view) {
            Some(elements) => root.children.extend(elements),
            None => includes.incomplete = true,
        }
    }
    includes
}

impl Includes {
    /// Returns the elements of an included file; `None` if they cannot be seen from the host.
    fn read(&mut self, include: &Element, config: &Path, view: &BoxView) -> Option<Vec<Element>> {
        let place = &include.place;
        let from = include.attribute("from").unwrap_or_default();
        let Some(path) = path_of(from, config) else {
            self.findings.push(Finding::note(
                place,
                format!(
                    "the include '{from}' cannot be followed on this host: kiwi reads it as a URI, in which \
                     spaces, % and letters beyond ASCII do not work; it knows this://, file:// and dir://"
                ),
            ));
            return None;
        };
        let included = |target: &Path| Included {
            from: from.to_owned(),
            file: view.shown(target),
            line: place.line,
        };
        let host = match view.resolve(&path) {
            Resolved::Host(host) => host,
            Resolved::InBox(target) => {
                self.findings.push(Finding::note(
                    place,
                    format!(
                        "the include {from} is {} in the box, which cannot be seen from this host",
                        target.display()
                    ),
                ));
                return None;
            }
            Resolved::Nothing { path: target, .. } => {
                let text = missing(from, &path, &target, view);
                self.findings.push(Finding::error(place, text));
                return None;
            }
            Resolved::Unknown(error) => {
                self.findings
                    .push(Finding::note(place, format!("the include {from}: {error}")));
                return None;
            }
        };
        self.files.push(included(&path));
        let name: Arc<str> = view.shown(&path).into();
        let own = crate::element::Place::file(&name);
        let bytes = match files::read(&host) {
            Ok(bytes) => bytes,
            Err(problem) => {
                self.findings.push(match problem {
                    Unreadable::Never(text) => Finding::error(&own, text),
                    Unreadable::Forbidden => Finding::note(&own, "permission denied"),
                    Unreadable::TooLong => {
                        Finding::note(&own, "is too long to be looked at on this host")
                    }
                });
                return None;
            }
        };
        let decoded = text::decode(&bytes).map_err(|error| (error.text, error.line, error.certain));
        if let Ok(text) = &decoded {
            let memory = text.len().saturating_mul(MEMORY_OF_BYTE);
            let memory = memory.saturating_add(xml::expanded(text));
            self.memory = self.memory.saturating_add(memory);
            if self.memory > MOST_MEMORY {
                let text = "is too long, with the files before it, to be looked at on this host";
                self.findings.push(Finding::note(&own, text));
                return None;
            }
        }
        let tree = decoded.and_then(|text| {
            xml::parse(&text, &name).map_err(|error| (error.text, error.line, error.certain))
        });
        let tree = match tree {
            Ok(tree) => tree,
            Err((text, line, certain)) => {
                let place = crate::element::Place { line, ..own };
                self.findings.push(if certain {
                    Finding::error(&place, text)
                } else {
                    Finding::note(&place, text)
                });
                return None;
            }
        };
        if tree.name != "image" {
            self.findings.push(Finding::note(
                &tree.place,
                format!(
                    "its root is <{}>: kiwi takes from an included file what is in <image>, which is \
                     nothing here",
                    tree.name
                ),
            ));
            return Some(Vec::new());
        }
        for nested in tree.all("include").take(MOST_NESTED) {
            let from = nested.attribute("from").unwrap_or_default();
            self.findings.push(Finding::note(
                &nested.place,
                format!(
                    "kiwi does not follow the include {from} of an included file: move it to {}",
                    place.file
                ),
            ));
        }
        Some(tree.children)
    }
}

/// The path in the box of an include of the description `config`; `None` if kiwi makes something of it
/// that is not a plain path.
fn path_of(from: &str, config: &Path) -> Option<PathBuf> {
    let folder = config.parent()?;
    // libxslt takes URIs (RFC 3986, section 2), and kiwi does not undo escapes.
    let is_plain = |c: char| c.is_ascii_graphic() && !"<>\"{}|\\^`%#?;".contains(c);
    if from.is_empty() || !from.chars().all(is_plain) {
        return None;
    }
    if let Some(name) = from.strip_prefix("this://") {
        // os.path.join: an absolute name stands for itself.
        return Some(folder.join(name));
    }
    // kiwi joins the host and the path of a URI; relative to its working directory, which is /.
    let name = match from.split_once(':') {
        None => return Some(folder.join(from)),
        Some(("file" | "dir", name)) => name.strip_prefix("//").unwrap_or(name),
        Some(_) => return None,
    };
    Some(Path::new("/").join(name))
}

/// Says why there is no such file in the box.
fn missing(from: &str, path: &Path, target: &Path, view: &BoxView) -> String {
    let shown = view.shown(path);
    let on_host = path.is_absolute() && !path.starts_with("/description") && path.exists();
    if on_host {
        return match path.strip_prefix(view.folder()) {
            Ok(name) => format!(
                "the include {from} is a path of this host, which the box does not have: write \
                 this://{}",
                name.display()
            ),
            Err(_) => format!(
                "the include {from} is a path of this host, which the box does not have: share its \
                 folder with --shared-path"
            ),
        };
    }
    if target == path {
        return format!("the include {from} does not exist: there is no {shown}");
    }
    format!(
        "the include {from} does not exist: {shown} leads to {} in the box, where nothing is; the box \
         has only what is in the description folder, and what --shared-path names",
        view.shown(target)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_includes_are_those_of_kiwi() {
        let config = Path::new("/description/config.xml");
        for (from, path) in [
            ("this://r.xml", "/description/r.xml"),
            ("this://./sub/r.xml", "/description/./sub/r.xml"),
            ("this:///r.xml", "/r.xml"),
            ("r.xml", "/description/r.xml"),
            ("file:///description/r.xml", "/description/r.xml"),
            ("file:/description/r.xml", "/description/r.xml"),
            ("dir:///description/r.xml", "/description/r.xml"),
            ("dir://description/r.xml", "/description/r.xml"),
            ("/srv/r.xml", "/srv/r.xml"),
        ] {
            assert_eq!(path_of(from, config), Some(PathBuf::from(path)), "{from}");
        }
        for from in [
            "",
            "this://a b.xml",
            "this://r.xml#x",
            "http://h/r.xml",
            "this://ü.xml",
        ] {
            assert_eq!(path_of(from, config), None, "{from}");
        }
        let below = Path::new("/description/image/config.xml");
        assert_eq!(
            path_of("this://r.xml", below),
            Some("/description/image/r.xml".into())
        );
    }
}
