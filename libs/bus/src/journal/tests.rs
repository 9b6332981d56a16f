use std::{io::Write, os::unix::fs::FileExt};

use proptest::prelude::*;
use scope::Tenant;

use super::*;

fn outgoing(text: &str) -> Outgoing {
    Outgoing {
        tenant: Tenant::default(),
        key: Bytes::from_static(b"k"),
        payload: Bytes::copy_from_slice(text.as_bytes()),
        headers: vec![("name".into(), "value".into())],
    }
}

async fn append(appender: &mut Appender, texts: &[&str]) -> i64 {
    submit(appender, texts).durable().await.unwrap()
}

fn submit(appender: &mut Appender, texts: &[&str]) -> Appending {
    let records: Vec<Outgoing> = texts.iter().copied().map(outgoing).collect();
    appender.append(7, records.iter().map(|record| (record, b"note".as_slice()))).unwrap()
}

fn texts(journal: &Journal, from: i64) -> Vec<(i64, String)> {
    let entries = journal.read(from, usize::MAX, usize::MAX).unwrap();
    let text = |entry: &Entry| String::from_utf8(entry.record.payload.to_vec()).unwrap();
    entries.iter().map(|entry| (entry.offset, text(entry))).collect()
}

fn pairs(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected.iter().map(|(offset, text)| (*offset, (*text).to_owned())).collect()
}

fn seed_of_first((first, path): &(i64, PathBuf)) -> u64 {
    Scan::open(path, *first, segment::START, u64::MAX).unwrap().unwrap().seed
}

fn only_file(dir: &Path) -> PathBuf {
    let mut files = segment::list(dir).unwrap();
    assert_eq!(files.len(), 1);
    files.remove(0).1
}

#[tokio::test]
async fn what_was_appended_is_read_from_any_offset_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (journal, mut appender) = Journal::open(&path, 0).unwrap();
    assert_eq!((journal.first(), journal.next()), (1, 1));
    assert!(texts(&journal, 0).is_empty());
    assert_eq!(append(&mut appender, &["a", "b"]).await, 2);
    assert_eq!(append(&mut appender, &["c"]).await, 3);
    for _ in 0..3 {
        let journal = Journal::open(&path, 1).unwrap().0;
        assert_eq!(texts(&journal, 0), pairs(&[(1, "a"), (2, "b"), (3, "c")]));
        assert_eq!(texts(&journal, 2), pairs(&[(2, "b"), (3, "c")]));
        assert!(texts(&journal, 4).is_empty());
        let first = &journal.read(1, 1, usize::MAX).unwrap()[0];
        assert_eq!((first.time_us, &first.note[..]), (7, b"note".as_slice()));
        assert_eq!(first.record.headers, [("name".into(), "value".into())]);
        assert_eq!(journal.read(1, 9, 1).unwrap().len(), 1, "no more after the bytes");
    }
    let (journal, mut appender) = Journal::open(&path, 3).unwrap();
    assert_eq!(append(&mut appender, &["d"]).await, 4);
    assert_eq!(texts(&journal, 3), pairs(&[(3, "c"), (4, "d")]));
}

#[tokio::test]
async fn what_is_under_way_together_comes_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, mut appender) = Journal::open(dir.path(), 0).unwrap();
    assert!(!appender.begin());
    let (first, second) = (submit(&mut appender, &["a", "b"]), submit(&mut appender, &["c"]));
    assert_eq!((second.durable().await.unwrap(), first.durable().await.unwrap()), (3, 2));
    assert_eq!(texts(&journal, 0), pairs(&[(1, "a"), (2, "b"), (3, "c")]));
}

#[tokio::test]
async fn what_was_begun_before_a_failure_is_not_written_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (journal, mut appender) = Journal::open(&path, 0).unwrap();
    std::fs::remove_dir(&path).unwrap();
    let failed = submit(&mut appender, &["a"]).durable().await;
    assert!(matches!(failed, Err(AppendError::NotWritten(_))), "{failed:?}");
    std::fs::create_dir(&path).unwrap();
    // It could be written now, but may follow from the first.
    let refused = submit(&mut appender, &["b"]).durable().await;
    assert!(matches!(refused, Err(AppendError::NotWritten(_))), "{refused:?}");
    assert!(appender.begin() && !appender.begin());
    assert_eq!(append(&mut appender, &["c"]).await, 1);
    assert_eq!(texts(&journal, 0), pairs(&[(1, "c")]));
}

