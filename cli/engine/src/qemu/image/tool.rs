//! QEMU's tools for disk images, confined as QEMU itself is: an image is hostile.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::program;
use boxbuild_host::text::plain;
use serde_json::{Value, json};

use super::format::DiskFormat;
use crate::qemu::confine::Confinement;
use crate::qemu::process::inherit;
use crate::unusable::Unusable;

/// Time for a tool to read the headers of an image.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of its output that are read.
const MOST_OUTPUT: u64 = 1 << 20;
/// Names of files that the facts of an image may have in them (QAPI, `ImageInfo`).
const OTHER_FILES: [&str; 3] = ["backing-filename", "full-backing-filename", "data-file"];

/// A disk image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A program is missing.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// It names another file, which would be opened.
    #[error(
        "it is no whole image, but names another file ('{0}'), and what an image names is never \
         opened: make one file of it with 'qemu-img convert'"
    )]
    NamesFile(String),
    /// QEMU does not take it.
    #[error("QEMU cannot read it as {0}: {1}")]
    Damaged(&'static str, String),
    /// The host is in the way.
    #[error("cannot look at it with {0}")]
    Host(&'static str, #[source] io::Error),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// Returns the length of the disk in an image, in bytes.
///
/// # Errors
/// If it is damaged or names another file.
pub fn virtual_size(
    image: &File,
    format: DiskFormat,
    interrupt: &Interrupt,
) -> Result<u64, ImageError> {
    let mut own_name = String::new();
    let output = run("qemu-img", image, interrupt, |name| {
        name.clone_into(&mut own_name);
        vec!["info".into(), "--output=json".into(), node(name, format)]
    })?;
    if !output.0.success() {
        return Err(ImageError::Damaged(format.name(), output.words()));
    }
    let facts: Value = serde_json::from_slice(&output.1)
        .map_err(|error| ImageError::Damaged(format.name(), error.to_string()))?;
    if let Some(name) = other_file(&facts, &own_name) {
        return Err(ImageError::NamesFile(plain(name.as_bytes())));
    }
    facts["virtual-size"]
        .as_u64()
        .ok_or_else(|| ImageError::Damaged(format.name(), String::from("it has no length")))
}

/// Returns a file that the facts about the image `own_name` name.
fn other_file<'f>(facts: &'f Value, own_name: &str) -> Option<&'f str> {
    let named = OTHER_FILES.iter().find_map(|key| facts[key].as_str());
    let data = &facts["format-specific"]["data"];
    let extents = data["extents"].as_array().into_iter().flatten();
    named.or_else(|| data["data-file"].as_str()).or_else(|| {
        // An extent in the image itself has its name, to the letter: dots lead from it to any file.
        extents
            .filter_map(|extent| extent["filename"].as_str())
            .find(|name| *name != own_name)
    })
}

/// Returns the first `length` bytes of the disk in an image, or less if it is shorter.
///
/// # Errors
/// If it is damaged.
pub fn head(
    image: &File,
    format: DiskFormat,
    length: u64,
    interrupt: &Interrupt,
) -> Result<Vec<u8>, ImageError> {
    let output = run("qemu-io", image, interrupt, |name| {
        let read = format!("read -v 0 {length}");
        vec!["-r".into(), "-c".into(), read, node(name, format)]
    })?;
    if !output.0.success() {
        return Err(ImageError::Damaged(format.name(), output.words()));
    }
    Ok(bytes_of(&output.1))
}

/// The bytes in lines such as `00000000:  eb 63 90 …  .c..` (qemu-io, `read -v`).
fn bytes_of(dump: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(dump);
    let lines = text.lines().filter_map(|line| line.split_once(":  "));
    let lines = lines.filter(|(place, _)| u64::from_str_radix(place, 16).is_ok());
    lines
        .flat_map(|(_, bytes)| {
            // 16 bytes of three characters each; behind them, the same as text.
            let bytes = bytes.get(..48).unwrap_or(bytes);
            let bytes = bytes.split(' ').filter(|byte| byte.len() == 2);
            let bytes: Vec<u8> = bytes
                .map_while(|byte| u8::from_str_radix(byte, 16).ok())
                .collect();
            bytes
        })
        .collect()
}

