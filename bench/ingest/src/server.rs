//! The page server as a child: started for one run, ended with it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

pub(crate) struct Server {
    process: Child,
    /// `http://address`.
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start(program: &Path, rows: u64, latency_ms: u64, gzip: bool) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.arg("--rows").arg(rows.to_string()).arg("--latency-ms").arg(latency_ms.to_string());
        if gzip {
            command.arg("--gzip");
        }
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process = started.with_context(|| format!("{} cannot be started", program.display()))?;
        let stdout = process.stdout.take();
        let mut server = Self { process, url: String::new() };
        let mut address = String::new();
        BufReader::new(stdout.context("the page server's output")?).read_line(&mut address)?;
        anyhow::ensure!(!address.is_empty(), "the page server ended before it listened");
        server.url = format!("http://{}", address.trim());
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
