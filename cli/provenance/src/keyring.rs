//! Public OpenPGP keys as files have them: in binary form, or as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// First line of public keys in text form (RFC 9580, section 6.2).
const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Bytes are no public OpenPGP keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoKeyring {
    /// They are something else.
    #[error("it has no packets")]
    None,
    /// Its text form cannot be decoded.
    #[error("its text is damaged")]
    Damaged,
}

/// Returns the key ring in binary form that a file's `bytes` are; of text, all blocks.
///
/// # Errors
/// Fails if it is none.
pub fn of(bytes: &[u8]) -> Result<Vec<u8>, NoKeyring> {
    let ring = match str::from_utf8(bytes) {
        Ok(text) if text.contains(BEGIN) => unarmored(text).ok_or(NoKeyring::Damaged)?,
        _ => bytes.to_vec(),
    };
    // A packet's first byte has the highest bit set (RFC 9580, section 4.2).
    match ring.first() {
        Some(byte) if byte & 0x80 != 0 => Ok(ring),
        _ => Err(NoKeyring::None),
    }
}

/// Decodes armored keys (RFC 9580, section 6.2): base 64 between the headers and the checksum, which begins
/// with `=`.
fn unarmored(text: &str) -> Option<Vec<u8>> {
    let mut ring = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while lines.any(|line| line == BEGIN) {
        let body: String = lines
            .by_ref()
            .skip_while(|line| !line.is_empty())
            .skip(1)
            .take_while(|line| {
                !(line.starts_with("-----") || line.starts_with('=') && line.len() == 5)
            })
            .collect();
        ring.extend(STANDARD.decode(body).ok()?);
    }
    Some(ring)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_blocks_of_a_text_are_keys_and_other_files_are_none() {
        let block = |body: &str| {
            format!(
                "{BEGIN}\r\nComment: x\r\n\r\n{body}\r\n=AbCd\r\n-----END PGP PUBLIC KEY BLOCK-----\r\n"
            )
        };
        assert_eq!(of(block("mQ==").as_bytes()), Ok(vec![0x99]));
        let two = format!("Two keys:\n{}\n{}", block("mQ=="), block("mg=="));
        assert_eq!(of(two.as_bytes()), Ok(vec![0x99, 0x9a]));
        assert_eq!(of(&[0x99, 0xff]), Ok(vec![0x99, 0xff]));
        for none in [&b""[..], b"nonsense", b"\x00\xff", block("AA==").as_bytes()] {
            assert_eq!(of(none), Err(NoKeyring::None), "{none:?}");
        }
        let half = format!("{}{}", block("mQ=="), block("!!!"));
        assert_eq!(of(half.as_bytes()), Err(NoKeyring::Damaged));
    }
}
