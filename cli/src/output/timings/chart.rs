//! Drawings of a timeline: SVG elements, whose colours are in `page.css`.

use std::fmt::Write;
use std::time::Duration;

use super::text::precise;
use boxbuild_core::timeline::{Sample, Span, Timeline};

/// Width of a drawing and of the margin for its axis, in units of the drawing.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 12.0;
/// Height of a chart's plot, and of what is above and below it.
const PLOT: f64 = 110.0;
const ABOVE: f64 = 10.0;
const BELOW: f64 = 22.0;
/// Most points of a line: more cannot be distinguished.
const POINTS: usize = 320;

/// A line of a chart.
#[derive(Debug)]
pub(super) struct Series {
    /// Its name in the legend; its class is `line-N`.
    pub(super) name: &'static str,
    /// Time and value.
    pub(super) points: Vec<(Duration, f64)>,
}

impl Series {
    /// A line of values.
    pub(super) fn level(
        name: &'static str,
        samples: &[Sample],
        value: impl Fn(&Sample) -> Option<f64>,
    ) -> Series {
        let points = samples
            .iter()
            .filter_map(|sample| Some((sample.at, value(sample)?)));
        Series {
            name,
            points: thin(&points.collect::<Vec<_>>()),
        }
    }

    /// A line of the growth per second of a value that only grows.
    pub(super) fn rate(
        name: &'static str,
        samples: &[Sample],
        value: impl Fn(&Sample) -> Option<f64>,
    ) -> Series {
        let sums: Vec<_> = samples
            .iter()
            .filter_map(|sample| Some((sample.at, value(sample)?)))
            .collect();
        // Each point is the mean over `step` samples, so that nothing between two points is lost.
        let step = sums.len().div_ceil(POINTS).max(1);
        let mut points = Vec::new();
        let mut last: Option<(Duration, f64)> = None;
        for sum in sums.iter().step_by(step) {
            if let Some((at, before)) = last {
                let seconds = sum.0.saturating_sub(at).as_secs_f64();
                if seconds > 0.0 {
                    points.push((sum.0, (sum.1 - before).max(0.0) / seconds));
                }
            } else {
                points.push((sum.0, 0.0));
            }
            last = Some(*sum);
        }
        Series { name, points }
    }

    fn most(&self) -> f64 {
        self.points
            .iter()
            .fold(0.0, |most, (_, value)| value.max(most))
    }
}

/// Returns at most [`POINTS`] points: the highest of each group.
fn thin(points: &[(Duration, f64)]) -> Vec<(Duration, f64)> {
    let step = points.len().div_ceil(POINTS).max(1);
    let highest = |group: &[(Duration, f64)]| {
        let most = group.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        group.first().map(|(at, _)| (*at, most))
    };
    points.chunks(step).filter_map(highest).collect()
}

/// Returns the parts of the run as a bar, and a second bar with only those before kiwi's first line if
/// the first one is too coarse for them.
pub(super) fn bars(timeline: &Timeline) -> String {
    let total = timeline.total().as_secs_f64().max(1e-6);
    let boot: Vec<&Span> = timeline.spans.iter().filter(|span| span.boot).collect();
    let boot_end = boot.last().map_or(0.0, |span| span.end.as_secs_f64());
    let zoom = boot.len() > 1 && boot_end > 0.0 && boot_end < total * 0.6;
    let height = if zoom { 178.0 } else { 66.0 };
    let mut svg = open(height, "The parts of the run");
    all(&mut svg, &timeline.spans, total, 8.0);
    if zoom {
        let (from, to) = (6.0, WIDTH - 6.0);
        let edge = from + boot_end / total * (to - from);
        let _ = write!(
            svg,
            "<path class=\"zoom\" d=\"M{from} 46 L{edge:.1} 46 L{to} 120 L{from} 120 Z\"/>"
        );
        let spans: Vec<Span> = boot.into_iter().cloned().collect();
        all(&mut svg, &spans, boot_end, 120.0);
    }
    svg + "</svg>"
}

/// Draws one bar at `y`, `total` seconds long.
fn all(svg: &mut String, spans: &[Span], total: f64, y: f64) {
    let (from, width) = (6.0, WIDTH - 12.0);
    for span in spans {
        let x = from + span.start.as_secs_f64() / total * width;
        let w = span.len().as_secs_f64() / total * width;
        let label = format!("{} {}", span.name, precise(span.len()));
        let _ = write!(
            svg,
            "<g><title>{label}</title><rect class=\"span {}\" x=\"{x:.2}\" y=\"{y}\" \
             width=\"{:.2}\" height=\"36\" rx=\"2\"/>",
            class(&span.name),
            (w - 1.0).max(0.6),
        );
        // A character is about 6.6 units wide.
        let room = (w / 6.6) as usize;
        let text = if label.len() + 2 <= room {
            Some(label.as_str())
        } else if span.name.len() + 2 <= room {
            Some(span.name.as_str())
        } else {
            None
        };
        if let Some(text) = text {
            let _ = write!(
                svg,
                "<text class=\"in-span\" x=\"{:.1}\" y=\"{}\">{text}</text>",
                x + 7.0,
                y + 22.0
            );
        }
        *svg += "</g>";
    }
    let end = Duration::from_secs_f64(total);
    for at in ticks(total) {
        let x = from + at / total * width;
        if x > WIDTH - 60.0 {
            continue;
        }
        let anchor = if at == 0.0 { "start" } else { "middle" };
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            y + 52.0,
            clock(at)
        );
    }
    let _ = write!(
        svg,
        "<text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
        WIDTH - 6.0,
        y + 52.0,
        precise(end)
    );
}

