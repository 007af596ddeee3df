//! Temporary folders that do not outlast their use by much.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

const LOCK: &str = "lock";

/// A folder of one run. It is removed at the end; what a killed run left is
/// removed by the next.
///
/// A lock on a file in it says that it is in use. The kernel lets go of the
/// lock when the last process that holds the file open has ended, so a program
/// that works in the folder is given it too (see [`Scratch::held_open`]).
pub(crate) struct Scratch {
    path: PathBuf,
    lock: File,
}

impl Scratch {
    /// Makes a folder below `parent`, for its owner's eyes only.
    pub(crate) fn create(parent: &Path, prefix: &str) -> Outcome<Scratch> {
        fs::create_dir_all(parent)
            .map_err(|error| Failure::file("make the folder", parent, &error))?;
        remove_left_behind(parent, prefix);
        for number in 0..1000 {
            let path = parent.join(format!("{prefix}{}-{number}", std::process::id()));
            match Scratch::try_create(&path) {
                Ok(Some(scratch)) => return Ok(scratch),
                Ok(None) => {}
                Err(error) => return Err(Failure::file("make the folder", &path, &error)),
            }
        }
        Err(Failure::new(format!(
            "every name for a temporary folder is taken; remove the folders {prefix}* in {}",
            parent.display()
        )))
    }

    /// None when the name is taken.
    fn try_create(path: &Path) -> io::Result<Option<Scratch>> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            made => made?,
        }
        let lock = File::create_new(path.join(LOCK))?;
        lock.lock()?;
        // Another run that clears away may have had the lock first, and then
        // the folder is gone.
        let lasts = path.join(LOCK).exists();
        Ok(lasts.then(|| Scratch {
            path: path.to_path_buf(),
            lock,
        }))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The lock, to hand to a program (as its input, which it does not read):
    /// the folder counts as in use until that program too has ended.
    pub(crate) fn held_open(&self) -> Outcome<File> {
        self.lock
            .try_clone()
            .map_err(|error| Failure::file("share the lock of", &self.path, &error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("note: {} is left behind: {error}", self.path.display());
        }
    }
}

/// Removes what killed runs left. It is a courtesy: what cannot be removed is
/// somebody else's and stays.
fn remove_left_behind(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let _stays = remove_if_unused(&entry.path());
        }
    }
}

fn remove_if_unused(path: &Path) -> io::Result<()> {
    let lock_path = path.join(LOCK);
    // In a folder that all may write to, a name proves nothing: the lock must
    // be a plain file of this user's own.
    let file = lock_path.symlink_metadata()?;
    if !file.is_file() || file.uid() != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let lock = File::open(&lock_path)?;
    match lock.try_lock() {
        Ok(()) => fs::remove_dir_all(path),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn is_removed_at_the_end() {
        let parent = parent("removed");
        let scratch = Scratch::create(&parent, "s-").unwrap();
        let path = scratch.path().to_path_buf();
        fs::write(path.join("file"), "text").unwrap();
        drop(scratch);
        assert!(!path.exists());
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn what_was_left_behind_goes_and_what_is_in_use_stays() {
        let parent = parent("left");
        let left = parent.join("s-1-0");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        let other = parent.join("other");
        fs::create_dir(&other).unwrap();

        let first = Scratch::create(&parent, "s-").unwrap();
        let second = Scratch::create(&parent, "s-").unwrap();

        assert!(!left.exists());
        assert!(other.exists());
        assert!(first.path().exists());
        assert_ne!(first.path(), second.path());
        drop((first, second));
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn counts_as_in_use_while_the_lock_is_held_open() {
        let parent = parent("held");
        let folder = parent.join("s-1-0");
        fs::create_dir(&folder).unwrap();
        let lock = File::create_new(folder.join(LOCK)).unwrap();
        lock.lock().unwrap();
        let held = lock.try_clone().unwrap();

        drop(lock);
        remove_left_behind(&parent, "s-");
        assert!(folder.exists());

        drop(held);
        remove_left_behind(&parent, "s-");
        assert!(!folder.exists());
        fs::remove_dir_all(parent).unwrap();
    }
}
