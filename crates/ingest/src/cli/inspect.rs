//! The verbs that look: init, validate, check, discover, preview, status, state, schema, quality.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};

use super::{Context, Exit, PipelineArgs, http, out, out_json, render};
use crate::Error;
use crate::app::history::histories;
use crate::app::init::{self, InitOptions};
use crate::app::preview::preview as first_page;
use crate::app::run::commit_state;
use crate::lake::{Cursor, Lake, ResourceState};
use crate::spec::{Environment, Loaded, Pipeline, Resource, primary_key, write_mode};

/// Somebody waits for the answer, so an API that is away is told of in seconds, not after all attempts of a run.
const LOOKING_ATTEMPTS: u32 = 3;

/// What `init` takes.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// URL of the API, of one of its lists, or of its OpenAPI document; or the path of such a document
    #[arg(value_name = "URL|FILE")]
    from: String,
    /// Where the API lives, for an OpenAPI document that does not say it, or says it wrongly
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Name of the pipeline; the host's name otherwise
    #[arg(long)]
    name: Option<String>,
    /// Where the data shall go
    #[arg(long, default_value = "./lake")]
    destination: String,
    /// Header for trying the API, such as 'Authorization: Bearer ${TOKEN}'; may be repeated
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Requests at the most
    #[arg(long, default_value_t = 60)]
    max_requests: u32,
    /// Write the file here instead of stdout
    #[arg(long, short)]
    output: Option<PathBuf>,
}

/// What `discover` takes.
#[derive(Debug, Args)]
pub struct DiscoverArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Requests at the most
    #[arg(long, default_value_t = 60)]
    max_requests: u32,
}

/// What `preview` takes.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// Pipeline file
    #[arg(env = "TESSERA_PIPELINE")]
    pipeline: PathBuf,
    /// The resource; the first one otherwise
    resource: Option<String>,
    /// Rows to show
    #[arg(long, default_value_t = 10)]
    rows: usize,
}

/// How `status` and `schema` print.
#[derive(Debug, Args)]
pub struct FormatArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What `state` takes.
#[derive(Debug, Args)]
pub struct StateArgs {
    #[command(subcommand)]
    action: StateAction,
}

#[derive(Debug, Subcommand)]
enum StateAction {
    /// Print the state
    Show {
        #[command(flatten)]
        pipeline: PipelineArgs,
    },
    /// Forget the cursors, so that the next incremental run reads everything; the files stay
    Reset {
        /// Pipeline file
        pipeline: PathBuf,
        /// Only these resources
        resources: Vec<String>,
    },
    /// Set a resource's cursor
    Set {
        /// Pipeline file
        pipeline: PathBuf,
        /// The resource
        resource: String,
        /// A time such as 2024-01-31T00:00:00Z, or a number
        cursor: String,
    },
}

/// What `quality` takes.
#[derive(Debug, Args)]
pub struct QualityArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Runs to look back
    #[arg(long, default_value_t = 30)]
    runs: usize,
    /// Print as
    #[arg(long, value_enum, default_value_t = QualityFormat::Table)]
    format: QualityFormat,
    /// Write a self-contained page here
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum QualityFormat {
    Table,
    Json,
    Html,
}

fn write(path: &PathBuf, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|error| Error::Spec {
        place: path.display().to_string(),
        detail: format!("cannot be written: {error}"),
    })
}

