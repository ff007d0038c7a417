//! Latencies, and time on the CPU by the kernel's own count of nanoseconds for each thread.

use std::time::Duration;

/// What some questions took.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    latencies: Vec<Duration>,
    /// From the first question to the last answer.
    pub wall: Duration,
    /// On the CPU, of all that worked on them.
    pub cpu: Duration,
    /// How many found nothing.
    pub empty: usize,
}

impl Taken {
    pub fn new(mut latencies: Vec<Duration>, wall: Duration, cpu: Duration, empty: usize) -> Self {
        latencies.sort_unstable();
        Self { latencies, wall, cpu, empty }
    }

    /// Milliseconds below which a share of the answers came.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }

    pub fn cpu_ms(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3 / self.latencies.len().max(1) as f64
    }

    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.wall.as_secs_f64()
    }
}

/// Time on the CPU of all threads of these processes.
pub fn cpu_of(processes: &[i32]) -> Duration {
    let of_process = |process: &i32| -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let of_task = |task: std::fs::DirEntry| -> Option<u64> {
            std::fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
        };
        tasks.filter_map(of_task).sum()
    };
    Duration::from_nanos(processes.iter().map(of_process).sum())
}

/// Of this thread.
pub fn own_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}
