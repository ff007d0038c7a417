//! A route compiled for serving.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{Caching, Lasting, Snapshot};
use crate::Error;
use crate::aggregate::Plan;
use crate::auth::{Identity, Policies, Way};
use crate::domain::path_tree::Pattern;
use crate::limit::{Gate, Limiter};
use crate::metrics::RouteStats;
use crate::openapi::{Page, page};
use crate::spec::{self, Template, Text};
use crate::transcode::Transcoder;
use crate::upstream::Upstream;
use crate::validate::{Rules, read};
use crate::versions::Versions;

/// A route compiled for serving.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// What the file says.
    pub spec: RouteSpec,
    pub(super) pattern: Pattern,
    /// The names of its path's parameters, in order.
    pub parameters: Vec<String>,
    methods: Vec<Method>,
    headers: Vec<(HeaderName, Text)>,
    /// What becomes of its requests.
    pub action: Action,
    /// Who may use it.
    pub access: Option<Access>,
    /// How often.
    pub limiters: Vec<Arc<Limiter>>,
    /// Its requests under way.
    pub gate: Arc<Gate>,
    /// The largest body.
    pub body_limit: u64,
    /// Headers on the way there.
    pub request_headers: Edits,
    /// Headers on the way back.
    pub response_headers: Edits,
    /// What requests and answers are checked by.
    pub rules: Option<Arc<Rules>>,
    /// What makes calls of gRPC out of its requests.
    pub transcoder: Option<Arc<Transcoder>>,
    /// Its versions.
    pub versions: Option<Versions>,
    /// Its counts.
    pub stats: Arc<RouteStats>,
    /// Keeps its answers.
    pub cache: Option<Caching>,
}

/// What the file says of a route: a place in the whole, as ten thousand routes need not be there twice.
#[derive(Debug)]
pub struct RouteSpec {
    pub(super) gateway: Arc<spec::Gateway>,
    /// Among its routes.
    pub(super) at: usize,
}

impl Deref for RouteSpec {
    type Target = spec::Route;

    fn deref(&self) -> &spec::Route {
        &self.gateway.routes[self.at]
    }
}

/// What becomes of requests.
#[derive(Debug)]
pub enum Action {
    /// An upstream answers.
    Forward {
        /// Upstreams with their weights.
        shares: Vec<(Arc<Upstream>, u32)>,
        /// Who gets copies, of how many in a hundred.
        mirror: Option<(Arc<Upstream>, u8)>,
        /// The host that the upstream sees.
        host: Option<HeaderValue>,
    },
    /// The caller is sent elsewhere.
    Redirect(StatusCode, Template),
    /// The OpenAPI documents of all upstreams.
    Document,
    /// A page that shows them.
    Page(Box<Page>),
    /// Several upstreams answer.
    Aggregate(Box<Plan>),
    /// The gateway answers.
    Respond(StatusCode, HeaderMap, Bytes),
}

/// Who may use a route.
#[derive(Debug)]
pub struct Access {
    /// Ways to prove who one is.
    pub ways: Vec<Arc<Way>>,
    /// What must permit it.
    pub policies: Option<Policies>,
    /// What the file says.
    pub spec: spec::Access,
}

/// Changes to headers.
#[derive(Debug, Default)]
pub struct Edits {
    /// Taken away.
    pub remove: Vec<HeaderName>,
    /// Set.
    pub set: Vec<(HeaderName, Template)>,
    /// Added.
    pub add: Vec<(HeaderName, Template)>,
}

/// What of a request a route is chosen by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'r> {
    /// Its method.
    pub method: &'r Method,
    /// Its headers.
    pub headers: &'r HeaderMap,
    /// Its query, without the question mark.
    pub query: Option<&'r str>,
}

/// Why a route does not take a request whose path it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It has other methods.
    Method,
    /// A header is not as it must be.
    Header(HeaderName),
    /// A parameter of the query is not as it must be.
    Query(String),
}

/// What a route is compiled among.
pub(super) struct Around<'a> {
    pub(super) gateway: &'a spec::Gateway,
    pub(super) upstreams: &'a BTreeMap<String, Arc<Upstream>>,
    pub(super) ways: &'a BTreeMap<String, Arc<Way>>,
    pub(super) folder: &'a Path,
    pub(super) before: Option<&'a Snapshot>,
    pub(super) lasting: &'a Lasting,
}

