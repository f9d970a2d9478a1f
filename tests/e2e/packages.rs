//! The cache of packages in the network of a machine (docs/package-cache.md). What it does with all kinds of
//! servers and guests is tested without a machine: `cli/package-cache/tests/cache`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use boxbuild_tests::{Running, Sandbox, leftovers};
use nix::sys::signal::Signal;
use serde_json::Value;

crate::tests! {
    Engine:
        packages_come_from_the_cache_in_the_second_build,
        a_machine_builds_offline_from_the_cache_alone,
        a_build_that_is_killed_leaves_no_process_of_the_cache;
}

pub(crate) const BYTES: usize = 300_000;

/// Serves packages at a port of the loopback. Returns it, and how many were sent.
pub(crate) fn mirror() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let serve = move |stream: &TcpStream| {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        while lines.any(|line| line.is_empty()) {
            count.fetch_add(1, Ordering::SeqCst);
            let head = format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=1000\r\nContent-Length: {BYTES}\r\n\r\n"
            );
            let mut stream = stream;
            let written = stream.write_all(head.as_bytes());
            if written
                .and_then(|()| stream.write_all(&[b'#'; BYTES]))
                .is_err()
            {
                return;
            }
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(&stream));
        }
    });
    (port, sent)
}

/// Fetches three packages over two connections.
fn script(port: u16) -> String {
    format!(
        "i=0
        while ! ip -4 address show | grep -q 10.0.2.15 && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
        ask() {{ printf 'GET /pool/%s.deb HTTP/1.1\\r\\nHost: 10.0.2.2:{port}\\r\\n%s\\r\\n' \"$1\" \"$2\"; }}
        {{ ask a; ask b 'Connection: close\r\n'; }} | nc -w 20 10.0.2.2 {port} | tr -dc '#' | wc -c >/result/counts
        ask c 'Connection: close\r\n' | nc -w 20 10.0.2.2 {port} | tr -dc '#' | wc -c >>/result/counts
        touch /result/image"
    )
}

fn packages_come_from_the_cache_in_the_second_build() {
    let (port, sent) = mirror();
    let sandbox = Sandbox::new(&script(port));
    let build = |options: &[&str]| {
        let mut command = sandbox.build_command(&[&["--json"], options].concat(), &[]);
        command.env("http_proxy", format!("http://127.0.0.1:{port}"));
        let output = Running::start(&mut command).finish();
        output.expect(0, &[]);
        assert_eq!(
            sandbox.result("counts"),
            format!("{}\n{BYTES}\n", 2 * BYTES)
        );
        let mut events = output
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let result = events.rfind(|event: &Value| event["event"] == "result");
        let packages = result.unwrap()["packages"].clone();
        (
            packages["from_cache_bytes"].as_u64(),
            packages["from_network_bytes"].as_u64(),
        )
    };
    let all = Some(3 * BYTES as u64);
    assert_eq!(build(&[]), (Some(0), all));
    assert_eq!(sent.load(Ordering::SeqCst), 3);
    assert_eq!(build(&[]), (all, Some(0)));
    assert_eq!(sent.load(Ordering::SeqCst), 3);
    assert_eq!(build(&["--no-package-cache"]), (None, None));
    assert_eq!(sent.load(Ordering::SeqCst), 6);
    sandbox.assert_nothing_left();
}

/// What comes from a server under its name, here its address, is there without it.
fn a_machine_builds_offline_from_the_cache_alone() {
    let (port, sent) = mirror();
    let named = script(port).replace("Host: 10.0.2.2", "Host: 127.0.0.1");
    let sandbox = Sandbox::new(&named);
    let build = |front: &[&str], address: &str| {
        let front = [&["--json"], front].concat();
        let mut command = sandbox.build_command(&front, &["--add-repo", address]);
        command.env("http_proxy", format!("http://127.0.0.1:{port}"));
        Running::start(&mut command).finish()
    };
    build(&[], &format!("http://127.0.0.1:{port}/x")).expect(0, &[]);
    assert_eq!(sent.load(Ordering::SeqCst), 3);
    // Any address leads to the cache, and to nothing else.
    let here = format!("nc -w 20 10.0.2.2 {port}");
    let offline = format!(
        "{}
        printf 'GET /pool/d.deb HTTP/1.1\r\nHost: mirror.invalid\r\nConnection: close\r\n\r\n' |
            nc -w 20 192.0.2.80 80 | head -n 1 >/result/status
        nc -w 5 198.51.100.7 443 </dev/null; echo $? >/result/closed
        nslookup mirror.invalid 10.0.2.3 >/result/name 2>&1",
        named.replace(&here, "nc -w 20 198.51.100.7 80")
    );
    sandbox.script(&offline);
    let output = build(&["--offline"], "http://mirror.invalid/x");
    output.expect(0, &[]);
    assert_eq!(
        sandbox.result("counts"),
        format!("{}\n{BYTES}\n", 2 * BYTES)
    );
    assert!(sandbox.result("status").contains("404 Not in the cache"));
    assert_eq!(sandbox.result("closed"), "1\n");
    assert!(sandbox.result("name").contains("192.0.2.80"));
    let address = "http://mirror.invalid/pool/d.deb";
    assert!(
        output
            .stdout
            .contains(&format!("\"not_in_cache\":[\"{address}\"]"))
    );
    let note = format!("not in the cache of packages: {address}");
    assert!(!output.stdout.contains(&note), "it was not needed");
    // A build that fails says what there was not.
    sandbox.script(&format!("{offline}; exit 7"));
    let output = build(&["--offline"], "http://mirror.invalid/x");
    output.expect(1, &[]);
    assert!(output.stdout.contains(&note), "{}", output.stdout);
    assert_eq!(sent.load(Ordering::SeqCst), 3);
    sandbox.assert_nothing_left();
}

fn a_build_that_is_killed_leaves_no_process_of_the_cache() {
    let (port, _) = mirror();
    let sandbox = Sandbox::new(&format!("{}; echo waits >>$log; sleep 1000", script(port)));
    let mut command = sandbox.build_command(&["--verbose"], &[]);
    command.env("http_proxy", format!("http://127.0.0.1:{port}"));
    let mut running = Running::start(&mut command);
    running.wait_for("waits");
    let jailed = leftovers::jailed(running.pid().as_raw());
    let is_cache = |process: &&PathBuf| {
        fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim_end() == "packages")
    };
    let cache = jailed
        .iter()
        .find(is_cache)
        .expect("a process of the cache")
        .clone();
    let status = fs::read_to_string(cache.join("status")).unwrap();
    if boxbuild_jail::seccomp::is_available() {
        assert!(status.contains("Seccomp:\t2\n"), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    running.signal(Signal::SIGKILL);
    drop(running.finish());
    let start = Instant::now();
    while cache.exists() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it is still there"
        );
        thread::sleep(Duration::from_millis(20));
    }
    sandbox.assert_nothing_left();
}
