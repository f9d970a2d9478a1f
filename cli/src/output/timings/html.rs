//! The timeline as a page: one file without scripts, which refers to nothing else.

use std::fmt::Write;

use super::chart::{Series, bars, chart, class};
use super::text::{exact, precise};
use boxbuild_core::timeline::{Sample, Timeline};
use boxbuild_engine::Moved;
use boxbuild_host::units::size;

/// Facts about a run, for the head of the page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Name of the box.
    pub(crate) name: String,
    /// Name of the engine.
    pub(crate) engine: String,
    /// The folder of the description.
    pub(crate) description: String,
    /// How it ended, for people.
    pub(crate) outcome: String,
    /// It has results.
    pub(crate) good: bool,
    /// Highest resident memory of the engine in bytes, if known.
    pub(crate) peak_memory: Option<u64>,
    /// Bytes of packages from the cache, and from their servers.
    pub(crate) packages: Option<(u64, u64)>,
    /// Guest memory in bytes, and number of virtual CPUs.
    pub(crate) machine: (u64, u32),
}

const STYLE: &str = include_str!("page.css");

/// Returns the page.
pub(crate) fn page(facts: &Facts, timeline: &Timeline) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'\">\n<title>boxbuild: {}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<main>\n",
        escape(&facts.description)
    );
    head(&mut html, facts, timeline);
    html += "<section>\n<h2>Timeline</h2>\n";
    html += &bars(timeline);
    html += &parts(timeline);
    html += "</section>\n";
    charts(&mut html, timeline);
    let _ = write!(
        html,
        "<footer>boxbuild {}. Times from the program's start. Rates are means between two \
         samples.</footer>\n</main>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    );
    html
}

fn head(html: &mut String, facts: &Facts, timeline: &Timeline) {
    let mark = if facts.good { "good" } else { "bad" };
    let _ = write!(
        html,
        "<header>\n<p class=\"kind\">boxbuild timings</p>\n<h1>{}</h1>\n\
         <p class=\"outcome {mark}\">{}</p>\n<dl>\n",
        escape(&facts.description),
        escape(&facts.outcome)
    );
    let last = timeline.samples.last().map(|sample| sample.usage);
    let moved = |moved: Option<Moved>| {
        moved.map(|moved| format!("{} / {}", size(moved.to_guest), size(moved.from_guest)))
    };
    let (memory, cpus) = facts.machine;
    let processors = if cpus == 1 { "CPU" } else { "CPUs" };
    let figures = [
        ("total", Some(precise(timeline.total()))),
        ("to kiwi's first line", timeline.first_line().map(precise)),
        ("peak memory", facts.peak_memory.map(size)),
        ("disk read / written", moved(last.and_then(|l| l.disk))),
        ("shares read / written", moved(last.and_then(|l| l.shares))),
        (
            "network received / sent",
            moved(last.and_then(|l| l.network)),
        ),
        (
            "packages cached / fetched",
            facts
                .packages
                .map(|(cached, fetched)| format!("{} / {}", size(cached), size(fetched))),
        ),
        ("box", Some(escape(&facts.name))),
        ("engine", Some(escape(&facts.engine))),
        (
            "machine",
            Some(format!("{cpus} {processors}, {}", size(memory))),
        ),
    ];
    for (name, figure) in figures {
        if let Some(figure) = figure {
            let _ = writeln!(html, "<div><dt>{name}</dt><dd>{figure}</dd></div>");
        }
    }
    *html += "</dl>\n</header>\n";
}

/// Returns the parts of the run as a table, which is also the legend of the drawings.
fn parts(timeline: &Timeline) -> String {
    let total = timeline.total().as_secs_f64().max(1e-6);
    let mut html = String::from(
        "<table>\n<thead><tr><th>part</th><th>begins</th><th>takes</th><th>share</th></tr>\
         </thead>\n<tbody>\n",
    );
    let mut was_boot = true;
    for span in &timeline.spans {
        if was_boot && !span.boot {
            let _ = writeln!(
                html,
                "<tr class=\"cut\"><td colspan=\"4\">kiwi's first line after {}</td></tr>",
                precise(span.start)
            );
        }
        was_boot = span.boot;
        let _ = writeln!(
            html,
            "<tr><td><i class=\"swatch {}\"></i>{}</td><td>{}</td><td>{}</td><td>{:.1} %</td></tr>",
            class(&span.name),
            span.name,
            precise(span.start),
            precise(span.len()),
            span.len().as_secs_f64() / total * 100.0
        );
        for part in &span.parts {
            let _ = writeln!(
                html,
                "<tr><td>&emsp;{}</td><td></td><td>{}</td><td></td></tr>",
                part.name,
                exact(part.len)
            );
        }
    }
    html + "</tbody>\n</table>\n"
}

