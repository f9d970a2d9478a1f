//! What a jailed process finds around it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use boxbuild_jail::{
    Capabilities, Confinement, Entered, FileAccess, Jail, Launch, Limits, Program, Role,
};

use crate::Test;

const SOON: Duration = Duration::from_secs(20);

pub const ROLES: &[Role] = &[
    Role {
        name: "echo",
        run: echo,
    },
    Role {
        name: "describe",
        run: describe,
    },
    Role {
        name: "open",
        run: open,
    },
    Role {
        name: "grow",
        run: grow,
    },
];

pub const TESTS: &[Test] = crate::tests![
    a_child_gets_its_configuration_and_files,
    a_child_has_nothing_of_its_parents_surroundings,
    a_locked_process_cannot_be_dumped_or_gain_privileges,
    only_what_is_allowed_is_opened_by_name,
    limits_hold,
    a_role_without_a_parent_is_refused,
];

fn echo(mut entered: Entered) -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = entered.config()?;
    let mut text = words.join(" ");
    entered.file()?.read_to_string(&mut text)?;
    assert!(entered.file().is_err(), "there is one file only");
    entered.channel().send(text.as_bytes(), &[])?;
    Ok(())
}

fn a_child_gets_its_configuration_and_files() {
    let (file, mut pipe) = std::io::pipe().unwrap();
    pipe.write_all(b"!").unwrap();
    drop(pipe);
    let child = Launch::new(&Program::this(), "echo")
        .descriptor(&file)
        .start(&["hello", "jail"])
        .unwrap();
    let reply = child.channel().receive(Some(SOON)).unwrap().unwrap();
    assert_eq!(reply, b"hello jail!");
    assert_eq!(child.channel().receive(Some(SOON)).unwrap(), None);
    assert!(child.wait(SOON).unwrap().is_good());
}

/// Sends `/proc/self/status` and what else it knows of itself.
fn describe(entered: Entered) -> Result<(), Box<dyn Error>> {
    let files = fs::read_dir("/proc/self/fd")?.count();
    let environment: Vec<_> = std::env::vars_os().collect();
    let here = std::env::current_dir()?;
    let group = nix::unistd::getpgrp();
    let before = format!(
        "files:\t{files}\nenvironment:\t{environment:?}\nfolder:\t{}\nown group:\t{}\n",
        here.display(),
        group == nix::unistd::getpid()
    );
    let mut file = File::open("/proc/self/status")?;
    let jail = Jail {
        capabilities: Capabilities::Files,
        ..Jail::default()
    };
    jail.lock()?;
    let mut text = before;
    file.read_to_string(&mut text)?;
    let dumpable = nix::sys::prctl::get_dumpable()?;
    text += &format!("\ndumpable:\t{dumpable}\n");
    let (core, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE)?;
    text += &format!("core:\t{core}\n");
    entered.channel().send(text.as_bytes(), &[])?;
    Ok(())
}

fn description() -> BTreeMap<String, String> {
    let child = Launch::new(&Program::this(), "describe")
        .start(&())
        .unwrap();
    let reply = child.channel().receive(Some(SOON)).unwrap();
    let reply = reply.unwrap_or_else(|| panic!("{:?}", child.wait(SOON)));
    String::from_utf8_lossy(&reply)
        .lines()
        .filter_map(|line| line.split_once(":\t"))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn a_child_has_nothing_of_its_parents_surroundings() {
    let _open = File::open("/dev/null").unwrap();
    let leaky = File::open("/dev/null").unwrap();
    let flags = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty());
    nix::fcntl::fcntl(leaky.as_fd(), flags).unwrap();
    let child = description();
    // 0, 1, 2, and the listing itself.
    assert_eq!(child["files"], "4");
    assert_eq!(child["environment"], "[]");
    assert_eq!(child["folder"], "/");
    assert_eq!(child["own group"], "true");
    assert_eq!(child["Name"], "describe");
}

fn a_locked_process_cannot_be_dumped_or_gain_privileges() {
    let child = description();
    assert_eq!(child["NoNewPrivs"], "1");
    assert_eq!(child["dumpable"], "false");
    assert_eq!(child["core"], "0");
    let capabilities = u64::from_str_radix(&child["CapPrm"], 16).unwrap();
    assert_eq!(capabilities & !0xe, 0, "{capabilities:#x}");
    // The filter that hides clone3(2).
    if Confinement::of_host().seccomp {
        assert_eq!(child["Seccomp"], "2");
    }
}

