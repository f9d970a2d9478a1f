//! The folders of the cache.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use boxbuild_host::digest::hex;
use boxbuild_host::input;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::space::GuardedFile;
use boxbuild_parsers::{Output, ParseError, Parser};
use etcetera::BaseStrategy;
use sha2::{Digest, Sha256};

/// Largest result that is kept, in bytes.
const LARGEST: u64 = 512 << 20;
/// Longest text that is kept, in bytes.
const LONGEST_TEXT: u64 = 4 << 10;

/// A folder of the cache.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

/// Something that cannot be had from the cache, nor made.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    /// Nothing can be made of it, as was found now or earlier.
    #[error("{0}")]
    Final(String),
    /// It cannot be read, or the result cannot be kept.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what its box's description says.
    #[error("its checksum is not the one in its box's description")]
    Mismatch,
    /// It could not be made this time.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

impl Cache {
    /// The folder `kind` of the user's cache, which need not exist yet.
    pub(super) fn of_user(kind: &str) -> io::Result<Cache> {
        let base = etcetera::choose_base_strategy().map_err(io::Error::other)?;
        Ok(Cache::at(base.cache_dir().join("boxbuild").join(kind)))
    }

    pub(super) fn at(folder: PathBuf) -> Cache {
        Cache { folder }
    }

    /// Opens what is kept under a name.
    pub(super) fn open(&self, name: &str) -> Option<File> {
        input::open(&self.folder.join(name)).ok()
    }

    /// Returns the text that is kept under a name.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let bytes = input::read(&self.folder.join(name), LONGEST_TEXT).ok()?;
        String::from_utf8(bytes).ok()
    }

    /// Keeps a text under a name.
    pub(super) fn keep_text(&self, name: &str, text: &str) -> io::Result<()> {
        let mut file = self.new_file()?;
        file.write_all(text.as_bytes())?;
        file.persist(self.folder.join(name))?;
        Ok(())
    }

    /// Makes something of `source`, whose SHA-256 must be `sha256`. `make` has it written, and returns
    /// the name to keep it under; `None` means that there is nothing to keep. If nothing can ever be
    /// made of it, the reason is kept under `refusal`.
    pub(super) fn make(
        &self,
        source: &File,
        largest: u64,
        sha256: &str,
        refusal: &str,
        make: impl FnOnce(&Parser, &File, Output<'_>) -> Result<Option<String>, ParseError>,
    ) -> Result<File, CacheError> {
        if let Some(reason) = self.text(refusal) {
            return Err(CacheError::Final(reason));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let copy = self.copy(source, largest, sha256)?;
        let file = self.new_file()?;
        let mut writer = GuardedFile::new(file.reopen()?);
        let parser = Parser::new(Interrupt::of_process());
        let refused = |reason: String| {
            // What cannot be kept is found again.
            let _ = self.keep_text(refusal, &reason);
            CacheError::Final(reason)
        };
        let name = match make(&parser, &copy, Output::new(&mut writer, LARGEST)) {
            Ok(Some(name)) => name,
            Ok(None) => return Err(refused(String::from("there is nothing to make of it"))),
            Err(error) if error.is_final() => return Err(refused(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        file.as_file().sync_all()?;
        let path = self.folder.join(name);
        // Another build that made it too made the same.
        file.persist(&path).map_err(|error| error.error)?;
        Ok(input::open(&path)?)
    }

    /// Copies a file to a private one without a name, and checks the hash of what was copied.
    fn copy(&self, source: &File, largest: u64, sha256: &str) -> Result<File, CacheError> {
        let mut copy = tempfile::tempfile_in(&self.folder)?;
        let mut hash = Sha256::new();
        let mut from = source.take(largest + 1);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = from.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            copy.write_all(&buffer[..count])?;
        }
        if from.limit() == 0 {
            return Err(CacheError::Final(format!(
                "it has more than {} MiB",
                largest >> 20
            )));
        }
        if hex(&hash.finalize()) != sha256 {
            return Err(CacheError::Mismatch);
        }
        copy.rewind()?;
        Ok(copy)
    }

    /// A file that has a name only once it is whole.
    fn new_file(&self) -> io::Result<tempfile::NamedTempFile> {
        fs::create_dir_all(&self.folder)?;
        tempfile::NamedTempFile::new_in(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA256_OF_X: &str = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";

    fn source() -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"x").unwrap();
        file.rewind().unwrap();
        file
    }

    /// Has `content` made of it.
    fn make(
        cache: &Cache,
        sha256: &str,
        content: Result<&str, ParseError>,
    ) -> Result<String, CacheError> {
        let made = cache.make(&source(), 10, sha256, "refusal", |_, copy, _| {
            let mut text = String::new();
            (&*copy).read_to_string(&mut text).unwrap();
            assert_eq!(text, "x");
            content.map(|content| {
                cache.keep_text("other", content).unwrap();
                Some(String::from("made"))
            })
        });
        made.map(|_| cache.text("other").unwrap())
    }

    #[test]
    fn what_is_kept_is_used_and_what_fails_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("kernels"));
        let passing = || Err(ParseError::Interrupted);
        assert!(matches!(
            make(&cache, SHA256_OF_X, passing()),
            Err(CacheError::Parse(_))
        ));
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), 0);
        assert_eq!(make(&cache, SHA256_OF_X, Ok("first")).unwrap(), "first");
        assert!(cache.open("made").is_some());
        // Nothing else is left.
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), 2);
    }

    #[test]
    fn a_refusal_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().to_owned());
        for content in [
            Err(ParseError::Refused(String::from("why"))),
            Ok("never made"),
        ] {
            let error = make(&cache, SHA256_OF_X, content).unwrap_err();
            assert!(
                matches!(&error, CacheError::Final(reason) if reason == "why"),
                "{error}"
            );
        }
        assert!(cache.open("made").is_none());
    }

    /// What a box's description says of a file decides on nothing that other boxes use.
    #[test]
    fn the_hash_is_that_of_the_bytes_that_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().to_owned());
        let error = make(&cache, &"0".repeat(64), Ok("forged")).unwrap_err();
        assert!(matches!(error, CacheError::Mismatch), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let large = cache.make(&source(), 0, SHA256_OF_X, "refusal", |_, _, _| Ok(None));
        assert!(matches!(large, Err(CacheError::Final(_))));
    }
}