/// Returns a chart with one or two lines over the time of the run. `unit` formats a value.
pub(super) fn chart(
    timeline: &Timeline,
    label: &str,
    series: &[Series],
    unit: fn(f64) -> String,
) -> String {
    let total = timeline.total().as_secs_f64().max(1e-6);
    let most = series.iter().map(Series::most).fold(0.0, f64::max);
    let top = round_up(most);
    let mut svg = open(ABOVE + PLOT + BELOW, label);
    let x = |at: f64| LEFT + at / total * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| ABOVE + PLOT - value / top * PLOT;
    for span in &timeline.spans {
        let (from, to) = (x(span.start.as_secs_f64()), x(span.end.as_secs_f64()));
        let _ = write!(
            svg,
            "<rect class=\"band {}\" x=\"{from:.2}\" y=\"{ABOVE}\" width=\"{:.2}\" height=\"{PLOT}\"/>",
            class(&span.name),
            (to - from).max(0.0)
        );
    }
    for part in [0.0, 0.5, 1.0] {
        let value = top * part;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(value) + 3.5,
            unit(value),
            y = y(value),
        );
    }
    for at in ticks(total) {
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(at),
            ABOVE + PLOT + 15.0,
            clock(at)
        );
    }
    for (number, line) in series.iter().enumerate() {
        let mut path = String::new();
        for (at, value) in &line.points {
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(
                path,
                "{command}{:.1} {:.1}",
                x(at.as_secs_f64().min(total)),
                y(*value)
            );
        }
        let (Some((first, _)), Some((last, _))) = (line.points.first(), line.points.last()) else {
            continue;
        };
        if number == 0 {
            let base = y(0.0);
            let _ = write!(
                svg,
                "<path class=\"area\" d=\"{path}L{:.1} {base:.1}L{:.1} {base:.1}Z\"/>",
                x(last.as_secs_f64().min(total)),
                x(first.as_secs_f64()),
            );
        }
        let _ = write!(
            svg,
            "<path class=\"line line-{number}\" d=\"{path}\"><title>{}</title></path>",
            line.name
        );
    }
    svg + "</svg>"
}

fn open(height: f64, label: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{label}\">")
}

/// Returns the class of a part: its name with hyphens.
pub(super) fn class(name: &str) -> String {
    name.replace(' ', "-")
}

/// Returns the ticks of an axis of `total` seconds: at most nine, at round numbers.
fn ticks(total: f64) -> Vec<f64> {
    const STEPS: [f64; 18] = [
        0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0,
        3600.0, 7200.0, 14_400.0,
    ];
    let wanted = STEPS.into_iter().find(|step| total / step <= 8.0);
    let step = wanted.unwrap_or(total / 4.0);
    let count = (total / step) as usize;
    (0..=count).map(|number| number as f64 * step).collect()
}

/// Formats a tick: `0`, `0.5 s`, `30 s`, `1:30`, `1:02:00`.
fn clock(at: f64) -> String {
    let whole = at.round() as u64;
    match at {
        _ if at == 0.0 => String::from("0"),
        _ if at < 60.0 && at.fract() > 0.0 => format!("{at:.1} s"),
        _ if at < 60.0 => format!("{whole} s"),
        _ if at < 3600.0 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!(
            "{}:{:02}:{:02}",
            whole / 3600,
            whole % 3600 / 60,
            whole % 60
        ),
    }
}

/// Returns the top of an axis: 1, 2, 4, 5 or 8 times a power of ten, in binary units.
fn round_up(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let unit = 1024_f64.powf((most.log2() / 10.0).floor().max(0.0));
    let power = unit * 10_f64.powf((most / unit).log10().floor());
    let part = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0]
        .into_iter()
        .find(|part| most <= part * power * 1.000_001);
    part.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use boxbuild_engine::{Moved, Usage};

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(ticks(0.35), [0.0, 0.1, 0.2, 0.3000_0000_0000_0000_4]);
        assert_eq!(ticks(400.0).last(), Some(&360.0));
        assert!(ticks(1e6).len() <= 9);
        assert_eq!(clock(90.0), "1:30");
        assert_eq!(clock(0.5), "0.5 s");
        assert_eq!(round_up(3.2e6), 4.0 * 1024.0 * 1024.0);
        assert_eq!(round_up(0.3), 0.4);
        assert_eq!(round_up(7.0), 8.0);
        assert_eq!(round_up(1.0), 1.0);
        assert_eq!(round_up(0.0), 1.0);
    }

    #[test]
    fn a_rate_is_what_was_moved_in_a_second() {
        let sample = |seconds: u64, bytes: u64| Sample {
            at: Duration::from_secs(seconds),
            usage: Usage {
                disk: Some(Moved {
                    to_guest: bytes,
                    from_guest: 0,
                }),
                ..Usage::default()
            },
        };
        let samples = [sample(1, 0), sample(2, 100), sample(4, 500), sample(5, 400)];
        let read = |sample: &Sample| Some(sample.usage.disk?.to_guest as f64);
        let series = Series::rate("read", &samples, read);
        let values: Vec<f64> = series.points.iter().map(|(_, value)| *value).collect();
        assert_eq!(values, [0.0, 100.0, 200.0, 0.0]);
    }
}
