//! Real builds in containers: an archive and a container image at once, a box whose entry point is
//! systemd, and, as root, a disk, which then boots.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use boxbuild_tests::{Running, leftovers, names, skip};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::fixture::{
    BUILD_LIMIT, RealSandbox, assert_same_packages, check_image, description, find_image, members,
    packages,
};
use crate::container::fixture::{mode, podman, podman_lines};

crate::tests! {
    Full:
        real_containers_at_once,
        kiwis_dracut_modules_come_from_the_box,
        a_box_whose_entry_point_is_systemd,
        a_disk_is_built_in_a_container_and_boots;
}

/// A build in a container.
fn command(sandbox: &RealSandbox, name: &str, target: &str, front: &[&str]) -> Command {
    let front = [&["--container"], mode(), front].concat();
    sandbox.build_command(&description(name), target, &front)
}

fn start(sandbox: &RealSandbox, name: &str, target: &str) -> Running {
    Running::start(&mut command(sandbox, name, target, &[])).limit(BUILD_LIMIT)
}

/// Returns a sandbox if `name` can be built in a container here; else prints why `test` cannot run.
fn sandbox_for(test: &str, name: &str) -> Option<RealSandbox> {
    let sandbox = RealSandbox::new();
    let mut dry = command(&sandbox, name, "never", &["--dry-run"]);
    let output = Running::start(&mut dry).finish();
    if output.code != 0 {
        skip(test, output.stderr.lines().last().unwrap_or_default());
        return None;
    }
    Some(sandbox)
}

#[track_caller]
fn assert_nothing_left(sandbox: &RealSandbox, image: &str) {
    let temp = sandbox.path("tmp");
    leftovers::assert_none(|| {
        let mut left = podman_lines(&temp, &["ps", "--all", "--format", "{{.Image}} {{.Names}}"]);
        left.retain(|line| {
            line.contains(image) || line.contains("boxbuild/debian:") && line.contains(" boxbuild-")
        });
        left.extend(leftovers::loop_devices("/result-boxbuild-"));
        left
    });
    sandbox.assert_nothing_left();
}

fn real_containers_at_once() {
    let Some(sandbox) = sandbox_for("real_containers_at_once", "mini") else {
        return;
    };
    let oci = start(&sandbox, "oci", "oci");
    start(&sandbox, "mini", "mini").finish().expect(0, &[]);
    oci.finish().expect(0, &[]);
    check_image(&sandbox.path("mini"));
    assert_same_packages(&sandbox.path("mini"));
    let target = sandbox.path("oci");
    let image = names(&target)
        .into_iter()
        .find(|name| name.starts_with("oci.") && name.ends_with(".oci.tar.xz"));
    let members = members(&target.join(image.expect("a container image")));
    let index = members
        .iter()
        .any(|name| name.trim_start_matches("./") == "index.json");
    assert!(index, "{members:?}");
    assert_nothing_left(&sandbox, "\0");
}

/// Debian 13 has no packages of them; without the build service, no image with them could be built.
fn kiwis_dracut_modules_come_from_the_box() {
    let test = "kiwis_dracut_modules_come_from_the_box";
    let Some(sandbox) = sandbox_for(test, "mini") else {
        return;
    };
    let mut build = command(&sandbox, "mini", "modules", &["--verbose"]);
    // One of Debian 12's names, and one of the build service's.
    build.args(["--add-package", "kiwi-dracut-oem-repart"]);
    build.args(["--add-package", "dracut-kiwi-live"]);
    let output = Running::start(&mut build).limit(BUILD_LIMIT).finish();
    output.expect(0, &["KIWI's own dracut modules"]);
    let target = sandbox.path("modules");
    let list = packages(&target);
    for name in ["lib", "oem-repart", "live"] {
        let name = format!("dracut-kiwi-{name}|");
        assert!(list.contains(&name), "{name} is not in: {list}");
    }
    let members = members(&find_image(&target).unwrap());
    let has = |path: &str| members.iter().any(|name| name.contains(path));
    assert!(has("usr/lib/dracut/modules.d/59kiwi-lib/module-setup.sh"));
    assert!(!has("usr/share/boxbuild"), "the repository is in the image");
    assert!(!has("boxbuild-packages"), "the image knows the repository");
    assert_nothing_left(&sandbox, "\0");
}

