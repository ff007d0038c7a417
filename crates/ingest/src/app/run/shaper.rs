//! The shape of a resource while it is being read: found from the first pages, widened by whichever page drifts.

use std::sync::{Arc, PoisonError, RwLock};

use crate::shape::{Decoded, Decoder, Inference, Meta, Shape, infer};
use crate::source::Answer;
use crate::spec::{ColumnType, Lists, Nested, Pipeline, Resource, SchemaPolicy};

/// Shared by all pages of a resource.
#[derive(Debug)]
pub struct Shaper {
    policy: SchemaPolicy,
    nested: Nested,
    lists: Lists,
    hints: std::collections::BTreeMap<String, ColumnType>,
    exclude: Arc<[String]>,
    include: Arc<[String]>,
    present: RwLock<Option<Decoder>>,
}

/// A page on its way to the file.
#[derive(Debug)]
pub enum Content {
    /// No shape was known yet: the answer, and what was inferred from it.
    Raw(Answer, Inference),
    /// Rows.
    Rows(Decoded),
}

impl Shaper {
    /// A shaper that starts with the shape known from earlier, if any.
    pub fn new(pipeline: &Pipeline, resource: &Resource, known: Option<Shape>) -> Self {
        let defaults = &pipeline.defaults;
        let this = Self {
            policy: resource.schema.or(defaults.schema).unwrap_or_default(),
            nested: resource.nested.or(defaults.nested).unwrap_or_default(),
            lists: resource.lists.or(defaults.lists).unwrap_or_default(),
            hints: resource.columns.clone(),
            exclude: resource.exclude.as_slice().into(),
            include: resource.include.keys().cloned().collect(),
            present: RwLock::new(None),
        };
        if let Some(known) = known {
            this.establish(known);
        }
        this
    }

    /// Whether lists become tables.
    pub fn child_tables(&self) -> bool {
        self.lists == Lists::ChildTable
    }

    /// Whether nested objects become columns.
    pub fn flattens(&self) -> bool {
        self.nested == Nested::Flatten
    }

    /// Columns that come from the parent row or the partition.
    pub fn include(&self) -> &[String] {
        &self.include
    }

    fn decoder(&self) -> Option<Decoder> {
        self.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The shape by now.
    pub fn shape(&self) -> Option<Arc<Shape>> {
        self.decoder().map(|decoder| Arc::clone(decoder.shape()))
    }

    /// Settles on a first shape.
    pub fn establish(&self, shape: Shape) {
        let shape = Arc::new(self.wanted(shape));
        let decoder = Decoder::new(shape, self.policy, Arc::clone(&self.exclude), Arc::clone(&self.include));
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = Some(decoder);
    }

    fn wanted(&self, shape: Shape) -> Shape {
        shape.with(self.nested, self.lists, &self.hints, &self.exclude)
    }

    /// Widens the shape to hold a page's rows; tells whether that changed it.
    fn widen(&self, seen: Shape) -> bool {
        let seen = self.wanted(seen);
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        let Some(decoder) = present.as_ref() else { return false };
        let wider = decoder.shape().as_ref().clone().widen(seen);
        if wider == **decoder.shape() {
            return false;
        }
        *present =
            Some(Decoder::new(Arc::new(wider), self.policy, Arc::clone(&self.exclude), Arc::clone(&self.include)));
        true
    }

    /// Decodes a page, or infers its shape while none is known. Blocking.
    ///
    /// # Errors
    /// What is wrong with the JSON.
    pub fn take(&self, answer: Answer, meta: &Meta) -> Result<Content, String> {
        if self.decoder().is_none() {
            let inference = infer(&answer.page.records)?;
            return Ok(Content::Raw(answer, inference));
        }
        self.decode(&answer, meta).map(Content::Rows)
    }

    /// Decodes a page by the present shape, widening it where the page has drifted. Blocking.
    ///
    /// # Errors
    /// What is wrong with the JSON.
    pub fn decode(&self, answer: &Answer, meta: &Meta) -> Result<Decoded, String> {
        loop {
            let decoder = self.decoder().ok_or("no shape is known yet")?;
            let decoded = decoder.decode(&answer.page.records, meta)?;
            if decoded.drifted && self.widen(infer(&answer.page.records)?.shape) {
                continue;
            }
            // Another page may have widened the shape meanwhile; these rows are aligned when they are written.
            return Ok(decoded);
        }
    }
}
