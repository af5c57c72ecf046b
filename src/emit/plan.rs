//! `src/plan.rs`: the plan as code for reading.
//!
//! Each section of the plan becomes a function: its documentation says what runs, when it is predicted to, and whose results it uses; each step is
//! a call, with the ONNX names and shapes of what it touches at the right. A function that would grow beyond [`LONGEST_FUNCTION`] lines is cut
//! into parts, and so is `enqueue`, which calls them all.

use std::collections::BTreeMap;

use serde::Serialize;

use super::names::{self, micros, quoted};
use crate::error::Result;
use crate::ids::{EventId, GpuId, OpId, StreamId, TensorId};
use crate::plan::{Operand, Plan, Section, SectionKind, Step, StreamKind};
use crate::run::program::Program;
use crate::run::runtime::StreamLayout;

/// Lines of a function's body.
const LONGEST_FUNCTION: usize = 50;
/// Column of the notes at the right, where the code is not longer.
const NOTES: usize = 76;
/// Arguments of a kernel that get a line each; more are packed together.
const ARGUMENTS_WITH_NOTES: usize = 16;
/// Width of documentation.
const WIDTH: usize = 140;

/// What `plan.rs.hbs` is given.
#[derive(Serialize)]
pub(super) struct PlanView {
    pub first_line: String,
    pub title: String,
    pub about: Vec<String>,
    pub modules: String,
    pub streams: Vec<String>,
    pub origin: String,
    pub layouts: Vec<String>,
    pub event_count: usize,
    pub events: Vec<String>,
    pub functions: Vec<Function>,
}

/// One function.
#[derive(Serialize)]
pub(super) struct Function {
    pub visibility: &'static str,
    pub name: String,
    pub doc: Vec<String>,
    pub lines: Vec<String>,
}

/// One line: code, and what stands at its right.
struct Line {
    code: String,
    note: String,
}

/// A call: lines that belong together.
type Call = Vec<Line>;

