//! A log of one topic in files of its own: what is appended is durable after one short write.
//!
//! ```text
//! appender ──► thread: write, synchronise ──► State { segments, next } ◄── readers: by offset, from the files
//! <first offset>.journal, <first offset>.journal, …       the oldest go whole, the newest is written to
//! ahead                                                   the next one, in the making
//! spare                                                   one that was forgotten, to be the next but one
//! ```
//!
//! Invariants
//! - Offsets begin at 1 and have no gaps; entries that were appended together are all there or not at all.
//! - What [`Appender::append`] answered with `Ok` survives a power cut. What it answered with
//!   [`AppendError::NotWritten`] is not there, also not after a restart.
//! - Nothing at or above the owner's floor is forgotten ([`Journal::set_floor`]): the owner still needs it.

mod ahead;
mod appender;
mod frame;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use store::StoreError;

use crate::{Outgoing, Record};
pub use appender::{AppendError, Appender, Appending};
use segment::{Scan, io_error};

/// Frames at least this far apart are remembered by their place, so that a reader need not start at the beginning.
const MARK_EVERY: u64 = 64 * 1024;

/// An entry as it was appended.
#[derive(Clone, Debug)]
pub struct Entry {
    pub offset: i64,
    /// When it was appended, microseconds since 1970.
    pub time_us: i64,
    pub record: Outgoing,
    /// What only the owner of the journal reads.
    pub note: Bytes,
}

/// The readers' end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    state: Mutex<State>,
    /// Entries from here on are not forgotten.
    floor: AtomicI64,
    /// Frames that could not be written.
    failures: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// By first offset; the last one is written to.
    segments: BTreeMap<i64, Segment>,
    /// Offset of the next entry.
    next: i64,
}

#[derive(Clone, Debug)]
struct Segment {
    path: PathBuf,
    /// Where its last frame ends.
    end: u64,
    /// Offsets of some frames and their places, in order; the first one is that of the first frame.
    marks: Vec<(i64, u64)>,
    /// When something was written to it last.
    last_us: i64,
}

impl Segment {
    fn new(path: PathBuf, first: i64, last_us: i64) -> Self {
        Self { path, end: segment::START, marks: vec![(first, segment::START)], last_us }
    }

    /// A frame that begins with offset `first` lies at `place`.
    fn mark(&mut self, first: i64, place: u64) {
        if self.marks.last().is_none_or(|(_, last)| place >= last + MARK_EVERY) {
            self.marks.push((first, place));
        }
    }
}

/// What may be forgotten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forget {
    /// Everything below was read by all groups.
    pub(crate) read: i64,
    /// What was read goes when it is older than this.
    pub(crate) before_us: i64,
    /// What was read goes beyond this size whatever its age.
    pub(crate) soft_bytes: u64,
    /// The oldest go beyond this size, read or not.
    pub(crate) hard_bytes: u64,
}

impl Journal {
    /// Opens the journal of folder `dir`, or makes it. Offsets that it gives out are above `at_least`, also when the folder
    /// was lost. Reads the newest segment; blocks meanwhile.
    pub fn open(dir: &Path, at_least: i64) -> Result<(Self, Appender), StoreError> {
        let failed = |error: io::Error| io_error(dir, &error);
        if !dir.exists() {
            fs::create_dir_all(dir).map_err(failed)?;
            fs::File::open(segment::parent(dir)).and_then(|parent| parent.sync_all()).map_err(failed)?;
        }
        let mut segments = BTreeMap::new();
        for (first, path) in segment::list(dir).map_err(failed)? {
            let about = fs::metadata(&path).map_err(failed)?;
            let last_us = about.modified().map(micros_of).unwrap_or_default();
            segments.insert(first, Segment { end: about.len(), ..Segment::new(path, first, last_us) });
        }
        let mut next = at_least.saturating_add(1).max(1);
        while let Some(newest) = segments.last_entry() {
            match end_of(*newest.key(), newest.get())? {
                Some((after, end)) => {
                    let newest = newest.into_mut();
                    newest.end = end;
                    // Gives back the zeros behind it, or what a kill left.
                    fs::File::options()
                        .write(true)
                        .open(&newest.path)
                        .and_then(|file| file.set_len(end))
                        .map_err(failed)?;
                    if after < next {
                        set_aside(&mut segments, after, next).map_err(failed)?;
                    }
                    next = next.max(after);
                    break;
                }
                // The process ended while it made the file.
                None => {
                    fs::remove_file(&newest.get().path).map_err(failed)?;
                    newest.remove();
                }
            }
        }
        let state = Mutex::new(State { segments, next });
        let (floor, failures) = (AtomicI64::new(i64::MAX), AtomicU64::new(0));
        let shared = Arc::new(Shared { dir: dir.to_owned(), state, floor, failures });
        let appender = Appender::start(shared.clone()).map_err(failed)?;
        Ok((Self { shared }, appender))
    }

