//! Signing by a program of the host: `ssh-keygen -Y sign` or `gpg`. Keys and pass phrases stay with them
//! and their agents.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_host::input;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::program;
use boxbuild_host::stop::{StopCheck, Stopped};
use boxbuild_host::text::shown;
use serde::Serialize;

use crate::armor::{self, Armor};
use crate::names::{OPENPGP_SIGNATURE, SSH_SIGNATURE};
use crate::program::run;

/// What an SSH signature is for (ssh-keygen(1), "file" for signatures on files).
pub(crate) const SSH_NAMESPACE: &str = "file";

/// Longest file of an SSH key, in bytes.
const LONGEST_KEY: u64 = 64 << 10;

/// How long a program may take to sign: a user may be asked for a pass phrase.
const TIME: Duration = Duration::from_secs(180);

/// How long, where no user can be asked.
const TIME_ALONE: Duration = Duration::from_secs(60);

/// First lines of files with private keys of SSH (PEM, RFC 7468, and OpenSSH's PROTOCOL.key).
const PRIVATE: &str = "-----BEGIN ";

/// Beginnings of public keys of SSH (RFC 4253, section 6.6, RFC 5656, and OpenSSH's PROTOCOL.u2f).
const PUBLIC: [&str; 4] = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "key")]
pub enum Signer {
    /// The SSH key in a file, or, of a public one, the agent's.
    Ssh(PathBuf),
    /// An OpenPGP key of the user's key ring.
    OpenPgp(String),
}

/// A signature, as a file of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Name of the file.
    pub name: &'static str,
    /// Its contents.
    pub text: Vec<u8>,
}

/// Whether a user can be asked for a pass phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// There is a terminal.
    Terminal,
    /// There is none.
    No,
}

