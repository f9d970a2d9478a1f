//! The plan in words, for `--dry-run`.

use std::ffi::OsString;

use boxbuild_engine::Network;
use boxbuild_engine::podman::Mode;
use boxbuild_host::secret;
use boxbuild_host::text::{shown, shown_path};

use super::Plan;
use crate::boot::{Boot, RunsAs};

impl Plan {
    /// The plan in words, for `--dry-run`.
    pub fn describe(&self) -> String {
        let words = |words: &[OsString]| shell_words::join(secret::redact_words(words));
        let network = self.describe_network();
        let machine = match self.runs_as {
            RunsAs::Container(mode) => {
                let mode = match mode {
                    Mode::Rootful => "rootful",
                    Mode::Rootless => "rootless",
                };
                format!("container    {mode}, {network}")
            }
            RunsAs::Machine(boot) => format!(
                "boot         {}\nmachine      {} CPU{}, {} MiB memory, {network}",
                match boot {
                    Boot::Fast => "fast",
                    Boot::Compat => "compat",
                },
                self.cpus,
                if self.cpus == 1 { "" } else { "s" },
                self.memory_mib
            ),
        };
        let folders = self.host_paths.folders.iter().map(|share| {
            let how = if share.read_only {
                "read-only"
            } else {
                "writable"
            };
            format!("shared       {} ({how})\n", shown_path(&share.root))
        });
        let files = self.host_paths.files.iter();
        let shared: String = folders
            .chain(files.map(|file| format!("shared       {} (a copy)\n", shown_path(&file.path))))
            .collect();
        let resumes = self.resumes.as_ref().map_or_else(String::new, |resumed| {
            format!("resumes      {} after kiwi's prepare\n", resumed.id)
        });
        let kiwi_args = match &self.resumes {
            Some(_) => self.create_args(),
            None => self.kiwi_args.clone(),
        };
        let packages = match self.box_packages.join(", ") {
            none if none.is_empty() => none,
            packages => format!("installs     {packages} (in the box, first)\n"),
        };
        let ssh = self.ssh.as_ref().map_or_else(String::new, |ssh| {
            let key = ssh.key.as_ref();
            let key = key.map_or_else(
                || String::from("no key"),
                |key| format!("key {}", shown_path(&key.path)),
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
            .map(|url| format!("fetch        {}\n", secret::redact(url)))
            .collect();
        format!(
            "box          {} ({}, {})\n{to_fetch}{machine}\ndescription  {}\ntarget-dir   {}\n\
             {resumes}{packages}{ssh}{disk}{shared}kiwi-ng      {}\n",
            self.installed.info.name,
            secret::redact(&self.installed.info.origin),
            self.installed.info.arch,
            shown_path(&self.description),
            shown_path(&self.target_dir),
            shown(&words(&kiwi_args)),
        )
    }

    /// The network in words: what it reaches.
    fn describe_network(&self) -> String {
        let mode = String::from(match self.network {
            Network::User => "network user",
            Network::Public => "network public",
            Network::None => "network none",
        });
        let has_own = self.private_network || !self.runs_as.is_container();
        if !has_own || self.network == Network::None {
            return mode;
        }
        let mut text = format!("{mode}\nreaches      ");
        if self.offline {
            text += if self.package_cache {
                "the cache of packages, and no server (--offline)"
            } else {
                "no server (--offline)"
            };
        } else if self.allow.is_empty() {
            text += match self.network {
                Network::Public => "public addresses, none of this host's or of private networks",
                _ => "what this host reaches, but its loopback and link-local addresses",
            };
        } else {
            let allowed: Vec<String> = self.allow.iter().map(ToString::to_string).collect();
            text += &format!("{} and nothing else", allowed.join(", "));
            if self.network == Network::Public {
                text += ", at public addresses";
            }
        }
        for service in &self.host_proxies {
            text += &format!("\nreaches      the service at {service} of this host");
        }
        text
    }
}
