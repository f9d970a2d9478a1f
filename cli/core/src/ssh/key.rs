//! Public keys of OpenSSH.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use boxbuild_host::input;
use serde::{Serialize, Serializer};

/// Kinds of keys that OpenSSH takes today (sshd(8), "AUTHORIZED_KEYS FILE FORMAT").
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];

/// Names that ssh-keygen gives, the better first.
const USUAL: [&str; 5] = [
    "id_ed25519",
    "id_ed25519_sk",
    "id_ecdsa",
    "id_ecdsa_sk",
    "id_rsa",
];

/// A key has some kilobytes at most.
const LONGEST: u64 = 64 << 10;

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Its kind, e.g. `ssh-ed25519`.
    pub kind: String,
    /// The key itself in Base64.
    pub data: String,
    /// The file that it comes from.
    pub path: PathBuf,
}

/// Whether `name` is a key in `~/.ssh`, not a path.
fn is_name(name: &OsStr) -> bool {
    !name.as_bytes().contains(&b'/')
}

/// Where the key `name` may be.
fn places(name: &OsStr, keys: Option<&Path>) -> Vec<PathBuf> {
    let given = Path::new(name);
    let mut places = Vec::new();
    if let Some(keys) = keys.filter(|_| is_name(name)) {
        places.extend([keys.join(public(given)), keys.join(given)]);
    }
    places.push(given.to_owned());
    places
}

impl PublicKey {
    /// The key that the user calls `name`: a file, or, without a slash in it, a key in the folder
    /// `~/.ssh` (`keys`), as `kiwi-ng` has it. A private key stands for the public one beside it.
    ///
    /// # Errors
    /// Fails, with a message for the user, if there is no such key, or it is not a public key.
    pub(super) fn named(name: &OsStr, keys: Option<&Path>) -> Result<PublicKey, String> {
        let problem =
            |path: &Path, problem: &str| format!("--ssh-key {}: {problem}", path.display());
        let given = Path::new(name);
        let places = places(name, keys);
        let Some(path) = places.iter().find(|path| path.is_file()) else {
            let places: Vec<_> = places
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            return Err(problem(
                given,
                &format!("there is no such key (looked for {})", places.join(", ")),
            ));
        };
        let read = |path: &Path| text(path).map_err(|error| problem(path, &error.to_string()));
        let content = read(path)?;
        if !is_private(&content) {
            return PublicKey::parse(&content, path).map_err(|text| problem(path, &text));
        }
        let beside = public(path);
        if !beside.is_file() {
            return Err(problem(
                path,
                &format!(
                    "is a private key, and the public one, {}, is not beside it: ssh-keygen -y -f \
                     {} > {}",
                    beside.display(),
                    path.display(),
                    beside.display()
                ),
            ));
        }
        PublicKey::parse(&read(&beside)?, &beside).map_err(|text| problem(&beside, &text))
    }

    /// Whether `name` is only a name, as kiwi-ng has it, and there is no key of this name.
    pub(super) fn is_missing(name: &OsStr, keys: Option<&Path>) -> bool {
        is_name(name) && !places(name, keys).iter().any(|path| path.exists())
    }

    /// The user's own key, if there is one in the folder `keys`.
    pub(super) fn usual(keys: &Path) -> Option<PublicKey> {
        USUAL.iter().find_map(|name| {
            let path = keys.join(public(Path::new(name)));
            PublicKey::parse(&text(&path).ok()?, &path).ok()
        })
    }

    fn parse(content: &str, path: &Path) -> Result<PublicKey, String> {
        let mut lines = content
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let line = lines.next().ok_or("there is no key in it")?;
        if lines.next().is_some() {
            return Err(String::from("has more than one key: name a file with one"));
        }
        let mut words = line.split_ascii_whitespace();
        let kind = words.next().unwrap_or_default();
        if !KINDS.contains(&kind) {
            return Err(format!(
                "is not an OpenSSH public key: it begins with none of {}",
                KINDS.join(", ")
            ));
        }
        // The key says its kind again, behind the length of that (RFC 4253, section 6.6).
        let data = words.next().unwrap_or_default();
        let whole = STANDARD.decode(data).is_ok_and(|bytes| {
            bytes.split_first_chunk().is_some_and(|(length, rest)| {
                u32::from_be_bytes(*length) as usize == kind.len()
                    && rest.starts_with(kind.as_bytes())
                    && rest.len() > kind.len()
            })
        });
        if !whole {
            return Err(format!(
                "is not a public key: the data after {kind} is damaged"
            ));
        }
        Ok(PublicKey {
            kind: kind.to_owned(),
            data: data.to_owned(),
            path: path.to_owned(),
        })
    }

