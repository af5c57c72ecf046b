//! The table of launches, for tools: JSON lines, one object per launch in host issue order, and a
//! summary in the last line. `--emit kernels` prints it, and every crate contains it as
//! `launches.jsonl`.
//!
//! | key | meaning |
//! |---|---|
//! | `launch` | its number, from 0 |
//! | `operators` | ONNX names of what it computes |
//! | `kinds` | what each of these computes, as in the text form of the graph |
//! | `reads` | each tensor that it reads: `tensor`, its name; `shape`; `from`: `input`, `constant`, or the `tensor` of each result that it consists of |
//! | `results` | each tensor that it writes: `tensor`, its name, unique among results; `operator`, the index of what computes it; `type`, `shape`; `values`: the ONNX values that it holds, each with its `name` and `shape`; `absorbed`: names of ONNX values that exist nowhere, computed on the way |
//! | `gpu`, `stream` | where it runs |
//! | `file`, `entry` | the source, relative to the crate, and its `extern "C"` name there |
//! | `grid`, `block` | launch geometry |
//! | `static_shared`, `dynamic_shared` | bytes of shared memory |
//! | `trips` | [`Kernel::trips`]: a number, or a list if several loops have multiply-adds |
//! | `split`, `members` | [`Kernel::split`]; [`Kernel::members`] with the operator of each |
//! | `macs` | useful multiply-adds: [`macs`](crate::kernel::macs) |
//! | `weight_bytes` | constants, each once: [`traffic`](crate::kernel::traffic) |
//! | `read_bytes`, `write_bytes` | activations, each once |
//! | `workspace_bytes` | [`Kernel::workspace_bytes`] |
//! | `early` | always false: every launch starts after its predecessor in the stream has ended |
//! | `waits` | launches of other streams that it waits for, see below |
//! | `predicted_ns` | its time alone |
//!
//! `waits` lists the launches that a launch waits for, directly or through copies: at most one per
//! stream, the latest.
//!
//! The summary has the sum of `macs`, the bytes of all constants that launches read (each once),
//! the number of launches, and the number of ONNX nodes of the model.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Call, Layer, LayerResult, LayerSource, Program, launched};
use crate::error::{Error, Result};
use crate::graph::{OnnxValue, Tensor};
use crate::ids::TensorId;
use crate::kernel::{self, Kernel};
use crate::plan::Step;

/// The line of one launch. Its keys are explained at the top of this file.
#[derive(Serialize)]
struct Launch<'a> {
    launch: usize,
    operators: Vec<&'a str>,
    kinds: Vec<String>,
    reads: Vec<Read<'a>>,
    results: Vec<Written<'a>>,
    gpu: usize,
    stream: usize,
    file: String,
    entry: &'a str,
    grid: [u32; 3],
    block: [u32; 3],
    static_shared: u32,
    dynamic_shared: u32,
    trips: Trips<'a>,
    split: u32,
    members: Vec<LaunchMember<'a>>,
    macs: u64,
    weight_bytes: u64,
    read_bytes: u64,
    write_bytes: u64,
    workspace_bytes: u64,
    early: bool,
    waits: Vec<usize>,
    predicted_ns: u64,
}

/// A number, or a list if several loops have multiply-adds.
#[derive(Serialize)]
#[serde(untagged)]
enum Trips<'a> {
    One(u64),
    Several(&'a [u64]),
}

#[derive(Serialize)]
struct Read<'a> {
    tensor: &'a str,
    shape: &'a [usize],
    from: ReadFrom<'a>,
}

/// `"input"`, `"constant"`, or a list of results.
#[derive(Serialize)]
#[serde(untagged)]
enum ReadFrom<'a> {
    Outside(&'static str),
    Results(&'a [String]),
}

#[derive(Serialize)]
struct Written<'a> {
    tensor: &'a str,
    operator: usize,
    r#type: &'static str,
    shape: &'a [usize],
    values: Vec<WrittenValue<'a>>,
    absorbed: &'a [&'a str],
}

#[derive(Serialize)]
struct WrittenValue<'a> {
    name: &'a str,
    shape: &'a [usize],
}

#[derive(Serialize)]
struct LaunchMember<'a> {
    operator: &'a str,
    blocks: u64,
    trips: u64,
}

/// The last line.
#[derive(Serialize)]
struct SummaryLine {
    summary: Summary,
}

#[derive(Serialize)]
struct Summary {
    macs: u64,
    weights_bytes: u64,
    launches: usize,
    operators: usize,
}