/// There is no signature.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// What was named is no key.
    #[error("--attest: {0}")]
    Key(String),
    /// A program is missing.
    #[error("--attest: cannot run {program}, which signs (Debian: package {package}): {source}")]
    NoProgram {
        /// Name of the program.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program did not sign.
    #[error("the key {key} did not sign: {problem}")]
    Refused {
        /// The key, as the user named it.
        key: String,
        /// What the program said, and what to do.
        problem: String,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Classify for SignError {
    fn class(&self) -> ErrorClass {
        match self {
            SignError::Key(_) => ErrorClass::Usage,
            SignError::Stopped(Stopped::Interrupted) => ErrorClass::Interrupted,
            _ => ErrorClass::Host,
        }
    }
}

impl Signer {
    /// The signer that the user names: the file of an SSH key, or the id, fingerprint or address of an
    /// OpenPGP key. Nothing is signed yet.
    ///
    /// # Errors
    /// Fails if it is neither.
    pub fn named(word: &OsStr) -> Result<Signer, SignError> {
        let text = word.to_string_lossy();
        if text.contains(PRIVATE) || text.chars().any(char::is_control) {
            return Err(SignError::Key(String::from(
                "a key itself does not belong on a command line, where others see it: name its file",
            )));
        }
        let path = Path::new(word);
        if path.is_file() {
            return ssh_key(path);
        }
        match word.to_str() {
            Some(id) if is_openpgp_id(id) => Ok(Signer::OpenPgp(id.to_owned())),
            _ => Err(SignError::Key(format!(
                "{}: there is no such file, and it is not the id of an OpenPGP key: name the file of an \
                 SSH key, or the fingerprint or mail address of an OpenPGP key",
                shown(&text)
            ))),
        }
    }

    /// The key, as the user named it.
    pub fn key(&self) -> String {
        match self {
            Signer::Ssh(path) => path.display().to_string(),
            Signer::OpenPgp(id) => id.clone(),
        }
    }

    /// Signs a text of no use, to know before a build whether the key can sign.
    ///
    /// # Errors
    /// Fails if it cannot.
    pub fn check(&self, asking: Asking, interrupt: &Interrupt) -> Result<(), SignError> {
        self.sign(b"boxbuild: whether this key can sign\n", asking, interrupt)
            .map(drop)
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// Fails if the program is missing, the key cannot be used, or the user asks to stop.
    pub fn sign(
        &self,
        message: &[u8],
        asking: Asking,
        interrupt: &Interrupt,
    ) -> Result<Signature, SignError> {
        let (program, package, name, form) = match self {
            Signer::Ssh(_) => ("ssh-keygen", "openssh-client", SSH_SIGNATURE, armor::SSH),
            Signer::OpenPgp(_) => ("gpg", "gpg", OPENPGP_SIGNATURE, armor::OPENPGP),
        };
        let mut command = Command::new(program);
        match self {
            Signer::Ssh(path) => of_ssh(&mut command, path),
            Signer::OpenPgp(id) => of_openpgp(&mut command, id, asking),
        }
        let time = match asking {
            Asking::Terminal => TIME,
            Asking::No => TIME_ALONE,
        };
        let stop = StopCheck::within(interrupt, time);
        let output = match run(&mut command, message, &stop) {
            Ok(output) => output,
            Err(error) => match Stopped::of(&error) {
                Some(Stopped::Interrupted) => return Err(Stopped::Interrupted.into()),
                Some(Stopped::TimeOver) => {
                    return Err(self.refused(&format!(
                        "{program} has not come to an end for {} s",
                        time.as_secs()
                    )));
                }
                None => {
                    return Err(SignError::NoProgram {
                        program,
                        package,
                        source: error,
                    });
                }
            },
        };
        if !output.success {
            return Err(self.refused(&output.words));
        }
        self.signature(name, output.stdout, form)
    }

    fn signature(
        &self,
        name: &'static str,
        text: Vec<u8>,
        form: Armor,
    ) -> Result<Signature, SignError> {
        let fits = str::from_utf8(&text).is_ok_and(|text| form.fits(text));
        if !fits {
            return Err(self.refused("what the program printed is not a signature"));
        }
        Ok(Signature { name, text })
    }

    fn refused(&self, words: &str) -> SignError {
        let key = shown(&self.key()).into_owned();
        let advice = match self {
            Signer::Ssh(_) if words.contains("passphrase") => {
                format!("it has a pass phrase, and the agent does not have it: ssh-add {key}")
            }
            Signer::OpenPgp(_) if words.contains("No pinentry") || words.contains("ioctl") => {
                String::from(
                    "it has a pass phrase, which gpg-agent does not know, and there is no terminal to \
                     ask on: use the key once before, or gpg-preset-passphrase",
                )
            }
            Signer::OpenPgp(_) if words.contains("No secret key") => {
                format!("there is no such secret key: see gpg --list-secret-keys ({words})")
            }
            _ => words.to_owned(),
        };
        SignError::Refused {
            key,
            problem: advice,
        }
    }
}

/// The signer with the key in a file.
fn ssh_key(path: &Path) -> Result<Signer, SignError> {
    let problem = |problem: &str| {
        SignError::Key(format!("{}: {problem}", shown(&path.display().to_string())))
    };
    let bytes = input::read(path, LONGEST_KEY).map_err(|error| problem(&error.to_string()))?;
    let text = String::from_utf8_lossy(&bytes);
    let private = text.contains(PRIVATE) && text.contains("PRIVATE KEY-----");
    let public = PUBLIC.iter().any(|kind| text.starts_with(kind));
    if !private && !public {
        return Err(problem(
            "is not an SSH key; an OpenPGP key is named by its fingerprint or mail address",
        ));
    }
    let path = std::path::absolute(path).map_err(|error| problem(&error.to_string()))?;
    Ok(Signer::Ssh(path))
}

/// Whether a word is a key's id or fingerprint, or the address of its owner.
fn is_openpgp_id(word: &str) -> bool {
    // With `!`, it is that subkey and no other (gpg(1), "HOW TO SPECIFY A USER ID").
    let hex = word.strip_suffix('!').unwrap_or(word);
    let hex = hex.strip_prefix("0x").unwrap_or(hex);
    let is_id = [8, 16, 32, 40, 64].contains(&hex.len())
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_address = |(local, host): (&str, &str)| {
        !local.is_empty()
            && !host.is_empty()
            && !word.starts_with('-')
            && !word.contains(['/', ' '])
    };
    is_id || word.split_once('@').is_some_and(is_address)
}

fn of_ssh(command: &mut Command, key: &Path) {
    command
        .args(["-Y", "sign", "-n", SSH_NAMESPACE, "-f"])
        .arg(key);
    // It would ask on the terminal otherwise (ssh(1), since OpenSSH 8.4), long after the build began.
    if let Some(program) = program::find("false") {
        command.env("SSH_ASKPASS", program);
        command.env("SSH_ASKPASS_REQUIRE", "force");
    }
}

fn of_openpgp(command: &mut Command, id: &str, asking: Asking) {
    command.args(["--batch", "--yes", "--no-comments", "--no-emit-version"]);
    match asking {
        // gpg-agent shows its dialog there (gpg-agent(1), "GPG_TTY").
        Asking::Terminal => {
            if let Ok(terminal) = nix::unistd::ttyname(io::stdin()) {
                command.env("GPG_TTY", terminal);
            }
        }
        Asking::No => {
            command.args(["--no-tty", "--pinentry-mode", "error"]);
        }
    }
    command.args(["--armor", "--detach-sign", "--output", "-"]);
    command.args(["--local-user", id]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_by_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let private = file(
            "id",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n",
        );
        let public = file("id.pub", "ssh-ed25519 AAAA me@here\n");
        for path in [private, public] {
            assert_eq!(
                Signer::named(path.as_os_str()).unwrap(),
                Signer::Ssh(path.clone())
            );
        }
        for id in [
            "0xDEADBEEF",
            "0xDEADBEEF!",
            "me@example.org",
            &"A".repeat(40),
        ] {
            let signer = Signer::named(id.as_ref()).unwrap();
            assert_eq!(signer, Signer::OpenPgp(id.to_owned()));
        }
        let other = file("other", "text");
        let none = dir.path().join("none");
        for bad in [
            other.as_os_str(),
            none.as_os_str(),
            "".as_ref(),
            "-x@y".as_ref(),
            "me".as_ref(),
        ] {
            assert!(Signer::named(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_on_the_command_line_is_not_repeated() {
        let secret = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNza";
        let error = Signer::named(secret.as_ref()).unwrap_err().to_string();
        assert!(!error.contains("b3Blb"), "{error}");
    }
}
