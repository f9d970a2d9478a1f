//! SHA-256 of files, in hex.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// Returns bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads `file` to its end, and returns the number of bytes and their SHA-256 in lower-case hex.
///
/// # Errors
/// Fails if it cannot be read.
pub fn sha256(file: &mut impl Read) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
    Ok((size, hex(&hash.finalize())))
}
