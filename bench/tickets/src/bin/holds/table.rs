//! What was measured, round by round, and its medians as a table.

/// What was measured under one name, by round.
#[derive(Default)]
pub struct Figures {
    /// A second.
    pub rate: Vec<f64>,
    /// The server's CPU for each, microseconds.
    pub server_us: Vec<f64>,
    /// PostgreSQL's CPU for each, microseconds.
    pub database_us: Vec<f64>,
    /// The clients' CPU for each, microseconds.
    pub client_us: Vec<f64>,
    /// Until the answer, milliseconds.
    pub p50_ms: Vec<f64>,
    /// Until the answer, milliseconds.
    pub p99_ms: Vec<f64>,
}

/// All figures, in the order in which they came.
#[derive(Default)]
pub struct Table(Vec<(&'static str, Figures)>);

impl Table {
    /// The figures of this name.
    pub fn of(&mut self, name: &'static str) -> &mut Figures {
        let known = self.0.iter().position(|(known, _)| *known == name);
        let at = known.unwrap_or_else(|| {
            self.0.push((name, Figures::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// The medians.
    pub fn print(&self) {
        println!("| | a second | from – to | p50 ms | p99 ms | server's CPU µs | PostgreSQL's | clients' |");
        println!("|---|---|---|---|---|---|---|---|");
        for (name, figures) in &self.0 {
            let least = figures.rate.iter().copied().fold(f64::MAX, f64::min);
            let most = figures.rate.iter().copied().fold(0.0, f64::max);
            println!(
                "| {name} | {:.0} | {least:.0} – {most:.0} | {} | {} | {} | {} | {} |",
                median(&figures.rate),
                cell(&figures.p50_ms),
                cell(&figures.p99_ms),
                cell(&figures.server_us),
                cell(&figures.database_us),
                cell(&figures.client_us),
            );
        }
    }

    /// The rate of one by that of another, where both were measured.
    pub fn compare(&self, what: &str, name: &str, peer: &str) {
        let rate = |name: &str| self.0.iter().find(|(known, _)| *known == name).map(|(_, one)| median(&one.rate));
        if let (Some(rate), Some(of)) = (rate(name), rate(peer)) {
            println!("{what}: {:.2}", rate / of);
        }
    }
}

fn cell(values: &[f64]) -> String {
    if values.is_empty() { String::new() } else { format!("{:.1}", median(values)) }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}
