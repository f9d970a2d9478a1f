//! Names of the files of a record.

/// The statement on how the result was made (in-toto Statement v1, SLSA provenance v1).
pub const PROVENANCE: &str = "provenance.intoto.json";
/// The software bill of materials (SPDX 2.3).
pub const SBOM: &str = "sbom.spdx.json";
/// The checksums of everything else.
pub const SUMS: &str = "SHA256SUMS";
/// A signature on [`SUMS`] by an OpenPGP key.
pub const OPENPGP_SIGNATURE: &str = "SHA256SUMS.asc";
/// A signature on [`SUMS`] by an SSH key.
pub const SSH_SIGNATURE: &str = "SHA256SUMS.sig";

/// All of them. A result cannot have such a name where there is a record.
pub const ALL: [&str; 5] = [PROVENANCE, SBOM, SUMS, OPENPGP_SIGNATURE, SSH_SIGNATURE];