/// The image `name` as the tools take it: no format is guessed, and nothing else is opened.
fn node(name: &str, format: DiskFormat) -> String {
    let file = json!({"driver": "file", "filename": name, "locking": "off"});
    let mut node = format.node(&file);
    if let Some(fields) = node.as_object_mut() {
        fields.remove("read-only");
    }
    format!("json:{node}")
}

/// How a tool ended, and what it said.
struct Output(ExitStatus, Vec<u8>, Vec<u8>);

impl Output {
    /// Its last words.
    fn words(&self) -> String {
        let text = self.2.split(|byte| *byte == b'\n').map(plain);
        let lines: Vec<String> = text.filter(|line| !line.trim().is_empty()).collect();
        let words = lines.join("; ");
        // The whole of the name above is not of use to the user.
        let words = words.rsplit("}': ").next().unwrap_or(&words);
        words.chars().take(500).collect()
    }
}

/// Runs a tool with the arguments for the name of `image`.
fn run(
    tool: &'static str,
    image: &File,
    interrupt: &Interrupt,
    arguments: impl FnOnce(&str) -> Vec<String>,
) -> Result<Output, ImageError> {
    let program = find(tool)?;
    let failed = |error| ImageError::Host(tool, error);
    let image: OwnedFd = image.try_clone().map_err(failed)?.into();
    let confinement = Confinement::new(&program, &[image.as_fd()], &[])
        .map_err(|error| failed(io::Error::other(error)))?;
    let name = format!("/proc/self/fd/{}", image.as_raw_fd());
    let mut command = Command::new(&program);
    command
        .args(arguments(&name))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    inherit(&mut command, std::slice::from_ref(&image));
    // SAFETY: it makes system calls only, all of which are async-signal-safe. Its rules are open until
    // after spawn().
    unsafe { command.pre_exec(confinement.apply()) };
    let child = command.spawn().map_err(failed)?;
    collect(child, interrupt).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => ImageError::Interrupted,
        _ => failed(error),
    })
}

/// Waits for a tool, and takes what it says. One that says too much, or takes too long, is killed, as is
/// one that the user does not wait for.
fn collect(mut child: Child, interrupt: &Interrupt) -> io::Result<Output> {
    let deadline = Instant::now() + PATIENCE;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::Builder::new().spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is all that there is.
            let _ = pipe.map(|pipe| pipe.take(MOST_OUTPUT).read_to_end(&mut bytes));
            bytes
        })
    };
    let stdout = read(stdout.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let stderr = read(stderr.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if interrupt.count() > 0 => break Err(io::ErrorKind::Interrupted.into()),
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(None) => break Err(io::ErrorKind::TimedOut.into()),
            Err(error) => break Err(error),
        }
    };
    if status.is_err() {
        // It may be gone already.
        let _ = child.kill();
        let _ = child.wait();
    }
    let ended = || io::Error::other("a thread ended early");
    let stdout = stdout?.join().map_err(|_| ended())?;
    let stderr = stderr?.join().map_err(|_| ended())?;
    Ok(Output(status?, stdout, stderr))
}

