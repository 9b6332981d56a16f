//! The writing end: one thread that writes and synchronises, because that blocks.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
};

use store::StoreError;
use tokio::sync::oneshot;

use super::{Segment, Shared, ahead::Ahead, frame, segment};
use crate::Outgoing;

/// A segment that is longer takes no more frames.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Zeros are written this far ahead, where the file was not made ready before.
const AHEAD: u64 = 1 << 20;
/// A file that is made ready has so much more than a segment: most last frames fit.
const BEYOND: u64 = 128 * 1024;

/// Why nothing was appended, or why that is not known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written; the same may succeed later.
    #[error(transparent)]
    NotWritten(StoreError),
    /// The disk failed in the middle, and it could not be undone: after a restart it may be there or not. Until it can be
    /// undone nothing else is appended.
    #[error("the journal does not know whether it was written: {0}")]
    Unknown(StoreError),
}

/// The one who appends.
#[derive(Debug)]
pub struct Appender {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    /// Offset of the first record of the next call.
    next: i64,
    /// Failures that were known when what is under way began.
    failures: u64,
}

struct Job {
    frame: Vec<u8>,
    first: i64,
    next: i64,
    time_us: i64,
    failures: u64,
    answer: oneshot::Sender<Result<(), AppendError>>,
}

/// Records on their way to the disk.
#[derive(Debug)]
pub struct Appending {
    last: i64,
    outcome: oneshot::Receiver<Result<(), AppendError>>,
}

impl Appending {
    /// The offset of the last one, when they are durable; readers find them then.
    pub async fn durable(self) -> Result<i64, AppendError> {
        self.outcome.await.map_err(|_| ended())??;
        Ok(self.last)
    }
}

fn ended() -> AppendError {
    AppendError::Unknown(StoreError::Unavailable("the journal's thread has ended".into()))
}

impl Appender {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (jobs, received) = mpsc::channel::<Job>();
        let mut file = Active { shared: shared.clone(), file: None, ahead: Ahead::default(), unsure: false };
        thread::Builder::new().name("journal".into()).spawn(move || {
            let (mut failures, mut last) = (0, None);
            for mut job in received {
                let outcome = match &last {
                    // It may follow from what was not written.
                    Some(error) if job.failures < failures => {
                        Err(AppendError::NotWritten(StoreError::clone(error)))
                    }
                    _ => file.append(&mut job),
                };
                if let Err(AppendError::NotWritten(error) | AppendError::Unknown(error)) = &outcome
                    && job.failures == failures
                {
                    failures += 1;
                    last = Some(error.clone());
                    file.shared.failures.store(failures, Ordering::Release);
                }
                job.answer.send(outcome).ok();
            }
        })?;
        let next = shared.state.lock().next;
        Ok(Self { shared, jobs, next, failures: 0 })
    }

    /// To be called before what is appended next is made: true when something failed since, so that what was said to be
    /// appended and is not known to be durable is not to be built upon. It will not be written.
    pub fn begin(&mut self) -> bool {
        let failures = self.shared.failures.load(Ordering::Acquire);
        if failures == self.failures {
            return false;
        }
        self.failures = failures;
        // What is under way is refused, so this is where the next one goes.
        self.next = self.shared.state.lock().next;
        true
    }

    /// Appends records (at least one), each with a note for the owner, behind what is under way. If that fails, so does this.
    pub fn append<'a>(
        &mut self,
        time_us: i64,
        entries: impl ExactSizeIterator<Item = (&'a Outgoing, &'a [u8])> + Clone,
    ) -> Result<Appending, AppendError> {
        let first = self.next;
        let next = first.saturating_add(i64::try_from(entries.len()).unwrap_or(i64::MAX));
        let frame = frame::encode(first, time_us, entries);
        let (answer, outcome) = oneshot::channel();
        let job = Job { frame, first, next, time_us, failures: self.failures, answer };
        self.jobs.send(job).map_err(|_| ended())?;
        self.next = next;
        Ok(Appending { last: next - 1, outcome })
    }
}

/// The newest segment.
struct Active {
    shared: Arc<Shared>,
    /// None until the first entry of this process.
    file: Option<Open>,
    /// The one after it.
    ahead: Ahead,
    /// A frame of unknown fate lies at the end.
    unsure: bool,
}

