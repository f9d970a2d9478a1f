//! Checksum files, in every format in which they are published.

use std::fmt;

use sha2::{Digest, Sha256, Sha512};

use boxbuild_host::digest::hex;
use boxbuild_host::text::{is_harmful, shown};

/// First line of a clear-signed message (RFC 9580, section 7).
pub(super) const SIGNED_MESSAGE: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
/// First line of its signature.
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";

/// Ends of the names of published files, which versions precede.
const EXTENSIONS: [&str; 2] = [".tar.xz", ".qcow2"];

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Returns the extension of checksum files, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Returns the number of hex digits of a hash.
    fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// A hash of a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// The hash function.
    pub algorithm: Algorithm,
    /// The hash in lower-case hex.
    pub hex: String,
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm.extension(), self.hex)
    }
}

/// A text has no checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// There is no checksum in it.
    #[error("there is no {} in it (it begins with '{begin}')", .algorithm.extension())]
    None {
        /// The hash function that was looked for.
        algorithm: Algorithm,
        /// The beginning of the text.
        begin: String,
    },
    /// There are several, none of them with the name of the file.
    #[error("it has the checksums of several files, and none is named {0}")]
    Ambiguous(String),
    /// A signed text does not say that its checksum is that of the file.
    #[error("it is signed, but names '{named}' and not {name}: its signature is for another file")]
    OtherFile {
        /// The file.
        name: String,
        /// The name in the text, empty if there is none.
        named: String,
    },
    /// A clear-signed text ends before its signature.
    #[error("its signature is cut off")]
    CutOff,
}

impl Checksum {
    /// Finds the checksum of the file `name` in the text of a checksum file: a bare hash, lines as
    /// `sha256sum` writes them (the name there may have a version that `name` lacks), or as
    /// `sha256sum --tag` does, also clear-signed.
    ///
    /// # Errors
    /// Fails if there is none, or if there are several and none belongs to the file.
    pub fn parse(text: &str, name: &str, algorithm: Algorithm) -> Result<Checksum, ChecksumError> {
        let body = signed_part(text)?;
        let found: Vec<(String, &str)> = body
            .lines()
            .filter_map(|line| entry(line, algorithm))
            .collect();
        let hex = match found.as_slice() {
            [] => {
                return Err(ChecksumError::None {
                    algorithm,
                    // What a server sent, an HTML page as a rule.
                    begin: shown(&text.trim().chars().take(40).collect::<String>()).into_owned(),
                });
            }
            [(hex, _)] => hex,
            several => {
                let first = &several[0].0;
                let named = several
                    .iter()
                    .find(|(_, named)| named.rsplit('/').next().unwrap_or_default() == name);
                match named {
                    Some((hex, _)) => hex,
                    None if several.iter().all(|(hex, _)| hex == first) => first,
                    None => return Err(ChecksumError::Ambiguous(name.to_owned())),
                }
            }
        };
        Ok(Checksum {
            algorithm,
            hex: hex.clone(),
        })
    }
}

impl Checksum {
    /// The same in a text that is signed: what is signed must name the file, with or without a version.
    ///
    /// # Errors
    /// See [`Checksum::parse`]; and fails if it names another file, or none.
    pub fn parse_named(
        text: &str,
        name: &str,
        algorithm: Algorithm,
    ) -> Result<Checksum, ChecksumError> {
        let body = signed_part(text)?;
        let mut entries = body
            .lines()
            .filter_map(|line| entry(line, algorithm))
            .peekable();
        let Some((_, first)) = entries.peek() else {
            // Tells what there is instead.
            return Checksum::parse(text, name, algorithm);
        };
        let named: String = first
            .chars()
            .take(100)
            .filter(|char| !is_harmful(*char))
            .collect();
        let found = entries.find(|(_, named)| is_named(named, name));
        match found {
            Some((hex, _)) => Ok(Checksum { algorithm, hex }),
            None => Err(ChecksumError::OtherFile {
                name: name.to_owned(),
                named,
            }),
        }
    }
}

