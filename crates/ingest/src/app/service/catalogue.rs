//! The pipelines of a folder: files are picked up, read again when they change, and dropped when they go. A broken one is
//! shown with its error and disturbs no other.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use tessera_kernel::Timestamp;

use crate::Error;
use crate::spec::{Environment, Loaded, load_file};

/// Files looked at in the folder; a folder with more is not one of pipelines.
const MOST_FILES: usize = 5000;
/// A file above this is no pipeline.
const MOST_BYTES: u64 = 1 << 20;

/// A pipeline of the folder.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name; that of the file where that could not be read.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// What it says, or why it cannot be used.
    pub loaded: Result<Loaded, Broken>,
    /// When the file last changed.
    pub changed_at: Timestamp,
}

/// Why a pipeline file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The code of the error.
    pub code: &'static str,
    /// What is wrong, and where.
    pub detail: String,
}

impl Entry {
    /// What the file says.
    ///
    /// # Errors
    /// [`Error::Spec`] when it is broken.
    pub fn loaded(&self) -> Result<&Loaded, Error> {
        self.loaded.as_ref().map_err(|broken| {
            let (place, detail) = broken.detail.split_once(": ").unwrap_or(("", &broken.detail));
            Error::Spec { place: place.to_owned(), detail: detail.to_owned() }
        })
    }
}

/// By what a change of a file is noticed: a symlink that leads elsewhere is one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    target: PathBuf,
    modified: SystemTime,
    bytes: u64,
}

type Entries = BTreeMap<String, Arc<Entry>>;

/// The pipelines of a folder.
#[derive(Debug)]
pub struct Catalogue {
    folder: PathBuf,
    environment: Environment,
    files: Mutex<BTreeMap<PathBuf, (Mark, Entry)>>,
    entries: RwLock<Arc<Entries>>,
}

impl Catalogue {
    /// The pipelines of this folder, none until [`Catalogue::refresh`].
    pub fn new(folder: PathBuf, environment: Environment) -> Self {
        Self { folder, environment, files: Mutex::default(), entries: RwLock::default() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All pipelines by name, as of the last refresh.
    pub fn entries(&self) -> Arc<Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One pipeline.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn entry(&self, name: &str) -> Result<Arc<Entry>, Error> {
        self.entries().get(name).cloned().ok_or_else(|| {
            Error::NotFound(format!("there is no pipeline `{name}`; GET /ingest/pipelines lists those there are"))
        })
    }

    /// Looks at the folder again. Blocks on the disk. Says whether anything changed.
    ///
    /// # Errors
    /// The folder cannot be read; what was known stays.
    pub fn refresh(&self) -> io::Result<bool> {
        let found = self.marks()?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = false;
        files.retain(|path, _| {
            let stays = found.contains_key(path);
            changed |= !stays;
            stays
        });
        for (path, mark) in found {
            if files.get(&path).is_none_or(|(known, _)| *known != mark) {
                let before = files.get(&path).map(|(_, entry)| entry.name.clone());
                let entry = self.read(&path, &mark, before);
                tell(&entry);
                files.insert(path, (mark, entry));
                changed = true;
            }
        }
        if changed {
            let entries = by_name(files.values().map(|(_, entry)| entry));
            *self.entries.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(entries);
        }
        Ok(changed)
    }

    fn marks(&self) -> io::Result<BTreeMap<PathBuf, Mark>> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder)?.take(MOST_FILES) {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let fits = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            if name.starts_with('.') || !fits {
                continue;
            }
            // What vanishes between the listing and the look is picked up, or gone, the next time.
            let (Ok(target), Ok(metadata)) = (path.canonicalize(), path.metadata()) else { continue };
            if metadata.is_file() {
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.insert(path, Mark { target, modified, bytes: metadata.len() });
            }
        }
        Ok(found)
    }

    fn read(&self, path: &Path, mark: &Mark, before: Option<String>) -> Entry {
        let loaded = if mark.bytes > MOST_BYTES {
            let detail = format!("is {} bytes, over the limit of {MOST_BYTES}; give a pipeline file", mark.bytes);
            Err(Error::Spec { place: path.display().to_string(), detail })
        } else {
            load_file(path, &self.environment)
        };
        let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = loaded.as_ref().map_or_else(|_| before.unwrap_or_else(stem), |loaded| loaded.pipeline.name.clone());
        let loaded = loaded.map_err(|error| Broken { code: error.code(), detail: error.to_string() });
        let since = mark.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed_at = Timestamp::from_micros(0).plus(since);
        Entry { name, file: path.to_owned(), loaded, changed_at }
    }
}