    /// The line of an `authorized_keys` file.
    pub fn line(&self) -> String {
        format!("{} {}\n", self.kind, self.data)
    }

    /// The private key beside it, if that is there.
    pub fn private(&self) -> Option<PathBuf> {
        let name = self.path.file_name()?.as_bytes().strip_suffix(b".pub")?;
        let path = self.path.with_file_name(OsStr::from_bytes(name));
        path.is_file().then_some(path)
    }
}

/// Serializes a key as the path of its file.
pub(super) fn path<S: Serializer>(key: &Option<PublicKey>, to: S) -> Result<S::Ok, S::Error> {
    let path = key.as_ref().map(|key| key.path.to_string_lossy());
    path.serialize(to)
}

/// `PATH.pub`.
fn public(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    input::open(path)?.take(LONGEST).read_to_end(&mut text)?;
    // What is no text is no key, either.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn is_private(content: &str) -> bool {
    content.contains("PRIVATE KEY-----") || content.starts_with("PuTTY-User-Key-File")
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    pub(crate) fn key_line() -> String {
        let mut bytes = vec![0, 0, 0, 11];
        bytes.extend(b"ssh-ed25519\0\0\0 ");
        bytes.extend([7; 32]);
        format!("ssh-ed25519 {} me@here\n", STANDARD.encode(bytes))
    }

    #[test]
    fn a_key_by_file_or_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path();
        let path = keys.join("work.pub");
        fs::write(&path, format!("# mine\n{}", key_line())).unwrap();
        let private = keys.join("work");
        fs::write(&private, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        // In ~/.ssh by the name of kiwi-ng, with its ending, and anywhere by path.
        for name in [
            OsStr::new("work"),
            OsStr::new("work.pub"),
            path.as_os_str(),
            private.as_os_str(),
        ] {
            let key = PublicKey::named(name, Some(keys)).unwrap();
            assert_eq!(key.path, path, "{name:?}");
            assert_eq!(format!("{} me@here\n", key.line().trim_end()), key_line());
            assert_eq!(key.private(), Some(private.clone()));
        }
        // Without a home there is no ~/.ssh, and a path still does.
        assert!(PublicKey::named(path.as_os_str(), None).is_ok());
        let error = PublicKey::named(OsStr::new("work"), None).unwrap_err();
        assert!(
            error.starts_with("--ssh-key work: there is no such key"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let refused = |content: &str| {
            fs::write(&path, content).unwrap();
            PublicKey::named(path.as_os_str(), None).unwrap_err()
        };
        for (content, reason) in [
            ("", "no key in it"),
            ("# nothing\n", "no key in it"),
            ("hello world\n", "not an OpenSSH public key"),
            ("command=\"x\" ssh-rsa AAAA\n", "not an OpenSSH public key"),
            ("ssh-ed25519\n", "after ssh-ed25519 is damaged"),
            ("ssh-ed25519 AAAA\n", "after ssh-ed25519 is damaged"),
            (&key_line().repeat(2), "more than one key"),
            (
                &key_line().replace("ssh-ed25519", "ssh-rsa"),
                "after ssh-rsa is damaged",
            ),
            ("-----BEGIN RSA PRIVATE KEY-----\n", "ssh-keygen -y -f"),
        ] {
            let error = refused(content);
            assert!(error.contains(reason), "{content}: {error}");
            assert!(error.starts_with("--ssh-key "), "{error}");
        }
        assert!(PublicKey::named(dir.path().as_os_str(), None).is_err());
    }

    #[test]
    fn the_users_own_key_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(PublicKey::usual(dir.path()), None);
        for name in ["id_rsa.pub", "id_ecdsa.pub"] {
            fs::write(dir.path().join(name), key_line()).unwrap();
        }
        // One that is broken is passed over.
        fs::write(dir.path().join("id_ed25519.pub"), "ssh-ed25519 AA").unwrap();
        let found = PublicKey::usual(dir.path()).unwrap();
        assert!(found.path.ends_with("id_ecdsa.pub"));
    }
}
