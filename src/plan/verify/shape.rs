//! Rules 1 to 9: everything that needs no order between streams.

use std::collections::BTreeSet;

use super::{Accesses, Subject};
use crate::error::Result;
use crate::graph::Origin;
use crate::ids::{BufferId, EventId, GpuId, StreamId, TensorId};
use crate::plan::{Contents, Operand, SectionKind, Step, StreamKind, Weight};
use crate::schedule::Schedule;

/// Checks rules 1 to 9. Returns the steps that access each buffer and event.
pub(super) fn check(s: &Subject, schedule: Option<&Schedule>) -> Result<Accesses> {
    gpus_and_streams(s, schedule)?;
    numbers_in_steps(s)?;
    sections(s)?;
    if let Some(schedule) = schedule {
        stages_of_schedule(s, schedule)?;
    }
    buffers(s)?;
    weights(s)?;
    launches(s)?;
    uploads_and_downloads(s)?;
    copies(s)?;
    let (writer, readers) = writers_and_readers(s)?;
    let (record, waits) = events(s)?;
    Ok(Accesses { writer, readers, waits, record })
}

/// Rule 1, for everything but steps.
fn gpus_and_streams(s: &Subject, schedule: Option<&Schedule>) -> Result<()> {
    let plan = s.plan;
    if plan.targets.len() != plan.gpus.len() {
        return s.broken(1, format_args!("the plan has {} GPUs, but names {} of the target", plan.gpus.len(), plan.targets.len()));
    }
    for (i, target) in plan.targets.iter().enumerate() {
        if plan.targets[..i].contains(target) || schedule.is_some_and(|sch| target.index() >= sch.gpus.len().max(1)) {
            return s.broken(1, format_args!("{} is mapped to {target}, which is already used or not in the schedule", GpuId::new(i)));
        }
    }
    let known = |contents: Contents| match contents {
        Contents::Tensor(tensor) => tensor.index() < s.graph.tensors.len(),
        Contents::Workspace(op) | Contents::Counters(op) => op.index() < s.graph.operators.len(),
    };
    if let Some(buffer) = plan.buffers.iter().find(|b| b.gpu.index() >= plan.gpus.len() || !known(b.contents)) {
        return s.broken(1, format_args!("a buffer holds {:?} on {}", buffer.contents, buffer.gpu));
    }
    if let Some(gpu) = plan.events.iter().find(|gpu| gpu.index() >= plan.gpus.len()) {
        return s.broken(1, format_args!("an event belongs to {gpu}"));
    }
    // Streams in order: GPU by GPU, compute streams 0, 1, 2, ..., then copy streams to different
    // GPUs.
    let mut at = 0;
    for gpu in (0..plan.gpus.len()).map(GpuId::new) {
        let (mut compute_streams, mut destinations) = (0, Vec::new());
        while let Some(stream) = plan.streams.get(at).filter(|stream| stream.gpu == gpu) {
            let sound = match stream.kind {
                StreamKind::Compute(index) => index == compute_streams && destinations.is_empty(),
                StreamKind::Copy { to } => to != gpu && to.index() < plan.gpus.len() && !destinations.contains(&to),
            };
            if !sound {
                return s.broken(1, format_args!("{} of {gpu} is out of order or listed twice", StreamId::new(at)));
            }
            match stream.kind {
                StreamKind::Compute(_) => compute_streams += 1,
                StreamKind::Copy { to } => destinations.push(to),
            }
            at += 1;
        }
        if compute_streams == 0 {
            return s.broken(1, format_args!("{gpu} has no compute stream"));
        }
    }
    if at != plan.streams.len() {
        return s.broken(1, format_args!("{} belongs to {}, out of order", StreamId::new(at), plan.streams[at].gpu));
    }
    if plan.origin_stream != StreamId::new(0) || plan.streams.is_empty() {
        return s.broken(1, format_args!("the origin stream is {}, not the first compute stream of the first GPU", plan.origin_stream));
    }
    Ok(())
}