    /// Offset of the next entry.
    pub fn next(&self) -> i64 {
        self.shared.state.lock().next
    }

    /// Offset of the oldest entry; of the next one when there is none.
    pub fn first(&self) -> i64 {
        let state = self.shared.state.lock();
        state.segments.keys().next().copied().unwrap_or(state.next).min(state.next)
    }

    /// Bytes in its files.
    pub fn bytes(&self) -> u64 {
        self.shared.state.lock().bytes()
    }

    /// Keeps everything from `offset` on, whoever has read it.
    pub fn set_floor(&self, offset: i64) {
        self.shared.floor.store(offset, Ordering::Release);
    }

    /// Forgets what lies below the floor, whoever has not read it: for an owner whose records go another way.
    pub fn forget_below_floor(&self) -> Result<(), StoreError> {
        let all = Forget { read: i64::MAX, before_us: i64::MAX, soft_bytes: 0, hard_bytes: u64::MAX };
        self.forget(all).map(drop)
    }

    /// Entries from offset `from` on: at most `max_entries`, and no more after `max_bytes`. What was forgotten is passed
    /// over. Blocks.
    pub fn read(&self, from: i64, max_entries: usize, max_bytes: usize) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut from = from;
        while let Some((first, segment, next)) = self.shared.segment_with(from) {
            let (offset, place) = segment
                .marks
                .iter()
                .rev()
                .find(|(offset, _)| *offset <= from)
                .copied()
                .unwrap_or((first, segment::START));
            match read_segment(&segment, (offset, place), first, next, &mut |frame| {
                if frame.next() <= from {
                    return Ok(true);
                }
                for entry in frame.entries().ok_or(())? {
                    if entry.offset < from {
                        continue;
                    }
                    bytes += entry.record.key.len() + entry.record.payload.len();
                    entries.push(entry);
                    if entries.len() >= max_entries || bytes >= max_bytes {
                        return Ok(false);
                    }
                }
                Ok(true)
            }) {
                Ok(_) => {}
                // Forgotten since it was found, and its file perhaps used for another.
                Err(_) if !self.shared.has(first) => continue,
                // Somebody took it away.
                Err(Unread::Gone) => {
                    let missing = io::Error::from(io::ErrorKind::NotFound);
                    return Err(io_error(&segment.path, &missing));
                }
                Err(Unread::Failed(error)) => return Err(error),
            }
            if entries.len() >= max_entries || bytes >= max_bytes {
                break;
            }
            from = next;
        }
        Ok(entries)
    }

    /// Removes segments; answers how many entries went that a group has not read.
    pub(crate) fn forget(&self, what: Forget) -> Result<u64, StoreError> {
        let floor = self.shared.floor.load(Ordering::Acquire);
        let mut lost = 0;
        let mut state = self.shared.state.lock();
        loop {
            let mut two = state.segments.iter();
            let (Some((&first, oldest)), Some((&end, _))) = (two.next(), two.next()) else { return Ok(lost) };
            let bytes = state.bytes();
            let read = end <= what.read && (oldest.last_us < what.before_us || bytes > what.soft_bytes);
            if end > floor || !(read || bytes > what.hard_bytes) {
                return Ok(lost);
            }
            match ahead::give_up(&oldest.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error(&oldest.path, &error));
                }
                _ => {}
            }
            lost += u64::try_from(end - first.max(what.read)).unwrap_or(0);
            state.segments.remove(&first);
        }
    }
}

