//! Plans as a whole.

use std::ffi::OsString;
use std::fs;

use boxbuild_engine::podman::Mode;

use super::*;
use crate::boot::BootStyle;
use boxbuild_boxes::store::{BoxFile, BoxInfo};
use boxbuild_host::arch::Arch;

pub(crate) fn small_box(dir: PathBuf) -> InstalledBox {
    let file = |name: &str| BoxFile {
        name: name.to_owned(),
        size: 0,
        sha256: String::new(),
    };
    let info = BoxInfo {
        format: BoxInfo::FORMAT,
        name: String::from("small"),
        origin: String::from("test"),
        arch: Arch::host(),
        created: 0,
        kernel: file("kernel"),
        initrd: file("initrd"),
        disk: file("disk"),
        disk_size: 1 << 30,
        cmdline: Vec::new(),
        console: String::from("hvc0"),
        guest: boxbuild_boxes::store::Guest::Fast,
        kiwi: None,
        memory_mib: 4096,
        cpus: 1,
        container: None,
        inventory: None,
        published: None,
    };
    InstalledBox::prospective(dir, info, Vec::new())
}

/// A request with nothing but defaults, for a description that is not there.
pub(crate) fn request() -> BuildRequest {
    let description = "/nowhere/description".into();
    BuildRequest::new("small", description, "/nowhere/target".into())
}

/// A host with four processors, no terminal and an empty environment.
pub(crate) fn host() -> HostFacts {
    HostFacts {
        environment: Vec::new(),
        cpus: 4,
        memory_mib: Some(16 << 10),
        no_terminal: Some("needs a terminal"),
        ssh_keys: None,
        memory: Default::default(),
        no_container_network: || None,
    }
}

pub(crate) fn plan(change: impl FnOnce(&mut BuildRequest)) -> Result<Plan, PlanError> {
    plan_in("/nowhere/small".into(), change)
}

/// A plan for a box in the folder `box_dir`, which need not be there.
pub(crate) fn plan_in(
    box_dir: PathBuf,
    change: impl FnOnce(&mut BuildRequest),
) -> Result<Plan, PlanError> {
    plan_of(box_dir, &host(), change)
}

/// A plan on `host`.
pub(crate) fn plan_on(
    host: &HostFacts,
    change: impl FnOnce(&mut BuildRequest),
) -> Result<Plan, PlanError> {
    plan_of("/nowhere/small".into(), host, change)
}

fn plan_of(
    box_dir: PathBuf,
    host: &HostFacts,
    change: impl FnOnce(&mut BuildRequest),
) -> Result<Plan, PlanError> {
    let dir = tempfile::tempdir().unwrap();
    let description = dir.path().join("description");
    fs::create_dir(&description).unwrap();
    fs::write(description.join("config.xml"), "<image/>").unwrap();
    let mut request = request();
    request.build.description = description;
    request.build.target_dir = dir.path().join("target");
    change(&mut request);
    let folders = Folders::check(&request)?;
    let installed = small_box(box_dir);
    let boot = BootChoice::new(request.boot, &installed.info)?.first();
    Plan::new(&request, host, folders, installed, boot)
}

/// A default of the command line once hid the number of the configuration.
#[test]
fn the_boxs_own_number_of_processors_counts() {
    assert_eq!(plan(|_| {}).unwrap().cpus, 1);
    assert_eq!(plan(|request| request.cpus = Some(7)).unwrap().cpus, 7);
}

#[test]
fn the_boxs_own_memory_counts_unless_another_is_asked_for() {
    assert_eq!(plan(|_| {}).unwrap().memory_mib, 4096);
    let more = plan(|request| request.memory_mib = Some(8192)).unwrap();
    assert_eq!(more.memory_mib, 8192);
}

#[test]
fn a_shell_needs_a_terminal() {
    let error = plan(|request| request.debug = true)
        .unwrap_err()
        .to_string();
    assert!(error.contains("needs a terminal"), "{error}");
}

