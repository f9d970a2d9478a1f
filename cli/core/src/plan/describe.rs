//! The plan in words, for `--dry-run`.

use std::ffi::OsString;

use super::Plan;
use crate::boot::RunsAs;

impl Plan {
    /// The plan in words, for `--dry-run`.
    pub fn describe(&self) -> String {
        let words =
            |words: &[OsString]| shell_words::join(words.iter().map(|word| word.to_string_lossy()));
        let machine = match self.runs_as {
            RunsAs::Container(mode) => format!("container    {mode:?}, network {:?}", self.network),
            RunsAs::Machine(boot) => format!(
                "boot         {:?}\nmachine      {} CPUs, {} MiB memory, network {:?}",
                boot, self.cpus, self.memory_mib, self.network
            ),
        };
        let folders = self.host_paths.folders.iter().map(|share| {
            let how = if share.read_only {
                "read-only"
            } else {
                "writable"
            };
            format!("shared       {} ({how})\n", share.root.display())
        });
        let files = self.host_paths.files.iter();
        let shared: String = folders
            .chain(files.map(|file| format!("shared       {} (a copy)\n", file.display())))
            .collect();
        let ssh = self.ssh.as_ref().map_or_else(String::new, |ssh| {
            let key = ssh.key.as_ref();
            let key = key.map_or_else(
                || String::from("no key"),
                |key| format!("key {}", key.path.display()),
            );
            let port = match ssh.port {
                0 => String::from("a free port"),
                port => port.to_string(),
            };
            format!("ssh          127.0.0.1:{port}, {key}\n")
        });
        let disk = if self.disk.in_place {
            "disk         written in place (--no-snapshot)\n"
        } else {
            ""
        };
        let to_fetch = self.installed.to_fetch.iter();
        let to_fetch: String = to_fetch
            .map(|url| format!("fetch        {url}\n"))
            .collect();
        format!(
            "box          {} ({}, {})\n{to_fetch}{machine}\ndescription  {}\ntarget-dir   {}\n\
             {ssh}{disk}{shared}kiwi-ng      {}\n",
            self.installed.info.name,
            self.installed.info.origin,
            self.installed.info.arch,
            self.description.display(),
            self.target_dir.display(),
            words(&self.kiwi_args),
        )
    }
}