#[tokio::test]
async fn it_goes_on_in_the_next_file_and_forgets_whole_files() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, mut appender) = Journal::open(dir.path(), 0).unwrap();
    let large = "x".repeat(1 << 20);
    for _ in 0..20 {
        append(&mut appender, &[&large, "small"]).await;
    }
    let starts: Vec<i64> = segment::list(dir.path()).unwrap().into_iter().map(|(first, _)| first).collect();
    assert_eq!(starts.len(), 3);
    let all: Vec<i64> = texts(&journal, 1).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(all, (1..=40).collect::<Vec<_>>());
    let reopened = Journal::open(dir.path(), 0).unwrap().0;
    assert_eq!(texts(&reopened, 0).len(), 40);

    let keep = Forget { read: 0, before_us: 0, soft_bytes: u64::MAX, hard_bytes: u64::MAX };
    let bytes = journal.bytes();
    // Not read; read but young and small; read and old, but needed by the owner.
    assert_eq!(journal.forget(Forget { before_us: i64::MAX, soft_bytes: 0, ..keep }).unwrap(), 0);
    assert_eq!(journal.forget(Forget { read: i64::MAX, ..keep }).unwrap(), 0);
    journal.set_floor(starts[1] - 1);
    assert_eq!(journal.forget(Forget { read: i64::MAX, before_us: i64::MAX, ..keep }).unwrap(), 0);
    assert_eq!((journal.first(), journal.bytes()), (1, bytes));
    // Read, not old, but too large.
    journal.set_floor(i64::MAX);
    assert_eq!(journal.forget(Forget { read: starts[1], soft_bytes: 0, ..keep }).unwrap(), 0);
    assert_eq!(journal.first(), starts[1]);
    assert_eq!(texts(&journal, 0)[0].0, starts[1], "what was forgotten is passed over");
    // Beyond the hard limit it goes unread; the newest stays.
    let lost = journal.forget(Forget { read: starts[1] + 1, hard_bytes: 0, ..keep }).unwrap();
    assert_eq!(lost, u64::try_from(starts[2] - starts[1] - 1).unwrap());
    assert_eq!(journal.first(), starts[2]);
    assert_eq!(texts(&journal, 0).last().unwrap().0, 40);
}

/// What a kill leaves of the file in the making may be anything: here whole frames, at the places of others.
#[tokio::test]
async fn what_lies_in_the_file_made_ready_is_never_taken_for_entries() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut appender) = Journal::open(dir.path(), 0).unwrap();
    let large = "x".repeat(1 << 20);
    let fill = async |appender: &mut Appender, files: usize| {
        while segment::list(dir.path()).unwrap().len() < files {
            append(appender, &[&large]).await;
        }
    };
    fill(&mut appender, 2).await;
    let stale = segment::list(dir.path()).unwrap().remove(0).1;
    let ready = dir.path().join("ahead");
    drop(appender);
    fs::copy(&stale, &ready).unwrap();
    let (journal, mut appender) = Journal::open(dir.path(), 0).unwrap();
    fill(&mut appender, 3).await;
    // It is made ready from the middle of a file on, on a thread of its own.
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let (made, mut rounds) = (inode(&ready), 0);
    while segment::list(dir.path()).unwrap().iter().all(|(_, path)| inode(path) != made) {
        append(&mut appender, &[&large]).await;
        rounds += 1;
        assert!(rounds < 100, "it is not used");
    }
    let all: Vec<i64> = texts(&journal, 1).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(all, (1..journal.next()).collect::<Vec<_>>());
    drop(appender);
    let again = Journal::open(dir.path(), 0).unwrap().0;
    assert_eq!(again.next(), journal.next());
    assert_eq!(texts(&again, 1).len(), all.len());
}

#[tokio::test]
async fn the_file_of_a_forgotten_segment_becomes_the_next_but_one() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, mut appender) = Journal::open(dir.path(), 0).unwrap();
    let large = "x".repeat(1 << 20);
    while segment::list(dir.path()).unwrap().len() < 2 {
        append(&mut appender, &[&large]).await;
    }
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let oldest = segment::list(dir.path()).unwrap().remove(0).1;
    let (again, seed) = (inode(&oldest), seed_of_first(&(1, oldest.clone())));
    // Somebody reads it while it goes.
    let mut reader = Scan::open(&oldest, 1, segment::START, u64::MAX).unwrap().unwrap();
    assert_eq!(reader.next().unwrap().unwrap().first, 1);
    journal.set_floor(i64::MAX);
    journal.forget_below_floor().unwrap();
    assert!(!oldest.exists());
    assert_eq!(inode(&dir.path().join("spare")), again);
    let mut rounds = 0;
    let used = loop {
        append(&mut appender, &[&large]).await;
        let found = segment::list(dir.path()).unwrap().into_iter().find(|(_, path)| inode(path) == again);
        if let Some(found) = found {
            break found;
        }
        rounds += 1;
        assert!(rounds < 100, "it is not used");
    };
    assert_ne!(seed_of_first(&used), seed);
    while segment::list(dir.path()).unwrap().last().unwrap().0 == used.0 {
        append(&mut appender, &[&large]).await;
    }
    while let Some(frame) = reader.next().unwrap() {
        assert!(frame.first < used.0, "entries of another segment");
    }
    let first = journal.first();
    let all: Vec<i64> = texts(&journal, first).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(all, (first..journal.next()).collect::<Vec<_>>());
    drop(appender);
    let reopened = Journal::open(dir.path(), 0).unwrap().0;
    assert_eq!(texts(&reopened, first).len(), all.len());
}

