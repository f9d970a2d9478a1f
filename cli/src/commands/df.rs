//! `boxbuild df`: what boxbuild keeps on this host, and what `boxbuild prune` would free.

use std::fs;
use std::path::{Path, PathBuf};

use boxbuild_boxes::store::Store;
use boxbuild_core::disk_usage::{DiskUsage, Usage};
use boxbuild_core::failed_builds::FailedBuilds;
use boxbuild_core::history::History;
use boxbuild_core::user_cache;
use boxbuild_host::text::shown;
use boxbuild_host::units::size;
use serde::Serialize;

use super::prune;
use crate::args::DfArgs;
use crate::exit_code::{ExitCode, Result};
use crate::output::json::print_document;
use crate::output::print::print_text;

/// Names that are looked at in a folder at most.
const MOST: usize = 10_000;

/// Logs in the folder of a kept build.
const LOGS: [&str; 2] = ["result.log", "console.log"];

/// Things of one kind.
#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    /// Where they are.
    folder: String,
    /// Their lengths.
    apparent_bytes: u64,
    /// What they take on the disk; a file with several names is counted where it comes first.
    bytes: u64,
    /// What `boxbuild prune --all` would free.
    prunable_bytes: u64,
    items: Vec<Item>,
}

#[derive(Debug, Serialize)]
struct Item {
    name: String,
    apparent_bytes: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Document {
    apparent_bytes: u64,
    bytes: u64,
    prunable_bytes: u64,
    kinds: Vec<Row>,
}

/// Carries out the command.
pub(super) fn run(args: &DfArgs) -> Result<ExitCode> {
    let kinds = rows()?;
    // A file with holes has any length.
    let sum = |value: fn(&Row) -> u64| kinds.iter().map(value).fold(0, u64::saturating_add);
    let document = Document {
        apparent_bytes: sum(|row| row.apparent_bytes),
        bytes: sum(|row| row.bytes),
        prunable_bytes: sum(|row| row.prunable_bytes),
        kinds,
    };
    if args.json {
        print_document(&document)?;
    } else {
        print_text(&table(&document, args.verbose))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns what there is. Boxes come first: files of theirs that kept builds hold count there.
fn rows() -> Result<Vec<Row>> {
    let store = Store::of_user()?;
    let kept = FailedBuilds::of_user()?;
    let freed = prune::prunable()?;
    let mut usage = DiskUsage::default();
    let mut rows = Vec::new();
    let names = store.names()?;
    let boxes = names
        .into_iter()
        .map(|name| (store.root().join(&name), name));
    rows.push(Row::of("boxes", store.root(), boxes.collect(), &mut usage));
    // The folders of fetches and of boxes in the making.
    let hidden = entries(store.root())
        .into_iter()
        .filter(|(path, name)| name.starts_with('.') && path != kept.folder());
    rows.push(Row::of(
        "downloads",
        store.root(),
        hidden.collect(),
        &mut usage,
    ));
    let builds = entries(kept.folder());
    let logs = builds.iter().flat_map(|(path, build)| {
        LOGS.iter()
            .map(move |log| (path.join(log), format!("{build}/{log}")))
            .filter(|(path, _)| path.exists())
    });
    let mut logs = Row::of("logs", kept.folder(), logs.collect(), &mut usage);
    let mut disks = Row::of("kept builds", kept.folder(), builds, &mut usage);
    // Logs have one name: what was counted as a log is not the disk's.
    for item in &logs.items {
        let build = item.name.split('/').next().unwrap_or_default();
        disks.less(build, item);
    }
    logs.items.retain(|item| item.apparent_bytes > 0);
    rows.extend([disks, logs]);
    if let Some(cache) = user_cache::folder() {
        let kinds = entries(&cache);
        rows.push(Row::of("cache", &cache, kinds, &mut usage));
    }
    if let Ok(history) = History::of_user() {
        let folder = history.folder();
        let mut row = Row::of("history", folder, entries(folder), &mut usage);
        row.items.retain(|item| item.name.ends_with(".json"));
        rows.push(row);
    }
    for row in &mut rows {
        row.prunable_bytes = match row.kind {
            "boxes" => freed.of_boxes,
            "downloads" => freed.of_downloads,
            // With their logs.
            "kept builds" => freed.of_builds,
            "cache" => freed.of_cache,
            _ => 0,
        };
    }
    Ok(rows)
}

/// Paths and names of what is in `folder`, by name.
fn entries(folder: &Path) -> Vec<(PathBuf, String)> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(PathBuf, String)> = found
        .take(MOST)
        .map(|entry| {
            (
                entry.path(),
                entry.file_name().to_string_lossy().into_owned(),
            )
        })
        .collect();
    found.sort();
    found
}

impl Row {
    fn of(
        kind: &'static str,
        folder: &Path,
        what: Vec<(PathBuf, String)>,
        usage: &mut DiskUsage,
    ) -> Row {
        let mut total = Usage::default();
        let items = what.into_iter().map(|(path, name)| {
            let of_item = usage.of(&path);
            total.add(of_item);
            Item {
                name,
                apparent_bytes: of_item.apparent,
                bytes: of_item.bytes,
            }
        });
        let items = items.collect();
        Row {
            kind,
            folder: folder.to_string_lossy().into_owned(),
            apparent_bytes: total.apparent,
            bytes: total.bytes,
            prunable_bytes: 0,
            items,
        }
    }

    /// Takes a part of the item `name` away, which counts elsewhere.
    fn less(&mut self, name: &str, part: &Item) {
        let found = self.items.iter_mut().find(|item| item.name == name);
        if let Some(item) = found {
            item.apparent_bytes = item.apparent_bytes.saturating_sub(part.apparent_bytes);
            item.bytes = item.bytes.saturating_sub(part.bytes);
            self.apparent_bytes = self.apparent_bytes.saturating_sub(part.apparent_bytes);
            self.bytes = self.bytes.saturating_sub(part.bytes);
        }
    }
}

fn table(document: &Document, verbose: bool) -> String {
    let line = |name: &str, items: &str, apparent: u64, bytes: u64, freed: &str| {
        format!(
            "{name:<14} {items:>5}  {:>11}  {:>11}  {freed:>11}\n",
            size(apparent),
            size(bytes)
        )
    };
    let mut text = format!(
        "{:<14} {:>5}  {:>11}  {:>11}  {:>11}\n",
        "kind", "items", "length", "on disk", "prunable"
    );
    for row in &document.kinds {
        let items = row.items.len().to_string();
        let freed = size(row.prunable_bytes);
        text += &line(row.kind, &items, row.apparent_bytes, row.bytes, &freed);
        for item in row
            .items
            .iter()
            .filter(|_| verbose && row.kind != "history")
        {
            let name = format!("  {}", shown(&item.name));
            text += &line(&name, "", item.apparent_bytes, item.bytes, "");
        }
    }
    let freed = size(document.prunable_bytes);
    text + &line("total", "", document.apparent_bytes, document.bytes, &freed)
}