/// Locks itself into the folder that it is given, and tries the names of the configuration.
fn open(mut entered: Entered) -> Result<(), Box<dyn Error>> {
    let (access, names): (String, Vec<String>) = entered.config()?;
    let folder = entered.file()?;
    let access = match access.as_str() {
        "read" => FileAccess::Read,
        _ => FileAccess::Write,
    };
    Jail::default().allow(&folder, access).lock()?;
    let opened: Vec<String> = names
        .iter()
        .map(|name| match name.strip_prefix('+') {
            Some(name) => File::create(name).map(|_| ()),
            None => File::open(name).map(|_| ()),
        })
        .map(|result| match result {
            Ok(()) => String::from("opened"),
            Err(error) => format!("{:?}", error.kind()),
        })
        .collect();
    entered.channel().send(opened.join(" ").as_bytes(), &[])?;
    Ok(())
}

fn only_what_is_allowed_is_opened_by_name() {
    if !matches!(
        Confinement::of_host().landlock,
        boxbuild_jail::Landlock::Enforced(_)
    ) {
        println!("skipped: only_what_is_allowed_is_opened_by_name: no Landlock");
        return;
    }
    let folder = std::env::temp_dir().join(format!("boxbuild-jail-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("there"), "").unwrap();
    let there = folder.join("there").display().to_string();
    let new = format!("+{}", folder.join("new").display());
    let file = File::open(&folder).unwrap();
    let attempt = |access: &str| {
        let names = [
            there.as_str(),
            "/etc/passwd",
            new.as_str(),
            "+/tmp/boxbuild-escaped",
        ];
        let child = Launch::new(&Program::this(), "open")
            .descriptor(&file)
            .start(&(access, names))
            .unwrap();
        let reply = child.channel().receive(Some(SOON)).unwrap().unwrap();
        String::from_utf8(reply).unwrap()
    };
    let read = attempt("read");
    let write = attempt("write");
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(
        read,
        "opened PermissionDenied PermissionDenied PermissionDenied"
    );
    assert_eq!(write, "opened PermissionDenied opened PermissionDenied");
}

/// Uses what the configuration names until it ends.
fn grow(mut entered: Entered) -> Result<(), Box<dyn Error>> {
    let what: String = entered.config()?;
    let limits = Limits {
        open_files: Some(20),
        memory: Some(1 << 30),
        file_size: Some(1 << 20),
        processor: Some(Duration::from_secs(1)),
    };
    Jail {
        limits,
        ..Jail::default()
    }
    .lock()?;
    match what.as_str() {
        "memory" => {
            let bytes = vec![1_u8; 2 << 30];
            Ok(entered.channel().send(&bytes[..1], &[])?)
        }
        "file" => {
            let mut file = entered.file()?;
            file.write_all(&vec![1; 1 << 20])?;
            Ok(file.write_all(&[1])?)
        }
        "files" => {
            let channel = entered.channel();
            let mut files = vec![channel.as_fd().try_clone_to_owned()?];
            loop {
                let next = channel.as_fd().try_clone_to_owned()?;
                files.push(next);
            }
        }
        _ => loop {
            std::hint::spin_loop();
        },
    }
}

fn limits_hold() {
    let end = |what: &str, file: &File| {
        let child = Launch::new(&Program::this(), "grow")
            .descriptor(file)
            .start(&what)
            .unwrap();
        let exit = child.wait(SOON).unwrap();
        (
            exit.to_string(),
            String::from_utf8_lossy(&exit.words).into_owned(),
        )
    };
    let null = File::open("/dev/null").unwrap();
    let (_, words) = end("memory", &null);
    assert!(words.contains("memory allocation of"), "{words}");
    let (exit, words) = end("processor", &null);
    assert!(
        exit.contains("used up its processor time") || exit.contains("killed"),
        "{exit} {words}"
    );
    let (_, words) = end("files", &null);
    assert!(words.contains("Too many open files"), "{words}");
    let name = std::env::temp_dir().join(format!("boxbuild-jail-file-{}", std::process::id()));
    let file = File::create_new(&name).unwrap();
    fs::remove_file(&name).unwrap();
    let (_, words) = end("file", &file);
    assert!(words.contains("File too large"), "{words}");
    assert_eq!(file.metadata().unwrap().len(), 1 << 20);
}

fn a_role_without_a_parent_is_refused() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("jailed:echo")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains("not for users"), "{words}");
}