pub async fn init(args: InitArgs) -> Result<Exit, Error> {
    let mut headers = Vec::new();
    for header in &args.headers {
        let (name, value) = header.split_once(':').ok_or_else(|| Error::Spec {
            place: "--header".into(),
            detail: format!("`{header}` has no colon; write it as 'Authorization: Bearer ${{TOKEN}}'"),
        })?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    if let Some(path) = args.output.as_ref().filter(|path| path.exists()) {
        return Err(Error::Spec {
            place: path.display().to_string(),
            detail: "the file is there already; choose another name".into(),
        });
    }
    let options = InitOptions {
        name: args.name,
        destination: args.destination,
        headers,
        base_url: args.base_url,
        max_requests: args.max_requests,
        ..InitOptions::default()
    };
    let report = init::init(&args.from, &options, &Environment::of_process(), &http()?).await?;
    for note in &report.notes {
        eprintln!("note: {note}");
    }
    match &args.output {
        Some(path) => {
            write(path, &report.yaml)?;
            eprintln!("wrote {}; try it: tessera ingest preview {0}", path.display());
        }
        None => out(&report.yaml),
    }
    Ok(Exit::Done)
}

pub fn validate(args: &PipelineArgs) -> Result<Exit, Error> {
    let loaded = args.load()?;
    let pipeline = &loaded.pipeline;
    for resource in &pipeline.resources {
        let key = primary_key(pipeline, resource);
        if resource.incremental.cursor().is_some() && key.is_empty() {
            eprintln!(
                "warning: `{}` has a cursor and no primary_key: rows at the edge are told apart by all their columns",
                resource.name
            );
        }
    }
    out(&format!(
        "{} is valid: {}, into {}\n",
        args.name(),
        render::counted(pipeline.resources.len() as u64, "resource"),
        pipeline.destination.url
    ));
    Ok(Exit::Done)
}

/// The same, given up on sooner.
fn soon(mut loaded: Loaded) -> Loaded {
    let source = &mut Arc::make_mut(&mut loaded.pipeline).source;
    source.attempts = source.attempts.min(LOOKING_ATTEMPTS);
    loaded
}

pub async fn check(args: &PipelineArgs, context: &Context) -> Result<Exit, Error> {
    let loaded = soon(args.load()?);
    let pipeline = &loaded.pipeline;
    let mut failed = false;
    let mut say = |what: &str, outcome: Result<String, Error>| match outcome {
        Ok(detail) => out(&format!("ok      {what}: {detail}\n")),
        Err(error) => {
            failed = true;
            out(&format!("failed  {what}: {}\n", loaded.secrets.redact(&error.to_string())));
        }
    };
    let probe = match &pipeline.source.check_path {
        Some(path) => Resource { name: "check_path".into(), path: path.clone(), ..Resource::default() },
        None => pipeline.resources[0].clone(),
    };
    let answered = first_page(&loaded, &probe, Arc::clone(&context.clock)).await;
    say(
        &format!("API, by `{}`", probe.name),
        answered.map(|page| {
            format!(
                "{} in the first page{}",
                render::counted(page.batch.num_rows() as u64, "row"),
                page.total.map(|t| format!(" of {t}")).unwrap_or_default()
            )
        }),
    );
    say("lake", lake_is_writable(pipeline).await);
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

async fn lake_is_writable(pipeline: &Pipeline) -> Result<String, Error> {
    let lake = Lake::open(pipeline)?;
    lake.present().await?;
    let path = "_tessera/check";
    // A store that does not refuse the second one cannot keep two runs apart.
    let objects = lake.objects();
    objects.delete(path).await?;
    let first = objects.create(path, Bytes::from_static(b"first")).await?;
    let second = objects.create(path, Bytes::from_static(b"second")).await?;
    objects.delete(path).await?;
    if !first || second {
        return Err(Error::Lake {
            detail: format!(
                "{} has no conditional writes, which commits stand on; use a store that has",
                objects.url_of("")
            ),
        });
    }
    Ok(format!("{} can be written, and refuses a second write of the same", objects.url_of("")))
}

pub async fn discover(args: DiscoverArgs) -> Result<Exit, Error> {
    let loaded = args.pipeline.load()?;
    let headers = http::HeaderMap::new();
    let endpoints = init::discover(&loaded.pipeline, headers, args.max_requests, &http()?).await?;
    let rows: Vec<Vec<String>> = endpoints
        .iter()
        .map(|endpoint| {
            vec![
                endpoint.name.clone(),
                endpoint.path.clone(),
                endpoint.rows.map(|rows| rows.to_string()).unwrap_or_default(),
                endpoint.primary_key.join(", "),
                endpoint.read_as.clone().unwrap_or_else(|| "not read yet".into()),
            ]
        })
        .collect();
    out(&render::table(&["endpoint", "path", "rows", "key", "pipeline"], &rows));
    Ok(Exit::Done)
}

fn resource_named<'a>(loaded: &'a Loaded, name: Option<&str>) -> Result<&'a Resource, Error> {
    let Some(name) = name else { return Ok(&loaded.pipeline.resources[0]) };
    loaded.pipeline.resources.iter().find(|resource| resource.name == name).ok_or_else(|| {
        let names: Vec<&str> = loaded.pipeline.resources.iter().map(|resource| resource.name.as_str()).collect();
        Error::Spec {
            place: "RESOURCE".into(),
            detail: format!("there is no resource `{name}`; there are {}", names.join(", ")),
        }
    })
}

