//! The proxies that are measured, each with the config that does the same.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tessera_gateway::Gateway;
use tessera_gateway::spec::Environment;
use tessera_kernel::{RandomIds, SystemClock};
use tessera_service::run::Inside;
use tessera_service::{Deps, Keys, Metrics};
use tokio::signal::unix::{SignalKind, signal};

use crate::service::Running;

/// Which proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// None: the service itself.
    Direct,
    Nginx,
    Haproxy,
    /// The gateway, proxying only.
    Plain,
    /// The gateway with a token's check, a rate limit and the access log, on top of the metrics that are always kept.
    Full,
    /// nginx with `proxy_cache`.
    NginxCache,
    /// The gateway with `cache`, in memory.
    Cache,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Direct, Self::Nginx, Self::Haproxy, Self::Plain, Self::Full];
    /// Those that keep answers.
    pub const CACHES: [Self; 2] = [Self::NginxCache, Self::Cache];

    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "none",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Plain => "tessera",
            Self::Full => "tessera, JWT, rate limit, log",
            Self::NginxCache => "nginx, `proxy_cache`",
            Self::Cache => "tessera, `cache`",
        }
    }
}

/// A proxy that runs.
pub struct Proxy {
    pub port: u16,
    process: Option<Running>,
}

impl Proxy {
    /// Starts one before the service on this port.
    pub fn start(kind: Kind, folder: &Path, service: u16, workers: usize) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = match kind {
            Kind::Direct => return Ok(Self { port: service, process: None }),
            Kind::Nginx | Kind::NginxCache => nginx(kind, folder, port, service, workers)?,
            Kind::Haproxy => haproxy(folder, port, service, workers)?,
            Kind::Plain | Kind::Full | Kind::Cache => gateway(kind, folder, port, service, workers)?,
        };
        Self::of(child, port).with_context(|| format!("{} is not there; is it installed?", kind.name()))
    }

    /// A process, once it listens.
    pub fn of(child: Child, port: u16) -> anyhow::Result<Self> {
        let proxy = Self { port, process: Some(Running(child)) };
        // Many routes take a while in a build that is not optimised.
        for _ in 0..3_000 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(proxy);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("it does not listen on {port}")
    }

    /// The process's id.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.0.id())
    }

    /// CPU so far, in clock ticks of a hundredth of a second, and memory in MB, of the process and its children.
    pub fn used(&self) -> anyhow::Result<(u64, f64)> {
        let Some(process) = &self.process else { return Ok((0, 0.0)) };
        let root = process.0.id();
        let (mut ticks, mut rss_mb) = (0, 0.0);
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
            let fields: Vec<&str> = rest.split(' ').collect();
            if pid != root && fields.get(1).and_then(|parent| parent.parse().ok()) != Some(root) {
                continue;
            }
            let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
            ticks += number(11) + number(12);
            rss_mb += number(21) as f64 * 4096.0 / 1e6;
        }
        Ok((ticks, rss_mb))
    }
}

fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    spawned
        .with_context(|| format!("{name}; install it: apt-get install -y --no-install-recommends nginx-light haproxy"))
}

fn nginx(kind: Kind, folder: &Path, port: u16, service: u16, workers: usize) -> anyhow::Result<Child> {
    let file = folder.join("nginx.conf");
    let place = folder.display();
    let (caches, keeps) = match kind {
        Kind::NginxCache => (
            format!("proxy_cache_path {place}/kept keys_zone=kept:10m;\n"),
            "proxy_cache kept; proxy_cache_valid 200 1h; add_header x-cache $upstream_cache_status;",
        ),
        _ => (String::new(), ""),
    };
    let text = format!(
        "daemon off; worker_processes {workers}; pid {place}/nginx.pid; error_log /dev/null;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000; {caches}\
         client_body_temp_path {place}/b; proxy_temp_path {place}/p; fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
         upstream s {{ server 127.0.0.1:{service}; keepalive 256; keepalive_requests 1000000; }}\n\
         server {{ listen 127.0.0.1:{port} reuseport; location / {{ proxy_pass http://s; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Request-Id $request_id; {keeps} }} }} }}\n"
    );
    fs::write(&file, text)?;
    spawn(Command::new("nginx").arg("-c").arg(&file).arg("-p").arg(folder))
}

fn haproxy(folder: &Path, port: u16, service: u16, workers: usize) -> anyhow::Result<Child> {
    let file = folder.join("haproxy.cfg");
    let text = format!(
        "global\n  nbthread {workers}\n  maxconn 8192\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  timeout server 60s\n  option forwardfor\n  http-reuse always\n\
         frontend f\n  bind 127.0.0.1:{port}\n  unique-id-format %[uuid()]\n  unique-id-header x-request-id\n  default_backend b\nbackend b\n  server s 127.0.0.1:{service}\n"
    );
    fs::write(&file, text)?;
    spawn(Command::new("haproxy").arg("-f").arg(&file))
}

fn gateway(kind: Kind, folder: &Path, port: u16, service: u16, workers: usize) -> anyhow::Result<Child> {
    let file = folder.join("gateway.yaml");
    let (log, more) = match kind {
        Kind::Full => (
            "access_log: { file: access.log }\nauth: { people: { jwt: { keys: [{ algorithm: HS256, secret: \"SECRET\" }] } } }\n",
            ", access: { by: [people], roles: [rider] }, rate_limits: [{ name: all, per: [consumer], rate: 1000000000/s }]",
        ),
        Kind::Cache => ("access_log: { format: \"off\" }\n", ", cache: { default_lifetime: 1h }"),
        _ => ("access_log: { format: \"off\" }\n", ""),
    };
    let log = log.replace("SECRET", crate::load::SECRET);
    let text = format!(
        "version: 1\nworkers: {workers}\nlisteners: [{{ address: \"127.0.0.1:{port}\" }}]\n{log}\
         upstreams: {{ s: {{ endpoints: [\"http://127.0.0.1:{service}\"] }} }}\n\
         routes: [{{ name: all, match: {{ path: /* }}, upstream: s{more} }}]\n"
    );
    fs::write(&file, text)?;
    spawn(Command::new(std::env::current_exe()?).arg("gateway").arg(&file))
}

/// Serves by a config file until it is killed, and reads it again on SIGHUP.
pub fn run_gateway(file: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let clock = Arc::new(SystemClock);
        let deps = Deps {
            clock: clock.clone(),
            ids: Arc::new(RandomIds),
            keys: Keys::ephemeral(clock.clone())?,
            metrics: Metrics::new(clock),
            data_dir: std::env::temp_dir(),
            address: ([127, 0, 0, 1], 0).into(),
            inside: Inside::default(),
            sockets: tessera_service::sockets::Sockets::default(),
        };
        let gateway = Gateway::open(file, &deps, Environment::default())?;
        let mut hangups = signal(SignalKind::hangup())?;
        while hangups.recv().await.is_some() {
            println!("{}", gateway.reloader.reload().await?.number);
        }
        Ok(())
    })
}
