//! Signatures of checksum files, verified by `gpgv` (GnuPG): it does nothing else, uses neither the
//! network nor a trust database, and every distribution has it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_host::input;
use boxbuild_host::text::plain;
use boxbuild_provenance::keyring;

use super::checksum::SIGNED_MESSAGE;

/// Largest file of keys, in bytes.
const LARGEST_KEY: u64 = 4 << 20;

/// Environment variable with the path of the publisher's public key.
pub const VARIABLE: &str = "BOXBUILD_SIGNED_BY";

/// A publisher's public OpenPGP key, which must have signed the checksum files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key's file, as the user named it.
    path: PathBuf,
    /// The key ring in binary form.
    ring: Vec<u8>,
}

/// The signature of a checksum file cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// A file is not a public key.
    #[error("{path} is not an OpenPGP public key: {problem}")]
    Key {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There is no signature.
    #[error("it is not signed: there is no {0}, and no signature in it")]
    Missing(String),
    /// `gpgv` cannot be run.
    #[error("cannot run gpgv, which checks signatures (Debian: package gpgv): {0}")]
    NoProgram(io::Error),
    /// The signature is not valid, or is another key's.
    #[error("its signature is not that of {key}: {output}")]
    Bad {
        /// File of the key.
        key: PathBuf,
        /// Output of gpgv.
        output: String,
    },
}

impl Classify for SignatureError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

impl Key {
    /// Reads a key from a file, armored or in binary form.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is not a public key.
    pub fn read(path: &Path) -> Result<Key, SignatureError> {
        let problem = |problem: String| SignatureError::Key {
            path: path.to_owned(),
            problem,
        };
        let bytes = input::read(path, LARGEST_KEY).map_err(|error| problem(error.to_string()))?;
        let ring = keyring::of(&bytes).map_err(|error| problem(error.to_string()))?;
        Ok(Key {
            path: path.to_owned(),
            ring,
        })
    }

    /// Verifies `text`, the content of the file `name`, which is clear-signed or has the signature
    /// `detached`. Returns the signed part.
    ///
    /// # Errors
    /// Fails if there is no signature of this key.
    pub(super) fn verified(
        &self,
        text: &str,
        detached: Option<&str>,
        name: &str,
    ) -> Result<String, SignatureError> {
        let dir = tempfile::tempdir().map_err(SignatureError::NoProgram)?;
        let put = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, content).map_err(SignatureError::NoProgram)?;
            Ok(path)
        };
        let ring = put("ring", &self.ring)?;
        let signed = put("signed", text.as_bytes())?;
        let mut command = Command::new("gpgv");
        command.arg("--homedir").arg(dir.path());
        command.arg("--keyring").arg(ring);
        let clear = text.trim_start().starts_with(SIGNED_MESSAGE);
        match detached {
            _ if clear => {
                // Only the output of gpgv is signed.
                command.args(["--output", "-"]).arg(signed);
            }
            Some(signature) => {
                command
                    .arg(put("signature", signature.as_bytes())?)
                    .arg(signed);
            }
            None => return Err(SignatureError::Missing(format!("{name}.asc"))),
        }
        let output = command
            .stdin(Stdio::null())
            .env("LC_ALL", "C")
            .output()
            .map_err(SignatureError::NoProgram)?;
        if !output.status.success() {
            let lines = output.stderr.trim_ascii().split(|byte| *byte == b'\n');
            let lines: Vec<String> = lines.map(plain).collect();
            return Err(SignatureError::Bad {
                key: self.path.clone(),
                output: lines.join("; "),
            });
        }
        Ok(if clear {
            String::from_utf8_lossy(&output.stdout).into_owned()
        } else {
            text.to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_not_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let read = |content: &str| {
            fs::write(&path, content).unwrap();
            Key::read(&path).map(|key| key.ring)
        };
        assert!(read("nonsense").is_err());
        assert!(read("").is_err());
        let begin = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
        assert!(read(&format!("{begin}\n\n!!!\n-----END")).is_err());
        let good =
            format!("{begin}\nComment: x\n\nmQ==\n=AbCd\n-----END PGP PUBLIC KEY BLOCK-----\n");
        assert_eq!(read(&good).unwrap(), [0x99]);
        assert!(Key::read(Path::new("/nonexistent")).is_err());
    }
}
