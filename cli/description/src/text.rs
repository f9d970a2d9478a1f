//! The text of an XML file: its encoding, as libxml2 finds it out (XML 1.0, appendix F).

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};

/// How far the XML declaration is searched for, in bytes.
const DECLARATION: usize = 256;

/// Why there is no text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Undecodable {
    /// What is wrong and what to do.
    pub(crate) text: String,
    /// The line.
    pub(crate) line: u32,
    /// No kiwi reads it either.
    pub(crate) certain: bool,
}

/// Decodes the bytes of an XML file.
pub(crate) fn decode(bytes: &[u8]) -> Result<String, Undecodable> {
    if let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        return utf8(rest);
    }
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Err(unknown("UTF-32")),
        [0xff, 0xfe, ..] | [b'<', 0, ..] => return by(UTF_16LE, bytes),
        [0xfe, 0xff, ..] | [0, b'<', ..] => return by(UTF_16BE, bytes),
        _ => {}
    }
    let Some(label) = declared(bytes) else {
        return utf8(bytes);
    };
    let name = label.to_ascii_lowercase();
    match name.as_str() {
        "utf-8" | "utf8" | "us-ascii" | "ascii" => utf8(bytes),
        // Latin-1 proper; the label means windows-1252 on the web only.
        "iso-8859-1" | "iso8859-1" | "latin1" => {
            Ok(bytes.iter().copied().map(char::from).collect())
        }
        "utf-16" | "utf-16le" | "utf-16be" | "ucs-2" => Err(Undecodable {
            text: format!("the XML declaration says {name}, but the file has another encoding"),
            line: 1,
            certain: true,
        }),
        _ => match Encoding::for_label(label.as_bytes()) {
            Some(encoding) => by(encoding, bytes),
            None => Err(unknown(label)),
        },
    }
}

fn utf8(bytes: &[u8]) -> Result<String, Undecodable> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok(text.to_owned()),
        Err(error) => error,
    };
    let (good, bad) = bytes.split_at(error.valid_up_to());
    let byte = bad.first().copied().unwrap_or_default();
    Err(Undecodable {
        text: format!(
            "the byte {byte:#04x} is not UTF-8: save the file as UTF-8, or name its encoding in the \
             first line, as in <?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>"
        ),
        line: line_after(good),
        certain: true,
    })
}

fn by(encoding: &'static Encoding, bytes: &[u8]) -> Result<String, Undecodable> {
    let (text, malformed) = encoding.decode_with_bom_removal(bytes);
    if malformed {
        return Err(Undecodable {
            text: format!("not all of it is {}", encoding.name()),
            line: 0,
            certain: false,
        });
    }
    Ok(text.into_owned())
}

fn unknown(label: &str) -> Undecodable {
    Undecodable {
        text: format!("the encoding {label} cannot be read on this host: the box decides"),
        line: 1,
        certain: false,
    }
}

/// Returns the number of the line that follows these bytes, from 1.
fn line_after(bytes: &[u8]) -> u32 {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    u32::try_from(lines).unwrap_or(u32::MAX).saturating_add(1)
}

/// Returns the encoding in the XML declaration, if there is one.
fn declared(bytes: &[u8]) -> Option<&str> {
    let head = &bytes[..bytes.len().min(DECLARATION)];
    let rest = head.strip_prefix(b"<?xml")?;
    let end = rest.windows(2).position(|pair| pair == b"?>")?;
    let declaration = std::str::from_utf8(&rest[..end]).ok()?;
    let (_, value) = declaration.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value[1..].split(quote).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<?xml version=\"1.0\" encoding=\"X\"?>\n<image name=\"é\"/>";

    fn utf16(text: &str, big: bool, bom: bool) -> Vec<u8> {
        let units = bom.then_some(0xfeff).into_iter().chain(text.encode_utf16());
        units
            .flat_map(|unit| {
                if big {
                    unit.to_be_bytes()
                } else {
                    unit.to_le_bytes()
                }
            })
            .collect()
    }

    #[test]
    fn encodings_that_kiwi_reads() {
        let said = |label: &str| XML.replace('X', label);
        let plain = "<image name=\"é\"/>";
        assert_eq!(decode(plain.as_bytes()).unwrap(), plain);
        let with_bom = [b"\xef\xbb\xbf", plain.as_bytes()].concat();
        assert_eq!(decode(&with_bom).unwrap(), plain);
        for label in ["utf-8", "UTF8"] {
            assert_eq!(decode(said(label).as_bytes()).unwrap(), said(label));
        }
        let text = said("UTF-16");
        for (big, bom) in [(true, true), (false, true), (true, false), (false, false)] {
            assert_eq!(
                decode(&utf16(&text, big, bom)).unwrap(),
                text,
                "{big} {bom}"
            );
        }
        for label in ["ISO-8859-1", "iso-8859-15", "windows-1252"] {
            let text = said(label);
            let bytes: Vec<u8> = text.chars().map(|c| c as u8).collect();
            assert_eq!(decode(&bytes).unwrap(), text, "{label}");
        }
    }

    #[test]
    fn other_bytes_are_named() {
        let text = "<?xml version='1.0' encoding='utf-8'?>\n<a>\n\u{e9}</a>";
        let bytes: Vec<u8> = text.chars().map(|c| c as u8).collect();
        let error = decode(&bytes).unwrap_err();
        assert!(
            error.certain && error.line == 3 && error.text.contains("0xe9"),
            "{error:?}"
        );
        let error = decode(XML.replace('X', "utf-16").as_bytes()).unwrap_err();
        assert!(error.certain, "{error:?}");
        // In doubt, the box decides.
        for bytes in [
            XML.replace('X', "x-none").into_bytes(),
            b"\xff\xfe\0\0<\0\0\0".to_vec(),
        ] {
            assert!(!decode(&bytes).unwrap_err().certain);
        }
        assert_eq!(decode(b""), Ok(String::new()));
    }
}
