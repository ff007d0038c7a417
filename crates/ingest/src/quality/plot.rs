//! Small plots as SVG text. Pure; every text in them is escaped here, so the page takes them as they are.
//!
//! All plots of a page share one size, so that they can stand beside each other or, on a phone, below each other without
//! their letters shrinking. Points are runs, one step each, whatever the time between them.

use std::fmt::Write;

use minijinja::HtmlEscape;

const WIDTH: f64 = 280.0;
const HEIGHT: f64 = 140.0;
const LEFT: f64 = 42.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 20.0;

/// What the plots of one resource have in common.
pub(super) struct Runs {
    /// When each run was, oldest first.
    pub(super) moments: Vec<String>,
    /// Schema changes by run, in words.
    pub(super) changes: Vec<Option<String>>,
}

/// Values by run, drawn in one colour.
pub(super) struct Series {
    /// Class of the style sheet, which has the colour.
    pub(super) class: &'static str,
    /// What it is called where one points at it.
    pub(super) name: &'static str,
    /// A gap where a run has none.
    pub(super) values: Vec<Option<f64>>,
}

/// How a value is written: on the axis, with the axis's step, and where one points at it.
pub(super) struct Units {
    pub(super) axis: fn(f64, f64) -> String,
    pub(super) tip: fn(f64) -> String,
}

impl Runs {
    /// Bars, the series on top of each other. A bar far above nearly all others, such as the first backfill, is cut and
    /// says its value: in its scale the others would be flat.
    pub(super) fn bars(&self, label: &str, series: &[Series], units: &Units) -> String {
        let sum = |run: usize| series.iter().filter_map(|s| s.values.get(run).copied().flatten()).sum::<f64>();
        let sums: Vec<f64> = (0..self.moments.len()).map(sum).collect();
        let scale = Scale::of(0.0, usual_most(&sums));
        let mut svg = self.begin(label, &scale, units);
        let width = (self.step() * 0.72).clamp(1.0, 26.0);
        for (run, sum) in sums.iter().enumerate() {
            let mut base = 0.0;
            for one in series {
                let Some(value) = one.values.get(run).copied().flatten().filter(|value| *value > 0.0) else { continue };
                let (top, bottom) = (scale.y(base + value), scale.y(base));
                // What is there is seen, however little it is.
                let height = (bottom - top).max(1.0);
                let _ = write!(
                    svg,
                    r#"<rect class="fill {}" x="{:.1}" y="{:.1}" width="{width:.1}" height="{height:.1}" rx="1"/>"#,
                    one.class,
                    self.x(run) - width / 2.0,
                    bottom - height,
                );
                base += value;
            }
            if *sum > scale.to {
                let (x, width) = (self.x(run), width + 2.0);
                let _ = write!(
                    svg,
                    r#"<path class="cut" d="M{:.1} {}l{width:.1}-5"/><text class="tick" x="{:.1}" y="{}">{}</text>"#,
                    x - width / 2.0,
                    TOP + 14.0,
                    x + width / 2.0 + 3.0,
                    TOP + 10.0,
                    HtmlEscape(&(units.tip)(*sum)),
                );
            }
        }
        self.end(svg, series, units)
    }

