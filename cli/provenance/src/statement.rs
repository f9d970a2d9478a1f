//! The statement on how a result was made: in-toto Statement v1 with a predicate of SLSA provenance v1.
//!
//! What is written is [`Statement`]; [`Claims`] is what a check reads of one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `_type` of a statement (in-toto attestation framework, spec/v1/statement.md).
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// `predicateType` of a provenance (SLSA 1.0, "Provenance").
pub const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// What the parameters of a build mean: docs/provenance.md, in the form of a package URL, as boxbuild has
/// no address of its own.
pub const BUILD_TYPE: &str = "pkg:generic/boxbuild?format=1#docs/provenance.md";
/// The size of a subject in bytes, among its annotations.
pub const BYTES: &str = "bytes";

/// A statement.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: Vec<Resource>,
    predicate_type: &'static str,
    predicate: Predicate,
}

/// A file or something else that has a digest (in-toto, spec/v1/resource_descriptor.md).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resource {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it is from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// Digests, by their algorithms.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
    /// What else is known.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub annotations: Map<String, Value>,
}

impl Resource {
    /// A file.
    pub fn file(name: &str, bytes: Option<u64>, sha256: &str) -> Resource {
        let mut annotations = Map::new();
        annotations.extend(bytes.map(|bytes| (BYTES.to_owned(), bytes.into())));
        Resource {
            name: name.to_owned(),
            digest: BTreeMap::from([(String::from("sha256"), sha256.to_owned())]),
            annotations,
            ..Resource::default()
        }
    }
}

/// How a result was made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Predicate {
    /// What was asked for, and what it was made of.
    pub build_definition: BuildDefinition,
    /// The run.
    pub run_details: RunDetails,
}

/// What was asked for, and what it was made of.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildDefinition {
    /// [`BUILD_TYPE`].
    pub build_type: &'static str,
    /// What the user asked for.
    pub external_parameters: Map<String, Value>,
    /// What was decided on.
    pub internal_parameters: Map<String, Value>,
    /// Box, description, kiwi, repositories.
    pub resolved_dependencies: Vec<Resource>,
}

/// A run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunDetails {
    /// Who ran it.
    pub builder: Builder,
    /// When.
    pub metadata: Metadata,
    /// What came of it besides the subjects.
    pub byproducts: Vec<Resource>,
}

/// Who ran a build.
#[derive(Debug, Serialize)]
pub struct Builder {
    /// The program, as a package URL: who runs it is who signs.
    pub id: String,
    /// Versions of what took part.
    pub version: BTreeMap<String, String>,
}

/// When a build ran.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// A name of this run alone.
    pub invocation_id: String,
    /// RFC 3339, UTC.
    pub started_on: String,
    /// RFC 3339, UTC.
    pub finished_on: String,
}

impl Statement {
    /// A statement on `subject`.
    pub fn new(subject: Vec<Resource>, predicate: Predicate) -> Statement {
        Statement {
            kind: STATEMENT,
            subject,
            predicate_type: PREDICATE,
            predicate,
        }
    }
}

/// What is read of a statement.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Claims {
    /// `_type`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// What it is about.
    pub subject: Vec<Resource>,
    /// What it says.
    pub predicate_type: String,
    /// How the subject was made.
    pub predicate: ClaimedPredicate,
}

/// What is read of a predicate.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimedPredicate {
    /// What was asked for, and what it was made of.
    pub build_definition: ClaimedDefinition,
    /// The run.
    pub run_details: ClaimedRun,
}

/// What is read of a build's definition.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimedDefinition {
    /// What the parameters mean.
    pub build_type: String,
    /// What the user asked for.
    pub external_parameters: Map<String, Value>,
    /// Box, description, kiwi, repositories.
    pub resolved_dependencies: Vec<Resource>,
}

/// What is read of a run.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimedRun {
    /// Who ran it.
    pub builder: ClaimedBuilder,
    /// When.
    pub metadata: ClaimedMetadata,
    /// What came of it besides the subjects.
    pub byproducts: Vec<Resource>,
}

/// What is read of a builder.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClaimedBuilder {
    /// The program.
    pub id: String,
}

/// What is read of the time.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimedMetadata {
    /// RFC 3339, UTC.
    pub finished_on: String,
}
