//! What came out, as a table.

use std::io::Write as _;

use comfy_table::{Table, presets};

/// One round of a measurement: what each side did in a second, or how long it took, and what it cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// In the unit of the measurement.
    pub(crate) ours: f64,
    /// In the unit of the measurement.
    pub(crate) baseline: f64,
    /// CPU microseconds an operation, Postgres and load included.
    pub(crate) our_cpu: f64,
    /// CPU microseconds an operation, Postgres and load included.
    pub(crate) baseline_cpu: f64,
}

/// Which way a measurement is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// More of ours is better: floor and goal are to be reached.
    More,
    /// Less of ours is better: floor and goal are not to be passed.
    Less,
}

/// A measurement.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// What the ratio must reach, where that is laid down.
    pub(crate) floor: Option<f64>,
    /// What it is to reach one day.
    pub(crate) goal: Option<f64>,
    pub(crate) rounds: Vec<Round>,
    /// What the correctness gate found.
    pub(crate) gate: Result<(), String>,
    /// What else was measured, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// Every measurement of a run.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Measured>);

impl Report {
    /// Adds a measurement and says what it found.
    pub(crate) fn add(&mut self, measured: Measured) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        for (number, round) in (1..).zip(&measured.rounds) {
            let Round { ours, baseline, .. } = round;
            writeln!(
                out,
                "{} round {number}: ours {ours:.0}, baseline {baseline:.0}, ratio {:.2}",
                measured.name,
                ours / baseline
            )?;
        }
        self.0.push(measured);
        Ok(())
    }

    /// Prints the table. A gate that failed makes an error.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header([
            "",
            "work",
            "ours",
            "baseline",
            "ratio",
            "worst",
            "floor",
            "goal",
            "CPU µs ours",
            "CPU µs baseline",
        ]);
        let mut broken = Vec::new();
        for Measured { name, what, unit, better, floor, goal, rounds, gate, .. } in &self.0 {
            let median = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value).collect());
            let ratio = |round: &Round| round.ours / round.baseline;
            let (worst, bound) = match better {
                Better::More => (rounds.iter().map(ratio).fold(f64::INFINITY, f64::min), ""),
                Better::Less => (rounds.iter().map(ratio).fold(0.0, f64::max), "≤ "),
            };
            let shown = match gate {
                Ok(()) => format!("{:.2}", median(&ratio)),
                Err(why) => {
                    broken.push(format!("{name}: {why}"));
                    "void".to_owned()
                }
            };
            table.add_row([
                (*name).to_owned(),
                (*what).to_owned(),
                format!("{:.0} {unit}", median(&|round| round.ours)),
                format!("{:.0} {unit}", median(&|round| round.baseline)),
                shown,
                format!("{worst:.2}"),
                floor.map_or_else(String::new, |floor| format!("{bound}{floor}")),
                goal.map_or_else(String::new, |goal| format!("{bound}{goal}")),
                format!("{:.1}", median(&|round| round.our_cpu)),
                format!("{:.1}", median(&|round| round.baseline_cpu)),
            ]);
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "{table}")?;
        for note in self.0.iter().flat_map(|measured| &measured.notes) {
            writeln!(out, "{note}")?;
        }
        anyhow::ensure!(broken.is_empty(), "a correctness gate failed: {}", broken.join("; "));
        Ok(())
    }
}

/// The one in the middle; of an even number, the greater of the two in the middle. `NaN` where there is none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
