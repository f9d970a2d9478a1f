//! `boxbuild diff`: what differs between two results.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use boxbuild_host::digest::sha256_until;
use boxbuild_host::error::IoError;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::stop::{StopCheck, Stopped};
use boxbuild_host::text::shown;
use boxbuild_host::untrusted::{Dir, FileKind};
use boxbuild_host::{input, units};
use boxbuild_parsers::{LISTING_PIECE, Output, ParseError, Parser};
use boxbuild_protocol::paths::{CODE_NAME, LOG_NAME};
use boxbuild_provenance::compare::{self, Difference, Field, PackageDifference};
use boxbuild_provenance::{names, packages, tree};
use serde::Serialize;

use super::signals;
use crate::args::DiffArgs;
use crate::exit_code::{ExitCode, Failure, HostContext, Result};
use crate::output::json::print_document;
use crate::output::print::print_text;
use boxbuild_core::output_dir::TIMINGS_PAGE;

/// Longest listing of a file, in bytes: a disk of a TiB has 80 MiB.
const LONGEST: u64 = 128 << 20;
/// Differences of a kind that are shown.
const SHOWN: usize = 20;

/// What differs between two results.
#[derive(Debug, Default, Serialize)]
pub(super) struct Differences {
    /// Files that only the first has.
    only_first: Vec<String>,
    /// Files that only the second has.
    only_second: Vec<String>,
    /// Files that both have, the same.
    same: Vec<String>,
    /// Files that both have, and that differ.
    files: Vec<FileDifference>,
    /// What is no regular file, or has a name that is not UTF-8.
    not_compared: BTreeSet<String>,
    /// Packages that differ, by the lists of both.
    packages: PackageDifference,
}

/// A file that differs.
#[derive(Debug, Serialize)]
struct FileDifference {
    file: String,
    /// Lengths in bytes.
    bytes: (u64, u64),
    /// What of it differs; `None` if that cannot be told.
    difference: Option<Difference>,
    /// Why not.
    problem: Option<String>,
}

impl Differences {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.only_first.is_empty()
            && self.only_second.is_empty()
            && self.files.is_empty()
            && self.not_compared.is_empty()
    }
}

/// Compares two results.
pub(super) fn run(args: &DiffArgs) -> Result<ExitCode> {
    let interrupt = signals::take_over()?;
    let differences = compare(&args.first, &args.second, &interrupt)?;
    if args.json {
        print_document(&differences)?;
    } else {
        print_text(&text(&differences))?;
    }
    Ok(code(&differences))
}

/// The exit code for what was found.
pub(super) fn code(differences: &Differences) -> ExitCode {
    match differences.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::BUILD_FAILED,
    }
}

/// Compares two folders, or two files.
pub(super) fn compare(first: &Path, second: &Path, interrupt: &Interrupt) -> Result<Differences> {
    let look = Comparison {
        parser: Parser::new(interrupt.clone()),
        stop: StopCheck::new(interrupt, None),
    };
    let mut differences = Differences::default();
    match (first.is_dir(), second.is_dir()) {
        (true, true) => look.folders(first, second, &mut differences)?,
        (false, false) => {
            let open = |path: &Path| input::open(path).map_err(IoError::on_named("open", path));
            let name = second.file_name().unwrap_or(second.as_os_str());
            look.files(
                &name.to_string_lossy(),
                &open(first)?,
                &open(second)?,
                &mut differences,
            )?;
        }
        _ => {
            return Err(Failure::new(
                ExitCode::USAGE,
                anyhow::anyhow!(
                    "{} and {}: name two folders or two files",
                    first.display(),
                    second.display()
                ),
            ));
        }
    }
    Ok(differences)
}

struct Comparison {
    parser: Parser,
    stop: StopCheck,
}

