//! The network that a container has of its own, and the cache of packages in it (docs/podman-engine.md).

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::atomic::Ordering;

use boxbuild_tests::{ProcessOutput, Running, skip};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::fixture::ContainerSandbox;
use crate::packages::{BYTES, mirror};

crate::tests! {
    Podman:
        packages_of_a_container_come_from_the_cache,
        eight_containers_at_once_fetch_each_package_once,
        a_container_builds_offline_from_the_cache_alone,
        a_container_reaches_of_the_loopback_what_is_named,
        the_network_of_a_killed_container_is_gone,
        the_network_of_a_container_listens_on_no_port_of_the_host,
        a_container_without_the_cache_has_the_network_of_the_host;
}

/// Whether this host has taps; without one, the test is skipped.
fn has_taps(test: &str) -> bool {
    let tap = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    tap.map_err(|error| skip(test, &format!("/dev/net/tun: {error}")))
        .is_ok()
}

/// A script that fetches packages from `host`, counts their bytes, and tells what else it sees.
fn script(host: &str, port: u16) -> String {
    format!(
        "ask() {{ printf 'GET /pool/%s.deb HTTP/1.1\\r\\nHost: {host}:{port}\\r\\n%s\\r\\n' \"$1\" \"$2\"; }}
        {{ ask a; ask b 'Connection: close\r\n'; }} | busybox nc -w 20 {host} {port} >/tmp/got
        busybox tr -dc '#' </tmp/got | busybox wc -c >/bundle/counts
        busybox head -n 1 /tmp/got >/bundle/status
        busybox readlink /proc/self/ns/net >/bundle/namespace
        busybox hostname >/bundle/name
        cat /etc/resolv.conf >/bundle/resolv
        busybox env | busybox sed -n s/^http_proxy=//p >/bundle/proxy
        busybox ls -A /run/boxbuild / >/bundle/files
        busybox touch /bundle/image"
    )
}

/// A build with a cache of the sandbox's own.
fn build(sandbox: &ContainerSandbox, front: &[&str]) -> Command {
    let mut build = sandbox.build_command("tbz", "out", &[&["--json"], front].concat());
    build.env("XDG_CACHE_HOME", sandbox.path("cache"));
    build
}

/// The event `result`, and its bytes from the cache and from the network.
fn result(output: &ProcessOutput) -> (Value, Option<u64>, Option<u64>) {
    let mut events = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let result: Value = events
        .rfind(|event: &Value| event["event"] == "result")
        .unwrap();
    let bytes = |name: &str| result["packages"][name].as_u64();
    let (cached, fetched) = (bytes("from_cache_bytes"), bytes("from_network_bytes"));
    (result, cached, fetched)
}

fn packages_of_a_container_come_from_the_cache() {
    if !has_taps("packages_of_a_container_come_from_the_cache") {
        return;
    }
    let (port, sent) = mirror();
    let sandbox = ContainerSandbox::new();
    // The mirror has the address that it has on this host, as have proxies there.
    sandbox.describe("tbz", "tbz", &script("127.0.0.1", port));
    let proxy = format!("http://localhost:{port}");
    let all = Some(2 * BYTES as u64);
    for expected in [(Some(0), all), (all, Some(0))] {
        let output = ProcessOutput::of(build(&sandbox, &[]).env("http_proxy", &proxy));
        output.expect(0, &[]);
        assert_eq!(sandbox.read("out/counts"), format!("{}\n", 2 * BYTES));
        let (_, cached, fetched) = result(&output);
        assert_eq!((cached, fetched), expected);
        assert_eq!(sent.load(Ordering::SeqCst), 2);
    }
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(sandbox.read("out/namespace").trim(), own.to_str().unwrap());
    let name = nix::unistd::gethostname().unwrap();
    assert_eq!(sandbox.read("out/name").trim(), name.to_str().unwrap());
    assert_eq!(sandbox.read("out/resolv"), "nameserver 10.0.2.3\n");
    // Nothing of it is in the environment, and what made it is gone.
    assert_eq!(sandbox.read("out/proxy").trim(), proxy);
    let files = sandbox.read("out/files");
    assert!(
        !files.contains("network.socket") && !files.contains("boxbuild-network"),
        "{files}"
    );
    sandbox.assert_nothing_left();
}

