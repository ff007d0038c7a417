//! A child process, and what it used: the kernel's own figures, given when it is waited for.
//!
//! `unsafe` because the standard library waits without asking for them: `wait4` is the call that tells the CPU time
//! and the peak memory of one child, apart from all others.
#![expect(unsafe_code, reason = "wait4 alone tells what one child used")]

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;

/// How often it is looked whether the child has ended: the grain of `wall_s`.
const LOOK: Duration = Duration::from_millis(1);

/// What a process used.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Usage {
    /// From start to end.
    pub(crate) wall_s: f64,
    /// On the CPU in its own code.
    pub(crate) user_s: f64,
    /// On the CPU in the kernel.
    pub(crate) system_s: f64,
    /// Most memory resident at once.
    pub(crate) peak_bytes: u64,
}

impl Usage {
    pub(crate) fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

/// Runs a process to its end, which must come within `limit` and be exit code 0.
pub(crate) fn measure(command: &mut Command, limit: Duration) -> anyhow::Result<Usage> {
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("{} cannot be started", shown(command)))?;
    let id = libc::pid_t::try_from(child.id()).context("a process id")?;
    let mut killed = false;
    loop {
        let mut status = 0;
        // SAFETY: all zeroes is a value of this struct of integers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to locals that live through the call. The child is ours and waited for only here,
        // so the id cannot have passed to another process.
        let ended = unsafe { libc::wait4(id, &raw mut status, libc::WNOHANG, &raw mut usage) };
        if ended == 0 {
            if began.elapsed() > limit && !killed {
                child.kill().context("stopping a process")?;
                killed = true;
            }
            std::thread::sleep(LOOK);
            continue;
        }
        if ended != id {
            return Err(std::io::Error::last_os_error()).context("waiting for a process");
        }
        if killed {
            bail!("{} was stopped after {} s", shown(command), limit.as_secs());
        }
        if !libc::WIFEXITED(status) || libc::WEXITSTATUS(status) != 0 {
            bail!("{} failed with wait status {status:#x}", shown(command));
        }
        return Ok(Usage {
            wall_s: began.elapsed().as_secs_f64(),
            user_s: seconds(usage.ru_utime),
            system_s: seconds(usage.ru_stime),
            // Linux counts in KiB.
            peak_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) << 10,
        });
    }
}

fn seconds(time: libc::timeval) -> f64 {
    time.tv_sec as f64 + time.tv_usec as f64 / 1e6
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_measured_and_its_failure_told() {
        let minute = Duration::from_secs(60);
        let usage =
            measure(Command::new("sh").args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]), minute);
        let usage = usage.unwrap();
        assert!(usage.cpu_s() > 0.0 && usage.wall_s > 0.0 && usage.peak_bytes > 100_000, "{usage:?}");
        assert!(measure(Command::new("sh").args(["-c", "exit 3"]), minute).is_err());
        let stopped = measure(Command::new("sleep").arg("60"), Duration::ZERO).unwrap_err();
        assert!(stopped.to_string().contains("stopped"), "{stopped}");
    }
}
