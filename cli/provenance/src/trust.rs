//! Whose signature is one that counts: a file of keys, as the user has it from the signer.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_host::input;
use boxbuild_host::stop::{StopCheck, Stopped};
use boxbuild_host::text::shown_path;

use crate::armor;
use crate::keyring::{self, NoKeyring};
use crate::names::{OPENPGP_SIGNATURE, SSH_SIGNATURE, SUMS};
use crate::program::{Output, run};
use crate::sign::SSH_NAMESPACE;

/// Largest file of keys, in bytes.
const LARGEST: u64 = 4 << 20;

/// Who a public key of SSH is, where the file does not say: ssh-keygen wants a name.
const NAMELESS: &str = "boxbuild";

/// Keys whose signatures count.
#[derive(Debug, Clone)]
pub struct Trusted {
    path: PathBuf,
    keys: Keys,
}

#[derive(Debug, Clone)]
enum Keys {
    /// A key ring of OpenPGP in binary form.
    OpenPgp(Vec<u8>),
    /// Allowed signers of SSH (ssh-keygen(1), "ALLOWED SIGNERS").
    Ssh(String),
}

/// A file has no keys.
#[derive(Debug, thiserror::Error)]
#[error(
    "--signed-by {}: {problem}: name a public OpenPGP key, a public SSH key, or a file of allowed \
     signers (ssh-keygen(1))",
    shown_path(.path)
)]
pub struct TrustError {
    path: PathBuf,
    problem: String,
}

impl Classify for TrustError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

/// A kind of signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of an OpenPGP key.
    OpenPgp,
    /// Of an SSH key.
    Ssh,
}

/// What came of looking at a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is that of a key that counts.
    Good(String),
    /// It is the signature of some key on this very text.
    Somebody(String),
    /// Nothing can be said without the key.
    Unknown,
    /// It is none, or another key's.
    Bad(String),
}

/// Looking at a signature failed.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// A program cannot be run.
    #[error("cannot run {program}, which checks signatures (Debian: package {package}): {source}")]
    NoProgram {
        /// Name of the program.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Classify for LookError {
    fn class(&self) -> ErrorClass {
        match self {
            LookError::Stopped(Stopped::Interrupted) => ErrorClass::Interrupted,
            _ => ErrorClass::Host,
        }
    }
}

impl Kind {
    /// Name of the file with such a signature.
    pub fn file(self) -> &'static str {
        match self {
            Kind::OpenPgp => OPENPGP_SIGNATURE,
            Kind::Ssh => SSH_SIGNATURE,
        }
    }
}

impl Trusted {
    /// Reads a file of keys.
    ///
    /// # Errors
    /// Fails if it cannot be read, or has none.
    pub fn read(path: &Path) -> Result<Trusted, TrustError> {
        let problem = |problem: &str| TrustError {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        let bytes = input::read(path, LARGEST).map_err(|error| problem(&error.to_string()))?;
        let keys = match (keyring::of(&bytes), str::from_utf8(&bytes)) {
            (Ok(ring), _) => Keys::OpenPgp(ring),
            (Err(NoKeyring::Damaged), _) => return Err(problem("its text is damaged")),
            (Err(NoKeyring::None), Ok(text)) => {
                Keys::Ssh(allowed_signers(text).ok_or_else(|| problem("it has no keys"))?)
            }
            (Err(NoKeyring::None), Err(_)) => return Err(problem("it has no keys")),
        };
        Ok(Trusted {
            path: path.to_owned(),
            keys,
        })
    }

    /// Looks at a signature on `message`.
    ///
    /// # Errors
    /// Fails if that is not possible on this host.
    pub fn look(
        &self,
        kind: Kind,
        signature: &str,
        message: &[u8],
        stop: &StopCheck,
    ) -> Result<Verdict, LookError> {
        if let Some(bad) = malformed(kind, signature) {
            return Ok(bad);
        }
        let key = shown_path(&self.path);
        let output = match (kind, &self.keys) {
            (Kind::OpenPgp, Keys::OpenPgp(ring)) => gpgv(ring, signature, message, stop)?,
            (Kind::Ssh, Keys::Ssh(signers)) => {
                let Some(name) = principal(signers, signature, stop)? else {
                    return Ok(Verdict::Bad(format!("it is not that of a key of {key}")));
                };
                let mut command = ssh_keygen("verify");
                command.args(["-I", &name]);
                ssh(command, signers, signature, message, stop)?
            }
            _ => {
                return Ok(Verdict::Bad(format!(
                    "it is of another kind than the keys of {key}"
                )));
            }
        };
        Ok(match output.success {
            true => Verdict::Good(key),
            false => Verdict::Bad(format!(
                "it is not that of a key of {key}: {}",
                output.words
            )),
        })
    }
}

/// Looks at a signature on `message` without knowing whose counts.
///
/// # Errors
/// Fails if that is not possible on this host.
pub fn look_at_any(
    kind: Kind,
    signature: &str,
    message: &[u8],
    stop: &StopCheck,
) -> Result<Verdict, LookError> {
    if let Some(bad) = malformed(kind, signature) {
        return Ok(bad);
    }
    if kind == Kind::OpenPgp {
        // Without the key, nothing tells a signature from noise.
        return Ok(Verdict::Unknown);
    }
    let output = ssh(ssh_keygen("check-novalidate"), "", signature, message, stop)?;
    if !output.success {
        return Ok(Verdict::Bad(format!(
            "it is no signature on {SUMS}: {}",
            output.words
        )));
    }
    // Good "file" signature with ED25519 key SHA256:…
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &output.words;
    let word = text
        .split_whitespace()
        .find(|word| word.starts_with("SHA256:"));
    Ok(Verdict::Somebody(word.unwrap_or("an SSH key").to_owned()))
}

fn malformed(kind: Kind, signature: &str) -> Option<Verdict> {
    let form = match kind {
        Kind::OpenPgp => armor::OPENPGP,
        Kind::Ssh => armor::SSH,
    };
    (!form.fits(signature)).then(|| Verdict::Bad(String::from("it is damaged")))
}

fn gpgv(
    ring: &[u8],
    signature: &str,
    message: &[u8],
    stop: &StopCheck,
) -> Result<Output, LookError> {
    let mut command = Command::new("gpgv");
    with_files(
        &[("ring", ring), ("signature", signature.as_bytes())],
        |dir| {
            command.arg("--homedir").arg(dir);
            command.arg("--keyring").arg(dir.join("ring"));
            command.arg(dir.join("signature")).arg("-");
            run(&mut command, message, stop)
        },
    )
    .map_err(|error| failed(error, "gpgv", "gpgv"))
}

/// The name under which the key of a signature stands among the signers.
fn principal(
    signers: &str,
    signature: &str,
    stop: &StopCheck,
) -> Result<Option<String>, LookError> {
    let output = ssh(ssh_keygen("find-principals"), signers, signature, b"", stop)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = text.lines().next().unwrap_or_default();
    // Patterns stand for names: any that fits will do.
    let name = name
        .split(',')
        .next()
        .unwrap_or_default()
        .replace(['*', '?'], "x");
    Ok((output.success && !name.is_empty()).then_some(name))
}

fn ssh_keygen(what: &str) -> Command {
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", what, "-n", SSH_NAMESPACE]);
    command
}

fn ssh(
    mut command: Command,
    signers: &str,
    signature: &str,
    message: &[u8],
    stop: &StopCheck,
) -> Result<Output, LookError> {
    let files = [
        ("signers", signers.as_bytes()),
        ("signature", signature.as_bytes()),
    ];
    with_files(&files, |dir| {
        if !signers.is_empty() {
            command.arg("-f").arg(dir.join("signers"));
        }
        command.arg("-s").arg(dir.join("signature"));
        run(&mut command, message, stop)
    })
    .map_err(|error| failed(error, "ssh-keygen", "openssh-client"))
}

/// Runs something with files in a folder of its own.
#[cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "the folder is this process's own"
    )
)]
fn with_files(
    files: &[(&str, &[u8])],
    work: impl FnOnce(&Path) -> io::Result<Output>,
) -> io::Result<Output> {
    let dir = tempfile::tempdir()?;
    for (name, contents) in files {
        fs::write(dir.path().join(name), contents)?;
    }
    work(dir.path())
}

