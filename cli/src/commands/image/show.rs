//! What is said of an image and its machine.

use boxbuild_host::text::shown_path;
use boxbuild_images::Facts;

/// How the user leaves the console of an image.
pub(super) const KEYS: &str = "this terminal is the image's console: 'poweroff' in it stops it in order, Ctrl-] three \
                               times stops it at once; nothing that it writes is kept";

/// Returns a line on how an image is started.
pub(super) fn heading(facts: &Facts) -> String {
    format!("{}: {}", shown_path(&facts.image), how(facts))
}

/// Returns what is said of an image that passed.
pub(super) fn passed(facts: &Facts) -> String {
    format!("passed ({})", how(facts))
}

fn how(facts: &Facts) -> String {
    let mut words = vec![facts.kind.to_owned()];
    words.extend(facts.firmware.map(str::to_owned));
    words.extend(facts.bus.filter(|bus| *bus != "virtio").map(str::to_owned));
    words.push(facts.arch.to_owned());
    words.push(match facts.accelerator {
        "tcg" => String::from("emulated"),
        other => other.to_owned(),
    });
    words.join(", ")
}

/// Returns all facts, a line each.
pub(super) fn facts(facts: &Facts) -> String {
    let none = "none";
    let rows = [
        ("image", shown_path(&facts.image)),
        ("type", facts.kind.to_owned()),
        ("architecture", facts.arch.to_owned()),
        ("starts by", facts.firmware.unwrap_or(none).to_owned()),
        ("connection", facts.bus.unwrap_or(none).to_owned()),
        ("runs under", facts.accelerator.to_owned()),
        ("memory", format!("{} MiB", facts.memory_mib)),
        ("processors", facts.cpus.to_string()),
    ];
    let rows = rows
        .iter()
        .map(|(name, value)| format!("{name:<13} {value}\n"));
    let notes = facts.notes.iter().map(|note| format!("note: {note}\n"));
    rows.chain(notes).collect()
}
