//! `tessera gateway …`: says what a config means before it serves.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use crate::Error;
use crate::app::explain::{Imagined, explain, routes};
use crate::auth::{hash_key, hash_password};
use crate::metrics::Metrics;
use crate::snapshot::{Lasting, Snapshot};
use crate::spec::{Environment, json_schema, load_file};

/// The verbs.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Check a config file, with the certificates and keys it names
    Check(File),
    /// Print the table of routes
    Routes(File),
    /// Say which route a request would take, and why; exit code 1 where none does
    TestRequest {
        /// The config file
        #[command(flatten)]
        file: File,
        /// The URL, such as https://api.example.com/orders/7?full=1
        url: String,
        /// The method
        #[arg(short = 'X', long, default_value = "GET")]
        method: String,
        /// A header, `name: value`; may be given again
        #[arg(short = 'H', long = "header", value_name = "HEADER")]
        headers: Vec<String>,
    },
    /// Print the JSON Schema of config files, for editors
    JsonSchema,
    /// Print the hash of an API key that is read from standard input
    HashKey,
    /// Print the hash of a password that is read from standard input
    HashPassword,
}

/// The config file.
#[derive(Args, Debug)]
pub struct File {
    /// The config file (YAML)
    #[arg(value_name = "FILE")]
    path: PathBuf,
}

/// What a verb has to say, and whether it is good.
#[derive(Debug)]
pub struct Told {
    /// For standard output.
    pub text: String,
    /// Whether the exit code is 0.
    pub is_good: bool,
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// [`Error::Config`] where the file or an argument is wrong.
    pub fn run(self, environment: &Environment) -> Result<Told, Error> {
        let good = |text: String| Told { text, is_good: true };
        match self {
            Self::Check(file) => {
                let snapshot = compile(&file.path, environment)?;
                let counts = [
                    counted(snapshot.listeners.len(), "listener"),
                    counted(snapshot.routes.len(), "route"),
                    counted(snapshot.upstreams.len(), "upstream"),
                ];
                Ok(good(format!("{}: good: {}\n", file.path.display(), counts.join(", "))))
            }
            Self::Routes(file) => Ok(good(routes(&compile(&file.path, environment)?))),
            Self::TestRequest { file, url, method, headers } => {
                let request = imagine(&url, &method, &headers)?;
                let (text, is_good) = explain(&compile(&file.path, environment)?, &request)?;
                Ok(Told { text, is_good })
            }
            Self::JsonSchema => {
                let schema = serde_json::to_string_pretty(&json_schema());
                Ok(good(schema.map_err(|error| Error::Internal(error.to_string()))? + "\n"))
            }
            Self::HashKey => Ok(good(hash_key(&read_secret()?) + "\n")),
            Self::HashPassword => Ok(good(hash_password(&read_secret()?)? + "\n")),
        }
    }
}

/// A number and its noun: `1 route`, `2 routes`.
fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn compile(path: &Path, environment: &Environment) -> Result<Snapshot, Error> {
    let mut loaded = load_file(path, environment)?;
    // A check writes nothing.
    std::sync::Arc::make_mut(&mut loaded.gateway).access_log.file = None;
    let lasting = Lasting { limiters: Default::default(), metrics: Metrics::new(1), acme: Default::default() };
    Snapshot::build(&loaded, None, &lasting)
}

fn imagine(url: &str, method: &str, headers: &[String]) -> Result<Imagined, Error> {
    let wrong = |place: &str, detail: String| Error::Config { place: place.into(), detail };
    let parsed = Url::parse(url).ok().filter(Url::has_host);
    let parsed =
        parsed.ok_or_else(|| wrong("url", format!("`{url}` is not a URL; write it whole, with http://host")))?;
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| wrong("--method", format!("`{method}` is no method; write one such as GET")))?;
    let mut map = HeaderMap::new();
    for header in headers {
        let pair = header.split_once(':').and_then(|(name, value)| {
            Some((name.trim().parse::<HeaderName>().ok()?, value.trim().parse::<HeaderValue>().ok()?))
        });
        let (name, value) = pair.ok_or_else(|| wrong("--header", format!("`{header}` is not `name: value`")))?;
        map.append(name, value);
    }
    // The URL's own reading of a path would hide what the gateway makes of it.
    let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..])).unwrap_or("/");
    let path = path.split(['?', '#']).next().unwrap_or("/").to_owned();
    Ok(Imagined {
        method,
        host: parsed.host_str().unwrap_or_default().to_owned(),
        path,
        query: parsed.query().map(str::to_owned),
        headers: map,
    })
}

fn read_secret() -> Result<String, Error> {
    let mut text = String::new();
    let read = std::io::stdin().take(64 << 10).read_to_string(&mut text);
    read.map_err(|error| Error::Config { place: "standard input".into(), detail: error.to_string() })?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        let detail = "there is nothing; write the secret to it".to_owned();
        return Err(Error::Config { place: "standard input".into(), detail });
    }
    Ok(secret.to_owned())
}
