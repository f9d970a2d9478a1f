//! What a box reaches over its network, and what is seen of the secrets that it is given for that.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use boxbuild_tests::{Running, Sandbox, skip};
use nix::libc;

crate::tests! {
    Engine:
        one_port_of_the_loopback_is_open_to_a_box,
        only_what_is_allowed_is_reached,
        a_host_that_changes_networks_keeps_its_boxs_names,
        names_are_those_of_this_host,
        large_packets_go_both_ways,
        proxies_of_any_form_reach_the_guest,
        two_hundred_downloads_at_once,
        a_public_network_reaches_no_address_of_this_host;
    Program:
        a_container_with_a_limited_network_is_refused;
    Qemu:
        a_password_on_the_kernel_command_line_is_no_argument;
}

/// Notes which of the given places answer with a greeting. A closed one resets at once.
const TRY: &str = "i=0
while ! ip -4 address show | grep -q 10.0.2.15 && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
try() {
    if nc -w 20 \"$1\" \"$2\" </dev/null 2>&1 | grep -q hello; then
        echo \"$3 open\"
    else
        echo \"$3 closed\"
    fi >>/result/reached
}
";

/// Greets every caller at a port of `ip`, which it returns.
fn greeter(ip: impl Into<IpAddr>) -> u16 {
    let listener = TcpListener::bind((ip.into(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A caller that is gone misses nothing.
            let _ = stream.and_then(|mut stream| stream.write_all(b"hello\n"));
        }
    });
    port
}

/// Whether a process of this host has `text` in its arguments.
pub(crate) fn is_an_argument(text: &str) -> bool {
    let mut processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes.any(|entry| {
        // Processes come and go.
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(text)
    })
}

/// An address of this host that is not its loopback's.
fn own_address() -> Option<IpAddr> {
    nix::ifaddrs::getifaddrs()
        .unwrap()
        .filter_map(|address| Some(IpAddr::V4(address.address?.as_sockaddr_in()?.ip())))
        .find(|ip| {
            let inside = ip.to_string().starts_with("10.0.2.");
            !ip.is_loopback() && !inside && !ip.to_string().starts_with("169.254.")
        })
}

/// Fault 17, and QEMU's own network, which has the whole loopback behind its gateway.
fn one_port_of_the_loopback_is_open_to_a_box() {
    let proxy = greeter(Ipv4Addr::LOCALHOST);
    let other = greeter(Ipv4Addr::LOCALHOST);
    let sandbox = Sandbox::new(&format!(
        "{TRY}try 10.0.2.2 {proxy} proxy; try 10.0.2.2 {other} other\n\
         try 169.254.169.254 80 metadata; try 127.0.0.1 {other} own"
    ));
    for (value, expected) in [
        (format!("http://127.0.0.1:{proxy}"), "open"),
        (format!("http://10.0.2.20:{proxy}"), "closed"),
    ] {
        let mut command = sandbox.build_command(&[], &[]);
        command.env("http_proxy", &value).env_remove("https_proxy");
        Running::start(&mut command).finish().expect(0, &[]);
        assert_eq!(
            sandbox.result("reached"),
            format!("proxy {expected}\nother closed\nmetadata closed\nown closed\n"),
            "{value}"
        );
    }
    sandbox.assert_nothing_left();
}

fn only_what_is_allowed_is_reached() {
    let Some(own) = own_address() else {
        return skip(
            "only_what_is_allowed_is_reached",
            "this host has no address but its loopback's",
        );
    };
    let (allowed, other) = (greeter(own), greeter(own));
    let sandbox = Sandbox::new(&format!(
        "{TRY}try {own} {allowed} allowed; try {own} {other} other\n\
         nslookup name.invalid 10.0.2.3 2>&1 | grep -qi nxdomain && echo refused >>/result/reached"
    ));
    let rule = format!("{own}:{allowed}");
    sandbox
        .build(&["--allow", &rule, "--allow", "mirror.invalid"], &[])
        .expect(0, &[]);
    assert_eq!(
        sandbox.result("reached"),
        "allowed open\nother closed\nrefused\n"
    );
    let plan = sandbox.build(&["--allow", &rule, "--dry-run"], &[]);
    plan.expect(0, &[]);
    assert!(plan.stdout.contains(&format!("{rule} and nothing else")));
}

