//! The record of a build: what is known of it before and after it ran, in the documents of
//! `boxbuild_provenance`.

pub mod attest;
mod dependencies;
mod parameters;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::time::SystemTime;

use boxbuild_engine::{DirectoryId, Hidden, HiddenNames};
use boxbuild_host::digest::hex;
use boxbuild_host::error::IoError;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::stop::{StopCheck, Stopped};
use boxbuild_host::untrusted::Dir;
use boxbuild_provenance::check::LONGEST;
use boxbuild_provenance::description::{self, Described};
use boxbuild_provenance::names::{PROVENANCE, SBOM, SUMS};
use boxbuild_provenance::observed::Observed;
use boxbuild_provenance::packages;
use boxbuild_provenance::sbom::{Contents, Document};
use boxbuild_provenance::statement::{
    BUILD_TYPE, BuildDefinition, Builder, Metadata, Predicate, Resource, RunDetails, Statement,
};
use boxbuild_provenance::sums::Sums;
use sha2::{Digest, Sha256};

use crate::output_dir::{
    Delivered, DeliveredFile, OutputDir, OutputDirError, RecordError, RecordFile, Recorder,
};
use crate::plan::Plan;
use attest::Attest;

/// Name and version of this program.
const TOOL: &str = concat!("boxbuild-", env!("CARGO_PKG_VERSION"));
/// The same as a package URL.
const BUILDER: &str = concat!("pkg:generic/boxbuild@", env!("CARGO_PKG_VERSION"));

/// A record in the making.
#[derive(Debug)]
pub(crate) struct Recording<'a> {
    plan: &'a Plan,
    attest: &'a Attest,
    engine: &'static str,
    interrupt: Interrupt,
    description: Described,
    started: SystemTime,
}

impl<'a> Recording<'a> {
    /// Begins the record of a build, which `engine` is about to run: the description is hashed.
    ///
    /// # Errors
    /// Fails if it cannot be read.
    pub(crate) fn begin(
        plan: &'a Plan,
        attest: &'a Attest,
        engine: &'static str,
        output: &OutputDir<'_>,
        interrupt: &Interrupt,
    ) -> Result<Recording<'a>, OutputDirError> {
        let hidden = output.hidden()?;
        let target = DirectoryId::of(output.target_dir())
            .map_err(IoError::on("examine the folder", &plan.target_dir))?;
        let skip = |dir: &Dir, name: &OsStr| is_of_builds(&hidden, target, dir, name);
        let stop = StopCheck::new(interrupt, None);
        let description =
            description::describe(&plan.description, &skip, &stop).map_err(|error| {
                match Stopped::of(&error) {
                    Some(stopped) => OutputDirError::Publish(stopped.into()),
                    None => IoError::on("hash the description", &plan.description)(error).into(),
                }
            })?;
        Ok(Recording {
            plan,
            attest,
            engine,
            interrupt: interrupt.clone(),
            description,
            started: SystemTime::now(),
        })
    }

    fn statement(&self, delivered: &Delivered, sbom: &str, finished: SystemTime) -> Statement {
        let observed = Observed::read(&delivered.observed);
        let file =
            |file: &DeliveredFile| Resource::file(&file.path, Some(file.bytes), &file.sha256);
        let mut subject: Vec<Resource> = delivered.files.iter().map(file).collect();
        subject.push(Resource::file(SBOM, None, sbom));
        Statement::new(
            subject,
            Predicate {
                build_definition: BuildDefinition {
                    build_type: BUILD_TYPE,
                    external_parameters: parameters::external(self.plan, self.attest),
                    internal_parameters: parameters::internal(self.plan, self.engine),
                    resolved_dependencies: dependencies::all(
                        self.plan,
                        &self.description,
                        &observed,
                    ),
                },
                run_details: RunDetails {
                    builder: Builder {
                        id: BUILDER.to_owned(),
                        version: parameters::versions(self.plan),
                    },
                    metadata: Metadata {
                        invocation_id: self.invocation(delivered),
                        started_on: time(self.started),
                        finished_on: time(finished),
                    },
                    byproducts: delivered.log.iter().map(file).collect(),
                },
            },
        )
    }

    /// A name of this run: a hash of what no two runs have in common.
    fn invocation(&self, delivered: &Delivered) -> String {
        let mut hash = Sha256::new();
        hash.update(humantime::format_rfc3339_nanos(self.started).to_string());
        hash.update(std::process::id().to_le_bytes());
        hash.update(&self.description.tree);
        for file in &delivered.files {
            hash.update(&file.sha256);
        }
        format!("urn:sha256:{}", hex(&hash.finalize()))
    }

    fn sbom(&self, delivered: &Delivered, finished: SystemTime) -> Document {
        let observed = Observed::read(&delivered.observed);
        let installed: Vec<packages::Package> = delivered
            .packages
            .iter()
            .flat_map(|text| packages::read(text).0)
            .collect();
        let is_image = |path: &str| {
            let beside = [
                packages::SUFFIX,
                ".changes",
                ".changes.xz",
                ".verified",
                ".sha256",
            ];
            !beside.iter().any(|end| path.ends_with(end))
        };
        let files: Vec<(String, String)> = delivered
            .files
            .iter()
            .filter(|file| is_image(&file.path))
            .map(|file| (file.path.clone(), file.sha256.clone()))
            .collect();
        // kiwi's results begin with the name of the image.
        let name = delivered
            .files
            .iter()
            .find_map(|file| file.path.strip_suffix(packages::SUFFIX))
            .or(files.first().map(|(path, _)| path.as_str()))
            .unwrap_or("image");
        Document::new(Contents {
            name,
            created: &time(finished),
            tool: TOOL,
            files: &files,
            packages: &installed,
            os: observed.os.as_ref(),
        })
    }
}

