//! Checking a result against its record. The folder may come from anyone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;

use boxbuild_host::digest::sha256_until;
use boxbuild_host::error::{Classify, ErrorClass, IoError};
use boxbuild_host::stop::{StopCheck, Stopped};
use boxbuild_host::text::shown;
use boxbuild_host::untrusted::{Dir, FileKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::names::{ALL, PROVENANCE, SBOM, SUMS};
use crate::sbom::Document;
use crate::statement::{BYTES, Claims, PREDICATE, Resource, STATEMENT};
use crate::sums::Sums;
use crate::tree::{self, Entry};
use crate::trust::{Kind, LookError, Trusted, Verdict, look_at_any};

/// Longest list of checksums and longest document that is read, in bytes: a record has none that is longer.
pub const LONGEST: u64 = 64 << 20;
/// Longest signature that is read, in bytes.
const LONGEST_SIGNATURE: u64 = 64 << 10;
/// Bytes that are hashed, at most: a hole of a file costs as much as data.
const MOST_HASHED: u64 = 1 << 40;
/// Problems that are kept; more are counted.
const MOST_PROBLEMS: usize = 100;

/// What a check needs to know of the folder besides its record.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Files that are written beside a record, and may be there. Those that begin with a dot are
    /// boxbuild's own notes.
    pub beside: &'a [&'a str],
    /// A file that must be there, with these contents.
    pub verdict: (&'a str, &'a str),
    /// The signature must be of one of these keys.
    pub trusted: Option<&'a Trusted>,
    /// Files that the record does not name are no problem.
    pub others: bool,
}

/// What a check found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub more_problems: usize,
    /// Files whose checksums are right.
    pub good_files: usize,
    /// The signature.
    pub signature: SignatureFound,
    /// The program that made the result, as the record says.
    pub builder: Option<String>,
    /// When it was made, as the record says.
    pub finished: Option<String>,
    /// The statement that was checked, if it could be read.
    #[serde(skip)]
    pub claims: Option<Claims>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A signature of a record.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "by")]
pub enum SignatureFound {
    /// There is none.
    #[default]
    None,
    /// It is of a key that counts: of this file.
    Good(String),
    /// It is of some key; no key was asked for.
    Somebody(String),
    /// It was not checked: no key was named.
    NotChecked,
    /// It is not what it should be.
    Bad,
}

/// A check is not possible.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The folder cannot be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A signature cannot be looked at.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The user asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Classify for CheckError {
    fn class(&self) -> ErrorClass {
        match self {
            CheckError::Io(error) => error.class(),
            CheckError::Look(error) => error.class(),
            CheckError::Stopped(Stopped::Interrupted) => ErrorClass::Interrupted,
            CheckError::Stopped(_) => ErrorClass::Host,
        }
    }
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    fn wrong(&mut self, file: &str, problem: impl Into<String>) {
        if self.problems.len() == MOST_PROBLEMS {
            self.more_problems += 1;
            return;
        }
        self.problems.push(Problem {
            file: shown(file).into_owned(),
            problem: problem.into(),
        });
    }
}

/// Checks the result in the folder at `path`.
///
/// # Errors
/// Fails if it cannot be looked at. What is wrong with it is in the report.
pub fn check(path: &Path, expected: Expected<'_>, stop: &StopCheck) -> Result<Report, CheckError> {
    let dir = Dir::open(path).map_err(IoError::on_named("open the folder", path))?;
    let mut check = Check {
        dir: &dir,
        path,
        expected,
        stop,
        report: Report::default(),
    };
    check.all()?;
    Ok(check.report)
}

/// The claims of a result's record, unchecked.
///
/// # Errors
/// Fails if there are none.
pub fn claims(path: &Path) -> Result<Claims, IoError> {
    let on = |path: &Path| IoError::on_named("read", path);
    let dir = Dir::open(path).map_err(on(path))?;
    let text = bounded(&dir, PROVENANCE, LONGEST).map_err(on(&path.join(PROVENANCE)))?;
    serde_json::from_slice(&text)
        .map_err(io::Error::other)
        .map_err(on(&path.join(PROVENANCE)))
}