/// A name server at `ip`, which answers with what `answer` makes of a question, if anything. Returns the
/// questions that come.
fn name_server(
    ip: &str,
    answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
) -> Receiver<Vec<u8>> {
    let socket = UdpSocket::bind((ip, 53)).unwrap();
    let (sender, questions) = channel();
    thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut message) {
            let _ = sender.send(message[..len].to_vec());
            if let Some(answer) = answer(&message[..len]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    questions
}

/// An answer that is only a code (RFC 1035, section 4.1.1): 3 is "no such name", 5 is "refused".
fn code(question: &[u8], code: u8) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2] |= 0x80;
    message[3] = code;
    message
}

/// An answer with one address to a question for one.
fn address(question: &[u8], ip: [u8; 4]) -> Vec<u8> {
    let mut message = code(question, 0);
    // The question ends with its type, of which only A has an answer, and its class.
    if question[question.len() - 3] == 1 {
        message[7] = 1;
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        message.extend(ip);
    }
    message
}

/// Lets `command`'s process, and no other, have each file in the place of another one.
fn with_files(command: &mut Command, files: &[(&Path, &str)]) {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
    let files: Vec<_> = files
        .iter()
        .map(|(file, place)| (text(file), text(Path::new(place))))
        .collect();
    let ids = format!("{0} {0} 1", nix::unistd::geteuid());
    let groups = format!("{0} {0} 1", nix::unistd::getegid());
    let done = |result: i32| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    let root = nix::unistd::geteuid().is_root();
    // SAFETY: the closure makes system calls, and opens files by names that are there.
    unsafe {
        command.pre_exec(move || {
            let (none, private) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
            if !root {
                // A namespace of its own, in which the user stays who it is.
                done(libc::unshare(libc::CLONE_NEWUSER))?;
                fs::write("/proc/self/uid_map", &ids)?;
                fs::write("/proc/self/setgroups", "deny")?;
                fs::write("/proc/self/gid_map", &groups)?;
            }
            done(libc::unshare(libc::CLONE_NEWNS))?;
            done(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
            for (file, place) in &files {
                let (file, place) = (file.as_ptr(), place.as_ptr());
                done(libc::mount(file, place, none, libc::MS_BIND, none.cast()))?;
            }
            Ok(())
        });
    }
}

/// Whether a process of this user may have other files in the place of this host's, and name servers of
/// ours are possible. If not, says so.
fn may_change_names(test: &str) -> bool {
    let mut command = Command::new("true");
    with_files(&mut command, &[(Path::new("/dev/null"), "/etc/hosts")]);
    let changed = command.status().is_ok_and(|status| status.success());
    let bound = UdpSocket::bind(("127.77.0.9", 53)).is_ok();
    if !changed || !bound {
        skip(
            test,
            "this user may not change its view of the host's files, or use port 53",
        );
    }
    changed && bound
}

fn has(questions: &Receiver<Vec<u8>>, name: &[u8]) -> bool {
    let mut questions = questions.try_iter();
    questions.any(|question| question.windows(name.len()).any(|part| part == name))
}

fn a_host_that_changes_networks_keeps_its_boxs_names() {
    if !may_change_names("a_host_that_changes_networks_keeps_its_boxs_names") {
        return;
    }
    let refuse = |question: &[u8]| Some(code(question, 5));
    let home = name_server("127.77.0.1", refuse);
    let away = name_server("127.77.0.2", refuse);
    let sandbox = Sandbox::new(
        "nslookup home.example 10.0.2.3; echo moving >>$log; sleep 12
         nslookup away.example 10.0.2.3; touch /result/image",
    );
    let list = sandbox.path("resolv.conf");
    fs::write(&list, "nameserver 127.77.0.1\n").unwrap();
    let mut command = sandbox.build_command(&["--verbose"], &[]);
    with_files(&mut command, &[(&list, "/etc/resolv.conf")]);
    let mut build = Running::start(&mut command);
    build.wait_for("moving");
    fs::write(&list, "nameserver 127.77.0.2\n").unwrap();
    build.finish().expect(0, &[]);
    assert!(has(&home, b"home"), "the first name server was not asked");
    assert!(has(&away, b"away"), "the second name server was not asked");
}

/// C1 and C2: a dead name server, a search list, and a hosts file.
fn names_are_those_of_this_host() {
    if !may_change_names("names_are_those_of_this_host") {
        return;
    }
    let dead = name_server("127.77.0.3", |_| None);
    let _good = name_server("127.77.0.4", |question| {
        let known = [
            &b"\x08packages\x04corp\x07example"[..],
            b"\x04full\x07example",
        ];
        let asked = |name: &&[u8]| question[12..].starts_with(name);
        Some(match known.iter().any(asked) {
            true => address(question, [192, 0, 2, 7]),
            false => code(question, 3),
        })
    });
    let sandbox = Sandbox::new(
        "for name in full.example packages mirror none; do
             start=$(cut -d. -f1 /proc/uptime)
             nslookup $name 10.0.2.3 2>&1 | sed -n 's/^Address.*: *\\(192.0.2.[0-9]*\\).*/\\1/p' |
                 tail -n 1 | sed \"s/^/$name /\" >>/result/found
             time=$(($(cut -d. -f1 /proc/uptime) - start))
             [ $time -lt 5 ] || echo $name $time s >>/result/found
         done; touch /result/image",
    );
    let (list, hosts) = (sandbox.path("resolv.conf"), sandbox.path("hosts"));
    fs::write(
        &list,
        "nameserver 127.77.0.3\nnameserver 127.77.0.4\nsearch corp.example\n",
    )
    .unwrap();
    fs::write(&hosts, "127.0.0.1 localhost\n192.0.2.8 mirror\n").unwrap();
    let mut command = sandbox.build_command(&[], &[]);
    with_files(
        &mut command,
        &[(&list, "/etc/resolv.conf"), (&hosts, "/etc/hosts")],
    );
    Running::start(&mut command).finish().expect(0, &[]);
    assert_eq!(
        sandbox.result("found"),
        "full.example 192.0.2.7\npackages 192.0.2.7\nmirror 192.0.2.8\n"
    );
    assert!(has(&dead, b"full"), "the first name server was not asked");
}

/// C6: Linux cuts them into fragments, and takes the answer as one.
fn large_packets_go_both_ways() {
    let sandbox = Sandbox::new(
        "for size in 1400 3000 20000 60000; do
             ping -c 1 -W 10 -s $size 10.0.2.2 >/dev/null 2>&1 && echo $size >>/result/sizes
         done; touch /result/image",
    );
    sandbox.build(&[], &[]).expect(0, &[]);
    assert_eq!(sandbox.result("sizes"), "1400\n3000\n20000\n60000\n");
}

/// C3: what the host has in one variable, every program of the guest finds.
fn proxies_of_any_form_reach_the_guest() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return skip(
            "proxies_of_any_form_reach_the_guest",
            "this host has no ::1",
        );
    };
    drop(listener);
    let proxy = greeter(std::net::Ipv6Addr::LOCALHOST);
    let sandbox = Sandbox::new(&format!(
        "{TRY}try 10.0.2.2 {proxy} proxy
         for name in http_proxy https_proxy no_proxy; do
             eval echo $name \\\"\\$$name\\\" >>/result/reached
         done"
    ));
    let mut command = sandbox.build_command(&[], &[]);
    for name in [
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "NO_PROXY",
        "HTTP_PROXY",
    ] {
        command.env_remove(name);
    }
    command
        .env("ALL_PROXY", format!("me:s3cret@[::1]:{proxy}"))
        .env("NO_PROXY", "localhost, 10.0.0.0/8");
    Running::start(&mut command).finish().expect(0, &[]);
    let value = format!("http://me:s3cret@10.0.2.2:{proxy}");
    assert_eq!(
        sandbox.result("reached"),
        format!(
            "proxy open\nhttp_proxy {value}\nhttps_proxy {value}\n\
             no_proxy localhost,10.0.0.0/8,10.0.2.2\n"
        )
    );
    sandbox.assert_nothing_left();
}

