//! The bound of the folder: what was not used for longest goes first.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, statat};

use super::entry::Entry;
use super::suffix::{BODY, ENTRY, HEAD, NEW, PART};
use super::{OF_ANSWER, Store, files};

/// Names that are looked at.
const MOST: usize = 200_000;
/// For so long, a file that is being written is left alone.
const WRITING: Duration = Duration::from_secs(3600);

/// A file of the folder.
#[derive(Debug)]
struct Found {
    name: String,
    used: SystemTime,
    bytes: u64,
}

impl Store {
    /// Removes what killed processes have left, bodies that no answer has, and the answers that were not
    /// used for longest while all bodies together are over the limit.
    pub(crate) fn tidy(&self) {
        // One process at a time; the others need not wait for it.
        let Ok(lock) = self.folder.open_or_create(".tidy") else {
            return;
        };
        if !files::lock(&lock) {
            return;
        }
        let found = self.list();
        let mut bodies: HashMap<String, u64> = HashMap::new();
        let mut entries = Vec::new();
        for file in found {
            if file.name.ends_with(ENTRY) {
                entries.push(file);
            } else if file.name.ends_with(BODY) {
                bodies.insert(file.name, file.bytes);
            } else {
                self.leftover(&file);
            }
        }
        self.shrink(entries, &bodies);
    }

    fn shrink(&self, mut entries: Vec<Found>, bodies: &HashMap<String, u64>) {
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        let mut kept: HashSet<String> = HashSet::new();
        let mut sum = 0_u64;
        for entry in entries {
            let body = self.folder.open(&entry.name).ok();
            let body = body.and_then(|file| Entry::read(&file));
            let body = body.map(|entry| entry.body_name());
            let bytes = body.as_ref().and_then(|body| bodies.get(body));
            let (Some(body), Some(bytes)) = (body, bytes) else {
                self.folder.remove(&entry.name);
                continue;
            };
            let of_body = if kept.contains(&body) { 0 } else { *bytes };
            let more = of_body.saturating_add(OF_ANSWER);
            if sum.saturating_add(more) > self.limit {
                self.folder.remove(&entry.name);
                continue;
            }
            sum += more;
            kept.insert(body);
        }
        // One whose entry is being written is fetched again.
        for body in bodies.keys().filter(|body| !kept.contains(*body)) {
            self.folder.remove(body);
        }
    }

    /// Removes a file of a download or an entry if no process writes it.
    fn leftover(&self, file: &Found) {
        let old = file.used.elapsed().is_ok_and(|age| age > WRITING);
        if let Some(key) = file.name.strip_suffix(PART) {
            let open = self.folder.open_to_write(&file.name);
            if open.is_ok_and(|open| files::lock(&open) && self.folder.is_linked(&open, &file.name))
            {
                self.folder.remove(&format!("{key}{HEAD}"));
                self.folder.remove(&file.name);
            }
        } else if file.name.ends_with(NEW) && old {
            self.folder.remove(&file.name);
        }
    }

    fn list(&self) -> Vec<Found> {
        let Ok(dir) = Dir::read_from(self.folder.fd()) else {
            return Vec::new();
        };
        let names = dir.flatten().take(MOST);
        let names = names.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        names
            .filter_map(|name| {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                let stat = statat(self.folder.fd(), &name, flags).ok()?;
                let used = Duration::from_secs(u64::try_from(stat.st_mtime).ok()?)
                    + Duration::from_nanos(u64::from(u32::try_from(stat.st_mtime_nsec).ok()?));
                Some(Found {
                    name,
                    used: UNIX_EPOCH + used,
                    bytes: u64::try_from(stat.st_size).ok()?,
                })
            })
            .collect()
    }
}
