//! Which tables a target has, and how rows meet those already there.

use std::sync::Arc;

use super::column::{Column, Engine, Type, columns, names};
use crate::lake::{DataFile, Present};
use crate::shape::{EXTRACTED_AT, Shape};
use crate::spec::{Load, Pipeline, Resource, WriteMode, primary_key, write_mode};

/// A table of a target.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The resource, or the child table `resource__list`.
    pub resource: String,
    /// The resource whose rows the items of a child table belong to.
    pub parent: Option<String>,
    /// Its name in the target.
    pub name: String,
    /// The shape of its files, system columns included.
    pub shape: Arc<Shape>,
    /// Its columns.
    pub columns: Vec<Column>,
    /// How rows meet those in it.
    pub mode: Mode,
    /// All its files.
    pub files: Vec<DataFile>,
    /// Rows in them.
    pub rows: u64,
}

/// How rows meet those in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// All rows are loaded anew.
    Replace,
    /// Rows are added.
    Append,
    /// One row a key: a row takes the place of one that is not newer by `order`.
    Merge {
        /// Columns that name a row.
        key: Vec<String>,
        /// Columns that tell which of two rows is newer, the first that differs.
        order: Vec<String>,
    },
    /// The items of one parent take the place of those that it had.
    Groups {
        /// Columns that name the parent.
        key: Vec<String>,
        /// The same columns in the parent's own table.
        parent_key: Vec<String>,
        /// The lake has the items of one version of a parent only.
        merged: bool,
    },
}

impl Mode {
    /// In one word, with the key.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Replace => "replace".into(),
            Self::Append => "append".into(),
            Self::Merge { key, .. } => format!("merge({})", key.join(",")),
            Self::Groups { key, .. } => format!("groups({})", key.join(",")),
        }
    }
}

/// The tables of a target, parents before their children.
pub(super) fn tables(target: &Load, pipeline: &Pipeline, present: &Present, engine: Engine) -> Vec<Table> {
    let known = present.state.resources.iter();
    let wanted: Vec<_> = known
        .filter_map(|(name, state)| Some((name, state, owner(pipeline, name)?)))
        .filter(|(_, _, owner)| target.resources.is_empty() || target.resources.contains(&owner.name))
        .collect();
    let full_names = wanted.iter().map(|(name, _, _)| match (&target.schema, engine) {
        (Some(schema), Engine::Sqlite) => format!("{schema}_{name}"),
        _ => (*name).clone(),
    });
    let full_names: Vec<String> = full_names.collect();
    let names = names(full_names.iter().map(String::as_str), engine);
    let tables = wanted.into_iter().zip(names).map(|((resource, state, owner), name)| {
        let is_child = *resource != owner.name;
        let include: Vec<String> = if is_child { vec![] } else { owner.include.keys().cloned().collect() };
        let shape = state.schema.stored(&include);
        let columns = columns(&shape, engine);
        Table {
            resource: resource.clone(),
            parent: is_child.then(|| owner.name.clone()),
            name,
            mode: mode(target, pipeline, owner, is_child, &columns),
            shape: Arc::new(shape),
            columns,
            files: state.files.clone(),
            rows: state.rows,
        }
    });
    let mut tables: Vec<Table> = tables.collect();
    tables.sort_by_key(|table| table.parent.is_some());
    tables
}

/// The resource that a table of the lake belongs to; none where the pipeline no longer has it.
fn owner<'a>(pipeline: &'a Pipeline, name: &str) -> Option<&'a Resource> {
    let of_it = |resource: &&Resource| {
        name.strip_prefix(resource.name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with("__"))
    };
    pipeline.resources.iter().filter(of_it).max_by_key(|resource| resource.name.len())
}

fn mode(target: &Load, pipeline: &Pipeline, resource: &Resource, is_child: bool, columns: &[Column]) -> Mode {
    let in_lake = write_mode(pipeline, resource);
    let paths = primary_key(pipeline, resource);
    // What has no key cannot be merged by it: it is written as in the lake.
    let wanted = target.write.filter(|write| *write != WriteMode::Merge || !paths.is_empty()).unwrap_or(in_lake);
    let named = |prefix: &str| -> Option<Vec<String>> {
        paths.iter().map(|path| Some(find(columns, &format!("{prefix}{path}"))?.name.clone())).collect()
    };
    match wanted {
        WriteMode::Replace => Mode::Replace,
        WriteMode::Append => Mode::Append,
        // A key inside of a struct is no column of the table.
        WriteMode::Merge if is_child => match named("_parent_") {
            Some(key) => {
                let merged = in_lake == WriteMode::Merge;
                Mode::Groups { key, parent_key: paths.to_vec(), merged }
            }
            None => Mode::Replace,
        },
        WriteMode::Merge => match named("") {
            Some(key) => {
                let cursor = resource.incremental.cursor().and_then(|cursor| find(columns, &cursor.cursor));
                let ordered = |column: &&Column| matches!(column.kind, Type::Int | Type::Timestamp | Type::Date);
                // Where the lake has one row a key it has decided already.
                let fetched = (in_lake != WriteMode::Merge).then(|| find(columns, EXTRACTED_AT)).flatten();
                let order = cursor.filter(ordered).into_iter().chain(fetched).map(|column| column.name.clone());
                Mode::Merge { key, order: order.collect() }
            }
            None => Mode::Replace,
        },
    }
}

/// The column of a dotted path: of that name, or flattened.
pub(super) fn find<'a>(columns: &'a [Column], path: &str) -> Option<&'a Column> {
    let by = |name: &str| columns.iter().find(|column| column.source == name);
    by(path).or_else(|| by(&path.replace('.', "__")))
}