fn failed(error: io::Error, program: &'static str, package: &'static str) -> LookError {
    match Stopped::of(&error) {
        Some(stopped) => stopped.into(),
        None => LookError::NoProgram {
            program,
            package,
            source: error,
        },
    }
}

/// The signers of a file: one of allowed signers as it is, public keys under one name.
fn allowed_signers(text: &str) -> Option<String> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let is_kind = |word: &str| {
        ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-"]
            .iter()
            .any(|kind| word.starts_with(kind))
    };
    let mut signers = String::new();
    for line in lines {
        let mut words = line.split_whitespace();
        // A user may be named like a kind of key; all keys begin with the length of their kind.
        let is_key = words.next().is_some_and(is_kind)
            && words
                .clone()
                .next()
                .is_some_and(|word| word.starts_with("AAAA"));
        if is_key {
            signers += &format!("{NAMELESS} {line}\n");
        } else if words.any(is_kind) {
            signers += &format!("{line}\n");
        } else {
            return None;
        }
    }
    (!signers.is_empty()).then_some(signers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let read = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            Trusted::read(&path)
        };
        for bad in [
            &b""[..],
            b"nonsense",
            b"me@x nonsense",
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!\n-----END",
            b"\x00\xff",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        let armored = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: x\n\nmQ==\n=AbCd\n\
                       -----END PGP PUBLIC KEY BLOCK-----\n";
        let keys = read(armored.as_bytes()).unwrap().keys;
        assert!(matches!(keys, Keys::OpenPgp(ring) if ring == [0x99]));
        let two = armored.repeat(2);
        let keys = read(two.as_bytes()).unwrap().keys;
        assert!(matches!(keys, Keys::OpenPgp(ring) if ring == [0x99, 0x99]));
        let keys = read(&[0x99, 0xff]).unwrap().keys;
        assert!(matches!(keys, Keys::OpenPgp(ring) if ring == [0x99, 0xff]));
        let signers = |content: &[u8]| match read(content).unwrap().keys {
            Keys::Ssh(signers) => signers,
            Keys::OpenPgp(_) => panic!("not SSH"),
        };
        assert_eq!(
            signers(b"# mine\nssh-ed25519 AAAA me\n"),
            "boxbuild ssh-ed25519 AAAA me\n"
        );
        assert_eq!(
            signers(b"ssh-farm@x ssh-ed25519 AAAA\n"),
            "ssh-farm@x ssh-ed25519 AAAA\n"
        );
        let allowed = b"me@x namespaces=\"file\" ssh-ed25519 AAAA\n";
        assert_eq!(signers(allowed).as_bytes(), allowed);
    }
}