#[test]
fn only_no_accel_asks_for_emulation() {
    let engine = |change: fn(&mut BuildRequest)| plan(change).map(|plan| plan.engine);
    assert_eq!(
        engine(|request| request.no_accel = true).unwrap(),
        EngineChoice::Qemu
    );
    for change in [
        (|request| request.cpu_model = Some("host".into())) as fn(&mut BuildRequest),
        |request| request.machine_type = Some("q35".into()),
        |request| request.machine_type = Some("virt".into()),
    ] {
        assert_eq!(engine(change).unwrap(), EngineChoice::Auto);
    }
    let with_kvm = engine(|request| {
        request.engine = EngineChoice::Kvm;
        request.cpu_model = Some("max".into());
    });
    assert_eq!(with_kvm.unwrap(), EngineChoice::Kvm);
    let error = engine(|request| {
        request.engine = EngineChoice::Kvm;
        request.no_accel = true;
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("--engine kvm has no --no-accel"), "{error}");
    let error = engine(|request| {
        request.engine = EngineChoice::Qemu;
        request.container = Some(Mode::Rootless);
    });
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("--engine qemu: "), "{error}");
}

#[test]
fn the_boxs_own_disk_does_not_grow() {
    let error = plan(|request| (request.in_place, request.disk_size) = (true, Some(9 << 30)));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("--no-snapshot"), "{error}");
}

/// kiwi takes it as text, and boxbuild's own kiwi does not.
#[test]
fn an_attribute_that_an_unchanged_kiwi_takes_for_true_is_noted() {
    let notes = |boot, value: &str| {
        let words = ["--set-type-attr", value].map(OsString::from);
        let plan = plan(|request| {
            request.boot = boot;
            request.build.rest.extend(words.clone());
        });
        plan.unwrap().notes.join(" ")
    };
    let compat = BootStyle::Compat;
    assert!(notes(compat, "overlayroot=false").contains("--set-type-attr overlayroot=false"));
    assert_eq!(notes(compat, "overlayroot=true"), "");
    assert_eq!(notes(BootStyle::Fast, "overlayroot=false"), "");
}

#[test]
fn memory_that_the_host_does_not_have_is_said_before_the_start() {
    let notes = |mib| plan(|request| request.memory_mib = Some(mib)).map(|plan| plan.notes);
    assert!(notes(8 << 10).unwrap().is_empty());
    let more = notes(20 << 10).unwrap();
    assert!(more[0].contains("this host has 16384 MiB"), "{more:?}");
    // 6144 that were meant as MiB.
    let error = notes(6144 << 10).unwrap_err().to_string();
    assert!(error.starts_with("--box-memory: "), "{error}");
}

/// Every field is there: programs that read the plan see all of it.
#[test]
fn a_plan_as_json_has_every_field() {
    let plan = plan(|_| {}).unwrap();
    let resolved = ResolvedEngine {
        engine: String::from("kvm"),
        why: String::from("it works"),
        cmdline: None,
    };
    let json = serde_json::to_value(PlanReport::new(&plan, &resolved)).unwrap();
    assert_eq!(json["box"]["name"], "small");
    assert_eq!(json["engine"]["asked"], "auto");
    assert_eq!(json["disk"]["in_place"], false);
    assert_eq!(json["shares"][0]["tag"], "kiwidescription");
    assert_eq!(json["timeout_idle_seconds"], 1800);
    for field in [
        "boot",
        "fips",
        "nested",
        "kiwi_version",
        "copy_log_to",
        "description_rw",
        "debug",
        "host_loopback",
        "machine_type",
        "cpu_model",
        "fetch",
        "image_types",
        "copied_files",
        "ssh",
        "container",
    ] {
        assert!(json.get(field).is_some(), "{field}");
    }
    let page = include_str!("../../../../docs/json.md");
    for key in json.as_object().unwrap().keys() {
        assert!(
            page.contains(&format!("`{key}`")),
            "{key} is not in docs/json.md"
        );
    }
}

