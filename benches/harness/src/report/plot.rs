//! The report as a drawing: how many times better boxbuild is, a bar for each peer in each row.

use std::fmt::Write;

use super::Report;

/// Widths of the labels and of the bars, height of a bar with its margin.
const LABELS: f64 = 400.0;
const BARS: f64 = 420.0;
const LINE: f64 = 22.0;
const TOP: f64 = 74.0;
/// The axis is logarithmic, from a quarter to four times; what is beyond ends at its edge.
const MOST: f64 = 4.0;

/// An SVG file.
pub fn plot(report: &Report) -> String {
    let mut lines = Vec::new();
    let mut suite = "";
    for row in &report.rows {
        for figure in row.figures.iter().skip(1) {
            if row.suite != suite {
                suite = &row.suite;
                lines.push((suite.to_owned(), None));
            }
            let label = format!("{} · {}", row.name, figure.who);
            lines.push((label, Some(figure.ratio)));
        }
    }
    let height = TOP + LINE * lines.len() as f64 + 34.0;
    let width = LABELS + BARS + 70.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>\n\
         .paper {{ fill: #fff }} text {{ fill: #1b1f24 }} .soft {{ fill: #5b6470 }}\n\
         .grid {{ stroke: #d9dde3 }} .one {{ stroke: #5b6470 }}\n\
         .good {{ fill: #2563c9 }} .bad {{ fill: #d9701a }}\n\
         @media (prefers-color-scheme: dark) {{\n\
         .paper {{ fill: #14171b }} text {{ fill: #e6e9ee }} .soft {{ fill: #98a2b0 }}\n\
         .grid {{ stroke: #2e343d }} .one {{ stroke: #98a2b0 }}\n\
         .good {{ fill: #6ea8fe }} .bad {{ fill: #f5a55a }}\n}}\n</style>\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n\
         <text x=\"16\" y=\"28\" font-size=\"17\" font-weight=\"600\">boxbuild side by side</text>\n\
         <text class=\"soft\" x=\"16\" y=\"48\">how many times better boxbuild is than the peer; \
         medians of rounds in turn, in one run</text>\n"
    );
    let bottom = height - 28.0;
    for tick in [0.25, 0.5, 1.0, 2.0, 4.0] {
        let x = place(tick);
        let class = if tick == 1.0 { "one" } else { "grid" };
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\"/>\
             <text class=\"soft\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}x</text>",
            TOP - 6.0,
            bottom + 17.0
        );
    }
    for (number, (label, ratio)) in lines.iter().enumerate() {
        let y = TOP + LINE * number as f64;
        let Some(ratio) = ratio else {
            let _ = writeln!(
                svg,
                "<text x=\"16\" y=\"{:.1}\" font-weight=\"600\">{}</text>",
                y + 15.0,
                escape(label)
            );
            continue;
        };
        let (one, end) = (place(1.0), place(*ratio));
        let class = if *ratio >= 1.0 { "good" } else { "bad" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"14\" rx=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{ratio:.2}x</text>",
            LABELS - 12.0,
            y + 15.0,
            escape(label),
            one.min(end),
            y + 4.0,
            (one - end).abs().max(1.0),
            one.max(end) + 6.0,
            y + 15.0,
        );
    }
    svg + "</svg>\n"
}

/// Where a ratio is on the axis.
fn place(ratio: f64) -> f64 {
    let ratio = if ratio.is_finite() { ratio } else { 1.0 };
    let log = ratio.clamp(1.0 / MOST, MOST).log2() / MOST.log2();
    LABELS + BARS * (log + 1.0) / 2.0
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn bars_go_both_ways() {
        let svg = plot(&example());
        assert!(svg.contains("class=\"good\" ") && svg.contains("class=\"bad\" "));
        assert!(svg.contains("lookup &amp; forget · virtiofsd") && svg.contains("1.50x"));
        assert_eq!(place(0.0), place(0.25));
        assert_eq!(place(f64::NAN), place(1.0));
    }
}