impl Program<'_> {
    /// The table of launches. The model has `onnx_nodes` operators.
    pub fn launches(&self, onnx_nodes: usize) -> Result<String> {
        let mut text = String::new();
        let mut summary = Summary { macs: 0, weights_bytes: 0, launches: 0, operators: onnx_nodes };
        let mut weights: BTreeMap<TensorId, u64> = BTreeMap::new();
        let waits = self.waits();
        let layers = self.layers()?;
        for (step, call) in self.plan.steps.iter().zip(&self.calls) {
            let (Step::Launch { operators, stream: on, .. }, &Call::Launch(stream, kernel, _)) = (step, call) else { continue };
            let gpu = self.plan.streams[stream.0].gpu;
            let Kernel { name, grid, block, shared_bytes, static_shared_bytes, trips, split, members, workspace_bytes, .. } =
                self.kernels[kernel].kernel;
            let names = self.graph.names(operators);
            let macs = operators.iter().map(|&op| self.graph.operator(op).macs(self.graph)).sum();
            let layer = layers.get(summary.launches);
            let Layer { reads, results, .. } = layer.ok_or_else(|| Error::internal("program", "a launch without layer".to_string()))?;
            let traffic = kernel::traffic(self.graph, operators);
            text += &line(&Launch {
                launch: summary.launches,
                kinds: operators.iter().map(|&op| self.graph.operator(op).kind.to_string()).collect(),
                reads: reads.iter().map(read).collect(),
                results: results.iter().map(written).collect(),
                gpu: gpu.index(),
                stream: stream.0,
                file: format!("kernels/{name}.cu"),
                entry: name,
                grid: *grid,
                block: *block,
                static_shared: *static_shared_bytes,
                dynamic_shared: *shared_bytes,
                trips: match trips[..] {
                    [] => Trips::One(0),
                    [one] => Trips::One(one),
                    ref several => Trips::Several(several),
                },
                split: *split,
                members: names
                    .iter()
                    .zip(members)
                    .map(|(operator, m)| LaunchMember { operator, blocks: m.blocks, trips: m.trips })
                    .collect(),
                operators: names,
                macs,
                weight_bytes: traffic.weight_bytes(),
                read_bytes: traffic.read_bytes,
                write_bytes: traffic.write_bytes,
                workspace_bytes: *workspace_bytes,
                early: false,
                waits: waits[summary.launches].iter().copied().collect(),
                predicted_ns: launched(self.costs, self.plan, operators, *on)?.time,
            })?;
            for (tensor, bytes) in traffic.weights {
                let most = weights.entry(tensor).or_default();
                *most = bytes.max(*most);
            }
            summary.macs += macs;
            summary.launches += 1;
        }
        summary.weights_bytes = weights.values().sum();
        Ok(text + &line(&SummaryLine { summary })?)
    }

    /// For each launch, those of other streams that it waits for, directly or through steps that
    /// launch nothing: the latest launch of each stream.
    fn waits(&self) -> Vec<BTreeSet<usize>> {
        let mut all = Vec::new();
        // `after[stream]`: the launches that come before the next step of the stream.
        // `marks[event]`: those that come before the event.
        let mut after: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.streams.len()];
        let mut marks: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.plan.events.len()];
        let mut stream_of: Vec<usize> = Vec::new();
        for call in &self.calls {
            match *call {
                Call::Launch(stream, ..) => {
                    let before = std::mem::replace(&mut after[stream.0], BTreeSet::from([all.len()]));
                    // only the latest launch of each stream: the others come before it anyway
                    let latest: BTreeMap<usize, usize> = before.into_iter().map(|launch| (stream_of[launch], launch)).collect();
                    all.push(latest.into_iter().filter(|&(of, _)| of != stream.0).map(|(_, launch)| launch).collect());
                    stream_of.push(stream.0);
                }
                Call::Record(event, stream) => marks[event.0] = after[stream.0].clone(),
                Call::Wait(stream, event) => after[stream.0].extend(&marks[event.0]),
                Call::Upload(..) | Call::Copy(..) | Call::Download(..) => {}
            }
        }
        all
    }
}

fn read<'a>((tensor, source): &'a (&Tensor, LayerSource)) -> Read<'a> {
    let from = match source {
        LayerSource::Input => ReadFrom::Outside("input"),
        LayerSource::Constant => ReadFrom::Outside("constant"),
        LayerSource::Results(keys) => ReadFrom::Results(keys),
    };
    Read { tensor: &tensor.name, shape: &tensor.shape, from }
}

fn written<'a>(result: &'a LayerResult<'_>) -> Written<'a> {
    let LayerResult { key, tensor, operator, values, absorbed } = result;
    let value = |value: &&'a OnnxValue| WrittenValue { name: &value.name, shape: &value.shape };
    Written {
        tensor: key,
        operator: *operator,
        r#type: tensor.dtype.name(),
        shape: &tensor.shape,
        values: values.iter().map(value).collect(),
        absorbed,
    }
}

fn line(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value).map_err(|error| Error::internal("program", format!("launches: {error}")))?;
    Ok(text + "\n")
}