/// Rule 1, for steps.
fn numbers_in_steps(s: &Subject) -> Result<()> {
    let (plan, graph) = (s.plan, s.graph);
    let buffer = |b: &BufferId| b.index() < plan.buffers.len();
    let event = |e: &EventId| e.index() < plan.events.len();
    let tensor = |t: &TensorId| t.index() < graph.tensors.len();
    for (i, step) in plan.steps.iter().enumerate() {
        let sound = match step {
            Step::Upload { input, to, .. } => *input < graph.inputs.len() && buffer(to),
            Step::Launch { operators, reads, writes, .. } => {
                let operand = |operand: &Operand| match operand {
                    Operand::Buffer(b) => buffer(b),
                    Operand::Joined(parts) => !parts.is_empty() && parts.iter().all(buffer),
                    Operand::Slice { buffer: b, .. } => buffer(b),
                    Operand::Weight(w) => tensor(&w.tensor),
                };
                let known = !operators.is_empty() && operators.iter().all(|op| op.index() < graph.operators.len());
                known && reads.iter().all(operand) && writes.iter().all(buffer)
            }
            Step::Copy { tensor: t, from, to, .. } => tensor(t) && buffer(from) && buffer(to),
            Step::Download { output, from, .. } => *output < graph.outputs.len() && buffer(from),
            Step::Record { event: e, .. } | Step::Wait { event: e, .. } => event(e),
        };
        if !sound || step.stream().index() >= plan.streams.len() {
            return s.broken(1, format_args!("{} names something that does not exist: {step:?}", s.step(i)));
        }
    }
    Ok(())
}

/// Rule 2, without a schedule.
fn sections(s: &Subject) -> Result<()> {
    let sections = &s.plan.sections;
    let mut covered = 0;
    for (i, section) in sections.iter().enumerate() {
        if section.first != covered || section.end < covered || section.end > s.plan.steps.len() {
            return s.broken(2, format_args!("section {i} is {}..{}, after one that ends at {covered}", section.first, section.end));
        }
        covered = section.end;
        let sound = match section.kind {
            SectionKind::Begin => i == 0,
            SectionKind::End => i + 1 == sections.len(),
            SectionKind::Stage { gpu, .. } => gpu.index() < s.plan.gpus.len() && i > 0 && i + 1 < sections.len(),
        };
        if !sound {
            return s.broken(2, format_args!("section {i} of {} cannot be {:?}", sections.len(), section.kind));
        }
    }
    if covered != s.plan.steps.len() || sections.len() < 2 {
        return s.broken(2, format_args!("{} sections cover {covered} of {} steps", sections.len(), s.plan.steps.len()));
    }
    let mut next = vec![0; s.plan.gpus.len()];
    for section in sections {
        if let SectionKind::Stage { gpu, index } = section.kind {
            if index < next[gpu.index()] {
                return s.broken(2, format_args!("stage {index} of {gpu} comes after stage {}", next[gpu.index()] - 1));
            }
            next[gpu.index()] = index + 1;
        }
    }
    Ok(())
}

/// Rule 2, with the schedule that the plan must follow.
fn stages_of_schedule(s: &Subject, schedule: &Schedule) -> Result<()> {
    let mut stages = 0;
    for section in &s.plan.sections {
        let mut launched: Vec<_> = s.plan.steps[section.first..section.end]
            .iter()
            .flat_map(|step| match step {
                Step::Launch { operators, stream, .. } => operators.iter().map(|&op| (op, s.plan.streams[stream.index()].gpu)).collect(),
                _ => Vec::new(),
            })
            .collect();
        launched.sort_unstable();
        let mut scheduled = Vec::new();
        if let SectionKind::Stage { gpu, index } = section.kind {
            let target = s.plan.targets[gpu.index()];
            let Some(stage) = schedule.gpus.get(target.index()).and_then(|list| list.get(index)) else {
                return s.broken(2, format_args!("the schedule has no stage {index} on {target}"));
            };
            scheduled = stage.operators.iter().map(|&op| (op, gpu)).collect();
            scheduled.sort_unstable();
            stages += 1;
        }
        if launched != scheduled {
            return s.broken(2, format_args!("{:?} launches {launched:?} and not {scheduled:?}, as scheduled", section.kind));
        }
    }
    let scheduled: usize = schedule.gpus.iter().map(Vec::len).sum();
    if stages != scheduled {
        return s.broken(2, format_args!("only {stages} of {scheduled} scheduled stages are in the plan"));
    }
    Ok(())
}

