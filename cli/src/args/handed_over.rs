//! A command line that one boxbuild hands to another: every user of the host sees arguments, so one with
//! secrets goes through a file without a name, as standard input.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use boxbuild_host::secret;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// The only argument of a boxbuild whose command line is on standard input, each word with a zero byte
/// behind it.
pub(crate) const FROM_INPUT: &str = "--words-on-standard-input";

/// Bytes of a command line that are read, above what the kernel takes as arguments.
const LONGEST: u64 = 16 << 20;

/// Returns `words` as a file for standard input, if they have a secret.
pub(crate) fn hidden(words: &[OsString]) -> io::Result<Option<File>> {
    let plain = words.iter().map(|word| word.to_string_lossy());
    if plain.eq(secret::redact_words(words)) {
        return Ok(None);
    }
    let mut file = File::from(memfd_create(c"words", MFdFlags::MFD_CLOEXEC)?);
    for word in words {
        file.write_all(word.as_bytes())?;
        file.write_all(&[0])?;
    }
    file.rewind()?;
    Ok(Some(file))
}

/// Returns the command line of this process, without the program's name.
pub(crate) fn of_process() -> Vec<OsString> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words != [OsStr::new(FROM_INPUT)] {
        return words;
    }
    read(io::stdin().lock()).unwrap_or(words)
}

fn read(input: impl Read) -> io::Result<Vec<OsString>> {
    let mut bytes = Vec::new();
    input.take(LONGEST).read_to_end(&mut bytes)?;
    let words = bytes.split_inclusive(|byte| *byte == 0);
    Ok(words
        .map(|word| OsString::from_vec(word.strip_suffix(&[0]).unwrap_or(word).to_vec()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_secrets_are_handed_over_as_they_are() {
        let plain = ["--box", "x", "--", "--add-repo", "https://host/x"].map(OsString::from);
        assert!(hidden(&plain).unwrap().is_none());
        let mut words = plain.to_vec();
        words.extend([
            "https://me:s3cret@host/x".into(),
            "".into(),
            OsString::from_vec(b"\xff\n".to_vec()),
        ]);
        let file = hidden(&words).unwrap().unwrap();
        assert_eq!(read(file).unwrap(), words);
        assert_eq!(read(&b""[..]).unwrap(), Vec::<OsString>::new());
    }
}