pub async fn preview(args: PreviewArgs, context: &Context) -> Result<Exit, Error> {
    let loaded = soon(PipelineArgs { pipeline: Some(args.pipeline) }.load()?);
    let resource = resource_named(&loaded, args.resource.as_deref())?;
    let page = first_page(&loaded, resource, Arc::clone(&context.clock)).await?;
    out(&render::rows(&page.batch, args.rows));
    let total = page.total.map(|total| format!(" of {total}")).unwrap_or_default();
    eprintln!("{}: {} in the first page{total}", resource.name, render::counted(page.batch.num_rows() as u64, "row"));
    for column in &page.shape.columns {
        eprintln!("  {}: {}", column.name, column.kind);
    }
    if let Some(detected) = page.detected {
        let paginator = serde_json::to_string(&detected.paginator).unwrap_or_default();
        eprintln!(
            "found: paginator: {paginator}; records: {}; primary_key: {}",
            detected.records,
            detected.primary_key.join(", ")
        );
        // Why none was found, or what else there is to know.
        detected.why.iter().filter(|why| why.starts_with("paginator:")).for_each(|why| eprintln!("  {why}"));
    }
    Ok(Exit::Done)
}

pub async fn status(args: &FormatArgs) -> Result<Exit, Error> {
    let loaded = args.pipeline.load()?;
    let lake = Lake::open(&loaded.pipeline)?;
    let present = lake.present().await?;
    if args.json {
        let last = if present.number > 0 { Some(lake.manifest(present.number).await?) } else { None };
        return out_json(
            &serde_json::json!({ "commit": present.number, "last": last, "resources": present.state.resources }),
        );
    }
    let none = ResourceState::default();
    let rows: Vec<Vec<String>> = loaded
        .pipeline
        .resources
        .iter()
        .map(|resource| {
            let state = present.state.resources.get(&resource.name).unwrap_or(&none);
            let size: u64 = state.files.iter().map(|file| file.bytes).sum();
            vec![
                resource.name.clone(),
                format!("{:?}", write_mode(&loaded.pipeline, resource)).to_lowercase(),
                state.rows.to_string(),
                state.files.len().to_string(),
                size.to_string(),
                state.cursor.map(|cursor| cursor.to_string()).unwrap_or_default(),
                state.committed_at.map(|at| at.to_string()).unwrap_or_else(|| "never".into()),
            ]
        })
        .collect();
    out(&format!("{} in {}, commit {}\n", loaded.pipeline.name, lake.objects().url_of(""), present.number));
    out(&render::table(&["resource", "write", "rows", "files", "bytes", "cursor", "committed"], &rows));
    for table in
        present.state.resources.keys().filter(|name| loaded.pipeline.resources.iter().all(|r| r.name != **name))
    {
        let state = &present.state.resources[table];
        let files = render::counted(state.files.len() as u64, "file");
        out(&format!("{table}: {} in {files}\n", render::counted(state.rows, "row")));
    }
    let interrupted = lake.objects().list("_tessera/progress").await?;
    if !interrupted.is_empty() {
        out("an interrupted run waits; `run` goes on with it\n");
    }
    Ok(Exit::Done)
}

/// A change of state by hand, and how it is called in the log.
type Change = dyn Fn(&Loaded, &mut crate::lake::State) -> Result<&'static str, Error>;

