//! The file of the next segment, made ready beside the writing: the one who appends then waits neither for zeros nor for
//! blocks.
//!
//! Where a segment was forgotten its file is used again, so that nothing is written twice; else the file is filled with zeros.
//! What the old segment held does no harm: none of its frames has the new one's seed.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use super::segment;

/// Name of the file until it is a segment. What a kill left of it is made use of.
const NAME: &str = "ahead";
/// Name of the file of a segment that was forgotten, until it is made ready.
const SPARE: &str = "spare";
/// A file that is longer is not kept: one entry was as large.
const MOST_SPARE: u64 = 32 << 20;
/// Zeros written and synchronised at once: a frame that is written meanwhile waits for no more than this.
const PIECE: u64 = 128 * 1024;

/// What is to be the next segment.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    making: Option<JoinHandle<io::Result<File>>>,
    /// Not again before the next segment has begun: a disk that is full stays so for a while.
    tried: bool,
}

impl Ahead {
    /// Begins to fill a file of `bytes` in `dir`, once until it is taken.
    pub(super) fn make(&mut self, dir: &Path, bytes: u64) {
        if self.tried {
            return;
        }
        self.tried = true;
        let path = place(dir);
        let making = thread::Builder::new().name("journal-ahead".into()).spawn(move || fill(&path, bytes));
        self.making = making.ok();
    }

    /// Makes what is ready the segment at `path`, durably: the file, and how far it is filled. `None`: nothing is.
    pub(super) fn take(&mut self, dir: &Path, path: &Path, first: i64, seed: u64) -> Option<(File, u64)> {
        if self.making.as_ref().is_some_and(|making| !making.is_finished()) {
            return None;
        }
        self.tried = false;
        // Whatever failed here is met again, and said, by whoever makes the file without this.
        let file = self.making.take()?.join().ok()?.ok()?;
        let filled = file.metadata().ok()?.len();
        segment::begin(&file, first, seed).ok()?;
        fs::rename(place(dir), path).ok()?;
        match segment::sync_folder(path) {
            Ok(()) => Some((file, filled)),
            Err(_) => {
                fs::remove_file(path).ok();
                None
            }
        }
    }
}

/// Takes a segment's file out of the folder: kept for the next segment, if none is kept yet.
pub(super) fn give_up(path: &Path) -> io::Result<()> {
    let spare = path.with_file_name(SPARE);
    if spare.exists() || fs::metadata(path)?.len() > MOST_SPARE {
        return fs::remove_file(path);
    }
    fs::rename(path, spare)
}

fn place(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

fn fill(path: &Path, bytes: u64) -> io::Result<File> {
    if !path.exists() && fs::rename(path.with_file_name(SPARE), path).is_ok() {
        // Before it is written to: after a power cut no segment must have what is not its own.
        segment::sync_folder(path)?;
    }
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    match fill_up(&file, bytes) {
        Ok(()) => Ok(file),
        Err(error) => {
            // On a disk that is full, what there is serves others better.
            fs::remove_file(path).ok();
            Err(error)
        }
    }
}

fn fill_up(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(PIECE).unwrap_or_default()];
    let mut filled = file.metadata()?.len();
    while filled < bytes {
        file.write_all_at(&zeros, filled)?;
        file.sync_data()?;
        filled += PIECE;
    }
    file.sync_all()
}
