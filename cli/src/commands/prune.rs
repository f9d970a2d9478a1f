//! `boxbuild prune`: removes what can go: kept builds, unused files of the box store, the cache.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::{Duration, SystemTime};

use boxbuild_boxes::leftovers::Leftover;
use boxbuild_boxes::store::Store;
use boxbuild_core::failed_builds::FailedBuilds;
use boxbuild_core::user_cache::{self, CachedFile};
use boxbuild_host::text::shown;
use boxbuild_host::units::{age, size};
use serde::Serialize;
use serde_json::Value;

use crate::args::PruneArgs;
use crate::exit_code::{ExitCode, Failure, HostContext, Result};
use crate::output::json::{print_document, value};
use crate::output::print::{print_line, print_text};

/// Something that can go.
#[derive(Debug)]
struct Item {
    name: String,
    bytes: u64,
    modified: SystemTime,
    what: What,
}

#[derive(Debug)]
enum What {
    Build,
    OfStore(Leftover),
    Cached(CachedFile),
}

/// Which kinds of things are meant.
#[derive(Debug, Clone, Copy)]
struct Kinds {
    builds: bool,
    boxes: bool,
    cache: bool,
}

/// An item for programs.
#[derive(Debug, Serialize)]
struct Row<'a> {
    kind: &'static str,
    name: &'a str,
    bytes: u64,
    /// Seconds since the epoch.
    modified: u64,
    /// It is gone.
    removed: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    dry_run: bool,
    /// What was freed, or would be.
    bytes: u64,
    items: Vec<Row<'a>>,
}

/// Carries out the command.
pub(super) fn run(args: &PruneArgs) -> Result<ExitCode> {
    let chosen = args.builds || args.boxes || args.cache || args.max_size.is_some();
    let items = if args.ids.is_empty() {
        let all = Kinds {
            builds: args.builds || !chosen,
            boxes: args.boxes || !chosen,
            cache: args.cache || args.max_size.is_some() || !chosen,
        };
        let mut items = items(all)?;
        if let Some(limit) = args.older_than {
            items.retain(|item| item.age() > limit);
        }
        if let Some(most) = args.max_size {
            items = over(items, most);
        }
        items
    } else {
        builds_named(&args.ids)?
    };
    let sure = chosen || args.all || !args.ids.is_empty();
    if !sure && !args.dry_run && !items.is_empty() && !ask(&items)? {
        print_line("nothing was removed");
        return Ok(ExitCode::SUCCESS);
    }
    let shown = sure || args.dry_run;
    finish(&items, args.dry_run, args.json, shown)
}

/// Bytes that can be freed of each kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Prunable {
    pub(super) of_builds: u64,
    /// Old versions of boxes.
    pub(super) of_boxes: u64,
    /// Interrupted downloads, and boxes that were never finished.
    pub(super) of_downloads: u64,
    pub(super) of_cache: u64,
}

/// Returns what `prune --all` would free.
pub(super) fn prunable() -> Result<Prunable> {
    let all = Kinds {
        builds: true,
        boxes: true,
        cache: true,
    };
    let mut sums = Prunable::default();
    for item in items(all)? {
        *match item.what {
            What::Build => &mut sums.of_builds,
            What::OfStore(_) if item.name.starts_with('.') => &mut sums.of_downloads,
            What::OfStore(_) => &mut sums.of_boxes,
            What::Cached(_) => &mut sums.of_cache,
        } += item.bytes;
    }
    Ok(sums)
}

/// Carries out `boxbuild box prune`, and returns what it did, for people and for programs.
pub(super) fn boxes(dry_run: bool) -> Result<(String, Value)> {
    let items = items(Kinds {
        builds: false,
        boxes: true,
        cache: false,
    })?;
    let problems = remove(&items, dry_run)?;
    let text = list(&items) + &sum(&items, &problems, dry_run) + "\n";
    Ok((text, value(&report(&items, &problems, dry_run))?))
}

/// Removes `items` unless this is only a look, and prints what was done.
fn finish(items: &[Item], dry_run: bool, json: bool, list_them: bool) -> Result<ExitCode> {
    let problems = remove(items, dry_run)?;
    if json {
        print_document(&report(items, &problems, dry_run))?;
    } else {
        let text = if list_them {
            list(items)
        } else {
            String::new()
        };
        print_text(&(text + &sum(items, &problems, dry_run) + "\n"))?;
    }
    for (item, problem) in items.iter().zip(&problems) {
        if let (Some(problem), false) = (problem, json) {
            print_line(&format!("{} stays: {problem}", shown(&item.name)));
        }
    }
    Ok(if problems.iter().all(Option::is_none) {
        ExitCode::SUCCESS
    } else {
        ExitCode::HOST
    })
}