/// Whether the name of a file in a checksum file is that of the published file `name`: the same, but
/// for parts that are versions, such as `1.42.1` and `Build5.7`.
fn is_named(named: &str, name: &str) -> bool {
    let named = named.rsplit('/').next().unwrap_or_default();
    let Some((named, name)) = EXTENSIONS
        .iter()
        .find_map(|end| Some((named.strip_suffix(end)?, name.strip_suffix(end)?)))
    else {
        return named == name;
    };
    let is_version = |part: &str| {
        let digits = part.strip_prefix("Build").unwrap_or(part);
        digits.starts_with(|c: char| c.is_ascii_digit())
            && digits
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_')
    };
    let mut wanted = name.split('-').peekable();
    named.split('-').all(|part| {
        // A part that is wanted may look like a version.
        wanted.next_if_eq(&part).is_some() || is_version(part)
    }) && wanted.peek().is_none()
}

/// Returns the signed lines of a clear-signed message, or the whole of another text.
fn signed_part(text: &str) -> Result<String, ChecksumError> {
    let Some(rest) = text.trim_start().strip_prefix(SIGNED_MESSAGE) else {
        return Ok(text.to_owned());
    };
    // Headers such as "Hash: SHA256" end with an empty line.
    let body: Vec<&str> = rest
        .lines()
        .skip(1)
        .skip_while(|line| !line.trim().is_empty())
        .skip(1)
        .collect();
    let end = body
        .iter()
        .position(|line| line.trim_end() == SIGNATURE)
        .ok_or(ChecksumError::CutOff)?;
    let lines: Vec<&str> = body[..end]
        .iter()
        // Lines that begin with a dash are escaped.
        .map(|line| line.strip_prefix("- ").unwrap_or(line))
        .collect();
    Ok(lines.join("\n"))
}

