use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
};

use crate::StoreError;

/// The right to use a data directory. The lock ends with the process, however it ends.
#[derive(Debug)]
pub struct DirLock {
    dir: PathBuf,
    _file: File,
}

impl DirLock {
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Makes `dir` if it is missing and locks it for this process.
pub fn lock_data_dir(dir: &Path) -> Result<DirLock, StoreError> {
    let failed = |what: &str, error: std::io::Error| {
        let text = format!("{what} data directory {}: {error}", dir.display());
        match error.kind() {
            std::io::ErrorKind::StorageFull => StoreError::Full(text),
            _ => StoreError::Unavailable(text),
        }
    };
    fs::create_dir_all(dir).map_err(|error| failed("cannot make", error))?;
    let path = dir.join("lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|error| failed("cannot write to", error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let owner = fs::read_to_string(&path).unwrap_or_default();
            return Err(StoreError::Locked { dir: dir.to_owned(), owner: owner.trim().to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(failed("cannot lock", error)),
    }
    // The number is only a hint for the error text of a second process; the lock itself is the kernel's.
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| failed("cannot write to", error))?;
    Ok(DirLock { dir: dir.to_owned(), _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_and_names_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let lock = lock_data_dir(&data).unwrap();
        let refused = lock_data_dir(&data).unwrap_err().to_string();
        assert!(refused.contains(&data.display().to_string()), "{refused}");
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(lock);
        lock_data_dir(&data).unwrap();
    }
}
