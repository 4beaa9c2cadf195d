//! A data file that is read and never written: what is written to it stays in memory.
//!
//! After an error of the system redb reads nothing any more, and opening its file again repairs it. The file must stay
//! as the error left it, because the next start finds out what is in it. So the repair happens here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// Bytes that are kept in memory together.
const PAGE: usize = 4_096;

/// A file under a layer of pages that were written since it was opened.
#[derive(Debug)]
pub(super) struct Frozen(Mutex<Layers>);

#[derive(Debug)]
struct Layers {
    file: File,
    /// Bytes of the file that are still visible.
    of_file: u64,
    length: u64,
    written: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Frozen {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self(Mutex::new(Layers { file, of_file: length, length, written: BTreeMap::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Layers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layers {
    /// Reads within one page.
    fn read(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (page, at) = (offset / PAGE as u64, (offset % PAGE as u64) as usize);
        if let Some(written) = self.written.get(&page) {
            out.copy_from_slice(&written[at..at + out.len()]);
            return Ok(());
        }
        let here = self.of_file.saturating_sub(offset).min(out.len() as u64) as usize;
        let (from_file, beyond) = out.split_at_mut(here);
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(from_file)?;
        beyond.fill(0);
        Ok(())
    }

    /// Writes within one page.
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (page, at) = (offset / PAGE as u64, (offset % PAGE as u64) as usize);
        if !self.written.contains_key(&page) {
            let mut bytes = Box::new([0; PAGE]);
            self.read(page * PAGE as u64, &mut *bytes)?;
            self.written.insert(page, bytes);
        }
        let written = self.written.get_mut(&page).expect("it was inserted");
        written[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// Divides a range of bytes at the borders of pages.
fn pages(offset: u64, bytes: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = offset + from as u64;
        let to = (from + PAGE - (at % PAGE as u64) as usize).min(bytes);
        let range = from..to;
        from = to;
        (!range.is_empty()).then_some((at, range))
    })
}

impl StorageBackend for Frozen {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut layers = self.lock();
        if offset + out.len() as u64 > layers.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        pages(offset, out.len()).try_for_each(|(at, range)| layers.read(at, &mut out[range]))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut layers = self.lock();
        layers.of_file = layers.of_file.min(length);
        if let Some(page) = layers.written.get_mut(&(length / PAGE as u64)) {
            page[(length % PAGE as u64) as usize..].fill(0);
        }
        drop(layers.written.split_off(&length.div_ceil(PAGE as u64)));
        layers.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut layers = self.lock();
        pages(offset, data.len()).try_for_each(|(at, range)| layers.write(at, &data[range]))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_reads_what_was_written_and_the_file_stays_as_it_was(
            length in 0usize..20_000,
            steps in prop::collection::vec((any::<bool>(), 0usize..20_000, 0usize..9_000, any::<u8>()), 1..20),
        ) {
            let mut plain: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&plain).unwrap();
            let frozen = Frozen::new(file.reopen().unwrap()).unwrap();
            for (is_write, at, bytes, value) in steps {
                if is_write {
                    let end = (at + bytes).max(plain.len());
                    frozen.set_len(end as u64).unwrap();
                    plain.resize(end, 0);
                    frozen.write(at as u64, &vec![value; bytes]).unwrap();
                    plain[at..at + bytes].fill(value);
                } else {
                    frozen.set_len(at as u64).unwrap();
                    plain.resize(at, 0);
                }
                let mut read = vec![1; plain.len()];
                frozen.read(0, &mut read).unwrap();
                prop_assert_eq!(&read, &plain);
                prop_assert_eq!(frozen.len().unwrap(), plain.len() as u64);
                prop_assert!(frozen.read(1, &mut read).is_err() || read.is_empty());
            }
            prop_assert_eq!(std::fs::read(file.path()).unwrap().len(), length);
        }
    }
}