impl State {
    fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.end).sum()
    }
}

impl Shared {
    fn has(&self, first: i64) -> bool {
        self.state.lock().segments.contains_key(&first)
    }

    /// The segment that holds `from`, or else the first one above: its first offset, a copy, and the offset after its last
    /// entry. `None`: there is nothing from there on.
    fn segment_with(&self, from: i64) -> Option<(i64, Segment, i64)> {
        let state = self.state.lock();
        if from >= state.next {
            return None;
        }
        let holding = state.segments.range(..=from).next_back();
        let (&first, segment) = holding.or_else(|| state.segments.range(from..).next())?;
        let after = state.segments.range(first + 1..).next();
        Some((first, segment.clone(), after.map_or(state.next, |(after, _)| *after)))
    }
}

enum Unread {
    /// There is no such file any more.
    Gone,
    Failed(StoreError),
}

/// Hands the frames from a mark on to `take`, until it says false or offset `next` is reached.
fn read_segment(
    segment: &Segment,
    mark: (i64, u64),
    first: i64,
    next: i64,
    take: &mut dyn FnMut(&frame::Frame) -> Result<bool, ()>,
) -> Result<(), Unread> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Unread::Gone,
        _ => Unread::Failed(io_error(&segment.path, &error)),
    };
    let damaged = |place| Unread::Failed(segment::damaged(&segment.path, place));
    let (mut offset, place) = mark;
    let mut scan =
        Scan::open(&segment.path, first, place, segment.end).map_err(failed)?.ok_or_else(|| damaged(0))?;
    while offset < next {
        let place = scan.place;
        let frame = scan.next().map_err(failed)?.filter(|frame| frame.first == offset);
        let frame = frame.ok_or_else(|| damaged(place))?;
        offset = frame.next();
        if !take(&frame).map_err(|()| damaged(place))? {
            break;
        }
    }
    Ok(())
}

/// The offset after the last entry of the newest segment, and where that ends; `None`: the file was never finished.
fn end_of(first: i64, segment: &Segment) -> Result<Option<(i64, u64)>, StoreError> {
    let failed = |error: io::Error| io_error(&segment.path, &error);
    let Some(mut scan) = Scan::open(&segment.path, first, segment::START, u64::MAX).map_err(failed)? else {
        return Ok(None);
    };
    let mut next = first;
    loop {
        let place = scan.place;
        match scan.next().map_err(failed)? {
            Some(frame) if frame.first == next => next = frame.next(),
            Some(_) => return Err(segment::damaged(&segment.path, place)),
            None => break,
        }
    }
    let end = scan.place;
    scan.check_end(next)?;
    Ok(Some((next, end)))
}

/// The owner knows of entries that the files do not hold: what is older cannot be told apart from what is missing.
fn set_aside(segments: &mut BTreeMap<i64, Segment>, ends: i64, next: i64) -> io::Result<()> {
    tracing::error!(
        ends,
        next,
        "entries of the journal are missing: its files are set aside, and what nobody has read is lost"
    );
    while let Some((_, segment)) = segments.pop_first() {
        fs::rename(&segment.path, segment.path.with_extension("journal.orphan"))?;
    }
    Ok(())
}

fn micros_of(time: std::time::SystemTime) -> i64 {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

impl Entry {
    /// What a reader of the topic gets.
    pub(crate) fn into_record(self) -> Record {
        self.record.into_record(self.offset, self.time_us)
    }
}
