//! Ends the container and removes what is left of it, even if boxbuild is killed: a process
//! that cannot be killed with it waits for a word, or for the end of its input.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::unistd::{getgid, getuid};

use super::caller::Caller;
use super::host::Host;

/// Arguments: container, private folder, owner of the results (UID:GID, or nothing), and podman
/// with its global options. Each word on the input is
/// the number of seconds that the container gets to clean up: podman may be in the middle of starting it,
/// so that there is nothing to remove yet, and the last word comes when podman has ended. Without a
/// word, boxbuild was killed, and podman with it.
///
/// Loop devices are the host's, and do not go away with the container: those that a killed kiwi
/// left attached are known by their backing file (firmware/guest/container), whose path the
/// kernel shows as seen from the container's root, and partition nodes stay if they are not
/// deleted first. Only root can, and only root's containers have them.
const SCRIPT: &str = r#"trap '' INT TERM HUP QUIT
name=$1 folder=$2 owner=$3
shift 3
PATH=$PATH:/usr/sbin:/sbin
parts() {
    for part in "/sys/block/$1/$1"p*; do [ ! -e "$part" ] || return 0; done
    return 1
}
quietly() { "$@" >/dev/null 2>&1; }
said=
while read -r seconds; do
    said=yes
    quietly "$@" rm --force --ignore --time "$seconds" "$name"
done
if [ -z "$said" ]; then
    quietly "$@" rm --force --ignore --time 10 "$name"
    for try in 1 2 3; do
        sleep 1
        quietly "$@" rm --force --ignore --time 0 "$name"
    done
fi
for backing in /sys/block/loop*/loop/backing_file; do
    file=
    [ ! -e "$backing" ] || read -r file <"$backing"
    case $file in
        */"result-$name"/*)
            device=${backing#/sys/block/}
            device=${device%%/*}
            # What was mounted in the container is busy for some moments more.
            for try in 1 2 3 4 5; do
                parts "$device" || break
                quietly partx --delete "/dev/$device" || sleep 1
            done
            quietly losetup --detach "/dev/$device"
            ;;
    esac
done
[ -z "$owner" ] || quietly chown -hR "$owner" "$folder/bundle/"
rm -rf -- "$folder"
"#;

/// Watches over one container.
#[derive(Debug)]
pub(super) struct ContainerReaper {
    waiting: Child,
}

impl ContainerReaper {
    /// Starts to watch. It has root's rights from the start if it needs them at the end:
    /// sudo may want a password again by then.
    pub(super) fn watch(
        caller: &Caller,
        host: &Host,
        container: &str,
        folder: &Path,
    ) -> io::Result<ContainerReaper> {
        // Through sudo, what the container left belongs to root.
        let owner = if caller.uses_sudo() {
            format!("{}:{}", getuid(), getgid())
        } else {
            String::new()
        };
        let mut args: Vec<OsString> = vec![
            "-c".into(),
            SCRIPT.into(),
            "boxbuild-reaper".into(),
            container.into(),
            folder.into(),
            owner.into(),
            host.program.clone().into(),
        ];
        args.extend(host.global_options());
        let waiting = caller
            .command(Path::new("/bin/sh"), args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(ContainerReaper { waiting })
    }

    /// Ends the container, which has `grace` to clean up, if it has been started already. Does not wait.
    pub(super) fn stop(&mut self, grace: Duration) {
        if let Some(input) = &mut self.waiting.stdin {
            // A reaper that is gone has nothing left to do.
            let _ = writeln!(input, "{}", grace.as_secs());
        }
    }
}

impl Drop for ContainerReaper {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
        drop(self.waiting.stdin.take());
        // An error means that it is gone already.
        let _ = self.waiting.wait();
    }
}