struct Check<'a> {
    dir: &'a Dir,
    path: &'a Path,
    expected: Expected<'a>,
    stop: &'a StopCheck,
    report: Report,
}

impl Check<'_> {
    fn all(&mut self) -> Result<(), CheckError> {
        let entries = tree::list(self.dir, self.stop).map_err(|error| self.io(error))?;
        let Some((sums, text)) = self.sums() else {
            return Ok(());
        };
        self.signature(&text)?;
        self.listed(&entries, &sums);
        let statement: Option<Claims> = self.document(PROVENANCE, &sums)?;
        let subjects = statement.as_ref().map(subjects).unwrap_or_default();
        self.files(&entries, &sums, &subjects)?;
        self.verdict();
        if let Some(claims) = &statement {
            self.claims(claims, &sums);
        }
        let sbom: Option<Document> = self.document(SBOM, &sums)?;
        if let Some(sbom) = sbom.filter(|_| statement.is_some()) {
            self.sbom(&sbom, &subjects);
        }
        self.report.claims = statement;
        Ok(())
    }

    fn io(&self, error: io::Error) -> CheckError {
        match Stopped::of(&error) {
            Some(stopped) => stopped.into(),
            None => IoError::on("read the folder", self.path)(error).into(),
        }
    }

    fn sums(&mut self) -> Option<(Sums, Vec<u8>)> {
        let text = match bounded(self.dir, SUMS, LONGEST) {
            Ok(text) => text,
            Err(error) => {
                let hint = match error.kind() {
                    io::ErrorKind::NotFound => " (builds with --attest leave a record)",
                    _ => "",
                };
                self.report.wrong(SUMS, format!("{}{hint}", why(&error)));
                return None;
            }
        };
        let read = str::from_utf8(&text).map_err(|_| String::from("it is not text in UTF-8"));
        match read.and_then(|text| Sums::parse(text).map_err(|error| error.to_string())) {
            Ok(sums) => Some((sums, text)),
            Err(problem) => {
                self.report.wrong(SUMS, problem);
                None
            }
        }
    }

    fn signature(&mut self, sums: &[u8]) -> Result<(), CheckError> {
        let mut found = false;
        for kind in [Kind::OpenPgp, Kind::Ssh] {
            let name = kind.file();
            let text = match bounded(self.dir, name, LONGEST_SIGNATURE) {
                Ok(text) => String::from_utf8_lossy(&text).into_owned(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.report.wrong(name, why(&error));
                    self.report.signature = SignatureFound::Bad;
                    return Ok(());
                }
            };
            let verdict = match self.expected.trusted {
                Some(trusted) => trusted.look(kind, &text, sums, self.stop)?,
                None => look_at_any(kind, &text, sums, self.stop)?,
            };
            self.report.signature = match verdict {
                Verdict::Good(by) => SignatureFound::Good(by),
                Verdict::Somebody(by) => SignatureFound::Somebody(by),
                Verdict::Unknown => SignatureFound::NotChecked,
                Verdict::Bad(problem) => {
                    self.report.wrong(name, problem);
                    self.report.signature = SignatureFound::Bad;
                    return Ok(());
                }
            };
            if found {
                self.report
                    .wrong(name, "there are two signatures, and a record has one");
            }
            found = true;
        }
        if !found && self.expected.trusted.is_some() {
            self.report.wrong(
                SUMS,
                "it is not signed, and --signed-by asks for a signature",
            );
        }
        Ok(())
    }

    /// What is in the folder, and not in the list.
    fn listed(&mut self, entries: &[Entry], sums: &Sums) {
        for entry in entries {
            let path = entry.path.to_string_lossy();
            let known = entry.path.to_str().is_some_and(|path| {
                sums.get(path).is_some() || ALL.contains(&path) || path == self.expected.verdict.0
            });
            match entry.kind {
                FileKind::Link => self.report.wrong(&path, "it is a link, which is not followed"),
                FileKind::Special | FileKind::Folder => {
                    self.report.wrong(&path, "it is neither a file nor a folder");
                }
                FileKind::Regular if known || self.expected.others || self.is_beside(&path) => {}
                FileKind::Regular => self.report.wrong(
                    &path,
                    "the record does not name it: it may come from anyone (--allow-others lets it be)",
                ),
            }
        }
    }

    fn is_beside(&self, path: &str) -> bool {
        let own = path.starts_with(".boxbuild.");
        own || self.expected.beside.contains(&path)
    }

    /// Compares all files with their checksums.
    fn files(
        &mut self,
        entries: &[Entry],
        sums: &Sums,
        subjects: &BTreeMap<&str, &Resource>,
    ) -> Result<(), CheckError> {
        let mut left = MOST_HASHED;
        for (path, sha256) in sums.iter() {
            // Both lists are as long as the one who wrote them likes; this one is sorted.
            let found = entries.binary_search_by(|entry| entry.path.as_os_str().cmp(path.as_ref()));
            let Some(entry) = found.ok().and_then(|at| entries.get(at)) else {
                self.report.wrong(path, "it is missing");
                continue;
            };
            if entry.kind != FileKind::Regular {
                // Said already.
                continue;
            }
            let recorded = subjects.get(path);
            let recorded = recorded.and_then(|subject| subject.annotations.get(BYTES)?.as_u64());
            if let Some(bytes) = recorded.filter(|bytes| *bytes != entry.bytes) {
                let problem = format!("it has {} bytes instead of {bytes}", entry.bytes);
                self.report.wrong(path, problem);
                continue;
            }
            let Some(rest) = left.checked_sub(entry.bytes) else {
                self.report.wrong(path, "it is too large to be read");
                continue;
            };
            left = rest;
            let found = tree::open(self.dir, path)
                .and_then(|file| sha256_until(&mut file.take(entry.bytes + 1), self.stop));
            match found {
                Ok((_, found)) if found == sha256 => self.report.good_files += 1,
                Ok(_) => self
                    .report
                    .wrong(path, "it has changed: its SHA-256 is another one"),
                Err(error) => match Stopped::of(&error) {
                    Some(stopped) => return Err(stopped.into()),
                    None => self.report.wrong(path, why(&error)),
                },
            }
        }
        for name in [PROVENANCE, SBOM] {
            if sums.get(name).is_none() {
                self.report
                    .wrong(SUMS, format!("it has no checksum of {name}"));
            }
        }
        Ok(())
    }

    fn verdict(&mut self) {
        let (name, text) = self.expected.verdict;
        match bounded(self.dir, name, text.len() as u64) {
            Ok(found) if found == text.as_bytes() => {}
            Ok(_) => self
                .report
                .wrong(name, "it does not say that the build succeeded"),
            Err(error) => self.report.wrong(name, why(&error)),
        }
    }

    /// A document of the record, if it is the one that was recorded.
    fn document<T: DeserializeOwned>(
        &mut self,
        name: &str,
        sums: &Sums,
    ) -> Result<Option<T>, CheckError> {
        let text = match bounded(self.dir, name, LONGEST) {
            Ok(text) => text,
            Err(error) => {
                // Its checksum may be right all the same.
                if error.kind() == io::ErrorKind::FileTooLarge {
                    self.report.wrong(name, why(&error));
                }
                // Everything else is named by the comparison of checksums.
                return Ok(None);
            }
        };
        let (_, found) = sha256_until(&mut &text[..], self.stop).map_err(|error| self.io(error))?;
        if sums.get(name) != Some(&found) {
            return Ok(None);
        }
        match serde_json::from_slice(&text) {
            Ok(document) => Ok(Some(document)),
            Err(error) => {
                self.report
                    .wrong(name, format!("it cannot be read: {error}"));
                Ok(None)
            }
        }
    }

    /// Compares what the statement is about with the list.
    fn claims(&mut self, claims: &Claims, sums: &Sums) {
        if claims.kind != STATEMENT || claims.predicate_type != PREDICATE {
            self.report
                .wrong(PROVENANCE, "it is not a statement of SLSA provenance");
            return;
        }
        let run = &claims.predicate.run_details;
        self.report.builder = Some(shown(&run.builder.id).into_owned());
        self.report.finished = Some(shown(&run.metadata.finished_on).into_owned());
        let mut named = BTreeSet::from([PROVENANCE]);
        for resource in claims.subject.iter().chain(&run.byproducts) {
            let digest = resource.digest.get("sha256").map(String::as_str);
            named.insert(&resource.name);
            if digest.is_none() || sums.get(&resource.name) != digest {
                let problem = format!("it is about another '{}'", shown(&resource.name));
                self.report.wrong(PROVENANCE, problem);
            }
        }
        for (path, _) in sums.iter().filter(|(path, _)| !named.contains(path)) {
            let problem = format!("it says nothing about '{}'", shown(path));
            self.report.wrong(PROVENANCE, problem);
        }
    }

    /// Compares the files of the bill of materials with the subjects.
    fn sbom(&mut self, sbom: &Document, subjects: &BTreeMap<&str, &Resource>) {
        if sbom.spdx_version != "SPDX-2.3" {
            self.report.wrong(SBOM, "it is not SPDX 2.3");
            return;
        }
        for entry in &sbom.packages {
            let Some(name) = &entry.package_file_name else {
                continue;
            };
            let subject = subjects.get(name.as_str());
            let known = subject.and_then(|subject| subject.digest.get("sha256"));
            let same = |value: &String| {
                entry
                    .checksums
                    .iter()
                    .any(|sum| sum.checksum_value == *value)
            };
            if !known.is_some_and(same) {
                let problem = format!("it is about another '{}'", shown(name));
                self.report.wrong(SBOM, problem);
            }
        }
    }
}

