//! The prepared network as a file: a header, a checksum, and the network in one piece.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::Network;

/// What the file begins with: name and version of the form. A change of the form changes the number.
const MAGIC: &[u8; 8] = b"TSRROAD1";

/// Why a file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The disk.
    #[error("`{path}` cannot be {verb}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Read or written.
        verb: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not such a file, or a broken one.
    #[error(
        "`{path}` is not a road network that this version reads ({reason}); make it again with `tessera rides import`"
    )]
    Broken {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl Network {
    /// Writes it beside `path` and moves it there, so that a reader sees all of it or nothing.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let io = |source| FileError::Io { path: path.display().to_string(), verb: "written", source };
        let body = postcard::to_stdvec(self)
            .map_err(|error| FileError::Broken { path: path.display().to_string(), reason: error.to_string() })?;
        let beside = path.with_extension("part");
        let mut file = fs::File::create(&beside).map_err(io)?;
        file.write_all(MAGIC).map_err(io)?;
        file.write_all(&checksum(&body).to_le_bytes()).map_err(io)?;
        file.write_all(&body).map_err(io)?;
        file.sync_all().map_err(io)?;
        fs::rename(&beside, path).map_err(io)
    }

    /// Reads it whole.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let bytes = fs::read(path).map_err(|source| FileError::Io {
            path: path.display().to_string(),
            verb: "read",
            source,
        })?;
        Self::read(&bytes).map_err(|reason| FileError::Broken { path: path.display().to_string(), reason })
    }

    /// Reads what [`Network::save`] wrote.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let body = bytes.strip_prefix(MAGIC).ok_or("its first bytes are others")?;
        let (sum, body) = body.split_first_chunk::<8>().ok_or("it ends too early")?;
        if u64::from_le_bytes(*sum) != checksum(body) {
            return Err("its checksum is another".to_owned());
        }
        let mut network: Self = postcard::from_bytes(body).map_err(|error| error.to_string())?;
        network.index();
        Ok(network)
    }
}

/// FNV-1a over words of eight bytes: finds what a disk or a copy breaks.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    let sum = words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| step(sum, u64::from_le_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| step(sum, u64::from(*byte)))
}
