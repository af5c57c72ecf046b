//! Checks small plans by trying every order in which their steps can run. Shares no code with the
//! verifier.
//!
//! A state is the progress of each stream and the contents of every 256 bytes of every arena. From
//! each state, every step that its stream and its event allow is tried. A plan is *right* if in no
//! reachable state a step reads bytes that do not hold its tensor, accesses bytes that another step
//! writes that could run at the same moment, leaves the arena, runs before the first step of the
//! origin stream, or is still pending when the origin is done, and if counters hold their zeros
//! when their launch runs and at the end. It is *wasteful* if it is right and still right without
//! one of its waits, records or copies.

use std::collections::HashSet;

use hiosc::graph::Graph;
use hiosc::ids::{BufferId, OpId, TensorId};
use hiosc::plan::{Contents, Operand, Plan, Step};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    NotMinimal(usize),
    Wrong(String),
}

pub fn judge(graph: &Graph, plan: &Plan) -> Verdict {
    if let Err(reason) = rules_of_the_driver(plan).and_then(|()| complete(graph, plan)).and_then(|()| right(graph, plan, None)) {
        return Verdict::Wrong(reason);
    }
    let candidates = (0..plan.steps.len())
        .filter(|&i| matches!(plan.steps[i], Step::Wait { .. } | Step::Record { .. } | Step::Copy { .. }))
        .find(|&i| right(graph, plan, Some(i)).is_ok());
    candidates.map_or(Verdict::Good, Verdict::NotMinimal)
}

/// Whether some wait is issued before its event is recorded, which the driver silently ignores.
pub fn has_unbound_wait(plan: &Plan) -> bool {
    (0..plan.steps.len()).any(|i| matches!(plan.steps[i], Step::Wait { .. }) && record_taken(&plan.steps, i).is_none())
}

/// Every event is recorded once, on a stream of its GPU.
fn rules_of_the_driver(plan: &Plan) -> Result<(), String> {
    for (event, gpu) in plan.events.iter().enumerate() {
        let mut records = plan.steps.iter().filter(|s| matches!(s, Step::Record { event: e, .. } if e.index() == event));
        match (records.next(), records.next()) {
            (Some(record), None) if plan.streams[record.stream().index()].gpu == *gpu => {}
            _ => return Err(format!("records of event {event}")),
        }
    }
    Ok(())
}

/// Every operator is launched once, every output downloaded once.
fn complete(graph: &Graph, plan: &Plan) -> Result<(), String> {
    let launches =
        |op: usize| plan.steps.iter().filter(|s| matches!(s, Step::Launch { operators, .. } if operators.contains(&OpId::new(op)))).count();
    let downloads = |out: usize| plan.steps.iter().filter(|s| matches!(s, Step::Download { output, .. } if *output == out)).count();
    let all = (0..graph.operators.len()).all(|op| launches(op) == 1) && (0..graph.outputs.len()).all(|out| downloads(out) == 1);
    if all { Ok(()) } else { Err("an operator or output is missing".into()) }
}

/// The record that the wait at `i` takes: the latest issued before it.
fn record_taken(steps: &[Step], i: usize) -> Option<usize> {
    let Step::Wait { event, .. } = steps[i] else { return None };
    (0..i).rev().find(|&r| matches!(steps[r], Step::Record { event: e, .. } if e == event))
}

/// What a step does to memory: blocks of 256 bytes, numbered over all arenas, with what they must
/// hold or will hold.
#[derive(Default)]
struct Effect {
    reads: Vec<(usize, u32)>,
    writes: Vec<(usize, u32)>,
    /// Zeros that it needs and leaves. They are among `writes`, too.
    counters: Vec<(usize, u32)>,
}

impl Effect {
    fn clashes(&self, other: &Effect) -> bool {
        let hits = |a: &Effect, b: &Effect| a.writes.iter().any(|(w, _)| b.reads.iter().chain(&b.writes).any(|(c, _)| c == w));
        hits(self, other) || hits(other, self)
    }
}