/// What a statement is about, by name.
fn subjects(claims: &Claims) -> BTreeMap<&str, &Resource> {
    let subjects = claims.subject.iter();
    subjects
        .map(|subject| (subject.name.as_str(), subject))
        .collect()
}

/// Reads a regular file of `dir`, of at most `limit` bytes.
fn bounded(dir: &Dir, name: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    dir.file(OsStr::new(name))?
        .take(limit + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let text = format!("it has more than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => String::from("it is missing"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::fs;
    use std::time::{Duration, Instant};

    use super::*;

    /// 100,000 names in each of the lists: compared one by one, that takes minutes.
    #[test]
    fn long_lists_are_compared_in_seconds() {
        const NAMES: usize = 100_000;
        let dir = tempfile::tempdir().unwrap();
        let sum = "e".repeat(64);
        let (mut subjects, mut packages) = (String::new(), String::new());
        let mut sums = Sums::default();
        for number in 0..NAMES {
            let name = format!("an image among others, {number}");
            let comma = if number == 0 { "" } else { "," };
            write!(
                subjects,
                r#"{comma}{{"name":"{name}","digest":{{"sha256":"{sum}"}}}}"#
            )
            .unwrap();
            write!(
                packages,
                r#"{comma}{{"packageFileName":"{name}","checksums":[{{"algorithm":"SHA256","checksumValue":"{sum}"}}]}}"#
            )
            .unwrap();
            sums.add(name, sum.clone());
        }
        let statement = format!(
            r#"{{"_type":"{STATEMENT}","predicateType":"{PREDICATE}","subject":[{subjects}]}}"#
        );
        let sbom = format!(
            r#"{{"spdxVersion":"SPDX-2.3","dataLicense":"","SPDXID":"","name":"","documentNamespace":"",
                "creationInfo":{{"created":"","creators":[]}},"relationships":[],"packages":[{packages}]}}"#
        );
        for (name, text) in [(PROVENANCE, statement), (SBOM, sbom)] {
            let (_, digest) = sha256_until(&mut text.as_bytes(), &StopCheck::default()).unwrap();
            sums.add(name.to_owned(), digest);
            fs::write(dir.path().join(name), text).unwrap();
        }
        fs::write(dir.path().join(SUMS), sums.text()).unwrap();
        let expected = Expected {
            beside: &[],
            verdict: ("result.code", "0\n"),
            trusted: None,
            others: false,
        };
        let begun = Instant::now();
        let report = check(dir.path(), expected, &StopCheck::default()).unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{:?}",
            begun.elapsed()
        );
        // All images and the verdict are missing, and the statement is silent on the other document.
        assert_eq!(report.problems.len() + report.more_problems, NAMES + 2);
        assert_eq!(report.claims.unwrap().subject.len(), NAMES);
    }
}