/// A copy of the folder is what a kill leaves: with files given up, in the making, or used again.
#[tokio::test]
async fn a_kill_while_files_are_used_again_loses_nothing() {
    let mut dir = tempfile::tempdir().unwrap();
    let (mut journal, mut appender) = Journal::open(dir.path(), 0).unwrap();
    let large = "x".repeat(1 << 20);
    let (mut last, mut spares) = (0, 0);
    for kill in 0..9 {
        for _ in 0..4 + 5 * kill % 11 {
            last = append(&mut appender, &[&large, "small"]).await;
            journal.set_floor(last);
            journal.forget_below_floor().unwrap();
        }
        let left = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            // It may get another name meanwhile, which does not happen to segments.
            if let Err(error) = fs::copy(&path, left.path().join(path.file_name().unwrap())) {
                assert!(path.extension().is_none(), "{error}");
            }
        }
        spares += usize::from(left.path().join("spare").exists());
        (journal, appender) = Journal::open(left.path(), 0).unwrap();
        dir = left;
        let first = journal.first();
        let found: Vec<i64> = texts(&journal, first).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(found, (first..=last).collect::<Vec<_>>(), "after kill {kill}");
    }
    assert!(spares > 0, "no file was given up");
}

#[tokio::test]
async fn damage_that_no_kill_leaves_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut appender) = Journal::open(dir.path(), 0).unwrap();
    append(&mut appender, &["first"]).await;
    append(&mut appender, &["second"]).await;
    append(&mut appender, &["third"]).await;
    let file = fs::File::options().write(true).open(only_file(dir.path())).unwrap();
    file.write_all_at(b"!", segment::START + 40).unwrap();
    let error = Journal::open(dir.path(), 0).unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("00001.journal"), "{error}");
}

#[tokio::test]
async fn a_file_that_somebody_took_away_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, mut appender) = Journal::open(dir.path(), 0).unwrap();
    append(&mut appender, &["one"]).await;
    fs::remove_file(only_file(dir.path())).unwrap();
    let error = journal.read(1, 1, 1).unwrap_err();
    assert!(error.to_string().contains("00001.journal"), "{error}");
}

#[tokio::test]
async fn a_folder_that_is_behind_its_owner_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut appender) = Journal::open(dir.path(), 0).unwrap();
    append(&mut appender, &["old"]).await;
    let (journal, mut appender) = Journal::open(dir.path(), 9).unwrap();
    assert!(texts(&journal, 0).is_empty());
    assert_eq!(append(&mut appender, &["new"]).await, 10);
    assert_eq!(texts(&journal, 0), pairs(&[(10, "new")]));
    assert!(dir.path().join(format!("{:020}.journal.orphan", 1)).exists());
}

#[tokio::test]
async fn a_file_that_was_never_finished_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut appender) = Journal::open(dir.path(), 0).unwrap();
    append(&mut appender, &["one"]).await;
    fs::File::create(segment::path(dir.path(), 2)).unwrap().write_all(b"tmjrnl").unwrap();
    let (journal, mut appender) = Journal::open(dir.path(), 0).unwrap();
    assert_eq!(append(&mut appender, &["two"]).await, 2);
    assert_eq!(texts(&journal, 1), pairs(&[(1, "one"), (2, "two")]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// A kill or a power cut: of the last frame any part may have reached the disk, in any order of its sectors.
    #[test]
    fn a_torn_last_frame_takes_nothing_else_with_it(
        kept in proptest::collection::vec(any::<bool>(), 8),
        size in 1_usize..3000,
        cut in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let (_, mut appender) = Journal::open(dir.path(), 0).unwrap();
            append(&mut appender, &["a", "b"]).await;
            append(&mut appender, &["c"]).await;
            let before = Journal::open(dir.path(), 0).unwrap().0.bytes();
            let (_, mut appender) = Journal::open(dir.path(), 0).unwrap();
            drop(appender);
            let path = only_file(dir.path());
            let seed = Scan::open(&path, 1, segment::START, u64::MAX).unwrap().unwrap().seed;
            let text = "t".repeat(size);
            let record = outgoing(&text);
            let mut torn = frame::encode(4, 8, [(&record, b"".as_slice())].into_iter());
            frame::seal(&mut torn, seed, before);
            let file = fs::File::options().write(true).open(&path).unwrap();
            let mut all_there = true;
            for (sector, kept) in torn.chunks_mut(512).zip(&kept) {
                if !kept {
                    all_there = false;
                    sector.fill(0);
                }
            }
            if cut {
                all_there = false;
                torn.pop();
            }
            file.write_all_at(&torn, before).unwrap();
            let (journal, mut again) = Journal::open(dir.path(), 0).unwrap();
            let mut expected = pairs(&[(1, "a"), (2, "b"), (3, "c")]);
            if all_there {
                expected.push((4, text.clone()));
            }
            prop_assert_eq!(texts(&journal, 1), expected.clone());
            appender = {
                let last = append(&mut again, &["next"]).await;
                expected.push((last, "next".into()));
                again
            };
            prop_assert_eq!(texts(&journal, 1), expected.clone());
            drop(appender);
            prop_assert_eq!(texts(&Journal::open(dir.path(), 0).unwrap().0, 1), expected);
            Ok(())
        })?;
    }
}