/// Rule 3.
fn buffers(s: &Subject) -> Result<()> {
    let mut seen = vec![vec![false; s.graph.tensors.len()]; s.plan.gpus.len()];
    let mut behind = vec![false; s.plan.buffers.len()];
    for step in &s.plan.steps {
        let Step::Launch { reads, .. } = step else { continue };
        for operand in reads {
            if let Operand::Joined(parts) = operand {
                parts[1..].iter().for_each(|part| behind[part.index()] = true);
            }
        }
    }
    for (i, buffer) in s.plan.buffers.iter().enumerate() {
        let name = s.buffer(BufferId::new(i));
        let arena = s.plan.gpus[buffer.gpu.index()].arena_bytes;
        let alignment = if behind[i] { 16 } else { 256 };
        if !buffer.offset.is_multiple_of(alignment) || buffer.offset.checked_add(buffer.bytes).is_none_or(|end| end > arena) {
            return s.broken(3, format_args!("{name}: {} bytes at {} of an arena of {arena}", buffer.bytes, buffer.offset));
        }
        let id = match buffer.contents {
            Contents::Tensor(id) => id,
            Contents::Workspace(_) => continue,
            Contents::Counters(_) if buffer.bytes > 0 && buffer.bytes.is_multiple_of(4) => continue,
            Contents::Counters(_) => return s.broken(3, format_args!("{name} has {} bytes, not whole counters", buffer.bytes)),
        };
        let tensor = s.graph.tensor(id);
        if matches!(tensor.origin, Origin::Constant(_) | Origin::View(_) | Origin::Slice { .. } | Origin::Joined(_)) {
            return s.broken(3, format_args!("{name} holds a constant, a view, a slice or a joined tensor"));
        }
        if buffer.bytes != tensor.bytes() {
            return s.broken(3, format_args!("{name} has {} bytes, its tensor {}", buffer.bytes, tensor.bytes()));
        }
        if std::mem::replace(&mut seen[buffer.gpu.index()][id.index()], true) {
            return s.broken(3, format_args!("{name} is the second buffer of its tensor on that GPU"));
        }
    }
    Ok(())
}

/// Rule 4.
fn weights(s: &Subject) -> Result<()> {
    let mut read: Vec<BTreeSet<Weight>> = vec![BTreeSet::new(); s.plan.gpus.len()];
    for step in &s.plan.steps {
        if let Step::Launch { reads, stream, .. } = step {
            let gpu = s.plan.streams[stream.index()].gpu;
            for operand in reads {
                if let Operand::Weight(weight) = operand {
                    read[gpu.index()].insert(*weight);
                }
            }
        }
    }
    for (g, gpu) in s.plan.gpus.iter().enumerate() {
        let mut free = 0;
        let mut previous = None;
        for &(weight, offset) in &gpu.weights {
            let t = weight.tensor;
            let name = format!("{} on {}", s.tensor(t), GpuId::new(g));
            let Some(tensor) = s.graph.tensors.get(t.index()).filter(|tensor| matches!(tensor.origin, Origin::Constant(_))) else {
                return s.broken(4, format_args!("{name} is not a constant"));
            };
            if previous.replace(weight).is_some_and(|p| p >= weight) {
                return s.broken(4, format_args!("{name} is out of order"));
            }
            let bytes = weight.packing.map_or(tensor.bytes(), |packing| packing.elements().saturating_mul(tensor.dtype.bytes()));
            if bytes < tensor.bytes() {
                return s.broken(4, format_args!("{name}: packed into {bytes} bytes"));
            }
            let end = offset.checked_add(bytes);
            if !offset.is_multiple_of(256) || offset < free || end.is_none_or(|end| end > gpu.weights_bytes) {
                return s.broken(4, format_args!("{name}: {bytes} bytes at {offset} of a region of {}", gpu.weights_bytes));
            }
            free = end.unwrap_or(offset);
            if !read[g].remove(&weight) {
                return s.broken(4, format_args!("no launch reads {name}"));
            }
        }
        if let Some(missing) = read[g].first() {
            return s.broken(
                4,
                format_args!("a launch on {} reads {}, which is not among its weights", GpuId::new(g), s.tensor(missing.tensor)),
            );
        }
    }
    Ok(())
}