fn right(graph: &Graph, plan: &Plan, left_out: Option<usize>) -> Result<(), String> {
    let effects: Vec<Effect> = plan.steps.iter().map(|step| effect(graph, plan, step)).collect::<Result<_, _>>()?;
    let mut streams: Vec<Vec<usize>> = vec![Vec::new(); plan.streams.len()];
    let mut index_in_stream = vec![0; plan.steps.len()];
    for (i, step) in plan.steps.iter().enumerate().filter(|&(i, _)| Some(i) != left_out) {
        let stream = &mut streams[step.stream().index()];
        index_in_stream[i] = stream.len();
        stream.push(i);
    }
    let record = |i: usize| record_taken(&plan.steps, i).filter(|&r| Some(r) != left_out);
    let records: Vec<Option<usize>> = (0..plan.steps.len()).map(record).collect();
    let origin = plan.origin_stream.index();
    let blocks: u64 = plan.gpus.iter().map(|g| g.arena_bytes.div_ceil(256)).sum();

    // At first, only counters hold what they must; at the end they must hold it again, for the next
    // inference.
    let lasting: Vec<(usize, u32)> = effects.iter().flat_map(|effect| effect.counters.iter().copied()).collect();
    let mut memory = vec![0u32; blocks as usize];
    lasting.iter().for_each(|&(block, held)| memory[block] = held);
    if let Some(&(block, _)) = lasting.iter().find(|&&(block, held)| memory[block] != held) {
        return Err(format!("two launches count in block {block}"));
    }
    let mut seen: HashSet<(Vec<u8>, Vec<u32>)> = HashSet::new();
    let mut open = vec![(vec![0u8; streams.len()], memory)];
    while let Some((done, memory)) = open.pop() {
        if !seen.insert((done.clone(), memory.clone())) {
            continue;
        }
        let heads: Vec<(usize, usize)> =
            streams.iter().enumerate().filter_map(|(s, list)| Some((s, *list.get(done[s] as usize)?))).collect();
        let can_run = |i: usize| records[i].is_none_or(|r| (done[plan.steps[r].stream().index()] as usize) > index_in_stream[r]);
        let enabled: Vec<(usize, usize)> = heads.iter().copied().filter(|&(_, i)| can_run(i)).collect();
        if enabled.is_empty() && !heads.is_empty() {
            return Err("streams wait for each other".into());
        }
        if heads.is_empty()
            && let Some((block, _)) = lasting.iter().find(|&&(block, held)| memory[block] != held)
        {
            return Err(format!("the next inference finds no zeros in block {block}"));
        }
        let works = |i: usize| !matches!(plan.steps[i], Step::Wait { .. } | Step::Record { .. });
        let origin_done = done[origin] as usize == streams[origin].len();
        let rest = streams.iter().enumerate().flat_map(|(s, list)| &list[done[s] as usize..]);
        if origin_done && rest.copied().any(works) {
            return Err("work is left when the origin is done".into());
        }
        for &(stream, i) in &enabled {
            if stream != origin && done[origin] == 0 {
                return Err(format!("step {i} can run before the origin starts"));
            }
            if enabled.iter().any(|&(_, other)| other != i && effects[i].clashes(&effects[other])) {
                return Err(format!("step {i} can meet another on the same bytes"));
            }
            let mut needed = effects[i].reads.iter().chain(&effects[i].counters);
            if let Some((block, _)) = needed.find(|&&(block, held)| memory[block] != held) {
                return Err(format!("step {i} finds wrong bytes in block {block}"));
            }
            let (mut done, mut memory) = (done.clone(), memory.clone());
            done[stream] += 1;
            effects[i].writes.iter().for_each(|&(block, held)| memory[block] = held);
            open.push((done, memory));
        }
    }
    Ok(())
}

