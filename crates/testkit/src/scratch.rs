//! A folder for one test.

use std::path::{Path, PathBuf};

/// A folder that is removed with all in it when it is dropped.
#[derive(Debug)]
pub struct ScratchDir(tempfile::TempDir);

impl ScratchDir {
    /// A new, empty folder.
    #[expect(clippy::new_without_default, reason = "it makes a folder, which `default` should not")]
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("tessera-test-").tempdir().expect("a temporary folder"))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of a file in it, which need not exist.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, with its folders, and gives its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        std::fs::create_dir_all(path.parent().expect("a path with a folder")).expect("the folder of a scratch file");
        std::fs::write(&path, content).expect("a scratch file");
        path
    }
}
