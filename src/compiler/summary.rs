//! What a compilation did, in a screenful: one line per pass, and the table of compared schedules.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::output::Reference;
use super::{Compilation, Planned};
use crate::device::Nanos;
use crate::oracle::Source;
use crate::plan::{Plan, Step, StreamKind};
use crate::schedule::EvaluatedSchedule;

/// The summary that the command line prints.
pub fn compilation(compilation: &Compilation) -> String {
    let planned = &compilation.planned;
    let mut text = String::new();
    let graph = &planned.graph;
    let weights = graph.weight_elements();
    let mut line = |pass: &str, what: String| {
        writeln!(text, "{pass:10} {what}").expect("writing to a String");
    };
    line("model", format!("{}: {} ONNX nodes, {} weights", graph.name, planned.model.onnx_nodes, thousands(weights)));
    line("fuse", format!("{} operators became {}", planned.lowered, graph.operators.len()));
    line("target", target(planned));
    for (i, row) in table(planned).into_iter().enumerate() {
        line(if i == 0 { "schedule" } else { "" }, row);
    }
    line("", choice(&planned.schedules, planned.chosen, planned.rechecked.is_some()));
    planned.rechecked.iter().for_each(|words| line("", format!("on the GPU: {words}")));
    for (i, row) in plan(&planned.plan).into_iter().enumerate() {
        line(if i == 0 { "plan" } else { "" }, row);
    }
    let shipped = &compilation.shipped;
    let count = shipped.kernels.len();
    if let Some((major, minor)) = shipped.nvrtc {
        let kinds: BTreeSet<&str> = shipped.images.values().flatten().map(|i| i.arch.as_str()).collect();
        let kinds: Vec<_> = kinds.into_iter().collect();
        line("kernels", format!("{count}, compiled by NVRTC {major}.{minor} for {}", kinds.join(", ")));
    } else {
        line("kernels", format!("{count}, shipped as sources: the crate compiles them at load, and needs NVRTC then"));
        line("", shipped.note.clone().unwrap_or_default());
    }
    let Reference { source, refused, disputes, missing } = &compilation.reference;
    if let Some(source) = source {
        let why = if refused.is_empty() { String::new() } else { format!(" (rten: {refused})") };
        line("check", format!("{}{why}", source.words()));
    }
    if let Some(why) = missing {
        line("warning", format!("the crate has no reference output to verify: {why}"));
    }
    for (i, dispute) in disputes.iter().enumerate() {
        line(if i == 0 { "warning" } else { "" }, format!("disputed reference: {dispute}"));
    }
    if !disputes.is_empty() {
        line("", "the crate has both: decide with --reference rten, --reference tract or --reference FILE.npz".into());
    }
    text
}

/// The same for programs.
pub fn json(compilation: &Compilation) -> Value {
    let Compilation { planned, shipped, .. } = compilation;
    let (graph, plan) = (&planned.graph, &planned.plan);
    let count = |f: fn(&Step) -> bool| plan.steps.iter().filter(|s| f(s)).count();
    let compute = plan.streams.iter().filter(|s| matches!(s.kind, StreamKind::Compute(_))).count();
    let schedules = planned.schedules.iter().map(|evaluated| {
        json!({
            "algorithm": evaluated.schedule.algorithm,
            "latency_ns": evaluated.timeline.latency,
            "gpus": evaluated.schedule.gpus.iter().filter(|stages| !stages.is_empty()).count(),
            "transfers": evaluated.timeline.transfers.len(),
        })
    });
    let images: BTreeSet<&str> = shipped.images.values().flatten().map(|image| image.arch.as_str()).collect();
    json!({
        "model": {
            "name": graph.name,
            "sha256": planned.model.hash,
            "onnx_nodes": planned.model.onnx_nodes,
            "weights": graph.weight_elements(),
        },
        "operators": { "imported": planned.lowered, "fused": graph.operators.len() },
        "target": {
            "gpus": planned.costs.gpus.iter().map(|gpu| gpu.device.as_str()).collect::<Vec<_>>(),
            "costs": planned.costs.source,
        },
        "schedules": schedules.collect::<Value>(),
        "emitted": planned.chosen().schedule.algorithm,
        "rechecked": planned.rechecked,
        "plan": {
            "latency_ns": plan.latency,
            "compute_streams": compute,
            "copy_streams": plan.streams.len() - compute,
            "launches": count(|s| matches!(s, Step::Launch { .. })),
            "copies": count(|s| matches!(s, Step::Copy { .. })),
            "events": plan.events.len(),
            "waits": count(|s| matches!(s, Step::Wait { .. })),
            "gpus": plan
                .gpus
                .iter()
                .map(|gpu| json!({ "weights_bytes": gpu.weights_bytes, "activations_bytes": gpu.arena_bytes }))
                .collect::<Value>(),
        },
        "reference": {
            "by": compilation.reference.source.map(Source::name),
            "refused": (!compilation.reference.refused.is_empty()).then_some(&compilation.reference.refused),
            "disputes": compilation.reference.disputes,
            "missing": compilation.reference.missing,
        },
        "kernels": {
            "count": shipped.kernels.len(),
            "nvrtc": shipped.nvrtc.map(|(major, minor)| format!("{major}.{minor}")),
            "images": images,
            "note": shipped.note,
        },
        "seconds": planned.timings.iter().map(|(pass, time)| ((*pass).to_string(), json!(time.as_secs_f64()))).collect::<Map<_, _>>(),
    })
}

