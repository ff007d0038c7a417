//! HTTP and JSON for callers, gRPC for the service: which method a request means (`rules`), its message (`message`), frames
//! and their streams (`frame`, `stream`), statuses (`status`), and the description itself, from a file or by reflection.

mod frame;
mod message;
mod reflect;
mod rules;
mod status;
mod stream;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::Method;
use prost_reflect::{DescriptorPool, MethodDescriptor};

pub(crate) use frame::{Messages, Next, framed};
pub(crate) use message::{answer_json, request_messages};
pub(crate) use reflect::renew;
pub(crate) use status::{Status, http as http_status, name as status_name};
pub use stream::Transcoded;
pub(crate) use stream::{First, Form};

use crate::spec;
use rules::Rule;

/// A description above this is refused.
pub(crate) const MOST_DESCRIPTION_BYTES: u64 = 32 << 20;

/// The transcoding of a route.
#[derive(Debug)]
pub struct Transcoder {
    /// What the file says.
    pub spec: spec::Transcode,
    table: ArcSwapOption<Table>,
}

/// All rules of a description.
#[derive(Debug)]
pub struct Table {
    rules: Vec<Rule>,
}

/// The method that a request means.
#[derive(Debug)]
pub struct Meant {
    /// The method.
    pub method: MethodDescriptor,
    /// The fields that the path names, and their texts.
    pub fields: Vec<(String, String)>,
    /// Which field the body is; `*` for the message itself.
    pub body: Option<String>,
    /// Which field of the answer is sent; all of it where there is none.
    pub answer: Option<String>,
}

/// What is found for a request.
#[derive(Debug)]
pub enum Found {
    /// A method.
    Meant(Box<Meant>),
    /// The path takes these.
    OtherMethods(Vec<Method>),
    /// No rule has the path.
    NoPath,
    /// The service has not said yet what it does.
    NotYet,
}

impl Transcoder {
    /// From the config file; `before` is what was in use for the route.
    ///
    /// # Errors
    /// What is wrong with the description.
    pub fn new(spec: &spec::Transcode, folder: &Path, before: Option<&Self>) -> Result<Self, String> {
        let table = match &spec.descriptors {
            Some(file) => {
                let path = folder.join(file);
                let wrong = |error: &dyn std::fmt::Display| format!("`{}` cannot be used: {error}", path.display());
                let size = std::fs::metadata(&path).map_err(|error| wrong(&error))?.len();
                if size > MOST_DESCRIPTION_BYTES {
                    return Err(wrong(&format!("it is {size} bytes, over the limit of {MOST_DESCRIPTION_BYTES}")));
                }
                let bytes = std::fs::read(&path).map_err(|error| wrong(&error))?;
                let pool = DescriptorPool::decode(bytes.as_slice()).map_err(|error| wrong(&error))?;
                Some(Arc::new(Table::of(&pool, spec).map_err(|error| wrong(&error))?))
            }
            None => before.filter(|before| before.spec == *spec).and_then(|before| before.table.load_full()),
        };
        Ok(Self { spec: spec.clone(), table: ArcSwapOption::new(table) })
    }

    /// Takes a description that the service gave.
    ///
    /// # Errors
    /// What is wrong with it; the last good one stays.
    pub fn take(&self, pool: &DescriptorPool) -> Result<(), String> {
        self.table.store(Some(Arc::new(Table::of(pool, &self.spec)?)));
        Ok(())
    }

    /// Whether it is known what the service does.
    pub fn is_described(&self) -> bool {
        self.table.load().is_some()
    }

    /// The method that a request means.
    pub fn find(&self, method: &Method, path: &str) -> Found {
        let Some(table) = self.table.load_full() else { return Found::NotYet };
        // Who may GET may HEAD.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let mut others = Vec::new();
        for rule in &table.rules {
            let Some(fields) = rule.template.fit(path) else { continue };
            if rule.http != *method {
                others.push(rule.http.clone());
                continue;
            }
            let (body, answer) = (rule.body.clone(), rule.answer.clone());
            return Found::Meant(Box::new(Meant { method: rule.method.clone(), fields, body, answer }));
        }
        if others.is_empty() { Found::NoPath } else { Found::OtherMethods(others) }
    }
}

impl Table {
    fn of(pool: &DescriptorPool, spec: &spec::Transcode) -> Result<Self, String> {
        let mut rules = Vec::new();
        let is_wanted = |name: &str| spec.services.is_empty() || spec.services.iter().any(|wanted| wanted == name);
        if let Some(missing) = spec.services.iter().find(|name| pool.get_service_by_name(name).is_none()) {
            let known: Vec<String> = pool.services().map(|service| service.full_name().to_owned()).collect();
            return Err(format!("there is no service `{missing}`; there are {}", known.join(", ")));
        }
        for service in pool.services().filter(|service| is_wanted(service.full_name())) {
            for method in service.methods() {
                rules.extend(rules::of_method(&method, spec.by_name)?);
            }
        }
        // What has words where another has anything comes first; of the same the order stays.
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.template.precision()));
        Ok(Self { rules })
    }
}
