//! The schedule as a picture, for `schedule.html`, which any browser shows: one row per stream, one
//! bar per kernel or copy, from left to right as predicted.

use serde::Serialize;

use crate::device::Nanos;
use crate::plan::{Step, StreamKind};
use crate::program::Program;
use crate::runtime::tool::Prediction;

/// The row of a stream.
#[derive(Serialize)]
pub struct StreamRow {
    name: String,
    bars: Vec<Bar>,
}

/// A kernel or a copy. Texts are escaped for HTML.
#[derive(Serialize)]
struct Bar {
    /// Its colour: the kind of its (first) operator, or `copy`.
    class: String,
    /// Its start and length, in percent of the latency.
    left: String,
    width: String,
    label: String,
    /// The tooltip.
    title: String,
}

/// A vertical line through all rows, with its time.
#[derive(Serialize)]
pub struct Tick {
    left: String,
    label: String,
}

/// The rows of a plan, by stream.
pub fn rows(program: &Program) -> Vec<StreamRow> {
    let plan = program.plan;
    let name = |kind: StreamKind| match kind {
        StreamKind::Compute(0) => String::new(),
        StreamKind::Compute(index) => format!(", stream {index}"),
        StreamKind::Copy { to } => format!(" to {to}"),
    };
    let mut rows: Vec<StreamRow> =
        plan.streams.iter().map(|s| StreamRow { name: format!("{}{}", s.gpu, name(s.kind)), bars: Vec::new() }).collect();
    let steps = plan.steps.iter().filter(|step| !step.is_synchronisation());
    for (step, prediction) in steps.zip(&program.predictions) {
        if prediction.end > prediction.start {
            rows[prediction.stream].bars.push(bar(program, step, prediction));
        }
    }
    rows
}

/// Lines at round times from 0 on, eleven at most.
pub fn ticks(latency: Nanos) -> Vec<Tick> {
    let step = (0..).flat_map(|power| [1, 2, 5].map(|digit| digit * 10u64.pow(power))).find(|step| latency / step <= 10).unwrap_or(latency);
    let tick = |at: Nanos| Tick { left: percent(at, latency), label: format!("{} us", at as f64 / 1e3) };
    (0..=latency / step.max(1)).map(|i| tick(i * step)).collect()
}

fn bar(program: &Program, step: &Step, prediction: &Prediction<String>) -> Bar {
    let Prediction { kind, label, stage, start, end, .. } = prediction;
    let graph = program.graph;
    let (class, what) = match step {
        Step::Launch { operators, .. } => {
            let what = operators.iter().map(|&op| {
                let shapes: Vec<String> = graph.operator(op).outputs.iter().map(|&t| graph.tensor(t).shape_text()).collect();
                format!("{} -> {}", graph.describe(op), shapes.join(", "))
            });
            (graph.operator(operators[0]).kind.name(), what.collect::<Vec<_>>().join("\n"))
        }
        Step::Copy { tensor, .. } => ("copy", format!("copy of {}", graph.tensor(*tensor).shape_text())),
        _ => ("copy", format!("{kind:?}")),
    };
    let stage = stage.map_or(String::new(), |(_, index)| format!(", stage {index}"));
    let us = |t: Nanos| t as f64 / 1e3;
    let title = format!("{label}\n{what}\n{} us, from {} us{stage}", us(end - start), us(*start));
    let latency = program.plan.latency;
    Bar {
        class: class.into(),
        left: percent(*start, latency),
        width: percent(end - start, latency),
        label: handlebars::html_escape(label),
        title: handlebars::html_escape(&title),
    }
}

fn percent(time: Nanos, of: Nanos) -> String {
    format!("{:.4}", time as f64 * 100.0 / of.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_few_and_round() {
        for latency in [1, 9, 10, 37, 999, 12_345, 4_544_108, 86_400_000_000_000] {
            let ticks = ticks(latency);
            assert!((2..=11).contains(&ticks.len()), "{latency}: {}", ticks.len());
            assert_eq!(ticks[0].left, "0.0000");
        }
        assert_eq!(ticks(2_041_148).iter().map(|t| t.label.as_str()).collect::<Vec<_>>()[..3], ["0 us", "200 us", "400 us"]);
        assert_eq!(ticks(0).len(), 1);
    }
}