/// Returns what was done, for programs.
fn report<'a>(items: &'a [Item], problems: &'a [Option<String>], dry_run: bool) -> Report<'a> {
    let rows = items.iter().zip(problems);
    let freed = |(_, problem): &(&Item, &Option<String>)| problem.is_none();
    Report {
        dry_run,
        bytes: rows.clone().filter(freed).map(|(item, _)| item.bytes).sum(),
        items: rows
            .map(|(item, problem)| item.row(!dry_run, problem.as_deref()))
            .collect(),
    }
}

/// Returns everything of these kinds that can go.
fn items(kinds: Kinds) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    if kinds.builds {
        let builds = FailedBuilds::of_user()?;
        for id in builds.ids()? {
            items.extend(build(&builds, id));
        }
    }
    if kinds.boxes {
        let found = Leftover::find(&Store::of_user()?)?;
        items.extend(found.into_iter().map(|leftover| Item {
            name: leftover.name.clone(),
            bytes: leftover.bytes,
            modified: leftover.modified,
            what: What::OfStore(leftover),
        }));
    }
    if kinds.cache {
        items.extend(user_cache::files().into_iter().map(|file| Item {
            name: file.name.clone(),
            bytes: file.bytes,
            modified: file.modified,
            what: What::Cached(file),
        }));
    }
    Ok(items)
}

/// Returns what has to go so that the rest takes no more than `most` bytes: what was not used for longest.
fn over(mut items: Vec<Item>, most: u64) -> Vec<Item> {
    items.sort_by_key(|item| std::cmp::Reverse(item.modified));
    let mut kept = 0_u64;
    items.retain(|item| {
        kept = kept.saturating_add(item.bytes);
        kept > most
    });
    items
}

/// Returns the kept builds of these names.
fn builds_named(ids: &[String]) -> Result<Vec<Item>> {
    let builds = FailedBuilds::of_user()?;
    let known = builds.ids()?;
    // Before anything is removed.
    for id in ids.iter().filter(|id| !known.contains(id)) {
        builds.get(Some(id))?;
    }
    let mut ids = ids.to_vec();
    ids.sort();
    ids.dedup();
    Ok(ids
        .into_iter()
        .filter_map(|id| build(&builds, id))
        .collect())
}

/// A kept build. One that is damaged can go as well.
fn build(builds: &FailedBuilds, id: String) -> Option<Item> {
    let (bytes, modified) = builds.size_and_time(&id)?;
    Some(Item {
        name: id,
        bytes,
        modified,
        what: What::Build,
    })
}

