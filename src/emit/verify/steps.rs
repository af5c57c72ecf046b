//! Rules 1 to 4: the calls are the steps.

use super::read::{Action, Call, Emitted, Named};
use super::{BUFFERS, KERNELS, PLAN, Proved, bytes, wrong};
use crate::error::Result;
use crate::ids::StreamId;
use crate::plan::{Operand, Step};
use crate::runtime::{Area, Region};

pub fn check(proved: &Proved, emitted: &Emitted) -> Result<()> {
    for (at, step) in proved.plan.steps.iter().enumerate() {
        let Some(call) = emitted.calls.get(at) else {
            return wrong(format!("{}: {PLAN} has only {at} calls", proved.step(at)));
        };
        if let Some(difference) = difference(proved, emitted, step, call) {
            return wrong(format!("{}: {difference}", proved.step(at)));
        }
    }
    match emitted.calls.get(proved.plan.steps.len()) {
        None => Ok(()),
        Some(more) => {
            let (steps, found) = (proved.plan.steps.len(), describe(emitted, more));
            wrong(format!("step {steps}: the plan ends before it, but `{}` in {PLAN} has {found}", more.function))
        }
    }
}

/// What differs between a step and the call in its position.
fn difference(proved: &Proved, emitted: &Emitted, step: &Step, call: &Call) -> Option<String> {
    let compare = Comparison { proved, call };
    let (buffer, on) = (|id| proved.buffer(id), step.stream());
    match (step, &call.action) {
        (Step::Upload { input, to, .. }, Action::Upload { stream, input: found, to: region }) => compare
            .stream(on, *stream)
            .or_else(|| compare.number("input", *input, *found))
            .or_else(|| compare.region("the destination", buffer(*to), region)),
        (Step::Download { output, from, .. }, Action::Download { stream, output: found, from: region }) => compare
            .stream(on, *stream)
            .or_else(|| compare.number("output", *output, *found))
            .or_else(|| compare.region("the source", buffer(*from), region)),
        (Step::Copy { from, to, .. }, Action::Copy { stream, from: source, to: destination }) => compare
            .stream(on, *stream)
            .or_else(|| compare.region("the source", buffer(*from), source))
            .or_else(|| compare.region("the destination", buffer(*to), destination)),
        (Step::Record { event, .. }, Action::Record { event: found, stream }) => {
            compare.stream(on, *stream).or_else(|| compare.number("event", event.index(), *found))
        }
        (Step::Wait { event, .. }, Action::Wait { stream, event: found }) => {
            compare.stream(on, *stream).or_else(|| compare.number("event", event.index(), *found))
        }
        (Step::Launch { .. }, Action::Launch { stream, kernel, arguments }) => {
            compare.stream(on, *stream).or_else(|| compare.kernel(emitted, step, *kernel)).or_else(|| compare.arguments(step, arguments))
        }
        _ => Some(format!("`{}` in {PLAN} has {} instead", call.function, describe(emitted, call))),
    }
}

/// A step and its call, whose parts are compared one by one.
struct Comparison<'a> {
    proved: &'a Proved<'a>,
    call: &'a Call,
}