/// Returns hash and file name from a line.
fn entry(line: &str, algorithm: Algorithm) -> Option<(String, &str)> {
    let line = line.trim();
    let is_hash = |word: &str| {
        word.len() == algorithm.hex_len() && word.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if is_hash(first) {
        let name = rest.trim_start();
        return Some((
            first.to_ascii_lowercase(),
            name.strip_prefix('*').unwrap_or(name),
        ));
    }
    // SHA256 (name) = hash
    let (front, hash) = line.rsplit_once(") = ")?;
    let (tag, name) = front.split_once(" (")?;
    (tag.eq_ignore_ascii_case(algorithm.extension()) && is_hash(hash))
        .then(|| (hash.to_ascii_lowercase(), name))
}

/// Hashes a file: always by SHA-256, and by the publisher's function.
#[derive(Debug, Clone)]
pub(super) struct Hasher {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

impl Hasher {
    pub(super) fn new(algorithm: Algorithm) -> Hasher {
        Hasher {
            sha256: Sha256::new(),
            sha512: (algorithm == Algorithm::Sha512).then(Sha512::new),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    /// Returns the SHA-256, and the SHA-512 if that is the publisher's, in lower-case hex.
    pub(super) fn finish(self) -> (String, Option<String>) {
        (
            hex(&self.sha256.finalize()),
            self.sha512.map(|hash| hex(&hash.finalize())),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    const NAME: &str = "Leap-Box.x86_64-System.qcow2";

    fn parse(text: &str) -> Result<String, ChecksumError> {
        Checksum::parse(text, NAME, Algorithm::Sha256).map(|checksum| checksum.hex)
    }

    #[test]
    fn every_format_is_read() {
        let signed = format!(
            "{SIGNED_MESSAGE}\nHash: SHA256\n\n{HASH}  a.qcow2\n- -- {OTHER}\n{SIGNATURE}\n\n\
             iQE{OTHER}\n-----END PGP SIGNATURE-----\n"
        );
        for text in [
            HASH.to_owned(),
            format!("{HASH}\n"),
            format!("{HASH}  Leap-Box.x86_64-1.2.3-System-Build4.5.qcow2\n"),
            format!("{} *{NAME}\r\n", HASH.to_uppercase()),
            format!("SHA256 ({NAME}) = {HASH}\n"),
            format!("{OTHER}  else.tar.xz\n{HASH}  ./{NAME}\n"),
            format!("{HASH}  a\n{HASH}  b\n"),
            // As kiwi writes it: blocks and block size after the hash.
            format!("{HASH} 1234 8192\n"),
            signed,
        ] {
            assert_eq!(parse(&text).as_deref(), Ok(HASH), "{text}");
        }
        let long = HASH.repeat(2);
        let sha512 = Checksum::parse(&format!("{long}  x"), NAME, Algorithm::Sha512).unwrap();
        assert_eq!(sha512.hex, long);
    }

    #[test]
    fn texts_without_a_checksum_are_refused() {
        for text in [
            "",
            "<html>404</html>",
            &HASH[1..],
            &format!("x{HASH}"),
            &HASH.repeat(2),
        ] {
            assert!(
                matches!(parse(text), Err(ChecksumError::None { .. })),
                "{text}"
            );
        }
        assert!(matches!(
            parse(&format!("{OTHER}  a\n{HASH}  b\n")),
            Err(ChecksumError::Ambiguous(_))
        ));
        assert_eq!(
            parse(&format!("{SIGNED_MESSAGE}\nHash: SHA256\n\n{HASH}  a\n")),
            Err(ChecksumError::CutOff)
        );
    }

    /// Fault 13: what a server sends in place of a checksum reached the terminal as it was.
    #[test]
    fn a_text_of_a_server_stays_within_the_error() {
        let error = parse("\x1b]0;title\x07\nboxbuild: built\u{202e}").unwrap_err();
        let text = error.to_string();
        assert!(
            !text.chars().any(boxbuild_host::text::is_harmful),
            "{text:?}"
        );
    }

    #[test]
    fn a_signed_checksum_belongs_to_one_file() {
        let signed = |text: &str| Checksum::parse_named(text, NAME, Algorithm::Sha256);
        for good in [
            NAME,
            "./Leap-Box.x86_64-System.qcow2",
            "Leap-Box.x86_64-1.2.3-System-Build4.5.qcow2",
            "Leap-Box.x86_64-1.42.1-System.qcow2",
        ] {
            let text = format!("{OTHER}  else.tar.xz\n{HASH}  {good}\n");
            assert_eq!(signed(&text).unwrap().hex, HASH, "{good}");
        }
        for bad in [
            "",
            "TumbleWeed-Box.x86_64-1.2.3-System.qcow2",
            "Leap-Box.aarch64-1.2.3-System.qcow2",
            "Leap-Box.x86_64-System.tar.xz",
            "Leap-Box.x86_64-1.2.3-Other-System.qcow2",
            "Leap-Box.x86_64.qcow2",
            "Leap-Box.x86_64-1.2.3.qcow2",
        ] {
            let error = signed(&format!("{HASH}  {bad}\n")).unwrap_err();
            assert!(matches!(error, ChecksumError::OtherFile { .. }), "{bad}");
        }
        assert!(matches!(signed("none"), Err(ChecksumError::None { .. })));
        // Names that look like versions count where they are wanted.
        assert!(is_named("A-2-1.0.qcow2", "A-2.qcow2"));
        assert!(!is_named("A-3-1.0.qcow2", "A-2.qcow2"));
    }

    #[test]
    fn both_hashes_are_right() {
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"abc");
        let (sha256, sha512) = hasher.finish();
        assert!(sha256.starts_with("ba7816bf8f01cfea"));
        assert!(sha512.unwrap().starts_with("ddaf35a193617aba"));
    }
}