/// What is looked up while steps are written.
pub(super) struct Writer<'a> {
    program: &'a Program<'a>,
    constants: &'a BTreeMap<TensorId, String>,
    /// Where each operator runs.
    place: BTreeMap<OpId, StreamId>,
    /// What each event stands for, and who waits for it.
    events: Vec<(String, Vec<String>)>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(program: &'a Program<'a>, constants: &'a BTreeMap<TensorId, String>) -> Self {
        let launches = program.plan.steps.iter().filter_map(|step| match step {
            Step::Launch { operator, stream, .. } => Some((*operator, *stream)),
            _ => None,
        });
        let mut writer = Writer { program, constants, place: launches.collect(), events: Vec::new() };
        writer.events = writer.describe_events();
        writer
    }

    fn plan(&self) -> &'a Plan {
        self.program.plan
    }

    /// For each event: the last work before its record, and the streams that wait for it.
    fn describe_events(&self) -> Vec<(String, Vec<String>)> {
        let mut events = vec![("the start".to_owned(), Vec::new()); self.plan().events.len()];
        let mut last: BTreeMap<StreamId, String> = BTreeMap::new();
        for step in &self.plan().steps {
            match step {
                Step::Record { event, stream } => {
                    if let Some(work) = last.get(stream) {
                        events[event.index()].0.clone_from(work);
                    }
                }
                Step::Wait { event, stream } => events[event.index()].1.push(stream_name(self.plan(), *stream)),
                step => {
                    last.insert(step.stream(), self.work(step));
                }
            }
        }
        events
    }

    /// A step in words, for who waits for it.
    fn work(&self, step: &Step) -> String {
        let graph = self.program.graph;
        let gpu = self.plan().streams[step.stream().index()].gpu;
        match step {
            Step::Upload { input, .. } => format!("input {} on {gpu}", quoted(&graph.tensor(graph.inputs[*input]).name)),
            Step::Launch { operator, .. } => format!("{} on {gpu}", quoted(&graph.operator(*operator).name)),
            Step::Copy { tensor, .. } => format!("{} from {gpu}", quoted(&graph.tensor(*tensor).name)),
            Step::Download { output, .. } => format!("output {} from {gpu}", quoted(&graph.tensor(graph.outputs[*output]).name)),
            Step::Record { event, .. } | Step::Wait { event, .. } => format!("event {}", event.0),
        }
    }

    /// All functions: `enqueue` first, then its parts and the sections in their order.
    pub(super) fn functions(&self) -> Result<Vec<Function>> {
        let mut calls = Vec::new();
        let mut functions = Vec::new();
        for section in &self.plan().sections {
            let name = section_name(section);
            let steps = &self.plan().steps[section.first..section.end];
            let body = steps.iter().map(|step| self.call(step)).collect::<Result<Vec<Call>>>()?;
            calls.push(vec![Line { code: format!("{name}(x)?;"), note: self.operators(section) }]);
            functions.extend(cut("", &name, self.section_doc(section), body));
        }
        let mut all = cut("pub ", "enqueue", vec!["Enqueues one inference.".into()], calls);
        all.extend(functions);
        Ok(all)
    }

    /// The operators of a section, for the list in `enqueue`.
    fn operators(&self, section: &Section) -> String {
        let names: Vec<String> = self.launched(section).map(|op| quoted(&self.program.graph.operator(op).name)).collect();
        match names.len() {
            0 => String::new(),
            1..=3 => names.join(", "),
            n => format!("{}, {} and {} more", names[0], names[1], n - 2),
        }
    }

    fn launched(&self, section: &Section) -> impl Iterator<Item = OpId> + use<'a> {
        self.plan().steps[section.first..section.end].iter().filter_map(|step| match step {
            Step::Launch { operator, .. } => Some(*operator),
            _ => None,
        })
    }

    fn section_doc(&self, section: &Section) -> Vec<String> {
        let (gpu, index) = match section.kind {
            SectionKind::Begin => return vec!["Start: every stream waits for the origin; the inputs are uploaded.".into()],
            SectionKind::End => return vec!["End: the outputs are downloaded; the origin waits for every stream.".into()],
            SectionKind::Stage { gpu, index } => (gpu, index),
        };
        let names: Vec<String> = self.launched(section).map(|op| quoted(&self.program.graph.operator(op).name)).collect();
        let time = match section.predicted {
            Some((start, finish)) => format!(" · {}, from {}", micros(finish.saturating_sub(start)), micros(start)),
            None => String::new(),
        };
        let mut doc = wrap(&format!("{gpu} stage {index}: {}{time}", names.join(", ")));
        let sources = self.sources(section, gpu);
        if !sources.is_empty() {
            doc.push(String::new());
            doc.extend(wrap(&format!("after: {}", sources.join("; "))));
        }
        doc
    }

    /// Where the tensors come from that a stage reads, each source once, but not its own operators.
    fn sources(&self, section: &Section, gpu: GpuId) -> Vec<String> {
        let own: Vec<OpId> = self.launched(section).collect();
        let mut sources: Vec<String> = Vec::new();
        for &op in &own {
            for &tensor in &self.program.graph.operator(op).inputs {
                if let Some(source) = self.source(tensor, gpu, &own)
                    && !sources.contains(&source)
                {
                    sources.push(source);
                }
            }
        }
        sources
    }

    fn source(&self, tensor: TensorId, gpu: GpuId, own: &[OpId]) -> Option<String> {
        let graph = self.program.graph;
        if graph.constant(tensor).is_some() {
            return None;
        }
        let Some(producer) = graph.producer(tensor) else {
            return Some(format!("input {}", quoted(&graph.tensor(graph.root(tensor)).name)));
        };
        if own.contains(&producer) {
            return None;
        }
        let name = quoted(&graph.operator(producer).name);
        let stream = self.plan().streams[self.place.get(&producer)?.index()];
        match stream.kind {
            StreamKind::Compute(lane) if stream.gpu == gpu => Some(format!("{name} ({gpu}, stream {lane})")),
            _ => Some(format!("{name} from {}", stream.gpu)),
        }
    }

    fn call(&self, step: &Step) -> Result<Call> {
        let graph = self.program.graph;
        let on = stream_name(self.plan(), step.stream());
        let line = |code: String, note: String| Ok(vec![Line { code, note }]);
        match step {
            Step::Upload { input, to, .. } => {
                line(format!("x.upload({on}, {input}, {})?;", self.buffer(*to)), format!("input {}", self.tensor(graph.inputs[*input])))
            }
            Step::Download { output, from, .. } => line(
                format!("x.download({on}, {output}, {})?;", self.buffer(*from)),
                format!("output {}", self.tensor(graph.outputs[*output])),
            ),
            Step::Copy { tensor, from, to, .. } => {
                let b = &self.plan().buffers[to.index()];
                let note = format!("{}, {} to {}", self.tensor(*tensor), names::bytes(b.bytes), b.gpu);
                line(format!("x.copy({on}, {}, {})?;", self.buffer(*from), self.buffer(*to)), note)
            }
            Step::Record { event, .. } => line(format!("x.record({}, {on})?;", event_code(*event)), self.waiters(*event)),
            Step::Wait { event, .. } => line(format!("x.wait({on}, {})?;", event_code(*event)), self.events[event.index()].0.clone()),
            Step::Launch { operator, stream, reads, writes } => self.launch(*operator, *stream, reads, writes),
        }
    }

    fn waiters(&self, event: EventId) -> String {
        match &self.events[event.index()].1[..] {
            [] => String::new(),
            streams => format!("for {}", streams.join(", ")),
        }
    }

    fn launch(&self, op: OpId, stream: StreamId, reads: &[Operand], writes: &[crate::ids::BufferId]) -> Result<Call> {
        let operator = self.program.graph.operator(op);
        let gpu = self.plan().streams[stream.index()].gpu;
        let kernel = kernel_constant(&self.program.kernel(op, gpu).name);
        let head = format!("x.launch({}, &kernels::{kernel}, &[", stream_name(self.plan(), stream));
        let mut call = vec![Line { code: head, note: quoted(&operator.name) }];
        let mut arguments = Vec::new();
        for (operand, &tensor) in reads.iter().zip(&operator.inputs) {
            let code = match operand {
                Operand::Buffer(buffer) => self.buffer(*buffer),
                Operand::Weight(tensor) => format!("weights{}::{}", gpu.0, self.constants[tensor]),
            };
            arguments.push(Line { code, note: self.tensor(tensor) });
        }
        for (buffer, &tensor) in writes.iter().zip(&operator.outputs) {
            arguments.push(Line { code: self.buffer(*buffer), note: format!("{}, written", self.tensor(tensor)) });
        }
        if arguments.len() <= ARGUMENTS_WITH_NOTES {
            call.extend(arguments.into_iter().map(|a| Line { code: format!("    {},", a.code), note: a.note }));
        } else {
            let packed = pack(arguments.iter().map(|a| format!("{},", a.code)), WIDTH - 8);
            call.extend(packed.into_iter().map(|code| Line { code: format!("    {code}"), note: String::new() }));
        }
        call.push(Line { code: "])?;".into(), note: String::new() });
        Ok(call)
    }

    /// `gpu0::FIRE2_CONCAT`.
    fn buffer(&self, buffer: crate::ids::BufferId) -> String {
        let b = &self.plan().buffers[buffer.index()];
        format!("gpu{}::{}", b.gpu.0, self.constants[&b.tensor])
    }

    /// ``1x64x55x55 `/fire2/concat_output_0` ``.
    fn tensor(&self, tensor: TensorId) -> String {
        let t = self.program.graph.tensor(tensor);
        format!("{} {}", t.shape_text(), quoted(&t.name))
    }

    /// Constants for the streams, with their documentation.
    pub(super) fn streams(&self) -> Vec<String> {
        let constant = |(s, stream): (usize, &crate::plan::Stream)| {
            let what = match stream.kind {
                StreamKind::Compute(lane) => format!("Compute stream {lane} of {}.", stream.gpu),
                StreamKind::Copy { to } => format!("Carries tensors from {} to {to}.", stream.gpu),
            };
            [format!("/// {what}"), format!("pub const {}: Stream = Stream({s});", stream_name(self.plan(), StreamId::new(s)))]
        };
        self.plan().streams.iter().enumerate().flat_map(constant).collect()
    }
}

