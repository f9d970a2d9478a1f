//! Figures for people.

use std::time::{Duration, SystemTime};

/// A time for people: `3.2 s`, `4 min 05 s`, `1 h 02 min`.
pub fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// An age for people, in its largest unit: `3 days`.
pub fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let (count, unit) = match seconds {
        0..60 => return String::from("less than a minute"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// A moment for people: `2026-11-25 16:30:03 UTC`.
pub fn date(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

/// A size for people, in binary units.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let cases = [
            (7, "less than a minute"),
            (61, "1 minute"),
            (7200, "2 hours"),
            (86_400 * 9, "9 days"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn figures_for_people() {
        assert_eq!(seconds(Duration::from_millis(3240)), "3.2 s");
        assert_eq!(seconds(Duration::from_secs(245)), "4 min 05 s");
        assert_eq!(seconds(Duration::from_secs(3720)), "1 h 02 min");
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        assert_eq!(date(moment), "2001-09-09 01:46:40 UTC");
        assert_eq!(size(512), "512 B");
        assert_eq!(size(34 << 20), "34.0 MiB");
    }
}