impl Route {
    pub(super) fn new(named: RouteSpec, gate: Arc<Gate>, around: &Around<'_>) -> Result<Self, Error> {
        let spec: &spec::Route = &named;
        let Around { gateway, upstreams, ways, folder, before, lasting } = *around;
        let wrong =
            |reason: String| Error::Config { place: String::new(), detail: format!("route `{}`: {reason}", spec.name) };
        let pattern: Pattern = spec.matcher.path.parse().map_err(wrong)?;
        let methods = spec.matcher.methods.iter().map(|method| Method::from_bytes(method.as_bytes()));
        let headers = spec.matcher.headers.iter().map(|(name, text)| Ok((name.parse::<HeaderName>()?, text.clone())));
        let headers = headers.collect::<Result<_, http::header::InvalidHeaderName>>();
        let access = spec.access.as_ref().map(|access| {
            let ways = access.by.iter().filter_map(|name| ways.get(name).cloned()).collect();
            Ok(Access { ways, policies: policies(access, folder)?, spec: access.clone() })
        });
        let parameters: Vec<String> = pattern.parameters().into_iter().map(str::to_owned).collect();
        let transcoder = spec.transcode.as_ref().map(|transcode| {
            let known = before.and_then(|before| before.routes.iter().find(|route| *route.name == *spec.name));
            let known = known.and_then(|route| route.transcoder.as_deref());
            Transcoder::new(transcode, folder, known).map(Arc::new)
        });
        let versions = spec.versions.as_ref();
        let versions = versions.map(|versions| Versions::new(versions, spec, &parameters, upstreams)).transpose();
        Ok(Self {
            name: spec.name.as_str().into(),
            parameters,
            pattern,
            methods: methods.collect::<Result<_, _>>().map_err(|error| wrong(error.to_string()))?,
            headers: headers.map_err(|error| wrong(error.to_string()))?,
            action: action_of(spec, gateway, upstreams).map_err(wrong)?,
            access: access.transpose().map_err(wrong)?,
            limiters: spec.rate_limits.iter().map(|limit| lasting.limiters.get(limit)).collect(),
            gate,
            body_limit: spec.body.unwrap_or(gateway.limits.body).0,
            request_headers: Edits::new(&spec.request_headers).map_err(wrong)?,
            response_headers: Edits::new(&spec.response_headers).map_err(wrong)?,
            rules: rules_of(spec, folder).map_err(wrong)?,
            transcoder: transcoder.transpose().map_err(wrong)?,
            versions: versions.map_err(wrong)?,
            stats: lasting.metrics.route(&spec.name),
            cache: None,
            spec: named,
        })
    }

    /// How much it asks for beside its path: those that ask for more come first.
    pub(super) fn demands(&self) -> usize {
        let matcher = &self.spec.matcher;
        let lists = usize::from(!matcher.methods.is_empty()) + usize::from(!matcher.roles.is_empty());
        lists + matcher.headers.len() + matcher.query.len() + matcher.claims.len()
    }

    /// Why it does not take a request with these facts, if it does not.
    pub fn mismatch(&self, facts: Facts<'_>) -> Option<Mismatch> {
        // Who may GET may HEAD.
        let takes = |known: &Method| known == facts.method || (facts.method == Method::HEAD && known == Method::GET);
        if !self.methods.is_empty() && !self.methods.iter().any(takes) {
            return Some(Mismatch::Method);
        }
        let odd = self.headers.iter().find(|(name, text)| {
            let value = facts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
            !text.fits(value)
        });
        if let Some((name, _)) = odd {
            return Some(Mismatch::Header(name.clone()));
        }
        let odd = self.spec.matcher.query.iter().find(|(name, text)| {
            let pairs = url::form_urlencoded::parse(facts.query.unwrap_or_default().as_bytes());
            let value = pairs.into_iter().find(|(key, _)| key == name.as_str()).map(|(_, value)| value);
            !text.fits(value.as_deref())
        });
        odd.map(|(name, _)| Mismatch::Query(name.clone()))
    }

    /// Whether it is chosen by who asks.
    pub fn asks_who(&self) -> bool {
        !self.spec.matcher.claims.is_empty() || !self.spec.matcher.roles.is_empty()
    }

