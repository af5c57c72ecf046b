//! The stable text form of a plan: `--emit plan`.
//!
//! GPUs with their memory, streams, buffers with ONNX names and shapes, then one step per line
//! under its section.

use std::fmt::{self, Write as _};

use super::{Contents, Operand, Plan, SectionKind, Step, StreamKind, Weight};
use crate::graph::Graph;
use crate::ids::{BufferId, GpuId, TensorId};

impl Plan {
    /// The text form. `graph` is the graph that the plan was made for.
    pub fn text(&self, graph: &Graph) -> String {
        let mut out = String::new();
        write(&mut out, self, graph).expect("writing to a String");
        out
    }

    /// The size that the buffers of `gpu` would have without sharing bytes, to compare its arena
    /// with.
    pub fn buffer_bytes(&self, gpu: GpuId) -> u64 {
        self.buffers.iter().filter(|b| b.gpu == gpu).map(|b| super::memory::padded(b.bytes)).fold(0, u64::saturating_add)
    }
}

fn write(out: &mut String, plan: &Plan, graph: &Graph) -> fmt::Result {
    let (gpus, streams, events, steps) = (plan.gpus.len(), plan.streams.len(), plan.events.len(), plan.steps.len());
    writeln!(out, "plan of {}: gpus {gpus}, streams {streams}, events {events}, steps {steps}, latency {} ns", graph.name, plan.latency)?;
    for (g, (gpu, target)) in plan.gpus.iter().zip(&plan.targets).enumerate() {
        let id = GpuId::new(g);
        writeln!(out, "\n{id}, planned for {target} of the target")?;
        writeln!(out, "  weights {} bytes", gpu.weights_bytes)?;
        for &(weight, offset) in &gpu.weights {
            writeln!(out, "    @{offset} {}{}", tensor_text(graph, weight.tensor), packing_text(weight))?;
        }
        writeln!(out, "  streams")?;
        for (s, stream) in plan.streams.iter().enumerate().filter(|(_, stream)| stream.gpu == id) {
            let origin_stream = if s == plan.origin_stream.index() { ", origin" } else { "" };
            match stream.kind {
                StreamKind::Compute(index) => writeln!(out, "    s{s} compute {index}{origin_stream}")?,
                StreamKind::Copy { to } => writeln!(out, "    s{s} copy to {to}{origin_stream}")?,
            }
        }
        writeln!(out, "  arena {} bytes, without sharing {} bytes", gpu.arena_bytes, plan.buffer_bytes(id))?;
        for (b, buffer) in plan.buffers.iter().enumerate().filter(|(_, buffer)| buffer.gpu == id) {
            writeln!(out, "    b{b} @{} {} bytes {}", buffer.offset, buffer.bytes, contents_text(graph, buffer.contents))?;
        }
    }
    for section in &plan.sections {
        match section.kind {
            SectionKind::Begin => write!(out, "\nbegin")?,
            SectionKind::Stage { gpu, index } => write!(out, "\nstage {index} of {gpu}")?,
            SectionKind::End => write!(out, "\nend")?,
        }
        match section.predicted {
            Some((start, finish)) => writeln!(out, ", {start} to {finish} ns")?,
            None => writeln!(out)?,
        }
        for step in &plan.steps[section.first..section.end] {
            writeln!(out, "  {} {}", step.stream(), step_text(plan, graph, step))?;
        }
    }
    Ok(())
}

/// `t3 "conv1.w" 64x3x3x3 f32`.
fn tensor_text(graph: &Graph, id: TensorId) -> String {
    let tensor = graph.tensor(id);
    format!("{id} {:?} {} {}", tensor.name, tensor.shape_text(), tensor.dtype.name())
}

/// Empty, or `, packed tap-major 1x64x64x9`.
fn packing_text(weight: Weight) -> String {
    weight.packing.map_or(String::new(), |packing| format!(", packed {packing}"))
}

/// A tensor, `workspace of %3 "conv1"`, or `counters of %3 "conv1"`.
fn contents_text(graph: &Graph, contents: Contents) -> String {
    match contents {
        Contents::Tensor(tensor) => tensor_text(graph, tensor),
        Contents::Workspace(op) => format!("workspace of {op} {:?}", graph.operator(op).name),
        Contents::Counters(op) => format!("counters of {op} {:?}", graph.operator(op).name),
    }
}

fn step_text(plan: &Plan, graph: &Graph, step: &Step) -> String {
    let buffer = |b: BufferId| match plan.buffers[b.index()].contents {
        Contents::Tensor(tensor) => format!("{b} {:?}", graph.tensor(tensor).name),
        Contents::Workspace(_) => format!("{b} workspace"),
        Contents::Counters(_) => format!("{b} counters"),
    };
    let operand = |operand: &Operand| match operand {
        Operand::Buffer(b) => buffer(*b),
        Operand::Joined(parts) => parts.iter().map(|&b| buffer(b)).collect::<Vec<_>>().join(" + "),
        Operand::Slice { buffer: b, begin, bytes } => format!("{}[{begin}..{}]", buffer(*b), begin + bytes),
        Operand::Weight(w) => format!("{} {:?}{}", w.tensor, graph.tensor(w.tensor).name, packing_text(*w)),
    };
    match step {
        Step::Upload { input, to, .. } => format!("upload input {input} -> {}", buffer(*to)),
        Step::Launch { operators, reads, writes, .. } => {
            let reads: Vec<String> = reads.iter().map(operand).collect();
            let writes: Vec<String> = writes.iter().map(|&b| buffer(b)).collect();
            let kinds = operators.iter().map(|&op| format!("{op} {:?} {}", graph.operator(op).name, graph.operator(op).kind.name()));
            format!("launch {}({}) -> {}", kinds.collect::<Vec<_>>().join(" + "), reads.join(", "), writes.join(", "))
        }
        Step::Copy { from, to, .. } => format!("copy {} -> {to} on {}", buffer(*from), plan.buffers[to.index()].gpu),
        Step::Download { output, from, .. } => {
            format!("download {} -> output {output} {:?}", buffer(*from), graph.tensor(graph.outputs[*output]).name)
        }
        Step::Record { event, .. } => format!("record {event}"),
        Step::Wait { event, .. } => format!("wait {event}"),
    }
}