/// `2 x a40, 1 x l4 (estimated from ...)`
fn target(planned: &Planned) -> String {
    let gpus = &planned.costs.gpus;
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for gpu in gpus {
        match kinds.iter_mut().find(|(name, _)| *name == gpu.device) {
            Some((_, count)) => *count += 1,
            None => kinds.push((&gpu.device, 1)),
        }
    }
    let kinds: Vec<String> = kinds.into_iter().map(|(name, count)| format!("{count} x {name}")).collect();
    format!("{} ({})", kinds.join(", "), planned.costs.source)
}

/// The compared schedules: name, latency, speed-up over the first, GPUs, transfers.
fn table(planned: &Planned) -> Vec<String> {
    let sequential = planned.schedules.first().map_or(0, |c| c.timeline.latency);
    let mut rows = vec![format!("{:12} {:>12} {:>9} {:>5} {:>10}", "algorithm", "predicted", "speed-up", "GPUs", "transfers")];
    for evaluated in &planned.schedules {
        let gpus = evaluated.schedule.gpus.iter().filter(|stages| !stages.is_empty()).count();
        let timeline = &evaluated.timeline;
        let speedup = sequential as f64 / timeline.latency.max(1) as f64;
        rows.push(format!(
            "{:12} {:>12} {speedup:>9.3} {gpus:>5} {:>10}",
            evaluated.schedule.algorithm,
            milliseconds(timeline.latency),
            timeline.transfers.len()
        ));
    }
    rows
}

/// Which of the compared schedules was emitted, and why.
fn choice(schedules: &[EvaluatedSchedule], chosen: usize, rechecked: bool) -> String {
    let name = &schedules[chosen].schedule.algorithm;
    let latency = schedules[chosen].timeline.latency;
    match schedules.iter().min_by_key(|c| c.timeline.latency).filter(|c| c.timeline.latency < latency) {
        Some(faster) => {
            let reason = if rechecked { "the fastest measured" } else { "as requested" };
            format!("emitted: {name}, {reason}, although {} is predicted faster", faster.schedule.algorithm)
        }
        None if schedules.iter().filter(|c| c.timeline.latency == latency).count() > 1 => {
            format!("emitted: {name}; nothing else is predicted faster")
        }
        None => format!("emitted: {name}, the fastest predicted"),
    }
}

fn plan(plan: &Plan) -> Vec<String> {
    let count = |f: fn(&Step) -> bool| plan.steps.iter().filter(|s| f(s)).count();
    let compute = plan.streams.iter().filter(|s| matches!(s.kind, StreamKind::Compute(_))).count();
    let mut rows = vec![format!(
        "{} on {}, {compute} compute and {} copy streams: {} launches, {} copies, {} events, {} waits",
        milliseconds(plan.latency),
        if plan.gpus.len() == 1 { "1 GPU".into() } else { format!("{} GPUs", plan.gpus.len()) },
        plan.streams.len() - compute,
        count(|s| matches!(s, Step::Launch { .. })),
        count(|s| matches!(s, Step::Copy { .. })),
        plan.events.len(),
        count(|s| matches!(s, Step::Wait { .. })),
    )];
    for (i, gpu) in plan.gpus.iter().enumerate() {
        let unshared: u64 = plan.buffers.iter().filter(|b| b.gpu.index() == i).map(|b| b.bytes).sum();
        rows.push(format!(
            "gpu{i}: {} of weights, {} of activations (without reuse {})",
            mebibytes(gpu.weights_bytes),
            mebibytes(gpu.arena_bytes),
            mebibytes(unshared)
        ));
    }
    rows
}

fn milliseconds(t: Nanos) -> String {
    format!("{:.3} ms", t as f64 / 1e6)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

/// `1_235_496` as `1,235,496`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Schedule, Timeline};

    #[test]
    fn the_reason_for_the_choice_is_the_true_one() {
        let with_latency = |(algorithm, latency): (&str, Nanos)| EvaluatedSchedule {
            schedule: Schedule { algorithm: algorithm.into(), gpus: Vec::new() },
            timeline: Timeline { stages: Vec::new(), transfers: Vec::new(), latency },
        };
        let schedules = [("sequential", 9), ("intra-gpu", 7), ("hios-lp", 5), ("best", 5)].map(with_latency);
        for (schedules, chosen, rechecked, expected) in [
            (&schedules[..], 1, false, "emitted: intra-gpu, as requested, although hios-lp is predicted faster"),
            (&schedules[..], 0, true, "emitted: sequential, the fastest measured, although hios-lp is predicted faster"),
            (&schedules[..], 3, true, "emitted: best; nothing else is predicted faster"),
            (&schedules[..3], 2, false, "emitted: hios-lp, the fastest predicted"),
        ] {
            assert_eq!(choice(schedules, chosen, rechecked), expected);
        }
    }
}