/// `GPU0_COMPUTE1`, `COPY_GPU0_TO_GPU1`.
pub(super) fn stream_name(plan: &Plan, stream: StreamId) -> String {
    let s = &plan.streams[stream.index()];
    match s.kind {
        StreamKind::Compute(lane) => format!("GPU{}_COMPUTE{lane}", s.gpu.0),
        StreamKind::Copy { to } => format!("COPY_GPU{}_TO_GPU{}", s.gpu.0, to.0),
    }
}

/// The constant of a kernel.
pub(super) fn kernel_constant(name: &str) -> String {
    name.to_ascii_uppercase()
}

/// A stream's layout as code.
pub(super) fn layout_code(layout: &StreamLayout) -> String {
    match layout {
        StreamLayout::Compute { gpu } => format!("StreamLayout::Compute {{ gpu: {gpu} }}"),
        StreamLayout::Copy { gpu, to, largest } => format!("StreamLayout::Copy {{ gpu: {gpu}, to: {to}, largest: {largest} }}"),
    }
}

fn event_code(event: EventId) -> String {
    format!("Event({})", event.0)
}

fn section_name(section: &Section) -> String {
    match section.kind {
        SectionKind::Begin => "begin".into(),
        SectionKind::Stage { gpu, index } => format!("gpu{}_stage{index}", gpu.0),
        SectionKind::End => "end".into(),
    }
}

