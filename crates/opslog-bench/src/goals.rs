//! The goals of the performance document, and whether they are met.

use crate::runner::Results;
use crate::statistics::median;
use crate::subjects::{OPSLOG, REFERENCE};
use crate::workloads::{Figure, Unit};

/// What opslog's figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// At least `factor` times as good.
    Better { than: Against, factor: f64 },
    /// At most `factor` times the cost.
    Within { of: Against, factor: f64 },
    /// At most `factor` times the CPU time of a subject.
    CpuWithin { of: &'static str, factor: f64 },
    /// At most this, in the figure's unit.
    AtMost(f64),
}

/// What opslog is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Against {
    /// One subject, by name.
    Subject(&'static str),
    /// The best of all peers but the reference.
    Peers,
    /// Another figure of opslog's in the same workload.
    Figure(&'static str),
}

/// A goal beside what was measured.
pub(crate) struct Verdict {
    pub(crate) goal: String,
    /// What is to be compared with the goal's number.
    pub(crate) measured: f64,
    pub(crate) is_met: bool,
}

/// Judges a goal; `None` when what it is compared with was not run.
pub(crate) fn judge(results: &Results, figure: &Figure, goal: Goal) -> Option<Verdict> {
    match goal {
        Goal::Better { than, factor } => {
            let (name, ratio) = goodness(results, figure, than)?;
            Some(Verdict {
                goal: format!("at least {factor} × {name}"),
                measured: ratio,
                is_met: ratio >= factor,
            })
        }
        Goal::Within { of, factor } => {
            let (name, ratio) = goodness(results, figure, of)?;
            Some(Verdict {
                goal: format!("at most {factor} × the cost of {name}"),
                measured: 1.0 / ratio,
                is_met: 1.0 / ratio <= factor,
            })
        }
        Goal::CpuWithin { of, factor } => {
            let ratio = paired(
                &results.cpu_seconds(OPSLOG, figure.key),
                &results.cpu_seconds(of, figure.key),
            )?;
            Some(Verdict {
                goal: format!("at most {factor} × the CPU time of {of}"),
                measured: ratio,
                is_met: ratio <= factor,
            })
        }
        Goal::AtMost(bound) => {
            let value = median(&results.values(OPSLOG, figure.key))?;
            Some(Verdict {
                goal: format!("at most {}", figure.unit.show(bound)),
                measured: value,
                is_met: value <= bound,
            })
        }
    }
}

/// How many times as good opslog is, and as what.
fn goodness(results: &Results, figure: &Figure, against: Against) -> Option<(String, f64)> {
    match against {
        Against::Subject(name) => Some((name.to_owned(), better(results, figure, OPSLOG, name)?)),
        Against::Figure(key) => {
            let ratio = paired(
                &results.values(OPSLOG, figure.key),
                &results.values(OPSLOG, key),
            )?;
            Some((format!("'{key}'"), figure.unit.goodness(ratio)))
        }
        Against::Peers => results
            .subjects()
            .filter(|name| is_peer(name))
            .filter_map(|name| Some((name.to_owned(), better(results, figure, OPSLOG, name)?)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
            .map(|(name, ratio)| (format!("the best peer ({name})"), ratio)),
    }
}

/// How many times as good as `other` the subject `name` is: the median of the rounds' ratios, as what disturbs a round disturbs both.
pub(crate) fn better(results: &Results, figure: &Figure, name: &str, other: &str) -> Option<f64> {
    let ratio = paired(
        &results.values(name, figure.key),
        &results.values(other, figure.key),
    )?;
    Some(figure.unit.goodness(ratio))
}

fn is_peer(name: &str) -> bool {
    name != REFERENCE && !name.starts_with(OPSLOG) && !name.starts_with("limit")
}

fn paired(values: &[f64], others: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = values
        .iter()
        .zip(others)
        .map(|(value, other)| value / other)
        .collect();
    median(&ratios)
}

impl Unit {
    /// Turns a ratio of values into one that is greater when better.
    fn goodness(self, ratio: f64) -> f64 {
        match self {
            Self::PerSecond => ratio,
            Self::Seconds | Self::Bytes | Self::Times => 1.0 / ratio,
        }
    }
}