/// Rule 5.
fn launches(s: &Subject) -> Result<()> {
    let mut launched = vec![false; s.graph.operators.len()];
    for (i, step) in s.plan.steps.iter().enumerate() {
        let Step::Launch { operators, stream, reads, writes } = step else { continue };
        let stream = s.plan.streams[stream.index()];
        if !matches!(stream.kind, StreamKind::Compute(_)) {
            return s.broken(5, format_args!("{}: not a compute stream", s.step(i)));
        }
        for op in operators {
            if std::mem::replace(&mut launched[op.index()], true) {
                return s.broken(5, format_args!("{}: {op} is already launched", s.step(i)));
            }
        }
        let inputs: Vec<TensorId> = operators.iter().flat_map(|&op| s.graph.operator(op).inputs.iter().copied()).collect();
        let outputs: Vec<TensorId> = operators.iter().flat_map(|&op| s.graph.operator(op).outputs.iter().copied()).collect();
        let holds = |b: BufferId, t: TensorId| {
            let buffer = &s.plan.buffers[b.index()];
            buffer.gpu == stream.gpu && buffer.contents == Contents::Tensor(t)
        };
        let reads_right = |(operand, &t): (&Operand, &TensorId)| match operand {
            Operand::Buffer(b) => holds(*b, s.graph.root(t)) && elements_before(s, t) == Some(0) && covers_root(s, t),
            Operand::Slice { buffer, begin, bytes } => {
                let tensor = s.graph.tensor(t);
                let inside = begin.checked_add(*bytes).is_some_and(|end| end <= s.plan.buffers[buffer.index()].bytes);
                let right = elements_before(s, t).is_some_and(|before| before * tensor.dtype.bytes() == *begin);
                holds(*buffer, s.graph.root(t)) && inside && right && *bytes == tensor.bytes() && begin.is_multiple_of(16)
            }
            Operand::Joined(buffers) => {
                let Origin::Joined(parts) = &s.graph.tensor(s.graph.root(t)).origin else { return false };
                let buffer = |b: &BufferId| &s.plan.buffers[b.index()];
                let adjacent = buffers.windows(2).all(|pair| buffer(&pair[0]).offset + buffer(&pair[0]).bytes == buffer(&pair[1]).offset);
                buffers.len() == parts.len() && buffers.iter().zip(parts).all(|(&b, &part)| holds(b, part)) && adjacent
            }
            Operand::Weight(Weight { tensor, .. }) => {
                *tensor == s.graph.root(t) && matches!(s.graph.tensor(*tensor).origin, Origin::Constant(_))
            }
        };
        if reads.len() != inputs.len() || !reads.iter().zip(&inputs).all(reads_right) {
            return s.broken(5, format_args!("{} reads {reads:?} for {inputs:?}", s.step(i)));
        }
        let (results, rest) = writes.split_at(outputs.len().min(writes.len()));
        let right = results.len() == outputs.len() && results.iter().zip(&outputs).all(|(&b, &t)| holds(b, t));
        let own = |b: &BufferId, contents: Contents| {
            let buffer = &s.plan.buffers[b.index()];
            buffer.gpu == stream.gpu && buffer.contents == contents
        };
        let (workspace, counters) = (Contents::Workspace(operators[0]), Contents::Counters(operators[0]));
        let rest_right = match rest {
            [] => true,
            [one] => own(one, workspace) || own(one, counters),
            [one, two] => own(one, workspace) && own(two, counters),
            _ => false,
        };
        if !right || !rest_right {
            return s.broken(5, format_args!("{} writes {writes:?} for {outputs:?}", s.step(i)));
        }
    }
    match s.graph.op_ids().find(|op| !launched[op.index()]) {
        Some(op) => s.broken(5, format_args!("operator {op} {:?} is never launched", s.graph.operator(op).name)),
        None => Ok(()),
    }
}

/// How many elements of its root precede the first of `t`; `None` if its origins form a cycle.
fn elements_before(s: &Subject, t: TensorId) -> Option<u64> {
    let (mut at, mut before) = (t, 0u64);
    for _ in 0..=s.graph.tensors.len() {
        match &s.graph.tensor(at).origin {
            Origin::View(of) => at = *of,
            Origin::Slice { of, begin } => (at, before) = (*of, before.checked_add(*begin)?),
            _ => return Some(before),
        }
    }
    None
}

/// Whether `t` has as many elements as its root.
fn covers_root(s: &Subject, t: TensorId) -> bool {
    s.graph.tensor(t).elements() == s.graph.tensor(s.graph.root(t)).elements()
}

/// Rule 6.
fn uploads_and_downloads(s: &Subject) -> Result<()> {
    let mut downloaded = vec![false; s.graph.outputs.len()];
    for (i, step) in s.plan.steps.iter().enumerate() {
        let (buffer, tensor) = match *step {
            Step::Upload { input, to, .. } => (to, s.graph.inputs[input]),
            Step::Download { output, from, .. } => (from, s.graph.outputs[output]),
            _ => continue,
        };
        let held = &s.plan.buffers[buffer.index()];
        let stream = s.plan.streams[step.stream().index()];
        if held.contents != Contents::Tensor(s.graph.root(tensor))
            || held.gpu != stream.gpu
            || !matches!(stream.kind, StreamKind::Compute(_))
        {
            return s.broken(6, format_args!("{}: {} through {}", s.step(i), s.tensor(tensor), s.buffer(buffer)));
        }
        if let Step::Download { output, .. } = *step
            && std::mem::replace(&mut downloaded[output], true)
        {
            return s.broken(6, format_args!("{}: already downloaded", s.step(i)));
        }
    }
    let empty = |output: usize| s.graph.tensor(s.graph.outputs[output]).elements() == 0;
    if let Some(output) = (0..downloaded.len()).find(|&output| downloaded[output] && empty(output)) {
        return s.broken(6, format_args!("output {output} ({}) has no elements and is downloaded", s.tensor(s.graph.outputs[output])));
    }
    match (0..downloaded.len()).find(|&output| !downloaded[output] && !empty(output)) {
        Some(output) => s.broken(6, format_args!("output {output} ({}) is never downloaded", s.tensor(s.graph.outputs[output]))),
        None => Ok(()),
    }
}

