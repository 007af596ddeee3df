//! A small disk that can be filled up. Mounting one takes root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, of so many megabytes. Dropping it takes it away.
pub(crate) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Whether one can be mounted here.
    pub(crate) fn can() -> bool {
        rustix::process::geteuid().is_root() && cfg!(target_os = "linux")
    }

    pub(crate) fn mount(path: &Path, megabytes: u32) -> Result<Self, String> {
        std::fs::create_dir_all(path).map_err(|e| e.to_string())?;
        let size = format!("size={megabytes}m,mode=0777");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "ensemble-faults"])
            .arg(path)
            .status();
        match status {
            Ok(status) if status.success() => Ok(Self {
                path: path.to_owned(),
            }),
            other => Err(format!("cannot mount {}: {other:?}", path.display())),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) -> Result<(), String> {
        use std::io::Write as _;
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.ballast());
        let mut file = file.map_err(|e| e.to_string())?;
        for size in [1 << 16, 1 << 12, 1] {
            let block = vec![0_u8; size];
            while file.write_all(&block).is_ok() {}
        }
        Ok(())
    }

    /// Frees what the filling took.
    pub(crate) fn free(&self) -> Result<(), String> {
        std::fs::remove_file(self.ballast()).map_err(|e| e.to_string())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is just ending may still hold it.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
