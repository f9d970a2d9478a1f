//! Tar archives whose headers have bounded sizes.
//!
//! Names and attributes that do not fit into a header precede it in blocks of their own, whose length,
//! up to 4 GiB, the archive says (GNU `L` and `K`, pax `x`). The tar library keeps them in memory, and
//! so it does with the tables of sparse files. Here the library gets the bytes of an entry's content
//! and a limited number more, whatever it takes these for.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Bytes that an entry's headers may have: its name, a link's target, and attributes, of which Linux
/// has at most 64 KiB each.
const HEADERS: u64 = 256 << 10;

/// Reads as many bytes as are left.
#[derive(Debug)]
pub(crate) struct Metered<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 && !buffer.is_empty() {
            let text = format!(
                "the name and attributes of an entry take more than {} KiB",
                HEADERS >> 10
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let count = self.inner.read(&mut buffer[..most])?;
        self.left.set(left - count as u64);
        Ok(count)
    }
}

/// An archive.
pub(crate) struct Archive<R: Read> {
    tar: tar::Archive<Metered<R>>,
    left: Rc<Cell<u64>>,
}

/// An entry of an archive.
pub(crate) type Entry<'a, R> = tar::Entry<'a, Metered<R>>;

impl<R: Read> Archive<R> {
    pub(crate) fn new(inner: R) -> Archive<R> {
        let left = Rc::new(Cell::new(HEADERS));
        let metered = Metered {
            inner,
            left: Rc::clone(&left),
        };
        Archive {
            tar: tar::Archive::new(metered),
            left,
        }
    }

    /// Calls `action` with each entry and its number.
    pub(crate) fn for_each<E: From<io::Error>>(
        &mut self,
        mut action: impl FnMut(usize, &mut Entry<'_, R>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (number, entry) in self.tar.entries()?.enumerate() {
            let mut entry = entry?;
            // What is not read of the content is skipped, up to the end of its last block.
            let content = stored(&entry)?.saturating_add(512);
            self.left.set(HEADERS.saturating_add(content));
            action(number, &mut entry)?;
        }
        Ok(())
    }

    /// Returns what is left of the stream behind the entries.
    pub(crate) fn into_rest(self) -> R {
        self.tar.into_inner().inner
    }
}

/// Bytes of an entry's content in the archive: those of a sparse file without its holes.
fn stored<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<u64> {
    if entry.header().entry_type().is_gnu_sparse() {
        entry.header().entry_size()
    } else {
        Ok(entry.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive with one file, before which a header of the type `kind` has `length` bytes.
    fn archive(kind: tar::EntryType, length: u64) -> impl Read {
        let header = |name: &[u8], kind, size| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(size);
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
            header.set_cksum();
            io::Cursor::new(header.as_bytes().to_vec())
        };
        let padding = length.next_multiple_of(512) - length;
        header(b"././@LongLink", kind, length)
            .chain(io::repeat(b'a').take(length))
            .chain(io::repeat(0).take(padding))
            .chain(header(b"x.kernel", tar::EntryType::Regular, 6))
            .chain(io::Cursor::new(b"kernel"))
            .chain(io::repeat(0).take(2048))
    }

    fn names(reader: impl Read) -> io::Result<Vec<usize>> {
        let mut lengths = Vec::new();
        Archive::new(reader).for_each::<io::Error>(|_, entry| {
            lengths.push(entry.path_bytes().len());
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            assert_eq!(content, b"kernel");
            Ok(())
        })?;
        Ok(lengths)
    }

    /// Fault 20: a long name took up to 4 GiB of memory.
    #[test]
    fn a_long_name_is_refused_before_it_is_in_memory() {
        for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink] {
            names(archive(kind, 4000)).unwrap();
            let start = std::time::Instant::now();
            let error = names(archive(kind, 7 << 30)).unwrap_err();
            assert!(error.to_string().contains("256 KiB"), "{error}");
            assert!(start.elapsed().as_secs() < 10);
        }
        let error = names(archive(tar::EntryType::XHeader, 7 << 30)).unwrap_err();
        assert!(error.to_string().contains("256 KiB"), "{error}");
    }

    #[test]
    fn contents_of_any_size_are_read_or_skipped() {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, size) in [("a", 5_u64 << 20), ("b", 0), ("c", 3 << 20), ("d", 1)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            let content = io::repeat(7).take(size);
            builder.append_data(&mut header, name, content).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        for read in [false, true] {
            let mut count = 0;
            let mut archive = Archive::new(bytes.as_slice());
            archive
                .for_each::<io::Error>(|number, entry| {
                    assert_eq!(number, count);
                    count += 1;
                    if read {
                        let mut content = Vec::new();
                        entry.read_to_end(&mut content)?;
                        assert_eq!(content.len() as u64, entry.size());
                    }
                    Ok(())
                })
                .unwrap();
            assert_eq!(count, 4);
        }
    }
}
