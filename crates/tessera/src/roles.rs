//! The table of roles: each row is a part of Tessera that can run alone (`tessera serve ROLE`); `up` runs all of them. Some can be
//! split further, for several processes.

use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use tessera_ingest::spec::Environment;
use tessera_rides::Part;
use tessera_service::config::Config;
use tessera_service::identity::RelyingParty;
use tessera_service::{Component, Deps};

/// What a row gives: its components, ready to be started.
pub type Building<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Vec<Component>>> + Send + 'a>>;

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Role {
    /// As in `tessera serve ROLE`.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// Where its pages begin; they are served where the console is.
    pub page: Option<&'static str>,
    /// Opens its stores and makes its components. Ports are bound by now, nothing is started.
    pub build: Build,
}

type Build = for<'a> fn(&'a Config, &'a Deps) -> Building<'a>;

impl Role {
    const fn new(name: &'static str, about: &'static str, build: Build) -> Self {
        Self { name, about, page: None, build }
    }

    const fn page(self, page: &'static str) -> Self {
        Self { page: Some(page), ..self }
    }
}

/// The role of the pages.
pub const CONSOLE: &str = "console";

/// The role in front of the others.
pub const GATEWAY: &str = "gateway";

/// Every role, each whole.
pub const ROLES: &[Role] = &[
    Role::new(CONSOLE, "the web pages", console),
    Role::new("ingest", "pipelines on their schedules, and the API of their runs", ingest)
        .page("/console/#/ingest/pipelines"),
    Role::new("tickets", "events, search, seats, booking, the waiting room and the door", tickets)
        .page("/console/#/tickets"),
    Role::new("accounts", "sign-up, sign-in, tokens, roles and keys", accounts).page("/console/#/account"),
    Role::new("rides", "fare estimates, drivers' locations, matching and trips", rides).page("/console/#/rides"),
    Role::new(GATEWAY, "the one door in front of all APIs; alone it needs a file of routes", gateway)
        .page("/console/#/gateway"),
];

/// Parts of a role, for several processes: `up` runs them with it, `serve` alone.
pub const SPLIT: &[Role] = &[
    Role::new("rides-api", "of rides: the API and its streams", rides_api),
    Role::new("rides-locations", "of rides: takes drivers' positions", rides_locations),
    Role::new("rides-matcher", "of rides: finds drivers, and ends what is due", rides_matcher),
];

/// What `up --demo` serves besides.
pub const DEMO: Role = Role::new("demo", "signs in the people of the demo", demo);

/// The row of that name.
pub fn find(name: &str) -> Option<Role> {
    served().find(|role| role.name == name)
}

/// Every row that `serve` takes.
pub fn served() -> impl Iterator<Item = Role> {
    ROLES.iter().chain(SPLIT).copied()
}

fn console<'a>(config: &'a Config, deps: &'a Deps) -> Building<'a> {
    Box::pin(async {
        let pages = Component::new("console", "/").router(tessera_console::router());
        let party = RelyingParty::new(&config.get()?, &deps.keys)?;
        let issuer = party.map(|party| Component::new("issuer", "/").router(tessera_console::sign_in(party)));
        Ok([pages].into_iter().chain(issuer).collect())
    })
}

fn ingest<'a>(config: &'a Config, deps: &'a Deps) -> Building<'a> {
    Box::pin(async {
        let built = tessera_ingest::build(&config.get()?, deps, Environment::of_process()).await;
        built.map_err(|error| ingest_refused(config, error))
    })
}

/// Keeps other processes that run ingest from a data folder while it is held, before the role itself does.
pub fn hold_ingest(config: &Config, data: &Path) -> anyhow::Result<Option<File>> {
    tessera_ingest::hold(&config.get()?, data).map_err(|error| ingest_refused(config, error))
}

fn ingest_refused(config: &Config, error: tessera_ingest::BuildError) -> anyhow::Error {
    use tessera_ingest::BuildError;
    match error {
        BuildError::Setting { key, value, reason } => bad_setting(config, key, value, reason),
        error => anyhow::Error::new(error),
    }
}

fn tickets<'a>(config: &'a Config, deps: &'a Deps) -> Building<'a> {
    use tessera_tickets::BuildError;
    Box::pin(async {
        let built = tessera_tickets::build(&config.get()?, deps).await;
        built.map_err(|error| match error {
            BuildError::Setting { key, value, reason } => bad_setting(config, key, value, reason),
            error => anyhow::Error::new(error),
        })
    })
}

fn accounts<'a>(config: &'a Config, deps: &'a Deps) -> Building<'a> {
    use tessera_accounts::BuildError;
    Box::pin(async {
        let built = tessera_accounts::build(&config.get()?, deps).await;
        built.map_err(|error| match error {
            BuildError::Setting { key, value, reason } => bad_setting(config, key, value, reason),
            error => anyhow::Error::new(error),
        })
    })
}

fn rides<'a>(config: &'a Config, deps: &'a Deps) -> Building<'a> {
    rides_part(config, deps, Part::Whole)
}

fn rides_api<'a>(config: &'a Config, deps: &'a Deps) -> Building<'a> {
    rides_part(config, deps, Part::Api)
}

fn rides_locations<'a>(config: &'a Config, deps: &'a Deps) -> Building<'a> {
    rides_part(config, deps, Part::Locations)
}

fn rides_matcher<'a>(config: &'a Config, deps: &'a Deps) -> Building<'a> {
    rides_part(config, deps, Part::Matcher)
}

fn rides_part<'a>(config: &'a Config, deps: &'a Deps, part: Part) -> Building<'a> {
    use tessera_rides::BuildError;
    Box::pin(async move {
        let built = tessera_rides::build(&config.get()?, deps, part).await;
        built.map_err(|error| match error {
            BuildError::Setting { key, value, reason } => bad_setting(config, key, value, reason),
            error => anyhow::Error::new(error),
        })
    })
}

fn gateway<'a>(config: &'a Config, deps: &'a Deps) -> Building<'a> {
    Box::pin(async {
        let settings: tessera_gateway::config::Config = config.get()?;
        match settings.file {
            Some(file) => Ok(vec![gateway_by(&file, config, deps)?]),
            None => Ok(vec![Component::new(GATEWAY, "/gateway")]),
        }
    })
}

/// The gateway that serves by this file.
pub fn gateway_by(file: &Path, config: &Config, deps: &Deps) -> anyhow::Result<Component> {
    use tessera_gateway::spec::Environment;
    let http: tessera_service::http::Config = config.get()?;
    let stop_deadline = Duration::from_secs(http.stop_deadline_s);
    let opened = tessera_gateway::Gateway::open_within(file, deps, Environment::of_process(), Some(stop_deadline));
    let opened = opened.map_err(|error| {
        let key = tessera_gateway::config::Config::FILE;
        bad_setting(config, key, file.display().to_string(), error.to_string())
    });
    Ok(opened?.component(deps))
}

fn demo<'a>(_: &'a Config, deps: &'a Deps) -> Building<'a> {
    Box::pin(async { Ok(vec![crate::people::component(deps)?]) })
}

/// A setting that a product found wrong, with where it was written.
fn bad_setting(config: &Config, key: &'static str, value: String, reason: String) -> anyhow::Error {
    let origin = config.origin(key).to_string();
    tessera_service::Error::BadSetting { origin, key: key.into(), value, reason }.into()
}
