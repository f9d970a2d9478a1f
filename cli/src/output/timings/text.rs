//! The timeline as a table.

use std::time::Duration;

use boxbuild_core::timeline::Timeline;
use boxbuild_host::units::seconds;

/// Length of the longest bar, in characters.
const BAR: f64 = 30.0;
/// Width of the longest part of the set-up.
const PART: usize = 19;

/// Returns one line for each part, for a terminal.
pub(crate) fn table(timeline: &Timeline) -> String {
    let total = timeline.total();
    let width = timeline
        .spans
        .iter()
        .map(|span| span.name.len())
        .max()
        .unwrap_or_default();
    let mut text = String::from("timings\n");
    let mut was_boot = true;
    for span in &timeline.spans {
        if was_boot && !span.boot {
            text += &format!("  -- kiwi's first line after {}\n", precise(span.start));
        }
        was_boot = span.boot;
        let share = span.len().as_secs_f64() / total.as_secs_f64().max(f64::EPSILON);
        let bar = "#".repeat((share * BAR).round() as usize);
        let line = format!("  {:<width$} {:>12}  {bar}", span.name, precise(span.len()));
        text += line.trim_end();
        text.push('\n');
        for part in &span.parts {
            text += &format!("    {:<PART$} {:>12}\n", part.name, exact(part.len));
        }
    }
    text += &format!("  {:<width$} {:>12}\n", "total", precise(total));
    text
}

/// Returns a time with milliseconds if it is short.
pub(super) fn precise(time: Duration) -> String {
    match time.as_millis() {
        0..1000 => format!("{} ms", time.as_millis()),
        1000..60_000 => format!("{:.2} s", time.as_secs_f64()),
        _ => seconds(time),
    }
}

/// Returns a time to the microsecond.
pub(super) fn exact(time: Duration) -> String {
    let micros = time.as_micros();
    format!("{}.{:03} ms", micros / 1000, micros % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use boxbuild_core::timeline::{Part, Span};

    #[test]
    fn the_set_up_is_told_to_the_microsecond() {
        let part = |name, micros| Part {
            name,
            len: Duration::from_micros(micros),
        };
        let timeline = Timeline {
            spans: vec![Span {
                name: String::from("host set-up"),
                start: Duration::ZERO,
                end: Duration::from_micros(41_007),
                boot: true,
                parts: vec![part("loader", 1_007), part("machine and kernel", 40_000)],
            }],
            samples: Vec::new(),
        };
        let table = table(&timeline);
        assert!(
            table.contains("    loader                  1.007 ms\n"),
            "{table}"
        );
        assert!(
            table.contains("    machine and kernel     40.000 ms\n"),
            "{table}"
        );
    }

    #[test]
    fn a_table_names_the_first_line() {
        let span = |name: &str, start: u64, end: u64, boot| Span {
            name: name.to_owned(),
            start: Duration::from_millis(start),
            end: Duration::from_millis(end),
            boot,
            parts: Vec::new(),
        };
        let timeline = Timeline {
            spans: vec![
                span("host set-up", 0, 50, true),
                span("boot", 50, 2550, true),
                span("prepare", 2550, 90_000, false),
            ],
            samples: Vec::new(),
        };
        let expected = "timings\n  host set-up        50 ms\n  boot              2.50 s  #\n  \
                        -- kiwi's first line after 2.55 s\n  \
                        prepare       1 min 27 s  #############################\n  \
                        total         1 min 30 s\n";
        assert_eq!(table(&timeline), expected);
    }
}