    /// Whether who asks is whom it is for.
    pub fn fits_identity(&self, identity: Option<&Identity>) -> bool {
        let matcher = &self.spec.matcher;
        let has_role = |role: &String| identity.is_some_and(|identity| identity.roles.contains(role));
        let claim = |name: &str| identity.and_then(|identity| identity.claim(name));
        (matcher.roles.is_empty() || matcher.roles.iter().any(has_role))
            && matcher.claims.iter().all(|(name, text)| text.fits(claim(name).as_deref()))
    }

    /// The methods it takes, for `allow`.
    pub fn allowed(&self) -> &[Method] {
        &self.methods
    }
}

fn policies(access: &spec::Access, folder: &Path) -> Result<Option<Policies>, String> {
    let text = match (&access.policy, &access.policy_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => {
            let path = folder.join(file);
            std::fs::read_to_string(&path).map_err(|error| format!("policies `{}`: {error}", path.display()))?
        }
        (None, None) => return Ok(None),
    };
    Policies::new(&text).map(Some).map_err(|error| format!("policies: {error}"))
}

fn action_of(
    spec: &spec::Route,
    gateway: &spec::Gateway,
    upstreams: &BTreeMap<String, Arc<Upstream>>,
) -> Result<Action, String> {
    let find = |name: &String| upstreams.get(name).cloned().ok_or_else(|| format!("there is no upstream `{name}`"));
    let status = |status: u16| StatusCode::from_u16(status).map_err(|error| error.to_string());
    if let Some(redirect) = &spec.redirect {
        return Ok(Action::Redirect(status(redirect.status)?, redirect.to.clone()));
    }
    if let Some(respond) = &spec.respond {
        let mut headers = HeaderMap::new();
        for (name, value) in &respond.headers {
            let name = name.parse::<HeaderName>().map_err(|error| error.to_string())?;
            headers.insert(name, value.parse().map_err(|_| format!("`{value}` cannot be a header's value"))?);
        }
        return Ok(Action::Respond(status(respond.status)?, headers, Bytes::from(respond.body.clone())));
    }
    match spec.docs {
        Some(spec::Docs::Document) => return Ok(Action::Document),
        Some(spec::Docs::Page) => {
            let path = spec::document_path(&gateway.routes).ok_or("there is no route with `docs: document`")?;
            return Ok(Action::Page(Box::new(page(&gateway.documents.title, path))));
        }
        None => {}
    }
    if let Some(aggregate) = &spec.aggregate {
        return Ok(Action::Aggregate(Box::new(Plan::new(aggregate, upstreams)?)));
    }
    let shares = match &spec.upstream {
        Some(name) => vec![(find(name)?, 1)],
        None => {
            spec.split.iter().map(|share| Ok((find(&share.upstream)?, share.weight))).collect::<Result<_, String>>()?
        }
    };
    let mirror = spec.mirror.as_ref().map(|mirror| Ok::<_, String>((find(&mirror.upstream)?, mirror.percent)));
    let host = spec.rewrite.host.as_ref().map(|host| host.parse().map_err(|_| format!("`{host}` is not a host")));
    Ok(Action::Forward { shares, mirror: mirror.transpose()?, host: host.transpose()? })
}

/// What a route is validated by, from its file.
fn rules_of(spec: &spec::Route, folder: &Path) -> Result<Option<Arc<Rules>>, String> {
    let Some(validate) = &spec.validate else { return Ok(None) };
    let (file, rules) = match (&validate.openapi, &validate.schema) {
        (Some(file), _) => (file, Rules::of_document(&read(&folder.join(file))?, &validate.base)),
        (None, Some(file)) => (file, Rules::of_schema(&read(&folder.join(file))?)),
        (None, None) => return Ok(None),
    };
    rules.map(|rules| Some(Arc::new(rules))).map_err(|error| format!("`{file}` cannot be used: {error}"))
}

impl Edits {
    fn new(spec: &spec::Headers) -> Result<Self, String> {
        let name = |name: &String| name.parse::<HeaderName>().map_err(|error| error.to_string());
        let pairs = |map: &BTreeMap<String, Template>| {
            map.iter().map(|(header, value)| Ok((name(header)?, value.clone()))).collect::<Result<Vec<_>, String>>()
        };
        let remove = spec.remove.iter().map(name).collect::<Result<_, _>>()?;
        Ok(Self { remove, set: pairs(&spec.set)?, add: pairs(&spec.add)? })
    }

    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}