    /// Lines with a point per run.
    pub(super) fn lines(&self, label: &str, series: &[Series], units: &Units, from_zero: FromZero) -> String {
        let values = || series.iter().flat_map(|series| series.values.iter().flatten().copied());
        let most = values().fold(0.0, f64::max);
        let least = values().fold(most, f64::min);
        let zoom = from_zero == FromZero::WhereNear && least > most * 0.5 && least < most;
        let scale = Scale::of(if zoom { least } else { 0.0 }, most);
        let mut svg = self.begin(label, &scale, units);
        for one in series {
            let mut path = String::new();
            let mut pen = 'M';
            for (run, value) in one.values.iter().enumerate() {
                let Some(value) = value else {
                    pen = 'M';
                    continue;
                };
                let _ = write!(path, "{pen}{:.1} {:.1}", self.x(run), scale.y(*value));
                pen = 'L';
            }
            let _ = write!(svg, r#"<path class="stroke {}" d="{path}"/>"#, one.class);
            let radius = if self.moments.len() > 30 { 1.4 } else { 2.4 };
            for (run, value) in one.values.iter().enumerate() {
                let Some(value) = value else { continue };
                let (x, y) = (self.x(run), scale.y(*value));
                let _ = write!(svg, r#"<circle class="fill {}" cx="{x:.1}" cy="{y:.1}" r="{radius}"/>"#, one.class);
            }
        }
        self.end(svg, series, units)
    }

    fn step(&self) -> f64 {
        (WIDTH - LEFT - RIGHT) / self.moments.len().max(1) as f64
    }

    fn x(&self, run: usize) -> f64 {
        LEFT + self.step() * (run as f64 + 0.5)
    }

    fn begin(&self, label: &str, scale: &Scale, units: &Units) -> String {
        let mut svg = format!(
            r#"<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#,
            HtmlEscape(label)
        );
        for tick in scale.ticks() {
            let y = scale.y(tick);
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}"/><text class="tick y" x="{}" y="{:.1}">{}</text>"#,
                WIDTH - RIGHT,
                LEFT - 5.0,
                y + 3.5,
                HtmlEscape(&(units.axis)(tick, scale.step)),
            );
        }
        for (run, change) in self.changes.iter().enumerate() {
            if change.is_some() {
                let x = self.x(run);
                let _ = write!(
                    svg,
                    r#"<path class="change" d="M{x:.1} {TOP}V{}"/><path class="fill mark" d="M{x:.1} {}l4 5-4 5-4-5z"/>"#,
                    HEIGHT - BOTTOM,
                    TOP - 11.0,
                );
            }
        }
        svg
    }

    /// The time below, and over it all one invisible column per run that tells its values.
    fn end(&self, mut svg: String, series: &[Series], units: &Units) -> String {
        let below = HEIGHT - 5.0;
        let mut text = |x: f64, anchor: &str, moment: &str| {
            let _ = write!(
                svg,
                r#"<text class="tick" x="{x:.1}" y="{below}" text-anchor="{anchor}">{}</text>"#,
                HtmlEscape(moment)
            );
        };
        match &self.moments[..] {
            [] => {}
            [only] => text(self.x(0), "middle", only),
            [first, .., last] => {
                text(LEFT, "start", first);
                text(WIDTH - RIGHT, "end", last);
            }
        }
        for (run, moment) in self.moments.iter().enumerate() {
            let mut tip = moment.clone();
            for one in series {
                if let Some(value) = one.values.get(run).copied().flatten() {
                    let _ = write!(tip, "\n{}: {}", one.name, (units.tip)(value));
                }
            }
            if let Some(change) = self.changes.get(run).and_then(Option::as_ref) {
                let _ = write!(tip, "\n{change}");
            }
            let _ = write!(
                svg,
                r#"<rect class="hit" x="{:.1}" y="0" width="{:.1}" height="{}"><title>{}</title></rect>"#,
                self.x(run) - self.step() / 2.0,
                self.step(),
                HEIGHT - BOTTOM,
                HtmlEscape(&tip),
            );
        }
        svg.push_str("</svg>");
        svg
    }
}

/// The largest value, or where it is far above nearly all others, the largest of those.
fn usual_most(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let most = sorted.last().copied().unwrap_or(0.0);
    let usual = sorted.get(sorted.len().saturating_sub(1) * 17 / 20).copied().unwrap_or(most);
    if sorted.len() < 5 || usual == 0.0 {
        return most;
    }
    sorted.into_iter().rfind(|value| *value <= usual * 4.0).unwrap_or(most)
}

/// Whether an axis must begin at zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FromZero {
    Always,
    /// Only where the values are not far above it: a difference between two large totals is to be seen.
    WhereNear,
}

/// An axis between round numbers.
struct Scale {
    from: f64,
    to: f64,
    step: f64,
}