/// C5: all at once, and whole.
fn two_hundred_downloads_at_once() {
    const BYTES: usize = 100_000;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                // A caller that is gone misses nothing.
                let _ = stream.and_then(|mut stream| stream.write_all(&[b'x'; BYTES]));
            });
        }
    });
    let sandbox = Sandbox::new(&format!(
        "i=0; while [ $i -lt 200 ]; do
             (nc -w 60 10.0.2.2 {port} </dev/null | wc -c >/tmp/count.$i) & i=$((i+1))
         done; wait; cat /tmp/count.* | sort | uniq -c | tr -s ' ' >/result/counts
         touch /result/image"
    ));
    let mut command = sandbox.build_command(&[], &[]);
    command.env("http_proxy", format!("http://127.0.0.1:{port}"));
    Running::start(&mut command).finish().expect(0, &[]);
    assert_eq!(sandbox.result("counts"), format!(" 200 {BYTES}\n"));
}

fn a_public_network_reaches_no_address_of_this_host() {
    let Some(own) = own_address() else {
        return skip(
            "a_public_network_reaches_no_address_of_this_host",
            "this host has no address but its loopback's",
        );
    };
    let port = greeter(own);
    let script = format!("{TRY}try {own} {port} host");
    let sandbox = Sandbox::new(&script);
    for (network, expected) in [("user", "host open\n"), ("public", "host closed\n")] {
        sandbox.build(&["--network", network], &[]).expect(0, &[]);
        assert_eq!(sandbox.result("reached"), expected, "{network}");
    }
}