fn charts(html: &mut String, timeline: &Timeline) {
    let samples = &timeline.samples;
    let bytes = |value: f64| size(value as u64);
    let rate = |value: f64| format!("{}/s", size(value as u64));
    let memory = Series::level("memory", samples, |sample| {
        Some(sample.usage.memory? as f64)
    });
    let processor = Series::rate("processors", samples, |sample| {
        Some(sample.usage.processor?.as_secs_f64())
    });
    let mut unknown = Vec::new();
    let mut section =
        |title: &'static str, what: &str, series: &[Series], unit: fn(f64) -> String| {
            if series.iter().all(|series| series.points.len() < 2) {
                unknown.push(title);
                return;
            }
            let _ = write!(html, "<section>\n<h2>{title} <small>{what}</small>");
            if series.len() > 1 {
                *html += "<span class=\"legend\">";
                for (number, series) in series.iter().enumerate() {
                    let _ = write!(html, "<i class=\"key key-{number}\"></i>{} ", series.name);
                }
                *html += "</span>";
            }
            *html += "</h2>\n";
            *html += &chart(timeline, title, series, unit);
            *html += "\n</section>\n";
        };
    section(
        "Memory",
        "resident, of the engine with its guest",
        &[memory],
        bytes,
    );
    section(
        "Processors",
        "busy, of the engine with its guest",
        &[processor],
        |value| format!("{value:.1}"),
    );
    let two = |names: [&'static str; 2], moved: fn(&Sample) -> Option<Moved>| {
        [
            Series::rate(names[0], samples, move |sample| {
                Some(moved(sample)?.to_guest as f64)
            }),
            Series::rate(names[1], samples, move |sample| {
                Some(moved(sample)?.from_guest as f64)
            }),
        ]
    };
    let disk = two(["read", "written"], |sample| sample.usage.disk);
    section("Disk", "the box's root disk", &disk, rate);
    let shares = two(["read", "written"], |sample| sample.usage.shares);
    section("Shares", "contents of files", &shares, rate);
    let network = two(["received", "sent"], |sample| sample.usage.network);
    section("Network", "frames", &network, rate);
    if !unknown.is_empty() {
        let _ = writeln!(
            html,
            "<p class=\"unknown\">Not known here: {}. (A container counts nothing; \
             a machine may have no network; a run of less than a second has too few samples.)</p>",
            unknown.join(", ").to_lowercase()
        );
    }
}

/// Returns text with the characters of markup escaped.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use boxbuild_core::timeline::Span;
    use boxbuild_engine::Usage;

    /// A build of six minutes, as the kvm engine sees it.
    fn example() -> Timeline {
        let parts = [
            ("host set-up", 180, true),
            ("power-on", 60, true),
            ("kernel", 640, true),
            ("root mount", 210, true),
            ("shares and network", 160, true),
            ("udev", 120, true),
            ("kiwi import", 1900, true),
            ("prepare", 172_000, false),
            ("create", 131_000, false),
            ("bundle", 11_000, false),
            ("power off", 300, false),
            ("publish", 90, false),
        ];
        let mut start = Duration::ZERO;
        let spans = parts.map(|(name, length, boot)| {
            let end = start + Duration::from_millis(length);
            let span = Span {
                name: name.to_owned(),
                start,
                end,
                boot,
                parts: Vec::new(),
            };
            start = end;
            span
        });
        let samples = (1..1200).map(|number| {
            let at = start * number / 1200;
            let x = f64::from(number) / 1200.0;
            let wave = (x * 40.0).sin().abs();
            let moved = |to: f64, from: f64| {
                Some(Moved {
                    to_guest: (to * 1e6) as u64,
                    from_guest: (from * 1e6) as u64,
                })
            };
            Sample {
                at,
                usage: Usage {
                    memory: Some(((0.3 + x.sqrt() * 2.1) * 1e9) as u64),
                    processor: Some(at.mul_f64(0.9 + 0.05 * wave)),
                    disk: moved(600.0 * x.sqrt() + 2.0 * wave, 900.0 * x * x),
                    shares: moved(3.0 * x, if x > 0.95 { (x - 0.95) * 900.0 } else { 0.0 }),
                    network: moved(120.0 * (x * 2.0).min(1.0), 4.0 * (x * 2.0).min(1.0)),
                },
            }
        });
        Timeline {
            spans: spans.into(),
            samples: samples.collect(),
        }
    }

    fn facts() -> Facts {
        Facts {
            name: String::from("debian"),
            engine: String::from("kvm"),
            description: String::from("/home/me/images/<script>&amp"),
            outcome: String::from("built"),
            good: true,
            peak_memory: Some(2_400 << 20),
            packages: Some((1 << 20, 2 << 20)),
            machine: (4 << 30, 4),
        }
    }

    #[test]
    fn the_page_refers_to_nothing_else() {
        let html = page(&facts(), &example());
        // BOXBUILD_SHOW_PAGE=FILE keeps it, to be opened in a browser.
        if let Some(path) = std::env::var_os("BOXBUILD_SHOW_PAGE") {
            std::fs::write(path, &html).unwrap();
        }
        for elsewhere in [
            "http:", "https:", "src=", "href=", "url(", "@import", "<script",
        ] {
            assert!(!html.contains(elsewhere), "{elsewhere}");
        }
        assert!(html.contains("/home/me/images/&lt;script&gt;&amp;amp"));
        for part in ["kiwi import", "power off", "Network", "Shares"] {
            assert!(html.contains(part), "{part}");
        }
        assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
        assert!(!html.contains("NaN") && !html.contains("inf"), "numbers");
    }

    #[test]
    fn an_empty_timeline_has_a_page() {
        let html = page(&Facts::default(), &Timeline::default());
        assert!(!html.contains("NaN") && html.contains("Not known here"));
    }

    #[test]
    fn every_part_has_a_colour() {
        for span in &example().spans {
            let name = format!(".{} ", class(&span.name));
            assert!(STYLE.contains(&name), "{name} in page.css");
        }
    }
}
