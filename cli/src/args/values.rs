//! Parsers for the values of options: sizes, times, names from a list.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use boxbuild_boxes::store::Guest;
use boxbuild_core::boot::BootStyle;
use boxbuild_engine::qemu::image::Bus;
use boxbuild_engine::{EngineChoice, Network};
use boxbuild_host::units;
use boxbuild_images::FirmwareChoice;
use clap::builder::{PossibleValuesParser, StringValueParser, TypedValueParser};

/// An amount of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Bytes.
    pub(crate) bytes: u64,
    /// The unit that a number without one was taken to have.
    pub(crate) assumed: Option<&'static str>,
}

/// From this number on, an amount of memory without a unit is in MiB, which is QEMU's unit: a box has no
/// less, and no host so many GiB.
const LEAST_IN_MIB: f64 = 256.0;

/// Parses a number with an optional binary unit (K, M, G, T; `B` and `iB` after it are ignored) into
/// bytes. A number without a unit counts `bare_unit` bytes.
///
/// Crate `bytesize` has other units: its `8G` are 8,000,000,000 bytes, here and in kiwi-ng they are
/// 8 GiB.
fn parse_bytes(text: &str, bare_unit: u64) -> Result<u64, String> {
    let not_a_size = || format!("'{text}' is not a size: write e.g. 4G, 6000M or 20GiB");
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
        _ => return Err(not_a_size()),
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
    bytes.filter(|bytes| *bytes > 0).ok_or_else(not_a_size)
}

/// The largest disk of a box: what the file of changes to a disk holds (`boxbuild_vmm::disk`).
const LARGEST_DISK: u64 = 16 << 40;

/// Parses the size of a disk into bytes; a number without a unit means GiB.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text, 1 << 30)?;
    if bytes > LARGEST_DISK {
        return Err(format!(
            "{text} is too large for the disk of a box: at most {}",
            units::size(LARGEST_DISK)
        ));
    }
    Ok(bytes)
}

/// Parses an amount of bytes. A number without a unit means GiB, as for disks.
pub(crate) fn parse_amount(text: &str) -> Result<u64, String> {
    parse_bytes(text, 1 << 30)
}

/// Parses an amount of guest memory. A small number without a unit means GiB, as in KIWI's documentation;
/// a large one MiB, as in QEMU, which gets it from kiwi-ng as it is.
pub(crate) fn parse_memory(text: &str) -> Result<Memory, String> {
    // As for QEMU's -m.
    let text = text.strip_prefix("size=").unwrap_or(text).trim();
    let assumed = match text.parse::<f64>() {
        Ok(number) if number >= LEAST_IN_MIB => Some(("MiB", 1 << 20)),
        Ok(_) => Some(("GiB", 1 << 30)),
        Err(_) => None,
    };
    let bytes = parse_bytes(text, assumed.map_or(1, |(_, unit)| unit))?;
    if bytes < 256 << 20 {
        return Err(format!(
            "{text} is too little memory for a box: at least 256M"
        ));
    }
    Ok(Memory {
        bytes,
        assumed: assumed.map(|(unit, _)| unit),
    })
}

/// The longest time that an option takes: a deadline so far from now cannot overflow.
const LONGEST_TIME: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// The time of a reproducible build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Epoch {
    /// What the environment or git says.
    Known,
    /// In seconds since 1970.
    At(u64),
}

/// The latest time that all formats can have: that of a signed number of 32 bits.
pub(crate) const LATEST: u64 = i32::MAX as u64;

/// Parses the time of a reproducible build.
pub(super) fn epoch(text: &str) -> Result<Epoch, String> {
    match text.parse::<u64>() {
        _ if text == "auto" => Ok(Epoch::Known),
        Ok(time) if time <= LATEST => Ok(Epoch::At(time)),
        _ => Err(format!(
            "expected seconds since 1970, at most {LATEST}, e.g. what 'date +%s' prints"
        )),
    }
}

/// Parses a time: seconds, or what `humantime` accepts (`90s`, `15m`, `1h30m`, `1d`).
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let time = match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        // humantime's M is a month; in a limit of time it is a mistake.
        Err(_) if text.contains('M') => None,
        Err(_) => humantime::parse_duration(text).ok(),
    };
    let time = time.ok_or_else(|| {
        format!("'{text}' is not a time: write e.g. 90 (seconds), 15m, 1h30m or 1d")
    })?;
    if time > LONGEST_TIME {
        return Err(format!("'{text}' is too long: at most 10 years"));
    }
    Ok(time)
}

/// Parses a limit of time; 0 means that there is none.
pub(crate) fn parse_limit(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|problem| format!("{problem}; 0 means no limit"))
}

/// Parses a time that is longer than none.
pub(crate) fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time.is_zero() {
        return Err(String::from("the time must be longer than 0"));
    }
    Ok(time)
}

/// Returns a parser for whole numbers.
pub(crate) fn number<T>(range: RangeInclusive<T>) -> impl TypedValueParser<Value = T>
where
    T: FromStr + Display + PartialOrd + Clone + Send + Sync + 'static,
{
    StringValueParser::new().try_map(move |text| {
        text.trim()
            .parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                format!(
                    "it is not a whole number from {} to {}",
                    range.start(),
                    range.end()
                )
            })
    })
}

/// Most builds of a batch at once.
pub(crate) const MOST_JOBS: usize = 10_000;

/// Returns a parser for how many builds run at once.
pub(crate) fn jobs() -> impl TypedValueParser<Value = NonZeroUsize> {
    number(1..=MOST_JOBS).try_map(|number| NonZeroUsize::new(number).ok_or("0 builds are none"))
}

/// Returns the limit that [`parse_limit`] parsed.
pub(crate) fn limit(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero())
}

/// Returns a parser for the values with a name in `known`.
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

/// Returns the parser for `--engine`.
pub(crate) fn engine() -> impl TypedValueParser<Value = EngineChoice> {
    named(EngineChoice::ALL.map(|choice| (choice.name(), choice)))
}

/// Returns the parser for `--boot`.
pub(crate) fn boot_style() -> impl TypedValueParser<Value = BootStyle> {
    named(BootStyle::ALL)
}

/// Returns the parser for `--network`.
pub(crate) fn network() -> impl TypedValueParser<Value = Network> {
    named([
        ("user", Network::User),
        ("public", Network::Public),
        ("none", Network::None),
    ])
}

/// Returns the parser for `--firmware`.
pub(crate) fn firmware() -> impl TypedValueParser<Value = FirmwareChoice> {
    named(FirmwareChoice::ALL.map(|choice| (choice.name(), choice)))
}

/// Returns the parser for `--bus`.
pub(crate) fn bus() -> impl TypedValueParser<Value = Bus> {
    named([("virtio", Bus::Virtio), ("sata", Bus::Sata)])
}

/// Returns the parser for `--guest`.
pub(crate) fn guest() -> impl TypedValueParser<Value = Guest> {
    named([("compat", Guest::Compat), ("fast", Guest::Fast)])
}

/// Returns the parser for `yes` and `no`.
pub(crate) fn yes_or_no() -> impl TypedValueParser<Value = bool> {
    named([("yes", true), ("no", false)])
}