impl Scale {
    fn of(least: f64, most: f64) -> Self {
        let raw = ((most - least) / 3.0).max(f64::MIN_POSITIVE);
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= raw);
        // Everything counted here is a whole number, or a span in a unit that makes it at least one.
        let step = step.unwrap_or(10.0 * power).max(1.0);
        let from = (least / step).floor() * step;
        let to = ((most / step).ceil() * step).max(from + step);
        Self { from, to, step }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let steps = ((self.to - self.from) / self.step).round().clamp(1.0, 8.0) as u32;
        (0..=steps).map(|at| self.from + self.step * f64::from(at))
    }

    fn y(&self, value: f64) -> f64 {
        let part = ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - part)
    }
}

/// One run in a strip.
pub(super) struct Cell {
    pub(super) class: &'static str,
    /// From nothing to full, 0 to 1.
    pub(super) height: f64,
    pub(super) opacity: f64,
    pub(super) tip: String,
}

/// A strip of few runs leaves room, so that one run is no bar across the page.
const LEAST_CELLS: usize = 12;

/// A row of cells, one per run, that stretches over the room it is given.
pub(super) fn strip(label: &str, cells: &[Cell]) -> String {
    let mut svg = format!(
        r#"<svg class="strip" viewBox="0 0 {} 10" preserveAspectRatio="none" role="img" aria-label="{}">"#,
        cells.len().max(LEAST_CELLS) * 10,
        HtmlEscape(label)
    );
    for (at, cell) in cells.iter().enumerate() {
        let height = 10.0 * cell.height.clamp(0.0, 1.0);
        let _ = write!(
            svg,
            r#"<rect class="fill {}" x="{}" y="{:.1}" width="8.6" height="{height:.1}" opacity="{:.2}"><title>{}</title></rect>"#,
            cell.class,
            at * 10,
            10.0 - height,
            cell.opacity.clamp(0.0, 1.0),
            HtmlEscape(&cell.tip),
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Short for an axis: `0`, `250`, `1.5k`, `20M`; as many decimals as the step needs.
pub(super) fn short(value: f64, step: f64) -> String {
    let units = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];
    let (size, unit) = units.into_iter().find(|(size, _)| value >= *size).unwrap_or((1.0, ""));
    if value < 1.0 {
        return "0".into();
    }
    let decimals = (-(step / size).log10()).ceil().clamp(0.0, 3.0) as usize;
    format!("{:.decimals$}{unit}", value / size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn axes_are_round() {
        let ticks = |least, most| {
            let scale = Scale::of(least, most);
            scale.ticks().map(|tick| short(tick, scale.step)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ticks(0.0, 0.0), "0 1");
        assert_eq!(ticks(0.0, 2.0), "0 1 2");
        assert_eq!(ticks(0.0, 1499.0), "0 500 1.0k 1.5k");
        assert_eq!(ticks(20_300.0, 41_000.0), "20k 30k 40k 50k");
        assert_eq!(ticks(1_000_000.0, 1_003_000.0), "1.000M 1.001M 1.002M 1.003M");
    }

    #[test]
    fn one_backfill_does_not_flatten_the_rest() {
        assert_eq!(usual_most(&[20_000.0, 5.0, 7.0, 6.0, 9.0, 8.0]), 9.0);
        assert_eq!(usual_most(&[20.0, 5.0, 7.0, 6.0, 9.0, 8.0]), 20.0);
        assert_eq!(usual_most(&[20_000.0, 5.0]), 20_000.0);
        assert_eq!(usual_most(&[]), 0.0);
    }

    proptest! {
        #[test]
        fn every_value_is_on_its_axis(a in any::<u64>(), b in any::<u64>()) {
            let (least, most) = (a.min(b) as f64, a.max(b) as f64);
            let scale = Scale::of(least, most);
            prop_assert!(scale.from <= least && most <= scale.to);
            prop_assert!(scale.step.is_finite() && (2..=9).contains(&scale.ticks().count()));
            for value in [least, most] {
                prop_assert!((TOP..=HEIGHT - BOTTOM).contains(&scale.y(value)));
            }
        }
    }
}