fn effect(graph: &Graph, plan: &Plan, step: &Step) -> Result<Effect, String> {
    // The k-th block of a tensor is identified by tensor and k. Workspaces count as tensors after
    // all others, and counters as tensors after those.
    let blocks = |b: BufferId, tensor: TensorId| -> Result<Vec<(usize, u32)>, String> {
        let buffer = &plan.buffers[b.index()];
        if buffer.offset + buffer.bytes > plan.gpus[buffer.gpu.index()].arena_bytes {
            return Err(format!("{b} leaves its arena"));
        }
        let base: u64 = plan.gpus[..buffer.gpu.index()].iter().map(|g| g.arena_bytes.div_ceil(256)).sum();
        let first = base + buffer.offset / 256;
        Ok((0..buffer.bytes.div_ceil(256)).map(|k| ((first + k) as usize, 1 + tensor.0 * 1000 + k as u32)).collect())
    };
    let mut effect = Effect::default();
    match step {
        Step::Upload { input, to, .. } => effect.writes = blocks(*to, graph.inputs[*input])?,
        Step::Download { output, from, .. } => effect.reads = blocks(*from, graph.root(graph.outputs[*output]))?,
        Step::Copy { tensor, from, to, .. } => {
            effect.reads = blocks(*from, *tensor)?;
            effect.writes = blocks(*to, *tensor)?;
        }
        Step::Launch { operators, reads, writes, .. } => {
            let inputs = operators.iter().flat_map(|&op| &graph.operator(op).inputs);
            let outputs: Vec<TensorId> = operators.iter().flat_map(|&op| graph.operator(op).outputs.clone()).collect();
            for (operand, &input) in reads.iter().zip(inputs) {
                match operand {
                    Operand::Buffer(b) => effect.reads.extend(blocks(*b, graph.root(input))?),
                    // The kernel gets the first buffer's address, and expects the parts adjacent
                    // from there.
                    Operand::Joined(buffers) => {
                        let mut begin = plan.buffers[buffers[0].index()].offset;
                        for (b, part) in buffers.iter().zip(graph.parts(input)) {
                            if plan.buffers[b.index()].offset != begin {
                                return Err(format!("{operators:?} looks for {part} at {begin}"));
                            }
                            effect.reads.extend(blocks(*b, part)?);
                            begin += graph.tensor(part).bytes();
                        }
                    }
                    // The whole buffer must be there, not only what is read: nothing writes a part
                    // of a buffer.
                    Operand::Slice { buffer, begin, bytes } => {
                        let wanted = (graph.begin(input) * 4, graph.tensor(input).bytes());
                        if (*begin, *bytes) != wanted {
                            return Err(format!("{operators:?} reads {bytes} bytes from {begin} on of {}", graph.root(input)));
                        }
                        effect.reads.extend(blocks(*buffer, graph.root(input))?);
                    }
                    Operand::Weight(weight) if weight.tensor == graph.root(input) => {}
                    Operand::Weight(weight) => return Err(format!("{operators:?} reads the constant {}", weight.tensor)),
                }
            }
            for (&b, &output) in writes.iter().zip(&outputs) {
                effect.writes.extend(blocks(b, output)?);
            }
            for &b in writes.iter().skip(outputs.len()) {
                let workspace = graph.tensors.len() + operators[0].index();
                if matches!(plan.buffers[b.index()].contents, Contents::Counters(_)) {
                    effect.counters = blocks(b, TensorId::new(workspace + graph.operators.len()))?;
                    effect.writes.extend(&effect.counters);
                } else {
                    effect.writes.extend(blocks(b, TensorId::new(workspace))?);
                }
            }
            let mut written: Vec<usize> = effect.writes.iter().map(|w| w.0).collect();
            written.sort_unstable();
            written.dedup();
            let in_place = effect.reads.iter().any(|(block, _)| written.binary_search(block).is_ok());
            if in_place || written.len() < effect.writes.len() {
                return Err(format!("{operators:?} writes bytes that it reads or writes already"));
            }
        }
        Step::Record { .. } | Step::Wait { .. } => {}
    }
    Ok(effect)
}