fn eight_containers_at_once_fetch_each_package_once() {
    if !has_taps("eight_containers_at_once_fetch_each_package_once") {
        return;
    }
    let (port, sent) = mirror();
    let sandbox = ContainerSandbox::new();
    sandbox.describe("tbz", "tbz", &script("127.0.0.1", port));
    let builds: Vec<Running> = (0..8)
        .map(|number| {
            let target = format!("out{number}");
            let mut build = sandbox.build_command("tbz", &target, &[]);
            build
                .env("XDG_CACHE_HOME", sandbox.path("cache"))
                .env("http_proxy", format!("http://127.0.0.1:{port}"));
            Running::start(&mut build)
        })
        .collect();
    for (number, build) in builds.into_iter().enumerate() {
        build.finish().expect(0, &[]);
        let counts = sandbox.read(&format!("out{number}/counts"));
        assert_eq!(counts, format!("{}\n", 2 * BYTES));
    }
    assert_eq!(sent.load(Ordering::SeqCst), 2);
    sandbox.assert_nothing_left();
}

fn a_container_builds_offline_from_the_cache_alone() {
    if !has_taps("a_container_builds_offline_from_the_cache_alone") {
        return;
    }
    let (port, sent) = mirror();
    let sandbox = ContainerSandbox::new();
    let named = script("127.0.0.1", port);
    sandbox.describe("tbz", "tbz", &named);
    let with = |front: &[&str], address: &str| {
        let mut build = build(&sandbox, front);
        let proxy = format!("http://127.0.0.1:{port}");
        build.args(["--add-repo", address]).env("http_proxy", proxy);
        ProcessOutput::of(&mut build)
    };
    with(&[], &format!("http://127.0.0.1:{port}/x")).expect(0, &[]);
    assert_eq!(sent.load(Ordering::SeqCst), 2);
    // Port 80 of any server leads to the cache, and to nothing else; all other ports are closed. Names have
    // an address, and the proxy is a way out.
    let offline = format!(
        "{}
        printf 'GET /pool/c.deb HTTP/1.1\r\nHost: mirror.invalid\r\nConnection: close\r\n\r\n' |
            busybox nc -w 20 mirror.invalid 80 | busybox head -n 1 >/bundle/status
        busybox nc -w 5 203.0.113.9 443 </dev/null; echo $? >/bundle/closed
        busybox nc -w 5 127.0.0.1 {port} </dev/null; echo $? >>/bundle/closed
        busybox env | busybox grep -ci proxy >/bundle/proxies; :",
        named.replace(
            &format!("nc -w 20 127.0.0.1 {port}"),
            "nc -w 20 mirror.invalid 80"
        )
    );
    sandbox.describe("tbz", "tbz", &offline);
    let output = with(&["--offline"], "http://mirror.invalid/x");
    output.expect(0, &[]);
    assert_eq!(sandbox.read("out/counts"), format!("{}\n", 2 * BYTES));
    let address = "http://mirror.invalid/pool/c.deb";
    let (result, cached, fetched) = result(&output);
    assert_eq!(result["not_in_cache"], serde_json::json!([address]));
    assert_eq!((cached, fetched), (Some(2 * BYTES as u64), Some(0)));
    assert!(
        sandbox
            .read("out/status")
            .contains("404 Not in the cache of packages")
    );
    assert_eq!(sandbox.read("out/closed"), "1\n1\n");
    assert_eq!(sandbox.read("out/proxies"), "0\n");
    sandbox.describe("tbz", "tbz", &format!("{offline}; exit 7"));
    let output = with(&["--offline"], "http://mirror.invalid/x");
    output.expect(1, &[]);
    let note = format!("not in the cache of packages: {address}");
    assert!(output.stdout.contains(&note), "{}", output.stdout);
    assert_eq!(sent.load(Ordering::SeqCst), 2);
    sandbox.assert_nothing_left();
}