/// Asks whether all of it shall go. Without a terminal to ask on, it is not known.
fn ask(items: &[Item]) -> Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::new(
            ExitCode::USAGE,
            anyhow::anyhow!(
                "nothing was removed: name kept builds, choose --builds, --boxes or --cache, or say \
                 --all; --dry-run shows what can be removed"
            ),
        ));
    }
    print_line(list(items).trim_end_matches('\n'));
    let question = format!("remove all of it, {}? [y/N] ", size(total(items)));
    let mut answer = String::new();
    let mut stderr = io::stderr();
    stderr
        .write_all(question.as_bytes())
        .and_then(|()| stderr.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .host_context(|| "cannot ask")?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// Removes each item, unless this is only a look. Returns what kept it from that.
fn remove(items: &[Item], dry_run: bool) -> Result<Vec<Option<String>>> {
    if dry_run {
        return Ok(vec![None; items.len()]);
    }
    let builds = FailedBuilds::of_user()?;
    let problem = |item: &Item| match &item.what {
        What::Build => builds.remove(&item.name).err().map(|error| {
            let cause = std::error::Error::source(&error);
            cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
        }),
        What::OfStore(leftover) => leftover.remove().err().map(|error| error.to_string()),
        What::Cached(file) => file.remove().err().map(|error| error.to_string()),
    };
    Ok(items.iter().map(problem).collect())
}

fn total(items: &[Item]) -> u64 {
    items.iter().map(|item| item.bytes).sum()
}

/// A line of a list: an item, or files of the cache of one kind.
#[derive(Debug)]
struct Line {
    kind: &'static str,
    name: String,
    files: u64,
    bytes: u64,
    /// Of the oldest.
    age: Duration,
}

/// Returns the lines for some items. The cache has many files, whose names are hashes: those of one kind are
/// one line.
fn lines(items: &[Item]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for item in items {
        let name = match item.what {
            What::Cached(_) => item.name.split('/').next().unwrap_or_default(),
            What::Build | What::OfStore(_) => &item.name,
        };
        let of_item = Line {
            kind: item.kind(),
            name: name.to_owned(),
            files: 1,
            bytes: item.bytes,
            age: item.age(),
        };
        let same = |line: &&mut Line| {
            [line.kind, of_item.kind] == ["cache"; 2] && line.name == of_item.name
        };
        match lines.iter_mut().find(same) {
            Some(line) => {
                line.files += 1;
                line.bytes = line.bytes.saturating_add(of_item.bytes);
                line.age = line.age.max(of_item.age);
            }
            None => lines.push(of_item),
        }
    }
    lines
}

/// Returns a line for each item, and for each kind of cached files.
fn list(items: &[Item]) -> String {
    let lines = lines(items);
    let width = lines.iter().map(|line| shown(&line.name).chars().count());
    let width = width.max().unwrap_or(0).min(40);
    let line = |line: &Line| {
        let name = shown(&line.name);
        let name = match name.char_indices().nth(39) {
            Some((cut, _)) if name.chars().count() > 40 => format!("{}…", &name[..cut]),
            _ => name.into_owned(),
        };
        let files = match (line.kind, line.files) {
            ("cache", 1) => String::from(", 1 file"),
            ("cache", files) => format!(", {files} files"),
            _ => String::new(),
        };
        format!(
            "{:<6} {name:<width$}  {:>10}  {} old{files}\n",
            line.kind,
            size(line.bytes),
            age(line.age),
        )
    };
    lines.iter().map(line).collect()
}

/// Returns one line on all of them.
fn sum(items: &[Item], problems: &[Option<String>], dry_run: bool) -> String {
    let gone: Vec<&Item> = items
        .iter()
        .zip(problems)
        .filter_map(|(item, problem)| problem.is_none().then_some(item))
        .collect();
    if items.is_empty() {
        return String::from("nothing to remove");
    }
    let bytes = size(gone.iter().map(|item| item.bytes).sum());
    let cached = |item: &&Item| matches!(item.what, What::Cached(_));
    let noun = if gone.iter().all(cached) {
        "file"
    } else {
        "item"
    };
    let count = match gone.len() {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    };
    if dry_run {
        format!("{count} would be removed, {bytes} would be freed")
    } else {
        format!("{count} removed, {bytes} freed")
    }
}

impl Item {
    fn kind(&self) -> &'static str {
        match self.what {
            What::Build => "build",
            What::OfStore(_) => "store",
            What::Cached(_) => "cache",
        }
    }

    fn age(&self) -> Duration {
        self.modified.elapsed().unwrap_or_default()
    }

    fn row<'a>(&'a self, removed: bool, problem: Option<&'a str>) -> Row<'a> {
        let modified = self.modified.duration_since(SystemTime::UNIX_EPOCH);
        Row {
            kind: self.kind(),
            name: &self.name,
            bytes: self.bytes,
            modified: modified.map_or(0, |time| time.as_secs()),
            removed: removed && problem.is_none(),
            problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(name: &str, bytes: u64, age: u64) -> Item {
        Item {
            name: name.to_owned(),
            bytes,
            modified: SystemTime::now() - Duration::from_secs(age),
            what: What::Build,
        }
    }

    #[test]
    fn what_was_not_used_for_longest_goes_until_the_rest_fits() {
        let items = || {
            vec![
                build("old", 4, 900),
                build("new", 3, 10),
                build("middle", 2, 90),
            ]
        };
        let over = |most| {
            let names = over(items(), most).into_iter().map(|item| item.name);
            names.collect::<Vec<_>>()
        };
        assert_eq!(over(9), [""; 0]);
        assert_eq!(over(8), ["old"]);
        assert_eq!(over(4), ["middle", "old"]);
        assert_eq!(over(0), ["new", "middle", "old"]);
    }
}
