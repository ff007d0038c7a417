//! Processes that are measured: started on a free port, and what they use of the machine.

use std::net::{SocketAddr, TcpListener};
use std::num::ParseIntError;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpStream;

/// A process that listens, killed when this goes.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts it with `--listen ADDRESS`, and waits until it listens there.
    ///
    /// # Errors
    /// Where it does not start, or ends.
    pub async fn start(command: &mut Command) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = command.args(["--listen", &address.to_string()]).stdout(Stdio::null()).spawn();
        let mut process = Self { child: child.with_context(|| format!("{command:?} does not start"))?, address };
        for _ in 0..500 {
            if TcpStream::connect(address).await.is_ok() {
                return Ok(process);
            }
            if let Some(status) = process.child.try_wait()? {
                bail!("{command:?} ended: {status}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the server does not listen on {address}")
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    /// User and system time so far.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        self.pid().cpu_s()
    }

    /// Memory that is resident.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn memory_kb(&self) -> anyhow::Result<u64> {
        self.pid().memory_kb()
    }
}

/// The number of a process on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid(u32);

impl Pid {
    /// That of this process.
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// User and system time so far (proc(5), fields 14 and 15, in hundredths of a second).
    ///
    /// # Errors
    /// Where there is no such process, or it has ended.
    pub fn cpu_s(self) -> anyhow::Result<f64> {
        let stat = self.read("stat")?;
        // The second field is a name in brackets, with anything in it.
        let after = stat.rsplit_once(')').context("stat")?.1;
        let ticks: Vec<u64> = after.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
    }

    /// Memory that is resident.
    ///
    /// # Errors
    /// Where there is no such process, or it has ended.
    pub fn memory_kb(self) -> anyhow::Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    fn read(self, file: &str) -> anyhow::Result<String> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.0)).with_context(|| format!("process {}", self.0))
    }
}

impl FromStr for Pid {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
