//! A root tree from archives: one, or the layers of a container image on top of each other.

mod archive;
mod boot_files;
mod kind;
mod names;
mod oci;
mod section;

use std::error::Error;
use std::io::{BufWriter, Write};

use crate::connection::Connection;
use crate::job::{TreeFacts, TreeJob, TreeSource};
pub(crate) use archive::{open as open_archive, reader};
use names::Tree;
pub(crate) use section::Section;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzz::merge;

#[cfg(test)]
mod tests;

/// Puts a tree together from the parent's files.
pub(crate) fn put_together(
    parent: &mut Connection,
    job: &TreeJob,
) -> Result<TreeFacts, Box<dyn Error>> {
    let layers = match job.source {
        TreeSource::Archive => vec![Section::whole(parent.file()?)],
        TreeSource::OciArchive => {
            let archive = oci::Layout::of_archive(parent.file()?)?;
            oci::layers(&archive, &job.arch)?
        }
        TreeSource::DockerArchive => {
            let archive = oci::Layout::of_docker_archive(parent.file()?)?;
            oci::docker_layers(&archive)?
        }
        TreeSource::OciFolder => {
            let open = |name: &str| parent.want(name).map(Section::whole);
            oci::layers(&oci::Layout::of_folder(&open), &job.arch)?
        }
    };
    let tree = Tree::read(layers, job.source != TreeSource::Archive)?;
    let mut out = BufWriter::with_capacity(1 << 20, parent.file()?);
    let mut kernel = job.kernel.then(|| parent.file()).transpose()?;
    let mut initrd = job.initrd.then(|| parent.file()).transpose()?;
    let files = boot_files::find(&tree);
    let found = [
        kernel.as_ref().and(files.kernel),
        initrd.as_ref().and(files.initrd),
    ];
    let facts = TreeFacts {
        kernel: found[0].is_some(),
        initrd: found[1].is_some(),
    };
    if kernel.is_some() && !facts.kernel {
        return Ok(facts);
    }
    let mut copies: Vec<(Vec<u8>, &mut dyn Write)> = Vec::new();
    for (name, file) in found.into_iter().zip([&mut kernel, &mut initrd]) {
        if let (Some(name), Some(file)) = (name, file) {
            copies.push((name, file));
        }
    }
    tree.write(&mut out, &mut copies)?;
    out.flush()?;
    Ok(facts)
}

#[cfg(any(test, feature = "fuzzing"))]
mod fuzz {
    use std::fs::File;

    use super::archive::LayerError;
    use super::names::Tree;
    use super::section::Section;

    /// Merges layers into one archive.
    pub(crate) fn merge(layers: Vec<File>, whiteouts: bool) -> Result<Vec<u8>, LayerError> {
        let layers = layers.into_iter().map(Section::whole).collect();
        let mut bytes = Vec::new();
        Tree::read(layers, whiteouts)?.write(&mut bytes, &mut [])?;
        Ok(bytes)
    }
}