fn a_container_reaches_of_the_loopback_what_is_named() {
    if !has_taps("a_container_reaches_of_the_loopback_what_is_named") {
        return;
    }
    let (port, _) = mirror();
    let secret = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let closed = secret.local_addr().unwrap().port();
    let sandbox = ContainerSandbox::new();
    let script = format!(
        "{}
        for place in 127.0.0.1 10.0.2.2; do
            busybox nc -w 5 $place {closed} </dev/null; echo $?
        done >/bundle/closed",
        script("127.0.0.1", port)
    );
    sandbox.describe("tbz", "tbz", &script);
    // A mirror of the description's own is reached as well, as in the network of the host.
    let config = format!(
        "<image><preferences><type image=\"tbz\"/></preferences><repository><source \
         path=\"http://127.0.0.1:{port}/debian\"/></repository></image>"
    );
    fs::write(sandbox.path("tbz/config.xml"), config).unwrap();
    ProcessOutput::of(&mut build(&sandbox, &[])).expect(0, &[]);
    assert_eq!(sandbox.read("out/counts"), format!("{}\n", 2 * BYTES));
    assert_eq!(sandbox.read("out/closed"), "1\n1\n");
    secret.set_nonblocking(true).unwrap();
    assert!(secret.accept().is_err(), "it was reached");
    sandbox.assert_nothing_left();
}

fn the_network_of_a_killed_container_is_gone() {
    if !has_taps("the_network_of_a_killed_container_is_gone") {
        return;
    }
    let sandbox = ContainerSandbox::new();
    sandbox.describe(
        "tbz",
        "tbz",
        "echo waits >>/bundle/result.log; busybox sleep 1000",
    );
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut command = sandbox.build_command("tbz", "out", &["--verbose"]);
        command.env("XDG_CACHE_HOME", sandbox.path("cache"));
        let mut running = Running::start(&mut command);
        running.wait_for("waits");
        running.signal(signal);
        drop(running.finish());
    }
    sandbox.assert_nothing_left();
}

/// Sockets by their inodes (proc_pid_fd(5)) that listen (proc_pid_net(5): the state 0A).
fn listening(pid: i32) -> Vec<String> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let own: Vec<String> = descriptors
        .filter_map(|entry| {
            let link = fs::read_link(entry.path())
                .ok()?
                .into_os_string()
                .into_string()
                .ok()?;
            let inode = link.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    ["tcp", "tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/net/{table}")).ok())
        .flat_map(|table| table.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(3) == Some(&"0A") && own.iter().any(|inode| words.get(9) == Some(&&**inode))
        })
        .collect()
}

/// Other users of the host find nothing that they could connect to.
fn the_network_of_a_container_listens_on_no_port_of_the_host() {
    if !has_taps("the_network_of_a_container_listens_on_no_port_of_the_host") {
        return;
    }
    // The test itself sees a port that is open.
    let open = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    let hex = format!(":{:04X}", open.local_addr().unwrap().port());
    assert!(listening(own).iter().any(|line| line.contains(&hex)));
    let (port, _) = mirror();
    let sandbox = ContainerSandbox::new();
    sandbox.describe(
        "tbz",
        "tbz",
        "echo waits >>/bundle/result.log; busybox sleep 1000",
    );
    let mut command = sandbox.build_command("tbz", "out", &["--verbose"]);
    command
        .env("XDG_CACHE_HOME", sandbox.path("cache"))
        .env("http_proxy", format!("http://127.0.0.1:{port}"));
    let mut running = Running::start(&mut command);
    running.wait_for("waits");
    assert_eq!(listening(running.pid().as_raw()), [""; 0]);
    running.signal(Signal::SIGINT);
    drop(running.finish());
    sandbox.assert_nothing_left();
}

fn a_container_without_the_cache_has_the_network_of_the_host() {
    let sandbox = ContainerSandbox::new();
    sandbox.describe("tbz", "tbz", &script("127.0.0.1", 1));
    ProcessOutput::of(&mut build(&sandbox, &["--no-package-cache"])).expect(0, &[]);
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(sandbox.read("out/namespace").trim(), own.to_str().unwrap());
    sandbox.assert_nothing_left();
}
