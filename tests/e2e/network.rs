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

/// A name server at `ip`, which refuses all questions. Returns those that come.
fn name_server(ip: &str) -> Receiver<Vec<u8>> {
    let socket = UdpSocket::bind((ip, 53)).unwrap();
    let (sender, questions) = channel();
    thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut message) {
            let _ = sender.send(message[..len].to_vec());
            // An answer: "refused" (RFC 1035, section 4.1.1).
            message[2] |= 0x80;
            message[3] = 5;
            let _ = socket.send_to(&message[..len], from);
        }
    });
    questions
}

/// Lets `command`'s process, and no other, have `file` as its list of name servers.
fn with_name_servers(command: &mut Command, file: &Path) {
    let [file, list] = [file, Path::new("/etc/resolv.conf")]
        .map(|path| CString::new(path.as_os_str().as_bytes()).unwrap());
    let done = |result: i32| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: the closure only makes system calls.
    unsafe {
        command.pre_exec(move || {
            let (none, private) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
            done(libc::unshare(libc::CLONE_NEWNS))?;
            done(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
            let bind = libc::MS_BIND;
            done(libc::mount(
                file.as_ptr(),
                list.as_ptr(),
                none,
                bind,
                none.cast(),
            ))
        });
    }
}

fn a_host_that_changes_networks_keeps_its_boxs_names() {
    if !nix::unistd::geteuid().is_root() {
        return skip(
            "a_host_that_changes_networks_keeps_its_boxs_names",
            "only root can change a host's name servers",
        );
    }
    let (home, away) = (name_server("127.77.0.1"), name_server("127.77.0.2"));
    let sandbox = Sandbox::new(
        "nslookup home.example 10.0.2.3; echo moving >>$log; sleep 12
         nslookup away.example 10.0.2.3; touch /result/image",
    );
    let list = sandbox.path("resolv.conf");
    fs::write(&list, "nameserver 127.77.0.1\n").unwrap();
    let mut command = sandbox.build_command(&["--verbose"], &[]);
    with_name_servers(&mut command, &list);
    let mut build = Running::start(&mut command);
    build.wait_for("moving");
    fs::write(&list, "nameserver 127.77.0.2\n").unwrap();
    build.finish().expect(0, &[]);
    let has = |questions: Receiver<Vec<u8>>, name: &[u8]| {
        let mut questions = questions.try_iter();
        questions.any(|question| question.windows(name.len()).any(|part| part == name))
    };
    assert!(has(home, b"home"), "the first name server was not asked");
    assert!(has(away, b"away"), "the second name server was not asked");
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
