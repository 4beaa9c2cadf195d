//! A disk in memory that can fail, and that loses at a power cut what was not synced.

use std::io;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use redb::StorageBackend;

/// A disk. Clones share its state.
#[derive(Debug, Clone, Default)]
pub struct Medium(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Content that reads return.
    now: Vec<u8>,
    /// Content as of the last sync.
    synced: Vec<u8>,
    /// Operations since then.
    unsynced: Vec<Op>,
    /// Number of writes, syncs and changes of length.
    ops: u64,
    fault: Option<Fault>,
    /// True if every operation fails from now on.
    dead: bool,
}

#[derive(Debug)]
enum Op {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// A planned failure.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Index of the operation that fails, counted from now.
    pub at: u64,
    /// The system's number of the error.
    pub error: i32,
    /// True if all later operations fail too.
    pub lasts: bool,
}

const SECTOR: usize = 512;

impl Medium {
    /// A disk with this content, all of it synced.
    pub fn with(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { now: image.clone(), synced: image, ..State::default() })))
    }

    /// Plans a fault.
    pub fn fail(&self, fault: Fault) {
        let mut state = self.0.lock().unwrap();
        state.fault = Some(Fault { at: state.ops + fault.at, ..fault });
    }

    /// Number of writes, syncs and changes of length.
    pub fn ops(&self) -> u64 {
        self.0.lock().unwrap().ops
    }

    /// Content after a power cut: all that was synced, and arbitrary sectors of later operations.
    pub fn after_power_cut(&self, random: &mut Rng) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        let mut image = state.synced.clone();
        let share = random.u64(..5);
        for op in &state.unsynced {
            if random.u64(..4) >= share {
                continue;
            }
            match op {
                Op::Length(length) => image.resize(*length, 0),
                Op::Write(at, bytes) => {
                    let torn = random.u64(..4) == 0;
                    for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                        if !torn || random.bool() {
                            write(&mut image, at + n * SECTOR, sector);
                        }
                    }
                }
            }
        }
        image
    }
}

impl State {
    fn op(&mut self) -> io::Result<()> {
        let fault = self.fault.filter(|fault| fault.at == self.ops);
        self.ops += 1;
        if let Some(fault) = fault {
            self.dead = fault.lasts;
            return Err(io::Error::from_raw_os_error(fault.error));
        }
        if self.dead { Err(io::Error::other("no power")) } else { Ok(()) }
    }
}

fn write(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    image.resize(image.len().max(at + bytes.len()), 0);
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let bytes = state.now.get(at(offset)..at(offset) + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.op()?;
        state.now.resize(at(length), 0);
        state.unsynced.push(Op::Length(at(length)));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.op()?;
        state.synced = state.now.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.op()?;
        write(&mut state.now, at(offset), data);
        state.unsynced.push(Op::Write(at(offset), data.to_vec()));
        Ok(())
    }
}
