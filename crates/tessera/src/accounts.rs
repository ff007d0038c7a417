//! `tessera accounts`: the first admin, roles and keys, whether the service runs or not.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command as Program, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use tessera_accounts::app::App;
use tessera_accounts::config::Config as Accounts;
use tessera_accounts::domain::login::Login;
use tessera_accounts::{BuildError, Error, open, signing};
use tessera_kernel::{Clock, SystemClock};
use tessera_service::Keys;
use tessera_service::config::Config;
use tessera_service::identity::{KeyInfo, ROLES, Rotation};
use tokio::runtime::{Builder, Runtime};

use crate::settings::{self, Flags, Store};
use crate::up::Failure;

/// The exit code of a program that Ctrl-C has ended, as shells have it.
const ENDED_BY_CTRL_C: i32 = 130;

/// What can be done.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Make an account that may do everything. The password is asked for, or read from the standard input's first line
    CreateAdmin {
        /// An email address or a name
        login: String,
        /// Before the first start of the service: its data folder is made
        #[arg(long)]
        new: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Give somebody another password, who has forgotten theirs: it is read as for `create-admin`. All sessions of the account end
    SetPassword {
        /// An email address or a name
        login: String,
        #[command(flatten)]
        place: Place,
    },
    /// Give somebody roles besides those they have
    Grant {
        /// An email address or a name
        login: String,
        /// Which; several with commas between
        #[arg(long, required = true, value_delimiter = ',', value_parser = ROLES)]
        role: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// The keys that sign access tokens
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
}

/// What can be done with keys.
#[derive(Subcommand, Clone, Debug)]
pub enum KeysCommand {
    /// Show them, the newest first
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Make the next key: it is published at once and signs five minutes later. The old one is kept until its last token is over
    Rotate {
        /// Let it sign at once; whoever keeps the old key set in a cache has to fetch it again
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Take a key back: its tokens are refused from now on
    Revoke {
        /// As `list` shows it
        kid: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Whose data.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// The data folder, as given to `up` and `serve` [default: ./data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The config file, where the folder or the database is set there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Command {
    /// Does it, and says what was done.
    pub fn run(self) -> Result<String, Failure> {
        match self {
            Self::CreateAdmin { login, new, place } => {
                // Before anybody types a password twice.
                Login::parse(&login).map_err(|reason| Failure::Usage(format!("`{login}`: {reason}")))?;
                if !new {
                    let store: Store = place.load()?.get()?;
                    store.check_begun_or_new().map_err(Failure::Usage)?;
                }
                let password = password()?;
                let made = place.with_app(async |app| create_admin(app, &login, &password).await)?;
                Ok(format!("{made}\n"))
            }
            Self::SetPassword { login, place } => {
                place.check_begun()?;
                let password = password()?;
                let told = place.with_app(async |app| set_password(app, &login, &password).await)?;
                Ok(format!("{told}\n"))
            }
            Self::Grant { login, role, place } => {
                place.check_begun()?;
                let told = place.with_app(async |app| grant(app, &login, role).await)?;
                Ok(format!("{told}\n"))
            }
            Self::Keys { command } => command.run(),
        }
    }
}

async fn create_admin(app: &App, login: &str, password: &str) -> Result<String, Error> {
    match app.make_user(login, password, vec!["admin".to_owned()]).await? {
        Some(user) => Ok(format!("{} ({}) is an admin", user.login, user.id)),
        None => {
            let remedy = "where it is yours, `tessera accounts grant NAME --role admin` makes it an admin";
            Err(Error::Taken { name: login.to_owned(), remedy })
        }
    }
}

async fn set_password(app: &App, login: &str, password: &str) -> Result<String, Error> {
    let user = app.set_password(login, password).await?;
    Ok(format!("{} ({}) has another password, and is signed in nowhere", user.login, user.id))
}

async fn grant(app: &App, login: &str, roles: Vec<String>) -> Result<String, Error> {
    let found = app.store().by_login(&login.trim().to_lowercase()).await?;
    let (user, _) = found.ok_or_else(|| Error::NotFound { what: "account", id: login.to_owned() })?;
    let roles: Vec<String> = user.roles.into_iter().chain(roles).collect();
    let user = app.edit_user(user.id, Some(&roles), None).await?;
    Ok(format!("{} is {}, from the next access token on", user.login, user.roles.join(", ")))
}

impl KeysCommand {
    fn run(self) -> Result<String, Failure> {
        match self {
            Self::List { place } => {
                place.check_begun()?;
                Ok(shown(&place.keys()?.1.ring()))
            }
            Self::Rotate { now, place } => {
                place.check_begun()?;
                let (config, keys) = place.keys()?;
                let accounts: Accounts = config.get()?;
                let rotation = accounts.rotation();
                let lead = if now { Duration::ZERO } else { rotation.lead };
                signing::renew_now(&accounts, &keys, Rotation { lead, ..rotation })
                    .map_err(|error| refused(&config, error))?;
                Ok(shown(&keys.ring()))
            }
            Self::Revoke { kid, place } => {
                place.check_begun()?;
                let (_, keys) = place.keys()?;
                if !keys.revoke(&kid)? {
                    let line = format!("there is no key `{kid}`; `tessera accounts keys list` shows them");
                    return Err(Failure::Usage(line));
                }
                Ok(shown(&keys.ring()))
            }
        }
    }
}

fn shown(keys: &[KeyInfo]) -> String {
    if keys.is_empty() {
        return "there are no keys yet: the service makes the first when it starts\n".to_owned();
    }
    let mut text = format!("{:<43}  {:<5}  {:<8}  {:<27}  kept until\n", "key", "with", "state", "signs from");
    for key in keys {
        let state = format!("{:?}", key.state).to_lowercase();
        let until = key.keep_until.map_or("it is replaced".to_owned(), |until| until.to_string());
        let KeyInfo { kid, algorithm, .. } = key;
        let signs_from = key.signs_from.to_string();
        text.push_str(&format!("{kid:<43}  {algorithm:<5}  {state:<8}  {signs_from:<27}  {until}\n"));
    }
    text
}

impl Place {
    fn load(&self) -> Result<Config, Failure> {
        let flags = Flags { config: self.config.clone(), data: self.data.clone(), ..Flags::default() };
        Ok(settings::load(&flags, settings::environment())?)
    }

    /// As [`Store::check_begun`].
    fn check_begun(&self) -> Result<(), Failure> {
        let store: Store = self.load()?.get()?;
        store.check_begun().map_err(Failure::Usage)
    }

    fn keys(self) -> Result<(Config, Keys), Failure> {
        let config = self.load()?;
        let store: Store = config.get()?;
        let keys = Keys::open(&store.data_dir, Arc::new(SystemClock))?;
        Ok((config, keys))
    }

    fn with_app(self, work: impl AsyncFnOnce(&App) -> Result<String, Error>) -> Result<String, Failure> {
        let (config, keys) = self.keys()?;
        let (store, accounts): (Store, Accounts) = (config.get()?, config.get()?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let runtime = Runtime::new().context("the async runtime")?;
        runtime.block_on(async {
            let app = open(&accounts, &store.data_dir, keys, clock).await.map_err(|error| refused(&config, error))?;
            let done = work(&app).await;
            app.store().close().await;
            done.map_err(|error| match error.kind().status() {
                404 => Failure::Usage(format!("{error}; check the name, and whether that is the data of the service")),
                // What the caller can put right.
                400..500 => Failure::Usage(error.to_string()),
                _ => Failure::Other(error.into()),
            })
        })
    }
}

fn refused(config: &Config, error: BuildError) -> Failure {
    match error {
        BuildError::Setting { key, value, reason } => {
            let origin = config.origin(key).to_string();
            Failure::Setting(tessera_service::Error::BadSetting { origin, key: key.into(), value, reason })
        }
        BuildError::Failed(Error::Service(error)) => Failure::Setting(error),
        error => Failure::Other(error.into()),
    }
}

/// The password: asked for twice at a terminal, which does not show it, or else the first line of the standard input.
fn password() -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return line();
    }
    let (first, second) = {
        let _hidden = Hidden::begin();
        (ask("password: ")?, ask("the same again: ")?)
    };
    if first == second { Ok(first) } else { Err(Failure::Usage("these were two different passwords".into())) }
}

fn ask(question: &str) -> Result<String, Failure> {
    let mut terminal = std::io::stderr();
    // A terminal that cannot be written to can be typed at all the same.
    let _ = write!(terminal, "{question}").and_then(|()| terminal.flush());
    let line = line();
    let _ = writeln!(terminal);
    line
}

fn line() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().lock().read_line(&mut text).context("the standard input")?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(Failure::Usage(
            "a password is needed: type it, or give it as the first line of the standard input".into(),
        ));
    }
    Ok(text.to_owned())
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden;

impl Hidden {
    fn begin() -> Self {
        stty("-echo");
        std::thread::spawn(Self::end_with_ctrl_c);
        Self
    }

    /// Who gives up gets back a terminal that shows what is typed.
    #[expect(
        clippy::disallowed_methods,
        reason = "as the signal would have ended it; while it asks it has written nothing"
    )]
    fn end_with_ctrl_c() {
        let Ok(runtime) = Builder::new_current_thread().enable_io().build() else { return };
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            stty("echo");
            std::process::exit(ENDED_BY_CTRL_C);
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        stty("echo");
    }
}

/// Where there is no such program the password is seen as it is typed.
fn stty(mode: &str) {
    let _ = Program::new("stty").arg(mode).stdin(Stdio::inherit()).status();
}
