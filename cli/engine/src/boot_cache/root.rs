//! What is known of a box's root file system without booting it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use boxbuild_host::digest::sha256;
use boxbuild_host::input;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_parsers::Parser;
use boxbuild_protocol::kernel_args;

use super::cache::Cache;

/// The kind of file system that `root=` among `items` of the kernel command line names on the
/// disk `image`, if that can be told.
pub fn kind(image: &Path, items: &[String]) -> Option<String> {
    let image = input::open(image).ok()?;
    let name = name(&image, kernel_args::value(items, "root")?)?;
    let cache = Cache::of_user("roots").ok();
    let known = cache.as_ref().and_then(|cache| cache.text(&name));
    let kind = match known {
        Some(kind) => kind,
        None => {
            let parser = Parser::new(Interrupt::of_process());
            let kind = match parser.root_kind(&image, items) {
                Ok(kind) => kind.unwrap_or_default(),
                Err(error) if error.is_final() => String::new(),
                Err(_) => return None,
            };
            if let Some(cache) = cache {
                // What cannot be kept is found again.
                let _ = cache.keep_text(&name, &kind);
            }
            kind
        }
    };
    (!kind.is_empty()).then_some(kind)
}

/// The name that the answer is kept under: the identity of the file as the host knows it, not what a
/// box's description says of it.
fn name(image: &File, root: &str) -> Option<String> {
    let file = image.metadata().ok()?;
    let key = format!(
        "{}:{}:{}:{}.{}:{}.{}:{root}",
        file.dev(),
        file.ino(),
        file.len(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec()
    );
    sha256(&mut key.as_bytes()).ok().map(|(_, hash)| hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_belongs_to_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a"), "same").unwrap();
        std::fs::write(path("b"), "same").unwrap();
        let named = |file: &str, root| name(&File::open(path(file)).unwrap(), root).unwrap();
        assert_eq!(named("a", "/dev/vda1"), named("a", "/dev/vda1"));
        assert_ne!(named("a", "/dev/vda1"), named("b", "/dev/vda1"));
        assert_ne!(named("a", "/dev/vda1"), named("a", "/dev/vda2"));
        let before = named("a", "/dev/vda1");
        std::fs::write(path("a"), "other").unwrap();
        assert_ne!(named("a", "/dev/vda1"), before);
    }
}
