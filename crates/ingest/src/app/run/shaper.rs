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

    /// Widens the shape as far as it safely goes towards a page's rows.
    fn widen(&self, seen: Shape) {
        let seen = self.wanted(seen);
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        let Some(decoder) = present.as_ref() else { return };
        let wider = decoder.shape().as_ref().clone().widen(seen);
        if wider != **decoder.shape() {
            let (exclude, include) = (Arc::clone(&self.exclude), Arc::clone(&self.include));
            *present = Some(Decoder::new(Arc::new(wider), self.policy, exclude, include));
        }
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
            if decoded.drifted {
                self.widen(infer(&answer.page.records)?.shape);
                // Widened by this page, or by another one meanwhile.
                if self.shape().is_some_and(|shape| shape != *decoder.shape()) {
                    continue;
                }
            }
            return Ok(decoded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Page;

    fn answer(rows: &str) -> Answer {
        Answer {
            page: Page { records: rows.to_owned().into(), ..Page::default() },
            headers: http::HeaderMap::new(),
            source: String::new(),
            fetched_at: tessera_kernel::Timestamp::default(),
        }
    }

    /// Pages that drift at the same time: whichever widens first, none of them loses its values to `_rescued`.
    #[test]
    fn pages_that_drift_together_are_all_widened() {
        let pipeline: Pipeline = serde_json::from_value(serde_json::json!({
            "version": 1, "name": "p", "source": {"base_url": "http://x"}, "destination": {"url": "lake"},
            "resources": [{"name": "r", "path": "/r"}]
        }))
        .unwrap();
        for _ in 0..50 {
            let known = infer(br#"[{"weight": 1}]"#).unwrap().shape;
            let shaper = Shaper::new(&pipeline, &pipeline.resources[0], Some(known));
            std::thread::scope(|scope| {
                let pages: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| shaper.decode(&answer(r#"[{"weight": 1.5}]"#), &Meta::default()).unwrap()))
                    .collect();
                for page in pages {
                    assert_eq!(page.join().unwrap().rescued, 0);
                }
            });
        }
    }
}