fn a_container_with_a_limited_network_is_refused() {
    let sandbox = Sandbox::new("");
    for limit in [&["--network", "public"], &["--allow", "a.example"]] {
        let front = [&limit[..], &["--container", "--engine", "auto"]].concat();
        sandbox
            .build(&front, &[])
            .expect(2, &["a container's network cannot be limited"]);
    }
    assert!(!sandbox.target().exists());
}

/// Fault 12: the guest's own init finds its proxies there.
fn a_password_on_the_kernel_command_line_is_no_argument() {
    let sandbox = Sandbox::new("cat /proc/cmdline >/result/cmdline");
    let mut command = sandbox.build_command(&["--boot", "compat", "--timeout", "20m"], &[]);
    // No other process has it.
    let secret = format!(
        "s3cret{}",
        sandbox.mark().replace(|c: char| !c.is_alphanumeric(), "")
    );
    let proxy = format!("http://me:{secret}@proxy.invalid:3128");
    command.env("http_proxy", &proxy);
    let mut build = Running::start(&mut command);
    let mut seen = false;
    while !build.has_ended() {
        assert!(!is_an_argument(&secret), "a process has it as an argument");
        seen |= is_an_argument("-preconfig");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(seen, "no QEMU was seen");
    build.finish().expect(0, &[]);
    let cmdline = sandbox.result("cmdline");
    assert!(
        cmdline.contains(&format!("http_proxy=_{proxy}_")),
        "{cmdline}"
    );
    sandbox.assert_nothing_left();
}