/// The network interfaces of the host that containers do not make.
fn interfaces() -> Vec<String> {
    let mut interfaces = names(Path::new("/sys/class/net"));
    interfaces.retain(|name| !name.starts_with("veth") && !name.starts_with("podman"));
    interfaces
}

/// A container image that goes with this value.
struct Image {
    name: String,
    temp: std::path::PathBuf,
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = podman(&self.temp)
            .args(["image", "rm", "--force", &self.name])
            .output();
    }
}

fn a_box_whose_entry_point_is_systemd() {
    let test = "a_box_whose_entry_point_is_systemd";
    let cgroups = statfs("/sys/fs/cgroup").map(|stat| stat.filesystem_type());
    if !mode().is_empty() && cgroups != Ok(CGROUP2_SUPER_MAGIC) {
        // Systemd finds no control group that it may use.
        return skip(test, "rootless, and this host has no cgroup v2");
    }
    let Some(sandbox) = sandbox_for(test, "mini") else {
        return;
    };
    let image = Image {
        name: format!("localhost/boxbuild/full-{}:systemd", std::process::id()),
        temp: sandbox.path("tmp"),
    };
    let folder = sandbox.the_box();
    let archive = names(&folder)
        .into_iter()
        .find(|name| name.starts_with("container-"));
    let mut import = podman(&image.temp);
    import.args(["import", "--quiet", "--change"]);
    import.arg("ENTRYPOINT [\"/usr/lib/systemd/systemd\"]");
    import.arg(folder.join(archive.unwrap())).arg(&image.name);
    let import = Running::start(&mut import).limit(BUILD_LIMIT).finish();
    import.expect(0, &[]);
    let path = folder.join("box.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut description: serde_json::Value = serde_json::from_str(&text).unwrap();
    description["guest"] = "compat".into();
    description["container"] = serde_json::json!({"registry": image.name});
    // Not into the file that the box of other tests links.
    fs::remove_file(&path).unwrap();
    fs::write(&path, description.to_string()).unwrap();

    let before = interfaces();
    let mut build = command(&sandbox, "mini", "published", &["--no-update-check"]);
    let build = Running::start(&mut build).limit(BUILD_LIMIT);
    build.finish().expect(0, &[]);
    check_image(&sandbox.path("published"));
    assert_same_packages(&sandbox.path("published"));
    let after = interfaces();
    let taken = before.iter().find(|name| !after.contains(name));
    assert_eq!(taken, None, "the container took an interface of the host");
    assert_nothing_left(&sandbox, &image.name);
}

fn a_disk_is_built_in_a_container_and_boots() {
    let test = "a_disk_is_built_in_a_container_and_boots";
    let find = Command::new("losetup").arg("--find").output();
    let reason = match find {
        _ if !mode().is_empty() => Some("rootless containers have no loop devices".to_owned()),
        _ if std::env::consts::ARCH != "x86_64" => Some(std::env::consts::ARCH.to_owned()),
        Err(error) => Some(format!("losetup: {error}")),
        Ok(find) if !find.status.success() => {
            Some(String::from_utf8_lossy(&find.stderr).into_owned())
        }
        Ok(_) => None,
    };
    if let Some(reason) = reason {
        return skip(test, &reason);
    }
    let Some(sandbox) = sandbox_for(test, "disk") else {
        return;
    };
    start(&sandbox, "disk", "disk").finish().expect(0, &[]);
    assert_nothing_left(&sandbox, "\0");
    for device in names(Path::new("/sys/block")) {
        if device.starts_with("loop") {
            let partition = Path::new("/sys/block")
                .join(&device)
                .join(format!("{device}p1"));
            assert!(!partition.exists(), "a partition of {device} is left");
        }
    }
    let target = sandbox.path("disk");
    let image = names(&target)
        .into_iter()
        .find(|name| name.starts_with("disk.") && name.ends_with(".qcow2"));
    let console = sandbox.path("console");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg", "-cpu", "max", "-m", "512"]);
    qemu.args(["-nodefaults", "-nographic", "-no-reboot", "-serial"]);
    qemu.arg(format!("file:{}", console.display()))
        .arg("-drive");
    qemu.arg(format!(
        "file={},format=qcow2,if=virtio,snapshot=on",
        target.join(image.expect("a disk")).display()
    ));
    let mut machine = Running::start(&mut qemu).limit(Duration::from_secs(600));
    let text = || fs::read(&console).unwrap_or_default();
    let boots = || String::from_utf8_lossy(&text()).contains("login:");
    machine.wait_until("login:", |_| boots());
}
