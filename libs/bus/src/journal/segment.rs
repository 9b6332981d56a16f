//! One file of the journal.
//!
//! It begins with a header: mark, random seed, first offset, check. Behind the last frame it holds zeros, or what an older
//! segment held there, written before: so a frame changes neither the size of the file nor where its blocks are, and is
//! durable after one write to the disk.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::{BufMut, Bytes, BytesMut};
use store::StoreError;
use xxhash_rust::xxh3::xxh3_64;

use super::frame::{self, Frame};

/// Written first; its last byte is the version of the format.
const MARK: &[u8; 8] = b"tmjrnl\0\x01";
/// Mark, seed, first offset, check.
pub(super) const START: u64 = 8 + 8 + 8 + 8;
/// Ending of the files' names; before it is the first offset.
const ENDING: &str = "journal";
/// How far a damaged place may be skipped when it is asked whether frames follow.
const PLAUSIBLE_STEP: i64 = 1 << 32;

pub(super) fn path(dir: &Path, first: i64) -> PathBuf {
    dir.join(format!("{first:020}.{ENDING}"))
}

/// The segments of a folder by their first offset, in order.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(first) = stem.filter(|_| path.extension().is_some_and(|ending| ending == ENDING)) {
            found.push((first, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes the file, durably, with its header alone.
pub(super) fn create(path: &Path, first: i64, seed: u64) -> io::Result<File> {
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    if let Err(error) = begin(&file, first, seed).and_then(|()| sync_folder(path)) {
        fs::remove_file(path).ok();
        return Err(error);
    }
    Ok(file)
}

/// Writes the header, durably.
pub(super) fn begin(file: &File, first: i64, seed: u64) -> io::Result<()> {
    file.write_all_at(&start(first, seed), 0)?;
    file.sync_all()
}

/// Makes the name of a new file durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn start(first: i64, seed: u64) -> Vec<u8> {
    let mut start = MARK.to_vec();
    start.put_u64_le(seed);
    start.put_i64_le(first);
    let check = xxh3_64(&start);
    start.put_u64_le(check);
    start
}

/// The seed of a segment; `None` when its header was never completely written.
fn seed_of(start_bytes: &[u8], first: i64) -> Option<u64> {
    let seed = u64::from_le_bytes(start_bytes.get(8..16)?.try_into().ok()?);
    (start_bytes == start(first, seed)).then_some(seed)
}

/// Reads a segment from one of its frames on.
pub(super) struct Scan {
    path: PathBuf,
    file: BufReader<File>,
    pub(super) seed: u64,
    /// Where the next frame is.
    pub(super) place: u64,
    /// Where the file, or what counts of it, ends.
    end: u64,
}

impl Scan {
    /// From `place` to `end`; `None`: the header was never completely written.
    pub(super) fn open(path: &Path, first: i64, place: u64, end: u64) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let end = end.min(file.metadata()?.len());
        let mut header = [0; START as usize];
        if end < START {
            return Ok(None);
        }
        file.read_exact(&mut header)?;
        let Some(seed) = seed_of(&header, first) else { return Ok(None) };
        file.seek(SeekFrom::Start(place))?;
        let file = BufReader::with_capacity(64 * 1024, file);
        Ok(Some(Self { path: path.to_owned(), file, seed, place, end }))
    }

    /// The next frame; `None` when nothing that follows is one.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        let Some(room) = self.room() else { return Ok(None) };
        let mut header = [0; frame::HEADER];
        self.file.read_exact(&mut header)?;
        let Some((length, check)) = frame::header(&header).filter(|(length, _)| *length <= room) else {
            return Ok(None);
        };
        let mut body = BytesMut::zeroed(length);
        self.file.read_exact(&mut body)?;
        let frame = frame::open(body.freeze(), check, self.seed, self.place);
        if frame.is_some() {
            self.place += (frame::HEADER + length) as u64;
        }
        Ok(frame)
    }

    /// Bytes for a body.
    fn room(&self) -> Option<usize> {
        let left = usize::try_from(self.end.checked_sub(self.place)?).ok()?;
        left.checked_sub(frame::HEADER)
    }

    /// After the last frame from the front: an error when a whole one follows all the same. One write is under way at a
    /// time, so what a kill or a power cut leaves is one broken frame and nothing behind it; anything else is damage.
    pub(super) fn check_end(self, next: i64) -> Result<(), StoreError> {
        let failed = |error: io::Error| io_error(&self.path, &error);
        let rest = read_range(&self.path, self.place, self.end).map_err(failed)?;
        let rest = Bytes::from(rest);
        for at in 1..rest.len() {
            let Some((length, check)) = frame::header(&rest[at..]) else { continue };
            let from = at + frame::HEADER;
            let Some(body) = from.checked_add(length).filter(|end| *end <= rest.len()) else { continue };
            let claimed = frame::claimed_first(&rest[from..]);
            if !claimed.is_some_and(|first| first >= next && first - next < PLAUSIBLE_STEP) {
                continue;
            }
            let place = self.place + at as u64;
            if frame::open(rest.slice(from..body), check, self.seed, place).is_some() {
                return Err(damaged(&self.path, self.place));
            }
        }
        Ok(())
    }
}

fn read_range(path: &Path, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(to.saturating_sub(from)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn damaged(path: &Path, place: u64) -> StoreError {
    StoreError::Corrupt {
        file: path.display().to_string(),
        reason: format!("no entry is readable at byte {place}"),
    }
}

pub(super) fn io_error(path: &Path, error: &io::Error) -> StoreError {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full(text)
        }
        _ => StoreError::Unavailable(text),
    }
}
