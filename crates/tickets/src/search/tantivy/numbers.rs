//! Numbers of documents in memory. Those that every query reads of thousands of documents are kept as wide as their span
//! needs, some bytes an event: reading one is a load, where the column on disk has to be unpacked.

use std::sync::Arc;

use tantivy::DocId;
use tantivy::columnar::ColumnValues;

/// Numbers on disk, one for each document.
pub(super) type Stored = Arc<dyn ColumnValues<u64>>;

/// Numbers, one for each document.
pub(super) struct Numbers {
    least: u64,
    most: u64,
    /// By how much each is above the least.
    above: Above,
}

enum Above {
    Bytes(Box<[u8]>),
    Halves(Box<[u16]>),
    Words(Box<[u32]>),
    /// Too far apart to be worth the memory.
    Stored(Stored),
}

impl Numbers {
    /// Those of a column.
    pub(super) fn read(stored: Stored) -> Self {
        let (least, most) = (stored.min_value(), stored.max_value());
        // The casts keep all of a number: none is above the span.
        let above = match most - least {
            0..=0xff => Above::Bytes(narrowed(&stored, |value| (value - least) as u8)),
            0x100..=0xffff => Above::Halves(narrowed(&stored, |value| (value - least) as u16)),
            0x1_0000..=0xffff_ffff => Above::Words(narrowed(&stored, |value| (value - least) as u32)),
            _ => Above::Stored(stored),
        };
        Self { least, most, above }
    }

    /// The least of them.
    pub(super) fn least(&self) -> u64 {
        self.least
    }

    /// The greatest of them.
    pub(super) fn most(&self) -> u64 {
        self.most
    }

    /// That of one document.
    pub(super) fn get(&self, doc: DocId) -> u64 {
        let doc_at = doc as usize;
        let above = match &self.above {
            Above::Bytes(values) => values.get(doc_at).map(|value| u64::from(*value)),
            Above::Halves(values) => values.get(doc_at).map(|value| u64::from(*value)),
            Above::Words(values) => values.get(doc_at).map(|value| u64::from(*value)),
            Above::Stored(stored) => return stored.get_val(doc),
        };
        self.least + above.unwrap_or(0)
    }

    /// Those of several, into as many places.
    pub(super) fn get_many(&self, docs: &[DocId], into: &mut [u64]) {
        match &self.above {
            Above::Bytes(values) => copy(values, self.least, docs, into),
            Above::Halves(values) => copy(values, self.least, docs, into),
            Above::Words(values) => copy(values, self.least, docs, into),
            Above::Stored(stored) => stored.get_vals(docs, into),
        }
    }
}

fn narrowed<T>(stored: &Stored, narrow: impl Fn(u64) -> T) -> Box<[T]> {
    /// Values read at a time.
    const PART: usize = 4_096;
    let count = stored.num_vals() as usize;
    let mut values = Vec::with_capacity(count);
    let mut part = vec![0; PART];
    for first in (0..count).step_by(PART) {
        let part = &mut part[..PART.min(count - first)];
        stored.get_range(first as u64, part);
        values.extend(part.iter().map(|value| narrow(*value)));
    }
    values.into()
}

fn copy<T: Copy + Into<u64>>(values: &[T], least: u64, docs: &[DocId], into: &mut [u64]) {
    for (doc, into) in docs.iter().zip(into) {
        // Documents are those of the segment, so each has a number.
        *into = least + values.get(*doc as usize).map_or(0, |value| (*value).into());
    }
}
