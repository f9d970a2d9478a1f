//! Values of options: sizes, times, names from a list.

use std::time::Duration;

use boxbuild_core::boot::BootStyle;
use boxbuild_engine::{EngineChoice, Network};
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// An amount of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Bytes.
    pub(crate) bytes: u64,
    /// It was typed without a unit.
    pub(crate) bare: bool,
}

/// Bytes from a number with an optional binary unit (K, M, G, T; `B` and `iB` are ignored).
/// A bare number means `bare_unit` bytes.
fn parse_bytes(text: &str, bare_unit: u64) -> Result<u64, String> {
    let complaint = || format!("'{text}' is not a size: write e.g. 4G, 6000M or 20GiB");
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit
        .trim()
        .to_ascii_lowercase()
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "" if unit.is_empty() => bare_unit,
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1u64 << 40,
        _ => return Err(complaint()),
    };
    let bytes = match number.parse::<u64>() {
        Ok(number) => number.checked_mul(factor),
        // A fraction such as 1.5G: exact enough in f64 below 2^53 bytes.
        Err(_) => number
            .parse::<f64>()
            .ok()
            .map(|number| number * factor as f64)
            .filter(|bytes| (0.0..9e15).contains(bytes))
            .map(|bytes| bytes as u64),
    };
    bytes.filter(|bytes| *bytes > 0).ok_or_else(complaint)
}

pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    parse_bytes(text, 1 << 30)
}

/// Guest memory in bytes. KIWI's documentation says GB for a bare number.
pub(crate) fn parse_memory(text: &str) -> Result<Memory, String> {
    let bytes = parse_bytes(text, 1 << 30)?;
    if bytes < 256 << 20 {
        return Err(format!(
            "{text} is too little memory for a box (at least 256M)"
        ));
    }
    Ok(Memory {
        bytes,
        bare: text.ends_with(|c: char| c.is_ascii_digit() || c == '.'),
    })
}

/// A time: seconds, or a number with s, m or h.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => 0,
    };
    number
        .parse::<u64>()
        .ok()
        .filter(|_| factor > 0)
        .and_then(|number| number.checked_mul(factor))
        .map(Duration::from_secs)
        .ok_or_else(|| format!("'{text}' is not a time: write e.g. 90, 90s, 15m or 2h"))
}

/// The value that has a name in `known`.
fn named<T: Copy + Send + Sync + 'static, const N: usize>(
    known: [(&'static str, T); N],
) -> impl TypedValueParser<Value = T> {
    let names = known.map(|(name, _)| name);
    PossibleValuesParser::new(names).try_map(move |text| {
        known
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value)
            .ok_or("not a known name")
    })
}

/// The value of `--engine`.
pub(crate) fn engine() -> impl TypedValueParser<Value = EngineChoice> {
    named(EngineChoice::ALL.map(|choice| (choice.name(), choice)))
}

/// The value of `--boot`.
pub(crate) fn boot_style() -> impl TypedValueParser<Value = BootStyle> {
    named(BootStyle::ALL)
}

/// The value of `--network`.
pub(crate) fn network() -> impl TypedValueParser<Value = Network> {
    named([("user", Network::User), ("none", Network::None)])
}

/// `yes` or `no`.
pub(crate) fn yes_or_no() -> impl TypedValueParser<Value = bool> {
    named([("yes", true), ("no", false)])
}
