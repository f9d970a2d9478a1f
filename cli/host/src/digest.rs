//! SHA-256 of files, in hex.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::stop::StopCheck;

/// Returns bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads `file` to its end, and returns the number of bytes and their SHA-256 in lower-case hex.
///
/// # Errors
/// Fails if it cannot be read.
pub fn sha256(file: &mut impl Read) -> io::Result<(u64, String)> {
    hash(file, || Ok(()))
}

/// The same, unless `stop` says to stop: it is asked after each block.
///
/// # Errors
/// Fails if the file cannot be read, or with [`Stopped`] in the error.
pub fn sha256_until(file: &mut impl Read, stop: &StopCheck) -> io::Result<(u64, String)> {
    hash(file, || stop.check().map_err(io::Error::other))
}

fn hash(file: &mut impl Read, proceed: impl Fn() -> io::Result<()>) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        proceed()?;
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((size, hex(&hash.finalize())))
}