pub async fn state(args: StateArgs, context: &Context) -> Result<Exit, Error> {
    let (path, change): (PathBuf, Box<Change>) = match args.action {
        StateAction::Show { pipeline } => {
            let loaded = pipeline.load()?;
            let present = Lake::open(&loaded.pipeline)?.present().await?;
            return out_json(&serde_json::json!({ "commit": present.number, "state": present.state }));
        }
        StateAction::Reset { pipeline, resources } => {
            let reset = move |loaded: &Loaded, state: &mut crate::lake::State| {
                for name in &resources {
                    resource_named(loaded, Some(name))?;
                }
                for (name, resource) in &mut state.resources {
                    if resources.is_empty() || resources.contains(name) {
                        resource.cursor = None;
                    }
                }
                Ok("reset")
            };
            (pipeline, Box::new(reset))
        }
        StateAction::Set { pipeline, resource, cursor } => {
            let set = move |loaded: &Loaded, state: &mut crate::lake::State| {
                let named = resource_named(loaded, Some(&resource))?;
                let wrong = |detail: String| Error::Spec { place: "CURSOR".into(), detail };
                let format = named
                    .incremental
                    .cursor()
                    .ok_or_else(|| wrong(format!("`{resource}` has no cursor: it is not incremental")))?
                    .format;
                let value = Cursor::parse(&cursor, format).map_err(wrong)?;
                state.resources.entry(resource.clone()).or_default().cursor = Some(value);
                Ok("set")
            };
            (pipeline, Box::new(set))
        }
    };
    let loaded = PipelineArgs { pipeline: Some(path) }.load()?;
    let lake = Lake::open(&loaded.pipeline)?;
    let lease = lake.lock("a change of state by hand".into()).await?;
    let changed = async {
        let present = lake.present().await?;
        let mut state = present.state.clone();
        let what = change(&loaded, &mut state)?;
        let what = format!("{what}-{}", context.ids.next().simple());
        commit_state(&lake, &present, &state, &what, context.clock.now()).await?;
        out(&format!("commit {}: the cursors are\n", present.number + 1));
        for (name, resource) in &state.resources {
            out(&format!("  {name}: {}\n", resource.cursor.map_or_else(|| "none".into(), |cursor| cursor.to_string())));
        }
        Ok(Exit::Done)
    }
    .await;
    lease.release().await?;
    changed
}

pub async fn schema(args: &FormatArgs) -> Result<Exit, Error> {
    let loaded = args.pipeline.load()?;
    let present = Lake::open(&loaded.pipeline)?.present().await?;
    if args.json {
        let schemas: serde_json::Map<String, serde_json::Value> = present
            .state
            .resources
            .iter()
            .map(|(name, state)| {
                (name.clone(), serde_json::json!({ "version": state.schema_version, "columns": state.schema.columns }))
            })
            .collect();
        return out_json(&schemas);
    }
    if present.state.resources.is_empty() {
        eprintln!(
            "no run has committed yet; `tessera ingest preview {}` shows what the API gives",
            args.pipeline.name()
        );
    }
    for (name, state) in &present.state.resources {
        out(&format!("{name} (version {})\n", state.schema_version));
        for column in &state.schema.columns {
            out(&format!("  {}: {}\n", column.name, column.kind));
        }
    }
    Ok(Exit::Done)
}

pub async fn quality(args: &QualityArgs, context: &Context) -> Result<Exit, Error> {
    let loaded = args.pipeline.load()?;
    let lake = Lake::open(&loaded.pipeline)?;
    let found = histories(&lake, args.runs).await?;
    let name = &loaded.pipeline.name;
    let page = || crate::quality::page(name, context.clock.now(), &found);
    if let Some(path) = &args.html {
        write(path, &page())?;
        eprintln!("wrote {}", path.display());
    }
    match args.format {
        QualityFormat::Json => return out_json(&found),
        QualityFormat::Html => out(&page()),
        QualityFormat::Table if args.html.is_some() => {}
        QualityFormat::Table => {
            let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
            let width = columns.unwrap_or(if std::io::stdout().is_terminal() { 120 } else { 160 });
            out(&crate::quality::table(name, &found, width));
        }
    }
    Ok(Exit::Done)
}