struct Open {
    file: File,
    seed: u64,
    /// Where the next frame goes.
    place: u64,
    /// Up to here the file is as long, durably, and holds nothing that passes for a frame: zeros, or what another segment held.
    ready: u64,
}

impl Active {
    fn append(&mut self, job: &mut Job) -> Result<(), AppendError> {
        let length = job.frame.len() as u64;
        self.make_room(job, length).map_err(AppendError::NotWritten)?;
        let Some(open) = &mut self.file else {
            return Err(AppendError::NotWritten(StoreError::Internal("the journal has no segment".into())));
        };
        frame::seal(&mut job.frame, open.seed, open.place);
        let written = open.file.write_all_at(&job.frame, open.place).and_then(|()| open.file.sync_data());
        if let Err(error) = written {
            let error = segment::io_error(&self.shared.dir, &error);
            self.unsure = true;
            return Err(match self.undo() {
                Ok(()) => AppendError::NotWritten(error),
                Err(_) => AppendError::Unknown(error),
            });
        }
        let place = open.place;
        open.place += length;
        let mut state = self.shared.state.lock();
        state.next = job.next;
        if let Some(mut newest) = state.segments.last_entry() {
            let segment = newest.get_mut();
            segment.mark(job.first, place);
            segment.end = place + length;
            segment.last_us = job.time_us;
        }
        Ok(())
    }

    /// Takes a frame of unknown fate away.
    fn undo(&mut self) -> io::Result<()> {
        if let Some(open) = self.file.as_ref().filter(|_| self.unsure) {
            open.file.write_all_at(&[0; frame::HEADER], open.place)?;
            open.file.sync_data()?;
        }
        self.unsure = false;
        Ok(())
    }

    /// Sees to it that a frame of `length` bytes changes neither the size of the file nor where its blocks are.
    fn make_room(&mut self, job: &Job, length: u64) -> Result<(), StoreError> {
        let dir = self.shared.dir.clone();
        let failed = |error: io::Error| segment::io_error(&dir, &error);
        self.undo().map_err(failed)?;
        if self.file.as_ref().is_none_or(|open| open.place > SEGMENT_BYTES) {
            self.begin(job).map_err(failed)?;
        }
        let Some(open) = &mut self.file else { return Ok(()) };
        let end = open.place + length;
        if end > open.ready {
            // Where a segment is full the next frame goes to another.
            let ready = (end + AHEAD).min(SEGMENT_BYTES).max(end);
            // Behind the end there may be what was left of a write that failed: all of it becomes zeros.
            let zeros = vec![0; usize::try_from(ready - open.place).unwrap_or_default()];
            open.file
                .write_all_at(&zeros, open.place)
                .and_then(|()| open.file.sync_data())
                .map_err(failed)?;
            open.ready = ready;
        }
        if open.place > SEGMENT_BYTES / 2 {
            self.ahead.make(&dir, SEGMENT_BYTES + BEYOND);
        }
        Ok(())
    }

    /// Begins a segment. One that this process did not begin is left as it is, so that its end is never written over.
    fn begin(&mut self, job: &Job) -> io::Result<()> {
        if let Some(full) = self.file.take().filter(|full| full.ready > full.place) {
            // Gives back the zeros; whoever reads it stops at the last frame anyway.
            full.file.set_len(full.place).ok();
        }
        let path = segment::path(&self.shared.dir, job.first);
        // One of this name holds no entry: the process that made it ended before the first.
        let empty = self.shared.state.lock().segments.remove(&job.first);
        if empty.is_some() {
            std::fs::remove_file(&path)?;
        }
        let seed = rand::random();
        let (file, ready) = match self.ahead.take(&self.shared.dir, &path, job.first, seed) {
            Some(ready) => ready,
            None => (segment::create(&path, job.first, seed)?, segment::START),
        };
        let begun = Segment::new(path, job.first, job.time_us);
        self.shared.state.lock().segments.insert(job.first, begun);
        self.file = Some(Open { file, seed, place: segment::START, ready });
        Ok(())
    }
}