impl Recorder for Recording<'_> {
    fn record(&mut self, delivered: &Delivered) -> Result<Vec<RecordFile>, RecordError> {
        let finished = SystemTime::now();
        let sbom = serde_json::to_vec_pretty(&self.sbom(delivered, finished))?;
        let sum = |text: &[u8]| hex(&Sha256::digest(text));
        let statement = self.statement(delivered, &sum(&sbom), finished);
        let statement = serde_json::to_vec_pretty(&statement)?;
        let mut sums = Sums::default();
        for file in delivered.files.iter().chain(&delivered.log) {
            sums.add(file.path.clone(), file.sha256.clone());
        }
        sums.add(SBOM.to_owned(), sum(&sbom));
        sums.add(PROVENANCE.to_owned(), sum(&statement));
        let sums = sums.text().into_bytes();
        for (name, text) in [(PROVENANCE, &statement), (SBOM, &sbom), (SUMS, &sums)] {
            if text.len() as u64 > LONGEST {
                return Err(RecordError::TooLong(name));
            }
        }
        let signature = match &self.attest.signer {
            Some(signer) => Some(signer.sign(&sums, self.attest.asking, &self.interrupt)?),
            None => None,
        };
        let mut files = vec![
            RecordFile {
                name: PROVENANCE,
                text: statement,
            },
            RecordFile {
                name: SBOM,
                text: sbom,
            },
            RecordFile {
                name: SUMS,
                text: sums,
            },
        ];
        files.extend(signature.map(|signature| RecordFile {
            name: signature.name,
            text: signature.text,
        }));
        Ok(files)
    }
}

/// A time as records have it: RFC 3339, UTC, whole seconds (SPDX 2.3, section 6.9).
fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Whether `name` in a folder of the description is what builds made: it is not the description's.
fn is_of_builds(hidden: &Hidden, target: DirectoryId, dir: &Dir, name: &OsStr) -> bool {
    let is_target = || {
        let folder = dir.folder(name).ok()?;
        Some(DirectoryId::of(&folder).ok()? == target)
    };
    let in_target = hidden.inside.as_ref().is_some_and(|(id, names)| {
        let has = match names {
            HiddenNames::All => true,
            HiddenNames::These(names) => names.contains(name),
        };
        has && DirectoryId::of(dir).is_ok_and(|this| this == *id)
    });
    hidden.everywhere.iter().any(|hidden| hidden == name)
        || in_target
        || is_target().unwrap_or(false)
}