impl Comparison<'_> {
    fn stream(&self, planned: StreamId, found: usize) -> Option<String> {
        self.number("stream", planned.index(), found)
    }

    fn number(&self, what: &str, planned: usize, found: usize) -> Option<String> {
        let function = &self.call.function;
        (planned != found).then(|| format!("the plan has {what} {planned}, but `{function}` in {PLAN} has {what} {found}"))
    }

    fn region(&self, what: &str, planned: Region, found: &Named) -> Option<String> {
        let (function, name, region) = (&self.call.function, &found.name, found.region);
        (planned != region).then(|| {
            format!(
                "{what} is {} in the plan, but `{function}` in {PLAN} has `{name}`, which is {} in {BUFFERS}",
                bytes(planned),
                bytes(region)
            )
        })
    }

    fn kernel(&self, emitted: &Emitted, step: &Step, found: usize) -> Option<String> {
        let function = &self.call.function;
        let (Some(planned), Some(found)) = (self.proved.kernel(step), emitted.kernels.get(found)) else {
            return Some(format!("the cost table has no kernel for it, but `{function}` in {PLAN} launches one"));
        };
        if planned.name != found.name {
            return Some(format!("its kernel is {}, but `{function}` in {PLAN} launches {}", planned.name, found.name));
        }
        let geometry = [
            ("grid", planned.grid, found.grid),
            ("block", planned.block, found.block),
            ("number of bytes of shared memory", [planned.shared_bytes; 3], [found.shared_bytes; 3]),
        ];
        let (what, planned, found) = geometry.into_iter().find(|(_, planned, found)| planned != found)?;
        Some(format!("the {what} of its kernel is {planned:?}, but {found:?} in {KERNELS}"))
    }

    /// The arguments of a launch: what it reads, then what it writes.
    fn arguments(&self, step: &Step, found: &[Named]) -> Option<String> {
        let Step::Launch { operators, stream, reads, writes } = step else { return None };
        let (proved, function) = (self.proved, &self.call.function);
        let (planned, given) = (reads.len() + writes.len(), found.len());
        if planned != given {
            return Some(format!("its kernel has {planned} arguments, but `{function}` in {PLAN} has {given}"));
        }
        let (read, written) = found.split_at(reads.len());
        let inputs = operators.iter().flat_map(|&op| &proved.graph.operator(op).inputs);
        for (number, ((operand, &tensor), argument)) in reads.iter().zip(inputs).zip(read).enumerate() {
            let what = || format!("argument {number}, which reads `{}`,", proved.name(tensor));
            let Some(region) = self.operand(operand, *stream) else {
                return Some(format!("{} is nowhere on its GPU", what()));
            };
            if region != argument.region {
                return self.region(&what(), region, argument);
            }
        }
        for (number, (&buffer, argument)) in (reads.len()..).zip(writes.iter().zip(written)) {
            let region = proved.buffer(buffer);
            if region != argument.region {
                return self.region(&format!("argument {number}, which writes {},", proved.contents(buffer)), region, argument);
            }
        }
        None
    }

    /// The region of what a launch reads.
    fn operand(&self, operand: &Operand, stream: StreamId) -> Option<Region> {
        let proved = self.proved;
        match operand {
            Operand::Buffer(buffer) => Some(proved.buffer(*buffer)),
            Operand::Joined(parts) => {
                let (first, last) = (proved.buffer(*parts.first()?), proved.buffer(*parts.last()?));
                Some(Region { bytes: (last.offset + last.bytes).checked_sub(first.offset)?, ..first })
            }
            Operand::Slice { buffer, begin, bytes } => {
                let whole = proved.buffer(*buffer);
                Some(Region { offset: whole.offset + begin, bytes: *bytes, ..whole })
            }
            Operand::Weight(weight) => {
                let gpu = proved.gpu(stream);
                let weights = &proved.plan.gpus[gpu.index()].weights;
                let at = weights.binary_search_by(|(other, _)| other.cmp(weight)).ok()?;
                let &(_, offset) = weights.get(at)?;
                Some(Region { gpu: gpu.index(), area: Area::Weights, offset, bytes: weight.bytes(proved.graph) })
            }
        }
    }
}

/// A call in words.
fn describe(emitted: &Emitted, call: &Call) -> String {
    match &call.action {
        Action::Upload { stream, input, to } => format!("an upload of input {input} to `{}` on stream {stream}", to.name),
        Action::Download { stream, output, from } => format!("a download of output {output} from `{}` on stream {stream}", from.name),
        Action::Copy { stream, from, to } => format!("a copy of `{}` to `{}` on stream {stream}", from.name, to.name),
        Action::Record { event, stream } => format!("a record of event {event} on stream {stream}"),
        Action::Wait { stream, event } => format!("a wait of stream {stream} for event {event}"),
        Action::Launch { stream, kernel, .. } => {
            format!("a launch of {} on stream {stream}", emitted.kernels.get(*kernel).map_or("", |kernel| &kernel.name))
        }
        Action::Unknown(what) => what.clone(),
    }
}