/// The first file of a name keeps it; another one is shown under its own name, as broken.
fn by_name<'a>(files: impl Iterator<Item = &'a Entry>) -> Entries {
    let mut entries = Entries::new();
    for entry in files {
        let Some(first) = entries.get(&entry.name) else {
            entries.insert(entry.name.clone(), Arc::new(entry.clone()));
            continue;
        };
        let detail = format!(
            "{}: the name `{}` is taken by {}; give this pipeline another name, or remove one of the files",
            entry.file.display(),
            entry.name,
            first.file.display()
        );
        let file = entry.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let loaded = Err(Broken { code: "ingest.bad_pipeline", detail });
        entries.insert(file.clone(), Arc::new(Entry { name: file, loaded, ..entry.clone() }));
    }
    entries
}

fn tell(entry: &Entry) {
    let file = entry.file.display();
    match &entry.loaded {
        Ok(loaded) => {
            tracing::info!(pipeline.name = entry.name, pipeline.file = %file, "pipeline read");
            for warning in &loaded.warnings {
                tracing::warn!(pipeline.name = entry.name, "{warning}");
            }
        }
        Err(broken) => {
            tracing::error!(pipeline.name = entry.name, error.detail = broken.detail, "pipeline not usable");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(name: &str) -> String {
        format!(
            "version: 1\nname: {name}\nsource: {{ base_url: \"http://127.0.0.1:9\" }}\n\
             resources: [{{ name: rows, path: /rows }}]\ndestination: {{ url: /tmp/lake }}\n"
        )
    }

    #[test]
    fn files_come_change_break_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let catalogue = Catalogue::new(folder.path().to_owned(), Environment::default());
        let names = || catalogue.entries().keys().cloned().collect::<Vec<_>>();
        write("a.yaml", &pipeline("shop"));
        write("b.yml", "version: 1\nnmae: x\n");
        write(".hidden.yaml", &pipeline("hidden"));
        write("notes.txt", "no pipeline");
        assert!(catalogue.refresh().unwrap() && !catalogue.refresh().unwrap());
        assert_eq!(names(), ["b", "shop"]);
        let broken = catalogue.entry("b").unwrap();
        let error = broken.loaded().unwrap_err();
        assert!(error.to_string().contains("b.yml:2: unknown key `nmae`"), "{error}");
        assert!(catalogue.entry("shop").unwrap().loaded().is_ok());

        write("b.yml", &pipeline("shop"));
        assert!(catalogue.refresh().unwrap());
        assert_eq!(names(), ["b.yml", "shop"]);
        let taken = catalogue.entry("b.yml").unwrap().loaded().unwrap_err().to_string();
        assert!(taken.contains("`shop` is taken by") && taken.contains("a.yaml"), "{taken}");

        // Broken after it was well: it keeps the name it had.
        write("a.yaml", "version: 1\n");
        std::fs::remove_file(folder.path().join("b.yml")).unwrap();
        assert!(catalogue.refresh().unwrap());
        assert_eq!(names(), ["shop"]);
        assert!(catalogue.entry("shop").unwrap().loaded().is_err());
        assert_eq!(catalogue.entry("gone").unwrap_err().code(), "ingest.not_found");
    }

    #[cfg(unix)]
    #[test]
    fn a_symlink_is_followed_and_its_change_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let link = folder.path().join("shop.yaml");
        for name in ["one", "two"] {
            let target = elsewhere.path().join(name);
            std::fs::write(&target, pipeline(name)).unwrap();
        }
        let catalogue = Catalogue::new(folder.path().to_owned(), Environment::default());
        std::os::unix::fs::symlink(elsewhere.path().join("one"), &link).unwrap();
        catalogue.refresh().unwrap();
        assert!(catalogue.entry("one").is_ok());
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("two"), &link).unwrap();
        assert!(catalogue.refresh().unwrap() && catalogue.entry("two").is_ok() && catalogue.entry("one").is_err());
    }
}