/// Rule 7.
fn copies(s: &Subject) -> Result<()> {
    for (i, step) in s.plan.steps.iter().enumerate() {
        let Step::Copy { tensor, from, to, stream } = *step else { continue };
        let (source, target) = (&s.plan.buffers[from.index()], &s.plan.buffers[to.index()]);
        if [source.contents, target.contents] != [Contents::Tensor(tensor); 2] {
            return s.broken(7, format_args!("{}: from {} to {}", s.step(i), s.buffer(from), s.buffer(to)));
        }
        let stream = s.plan.streams[stream.index()];
        if stream.gpu != source.gpu || stream.kind != (StreamKind::Copy { to: target.gpu }) {
            return s.broken(7, format_args!("{}: not the copy stream from {} to {}", s.step(i), source.gpu, target.gpu));
        }
    }
    Ok(())
}

/// Rule 8. Returns the writer and the readers of each buffer.
fn writers_and_readers(s: &Subject) -> Result<(Vec<usize>, Vec<Vec<usize>>)> {
    let mut writer: Vec<Option<usize>> = vec![None; s.plan.buffers.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); s.plan.buffers.len()];
    for (i, step) in s.plan.steps.iter().enumerate() {
        let (read, written): (Vec<BufferId>, &[BufferId]) = match step {
            Step::Upload { to, .. } => (Vec::new(), std::slice::from_ref(to)),
            Step::Launch { reads, writes, .. } => {
                let buffers = reads.iter().flat_map(|operand| match operand {
                    Operand::Buffer(b) | Operand::Slice { buffer: b, .. } => std::slice::from_ref(b),
                    Operand::Joined(parts) => parts,
                    Operand::Weight(_) => &[],
                });
                (buffers.copied().collect(), writes)
            }
            Step::Copy { from, to, .. } => (vec![*from], std::slice::from_ref(to)),
            Step::Download { from, .. } => (vec![*from], &[]),
            Step::Record { .. } | Step::Wait { .. } => continue,
        };
        for b in read {
            if readers[b.index()].last() != Some(&i) {
                readers[b.index()].push(i);
            }
        }
        for &b in written {
            if let Some(first) = writer[b.index()].replace(i) {
                return s.broken(8, format_args!("{} and {} both write {}", s.step(first), s.step(i), s.buffer(b)));
            }
        }
    }
    match writer.iter().position(Option::is_none) {
        Some(b) => s.broken(8, format_args!("nothing writes {}", s.buffer(BufferId::new(b)))),
        None => Ok((writer.into_iter().flatten().collect(), readers)),
    }
}

/// Rule 9. Returns the record and the waits of each event.
fn events(s: &Subject) -> Result<(Vec<usize>, Vec<Vec<usize>>)> {
    let mut record: Vec<Option<usize>> = vec![None; s.plan.events.len()];
    let mut waits: Vec<Vec<usize>> = vec![Vec::new(); s.plan.events.len()];
    for (i, step) in s.plan.steps.iter().enumerate() {
        match *step {
            Step::Record { event, stream } => {
                if s.plan.streams[stream.index()].gpu != s.plan.events[event.index()] {
                    return s.broken(9, format_args!("{}: the event belongs to {}", s.step(i), s.plan.events[event.index()]));
                }
                if let Some(first) = record[event.index()].replace(i) {
                    return s.broken(9, format_args!("{} repeats {}", s.step(i), s.step(first)));
                }
            }
            Step::Wait { event, .. } => {
                if record[event.index()].is_none() {
                    return s.broken(9, format_args!("{} is issued before the event is recorded", s.step(i)));
                }
                waits[event.index()].push(i);
            }
            _ => {}
        }
    }
    match record.iter().position(Option::is_none) {
        Some(e) => s.broken(9, format_args!("{} is never recorded", EventId::new(e))),
        None => Ok((record.into_iter().flatten().collect(), waits)),
    }
}