impl Comparison {
    fn folders(&self, first: &Path, second: &Path, to: &mut Differences) -> Result<()> {
        let open =
            |path: &Path| Dir::open(path).map_err(IoError::on_named("open the folder", path));
        let (one, other) = (open(first)?, open(second)?);
        let (of_one, of_other) = (self.list(&one, first, to)?, self.list(&other, second, to)?);
        let only = |of: &BTreeSet<String>, not: &BTreeSet<String>| -> Vec<String> {
            of.difference(not)
                .map(|name| shown(name).into_owned())
                .collect()
        };
        to.only_first = only(&of_one, &of_other);
        to.only_second = only(&of_other, &of_one);
        let mut lists = (Vec::new(), Vec::new());
        for name in of_one.intersection(&of_other) {
            let open = |dir: &Dir, path: &Path| {
                tree::open(dir, name).map_err(IoError::on("open", &path.join(name)))
            };
            self.files(name, &open(&one, first)?, &open(&other, second)?, to)?;
            if name.ends_with(packages::SUFFIX) {
                lists.0.extend(packages_of(open(&one, first)?)?);
                lists.1.extend(packages_of(open(&other, second)?)?);
            }
        }
        to.packages = compare::packages(&lists.0, &lists.1);
        Ok(())
    }

    /// The results in a folder: what says when and how they were built differs by nature. What cannot be
    /// compared is noted.
    fn list(&self, dir: &Dir, path: &Path, to: &mut Differences) -> Result<BTreeSet<String>> {
        let entries = tree::list(dir, &self.stop).map_err(|error| match Stopped::of(&error) {
            Some(_) => Failure::new(ExitCode::INTERRUPTED, anyhow::Error::new(error)),
            None => IoError::on("read the folder", path)(error).into(),
        })?;
        let is_result = |name: &str| {
            !names::ALL.contains(&name)
                && ![CODE_NAME, LOG_NAME, TIMINGS_PAGE].contains(&name)
                && !name.starts_with(".boxbuild.")
        };
        let mut files = BTreeSet::new();
        for entry in entries {
            match (entry.kind, entry.path.into_string()) {
                (FileKind::Regular, Ok(name)) => {
                    if is_result(&name) {
                        files.insert(name);
                    }
                }
                (_, name) => {
                    let name = name.unwrap_or_else(|name| name.to_string_lossy().into_owned());
                    if is_result(&name) {
                        to.not_compared.insert(shown(&name).into_owned());
                    }
                }
            }
        }
        Ok(files)
    }

    fn files(&self, name: &str, first: &File, second: &File, to: &mut Differences) -> Result<()> {
        let name = shown(name).into_owned();
        let hash = |mut file: &File| {
            sha256_until(&mut file, &self.stop).map_err(|error| match Stopped::of(&error) {
                Some(_) => Failure::new(ExitCode::INTERRUPTED, anyhow::Error::new(error)),
                None => IoError::on("read", Path::new(&name))(error).into(),
            })
        };
        let (one, other) = (hash(first)?, hash(second)?);
        if one.1 == other.1 {
            to.same.push(name);
            return Ok(());
        }
        let (difference, problem) = match (self.listing(first), self.listing(second)) {
            (Err(ParseError::Interrupted), _) | (_, Err(ParseError::Interrupted)) => {
                return Err(ParseError::Interrupted.into());
            }
            (Ok(first), Ok(second)) => (
                Some(compare::listings(&first, &second, LISTING_PIECE)),
                None,
            ),
            (Err(error), _) | (_, Err(error)) => (None, Some(error.to_string())),
        };
        to.files.push(FileDifference {
            file: name,
            bytes: (one.0, other.0),
            difference,
            problem,
        });
        Ok(())
    }