/// Fault 12: what is shown and recorded has no password.
#[test]
fn no_secret_is_shown() {
    let mut plan = plan(|request| {
        request.build.rest = [
            "--set-repo",
            "https://me:s3cret@repo.example/x",
            "--add-repo-credentials",
            "me:s3cret",
        ]
        .map(OsString::from)
        .to_vec();
    })
    .unwrap();
    plan.environment = vec![("http_proxy".to_owned(), "http://me:s3cret@p:1".into())];
    plan.installed.to_fetch = vec!["https://me:s3cret@boxes.example/x.tar.xz".to_owned()];
    plan.installed.info.origin = "https://me:s3cret@boxes.example".to_owned();
    let resolved = ResolvedEngine {
        engine: String::from("qemu"),
        why: String::from("it works"),
        cmdline: Some(String::from(
            "console=hvc0 http_proxy=_me:s3cret@p:1_ kiwi=\"--add-repo-credentials me:s3cret\"",
        )),
    };
    let json = serde_json::to_string(&PlanReport::new(&plan, &resolved)).unwrap();
    for text in [json, plan.describe()] {
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("https://***@repo.example/x"), "{text}");
    }
    // kiwi itself gets them.
    assert!(plan.kiwi_args.contains(&"me:s3cret".into()));
}

#[test]
fn what_a_network_reaches_is_shown_and_recorded() {
    let text = plan(|_| {}).unwrap().describe();
    assert!(
        text.contains("reaches      what this host reaches"),
        "{text}"
    );
    let limited = plan(|request| {
        request.network = Network::Public;
        request.allow = vec!["packages.example:443".parse().unwrap()];
    })
    .unwrap();
    let text = limited.describe();
    assert!(
        text.contains("packages.example:443 and nothing else, at public"),
        "{text}"
    );
    let policy = limited.policy().unwrap();
    assert_eq!(policy.reach, Reach::Public);
    assert_eq!(policy.allowed.unwrap().len(), 1);
    // It was said to reach the world.
    for container in [None, Some(Mode::Rootless)] {
        let offline = plan(|request| {
            request.container = container;
            request.fetch = Fetch::Nothing;
        })
        .unwrap();
        let text = offline.describe();
        assert!(
            text.contains("reaches      the cache of packages, and no server"),
            "{text}"
        );
        assert!(offline.policy().unwrap().offline);
    }
    let none = plan(|request| request.network = Network::None).unwrap();
    assert_eq!(none.policy(), None);
}

#[test]
fn a_network_that_cannot_be_limited_is_refused() {
    let allow = vec!["a.example".parse().unwrap()];
    for (network, allow, container) in [
        (Network::User, allow.clone(), Some(Mode::Rootless)),
        (Network::Public, Vec::new(), Some(Mode::Rootful)),
        (Network::None, allow, None),
    ] {
        let error = plan(|request| {
            request.network = network;
            request.allow = allow;
            request.container = container;
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("--network none"), "{error}");
    }
}

/// `apt-get install libc6-` removes the package.
#[test]
fn a_package_for_the_box_is_one_that_is_installed() {
    let asked = |name: &str| plan(|request| request.box_packages = vec![name.to_owned()]);
    for name in [
        "g++",
        "vim=2:9.1~rc1-1",
        "libc6:amd64",
        "@core",
        "/usr/bin/strings",
        "xz-5.4-1",
    ] {
        assert_eq!(asked(name).unwrap().box_packages, [name]);
    }
    for name in [
        "", "-y", "libc6-", "~nlib", "!vim", "a b", "a;b", "$(a)", "a\n", "é",
    ] {
        let error = asked(name).unwrap_err().to_string();
        assert!(
            error.contains("not the name of a package"),
            "{name}: {error}"
        );
    }
}