fn find(tool: &str) -> Result<PathBuf, Unusable> {
    program::find(tool).ok_or_else(|| {
        Unusable(format!(
            "the program {tool} is not installed (Debian and Ubuntu: qemu-utils, Fedora: qemu-img, \
             openSUSE: qemu-img)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn tools() -> bool {
        let there = find("qemu-img").is_ok() && find("qemu-io").is_ok();
        if !there {
            let _ = writeln!(
                io::stderr(),
                "skipped: tools for images: there is no qemu-img"
            );
        }
        there
    }

    fn none() -> Interrupt {
        Interrupt::default()
    }

    fn made(arguments: &[&str]) -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let status = Command::new(find("qemu-img").unwrap())
            .arg("create")
            .arg("-q")
            .args(arguments)
            .arg(&path)
            .arg("3M")
            .status();
        assert!(status.unwrap().success());
        let file = File::open(path).unwrap();
        (dir, file)
    }

    #[test]
    fn every_format_has_its_length_and_its_first_bytes() {
        if !tools() {
            return;
        }
        for (format, options) in [
            (DiskFormat::Raw, vec!["-f", "raw"]),
            (DiskFormat::Qcow2, vec!["-f", "qcow2"]),
            (
                DiskFormat::Vmdk,
                vec!["-f", "vmdk", "-o", "subformat=monolithicSparse"],
            ),
            (
                DiskFormat::Vhd,
                vec!["-f", "vpc", "-o", "subformat=fixed,force_size=on"],
            ),
            (DiskFormat::Vhdx, vec!["-f", "vhdx"]),
            (DiskFormat::Vdi, vec!["-f", "vdi"]),
        ] {
            let (_dir, file) = made(&options);
            assert_eq!(
                virtual_size(&file, format, &none()).unwrap(),
                3 << 20,
                "{format:?}"
            );
            assert_eq!(
                head(&file, format, 1024, &none()).unwrap(),
                [0; 1024],
                "{format:?}"
            );
        }
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..1024_u32).map(|number| number as u8).collect();
        file.write_all(&bytes).unwrap();
        assert_eq!(head(&file, DiskFormat::Raw, 1024, &none()).unwrap(), bytes);
    }

    /// The name leads to a file that is there, so that it would be found if it was opened.
    #[test]
    fn an_image_that_names_another_file_is_refused() {
        if !tools() {
            return;
        }
        let other = tempfile::NamedTempFile::new().unwrap();
        other.as_file().set_len(3 << 20).unwrap();
        let other = other.path().to_str().unwrap();
        let (_dir, file) = made(&["-f", "qcow2", "-F", "raw", "-b", other]);
        let error = virtual_size(&file, DiskFormat::Qcow2, &none()).unwrap_err();
        assert!(
            matches!(&error, ImageError::NamesFile(name) if name == other),
            "{error}"
        );
        let option = format!("data_file={other},data_file_raw=on");
        let (_dir, file) = made(&["-f", "qcow2", "-o", &option]);
        assert!(virtual_size(&file, DiskFormat::Qcow2, &none()).is_err());
        // A descriptor of VMware's, all of whose data is in another file.
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n\
             createType=\"monolithicFlat\"\n\nRW 6144 FLAT \"{other}\" 0\n"
        );
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        assert!(virtual_size(&file, DiskFormat::Vmdk, &none()).is_err());
    }

    /// `/proc/self/fd/../../..` is the root folder, and begins as the image's own name does.
    #[test]
    fn an_extent_is_the_images_own_only_by_its_whole_name() {
        let facts = |name: &str| {
            let data = json!({"extents": [{"filename": "/proc/self/fd/7"}, {"filename": name}]});
            json!({"format-specific": {"data": data}})
        };
        let own = "/proc/self/fd/7";
        assert_eq!(other_file(&facts(own), own), None);
        for name in [
            "/proc/self/fd/../../../etc/passwd",
            "/proc/self/fd/70",
            "json:{}",
            "/etc/passwd",
        ] {
            assert_eq!(other_file(&facts(name), own), Some(name));
        }
    }

    #[test]
    fn a_user_who_stops_it_does_not_wait_for_a_tool() {
        let interrupt = none();
        interrupt.request();
        let mut command = Command::new("sleep");
        command
            .arg("30")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let begun = Instant::now();
        let Err(error) = collect(command.spawn().unwrap(), &interrupt) else {
            panic!("it slept");
        };
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_is_no_image_is_said_to_be_damaged() {
        if !tools() {
            return;
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 4096]).unwrap();
        let error = virtual_size(&file, DiskFormat::Qcow2, &none()).unwrap_err();
        assert!(matches!(error, ImageError::Damaged(..)), "{error}");
        assert!(!error.to_string().contains("/proc/"), "{error}");
    }
}