    /// What is in a file. It may be anything: a jailed process reads it.
    fn listing(&self, file: &File) -> Result<String, ParseError> {
        let mut bytes = Vec::new();
        self.parser
            .listing(file, Output::new(&mut bytes, LONGEST))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn packages_of(file: File) -> Result<Vec<packages::Package>> {
    let mut bytes = Vec::new();
    let read = file.take(packages::LONGEST).read_to_end(&mut bytes);
    read.host_context(|| "cannot read a list of packages")?;
    Ok(packages::read(&String::from_utf8_lossy(&bytes)).0)
}

/// The differences for people.
pub(super) fn text(differences: &Differences) -> String {
    let mut lines = Vec::new();
    let count = differences.same.len();
    if differences.is_empty() {
        let files = match count {
            1 => String::from("1 file is"),
            count => format!("{count} files are"),
        };
        return format!("no difference: {files} the same, byte by byte\n");
    }
    some(&mut lines, "only in the first: ", &differences.only_first);
    some(&mut lines, "only in the second: ", &differences.only_second);
    let others: Vec<String> = differences.not_compared.iter().cloned().collect();
    some(
        &mut lines,
        "not compared, as only regular files with names in UTF-8 are: ",
        &others,
    );
    let packages = &differences.packages;
    some(&mut lines, "package only in the first: ", &packages.removed);
    some(&mut lines, "package only in the second: ", &packages.added);
    fields(&mut lines, "package ", &packages.changed);
    for file in &differences.files {
        let (first, second) = file.bytes;
        let sizes = match first == second {
            true => units::size(first),
            false => format!("{first} bytes, {second} bytes"),
        };
        lines.push(format!("{}: differs ({sizes})", file.file));
        match &file.difference {
            None => lines.push(format!(
                "  what differs cannot be told: {}",
                file.problem.as_deref().unwrap_or("it is unknown")
            )),
            Some(difference) if difference.is_empty() => lines.push(String::from(
                "  what is in it is the same: it is packed in another way",
            )),
            Some(difference) => of_file(&mut lines, difference),
        }
    }
    lines.push(match count {
        0 => String::from("no file is the same"),
        1 => String::from("1 file is the same"),
        count => format!("{count} files are the same"),
    });
    lines.join("\n") + "\n"
}

fn of_file(lines: &mut Vec<String>, difference: &Difference) {
    some(lines, "  only in the first: ", &difference.only_first);
    some(lines, "  only in the second: ", &difference.only_second);
    some(lines, "  other content: ", &difference.contents);
    fields(lines, "  ", &difference.attributes);
    if let Some(time) = &difference.time_of {
        lines.push(format!(
            "  {} entries have other times alone, e.g. {}: {} and {}",
            difference.times, time.place, time.first, time.second
        ));
    }
    if difference.order {
        lines.push(String::from("  the entries are in another order"));
    }
    fields(lines, "  ", &difference.fields);
    let bytes: u64 = difference.ranges.iter().map(|(_, length)| length).sum();
    if bytes > 0 {
        let ranges: Vec<String> = difference
            .ranges
            .iter()
            .map(|(start, length)| format!("{} at {start}", units::size(*length)))
            .collect();
        lines.push(format!(
            "  {} of the disk are in pieces that differ",
            units::size(bytes)
        ));
        some(lines, "  ", &ranges);
    }
}

fn some(lines: &mut Vec<String>, before: &str, items: &[String]) {
    lines.extend(
        items
            .iter()
            .take(SHOWN)
            .map(|item| format!("{before}{item}")),
    );
    if items.len() > SHOWN {
        lines.push(format!("{before}and {} more", items.len() - SHOWN));
    }
}

fn fields(lines: &mut Vec<String>, before: &str, items: &[Field]) {
    let items: Vec<String> = items
        .iter()
        .map(|field| format!("{}: {} and {}", field.place, field.first, field.second))
        .collect();
    some(lines, before, &items);
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Two links to different places are no "no difference".
    #[test]
    fn what_is_not_compared_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let folders = ["a", "b"].map(|name| dir.path().join(name));
        for folder in &folders {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("image"), "x").unwrap();
            symlink(folder, folder.join("link")).unwrap();
            fs::write(
                folder.join(OsStr::from_bytes(b"\xff")),
                folder.as_os_str().as_bytes(),
            )
            .unwrap();
        }
        let found = compare(&folders[0], &folders[1], &Interrupt::default()).unwrap();
        assert!(!found.is_empty());
        assert_eq!(found.same, ["image"]);
        assert!(found.not_compared.iter().eq(["link", "\u{fffd}"]));
        assert!(text(&found).contains("link"), "{}", text(&found));
    }
}