/// A function, or, where its body is too long, one that calls its parts.
fn cut(visibility: &'static str, name: &str, doc: Vec<String>, body: Vec<Call>) -> Vec<Function> {
    let total: usize = body.iter().map(Vec::len).sum();
    if total <= LONGEST_FUNCTION {
        return vec![Function { visibility, name: name.into(), doc, lines: align(body.into_iter().flatten()) }];
    }
    let mut parts: Vec<Vec<Call>> = vec![Vec::new()];
    let mut filled = 0;
    for call in body {
        if filled > 0 && filled + call.len() > LONGEST_FUNCTION {
            parts.push(Vec::new());
            filled = 0;
        }
        filled += call.len();
        if let Some(part) = parts.last_mut() {
            part.push(call);
        }
    }
    let part_name = |i: usize| format!("{name}_part{}", i + 1);
    let calls = (0..parts.len()).map(|i| vec![Line { code: format!("{}(x)?;", part_name(i)), note: String::new() }]).collect();
    let mut functions = cut(visibility, name, doc, calls);
    let count = parts.len();
    for (i, part) in parts.into_iter().enumerate() {
        let doc = vec![format!("Part {} of {count} of `{name}`.", i + 1)];
        functions.push(Function { visibility: "", name: part_name(i), doc, lines: align(part.into_iter().flatten()) });
    }
    functions
}

/// Code with its notes in one column.
fn align(lines: impl Iterator<Item = Line>) -> Vec<String> {
    let place = |line: Line| {
        if line.note.is_empty() {
            return line.code;
        }
        let gap = NOTES.saturating_sub(line.code.chars().count()).max(1);
        format!("{}{}// {}", line.code, " ".repeat(gap), line.note)
    };
    lines.map(place).collect()
}

/// Breaks at spaces.
fn wrap(text: &str) -> Vec<String> {
    pack(text.split(' ').map(str::to_owned), WIDTH - 4)
}

/// As many items a line as fit.
pub(super) fn pack(items: impl Iterator<Item = String>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + item.chars().count() <= width => {
                line.push(' ');
                line.push_str(&item);
            }
            _ => lines.push(item),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_functions_are_cut() {
        let body = |calls: usize| {
            (0..calls).map(|i| vec![Line { code: format!("a({i})?;"), note: "n".into() }, Line { code: "b".into(), note: String::new() }])
        };
        assert_eq!(cut("", "f", vec![], body(25).collect()).len(), 1);
        let functions = cut("pub ", "f", vec![], body(100).collect());
        let names: Vec<&str> = functions.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["f", "f_part1", "f_part2", "f_part3", "f_part4"]);
        assert!(functions.iter().all(|f| f.lines.len() <= LONGEST_FUNCTION));
        assert_eq!(functions[1].lines.len() + functions[2].lines.len() + functions[3].lines.len() + functions[4].lines.len(), 200);
    }
}
