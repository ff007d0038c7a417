//! Nested columns as tables or columns of their own.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array, make_array};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use arrow_select::take::take;

use super::SYSTEM;

/// Struct columns replaced by columns named `outer__inner`, all levels down.
///
/// # Errors
/// None for batches made by the decoder.
pub fn flatten(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    if !batch.schema_ref().fields().iter().any(|field| matches!(field.data_type(), DataType::Struct(_))) {
        return Ok(batch.clone());
    }
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        flatten_column(field.name(), array, None, &mut fields, &mut arrays)?;
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

fn flatten_column(
    name: &str,
    array: &ArrayRef,
    outer: Option<&NullBuffer>,
    fields: &mut Vec<Field>,
    arrays: &mut Vec<ArrayRef>,
) -> Result<(), ArrowError> {
    let nulls = NullBuffer::union(outer, array.nulls());
    if let DataType::Struct(inner) = array.data_type() {
        for (field, column) in inner.iter().zip(array.as_struct().columns()) {
            flatten_column(&format!("{name}__{}", field.name()), column, nulls.as_ref(), fields, arrays)?;
        }
        return Ok(());
    }
    let array = make_array(array.to_data().into_builder().nulls(nulls).build()?);
    fields.push(Field::new(name, array.data_type().clone(), true));
    arrays.push(array);
    Ok(())
}

/// The batch without its list columns, and one batch for each: a row an item, with the parent's key as
/// `_parent_<key>`, the item's `_position` from 0, its fields (or `value`), and the parent's system columns.
///
/// # Errors
/// None for batches made by the decoder.
pub fn child_rows(
    batch: &RecordBatch,
    key: &[String],
) -> Result<(RecordBatch, Vec<(String, RecordBatch)>), ArrowError> {
    let schema = batch.schema();
    let is_list = |field: &Field| matches!(field.data_type(), DataType::List(_));
    let mut children = Vec::new();
    let mut kept = Vec::new();
    for (at, field) in schema.fields().iter().enumerate() {
        if is_list(field) {
            children.push((field.name().clone(), explode(batch, at, key)?));
        } else {
            kept.push(at);
        }
    }
    Ok((batch.project(&kept)?, children))
}

fn explode(batch: &RecordBatch, at: usize, key: &[String]) -> Result<RecordBatch, ArrowError> {
    let list = batch.column(at).as_list::<i32>();
    let (mut parents, mut items, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..list.len() {
        if list.is_null(row) {
            continue;
        }
        let (from, to) = (list.value_offsets()[row], list.value_offsets()[row + 1]);
        for item in from..to {
            parents.push(row as u32);
            items.push(item as u32);
            positions.push(i64::from(item - from));
        }
    }
    let (parents, items) = (UInt32Array::from(parents), UInt32Array::from(items));
    let (mut fields, mut arrays): (Vec<Field>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    let mut add = |name: String, array: ArrayRef| {
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    };
    for name in key {
        let column = batch.column_by_name(name).ok_or_else(|| {
            ArrowError::SchemaError(format!(
                "the rows have no column `{name}`, which the child table needs as its parent's key"
            ))
        })?;
        add(format!("_parent_{name}"), take(column, &parents, None)?);
    }
    add("_position".into(), Arc::new(Int64Array::from(positions)));
    let values = take(list.values(), &items, None)?;
    match values.data_type() {
        DataType::Struct(inner) => {
            for (field, column) in inner.iter().zip(values.as_struct().columns()) {
                let nulls = NullBuffer::union(values.nulls(), column.nulls());
                add(field.name().clone(), make_array(column.to_data().into_builder().nulls(nulls).build()?));
            }
        }
        _ => add("value".into(), values),
    }
    for name in SYSTEM {
        if let Some(column) = batch.column_by_name(name) {
            add(name.into(), take(column, &parents, None)?);
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Decoder, Meta, infer};
    use crate::spec::SchemaPolicy;

    fn batch(json: &[u8]) -> RecordBatch {
        let shape = Arc::new(infer(json).unwrap().shape);
        let decoder = Decoder::new(shape, SchemaPolicy::Evolve, Arc::new([]), Arc::new([]));
        decoder.decode(json, &Meta::default()).unwrap().batch
    }

    fn names(batch: &RecordBatch) -> Vec<String> {
        batch
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .filter(|n| !SYSTEM.contains(&n.as_str()))
            .collect()
    }

    #[test]
    fn objects_become_columns() {
        let flat = flatten(&batch(br#"[{"id":1,"a":{"b":{"c":1},"d":2}},{"id":2,"a":null}]"#)).unwrap();
        assert_eq!(names(&flat), ["id", "a__b__c", "a__d"]);
        assert_eq!(flat.column_by_name("a__d").unwrap().null_count(), 1);
    }

    #[test]
    fn lists_become_tables() {
        let json = br#"[{"id":1,"l":[{"x":1},{"x":2}]},{"id":2,"l":null},{"id":3,"l":[{"x":3}]}]"#;
        let (parent, children) = child_rows(&batch(json), &["id".into()]).unwrap();
        assert_eq!(names(&parent), ["id"]);
        assert_eq!(children[0].0, "l");
        assert_eq!(names(&children[0].1), ["_parent_id", "_position", "x"]);
        assert_eq!(children[0].1.num_rows(), 3);
    }
}
