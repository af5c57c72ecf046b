//! Rules 5 to 9: the tables that the calls and the loading of a model rely on.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::tensor::Metadata;

use super::read::{Emitted, Gpu, Image, Kernel, Port, Stream};
use super::{BUFFERS, KERNELS, PLAN, Proved, bytes, wrong};
use crate::embedded;
use crate::emit::{Crate, Weights};
use crate::error::Result;
use crate::ids::{BufferId, EventId, GpuId, StreamId, TensorId};
use crate::kernel;
use crate::plan::{Buffer, Operand, Step, StreamKind, Weight};
use crate::runtime::{Area, Region};

pub fn check(proved: &Proved, emitted: &Emitted, output: &Crate) -> Result<()> {
    ports(proved, "input", &proved.graph.inputs, &emitted.inputs)?;
    ports(proved, "output", &proved.graph.outputs, &emitted.outputs)?;
    streams(proved, emitted)?;
    gpus(proved, emitted)?;
    weights(proved, emitted, output)?;
    kernels(proved, emitted, output)
}

fn ports(proved: &Proved, kind: &str, tensors: &[TensorId], found: &[Port]) -> Result<()> {
    count(&format!("{kind}s"), tensors.len(), found.len())?;
    for (number, (&id, found)) in tensors.iter().zip(found).enumerate() {
        let tensor = proved.graph.tensor(id);
        let planned = Port { name: tensor.name.clone(), dtype: format!("DType::{:?}", tensor.dtype), shape: tensor.shape.clone() };
        let step = || {
            proved.first(|step| match step {
                Step::Upload { input, .. } => kind == "input" && *input == number,
                Step::Download { output, .. } => kind == "output" && *output == number,
                _ => false,
            })
        };
        equal(&planned, found, || format!("{}{kind} {number} of the model", step()))?;
    }
    Ok(())
}

fn streams(proved: &Proved, emitted: &Emitted) -> Result<()> {
    let plan = proved.plan;
    count("streams", plan.streams.len(), emitted.streams.len())?;
    let mut largest = vec![0; plan.streams.len()];
    for step in &plan.steps {
        if let Step::Copy { tensor, stream, .. } = step {
            largest[stream.index()] = proved.graph.tensor(*tensor).bytes().max(largest[stream.index()]);
        }
    }
    for (number, ((stream, largest), found)) in plan.streams.iter().zip(largest).zip(&emitted.streams).enumerate() {
        let gpu = stream.gpu.index();
        let planned = match stream.kind {
            StreamKind::Compute(_) => Stream::Compute { gpu },
            StreamKind::Copy { to } => Stream::Copy { gpu, to: to.index(), largest },
        };
        let step = || proved.first(|step| step.stream() == StreamId::new(number));
        equal(&planned, found, || format!("{}stream {number}", step()))?;
    }
    let on_origin = || proved.first(|step| step.stream() == plan.origin_stream);
    equal(&plan.origin_stream.index(), &emitted.origin_stream, || format!("{}the origin stream", on_origin()))?;
    count("events", plan.events.len(), emitted.events.len())?;
    for (number, (gpu, found)) in plan.events.iter().zip(&emitted.events).enumerate() {
        let record = || proved.first(|step| matches!(step, Step::Record { event, .. } if *event == EventId::new(number)));
        equal(&gpu.index(), found, || format!("{}the GPU of event {number}", record()))?;
    }
    Ok(())
}

/// Rule 6 for GPUs, and rule 8.
fn gpus(proved: &Proved, emitted: &Emitted) -> Result<()> {
    count("GPUs", proved.plan.gpus.len(), emitted.gpus.len())?;
    for (number, (gpu, found)) in proved.plan.gpus.iter().zip(&emitted.gpus).enumerate() {
        let id = GpuId::new(number);
        let buffers = || (0..proved.plan.buffers.len()).map(BufferId::new).zip(&proved.plan.buffers).filter(|(_, b)| b.gpu == id);
        let last = || buffers().max_by_key(|(_, buffer)| buffer.offset + buffer.bytes);
        let highest = || last().map_or(String::new(), |(buffer, _)| writer(proved, buffer));
        equal(&gpu.arena_bytes, &found.arena_bytes, || format!("{}the size of the arena of GPU {number}", highest()))?;
        let reader = || gpu.weights.last().map_or(String::new(), |&(weight, _)| reader(proved, id, weight));
        equal(&gpu.weights_bytes, &found.weights_bytes, || format!("{}the size of the weights of GPU {number}", reader()))?;
        counters(proved, number, found, buffers().filter(|(_, buffer)| buffer.has_counters()))?;
    }
    Ok(())
}

fn counters<'a>(proved: &Proved, gpu: usize, found: &Gpu, planned: impl Iterator<Item = (BufferId, &'a Buffer)>) -> Result<()> {
    let mut zeroed = found.counters.iter();
    for (buffer, _) in planned {
        let region = proved.buffer(buffer);
        let given = zeroed.next().map(|named| named.region);
        if given != Some(region) {
            let given = given.map_or("nothing".into(), bytes);
            let (step, contents) = (writer(proved, buffer), proved.contents(buffer));
            return wrong(format!("{step}the {contents} are {}, but {given} is zeroed at load in {BUFFERS}", bytes(region)));
        }
    }
    match zeroed.next() {
        None => Ok(()),
        Some(more) => wrong(format!("`{}` is zeroed at load on GPU {gpu} in {BUFFERS}, but holds no counters", more.name)),
    }
}

/// The step that writes a buffer, for a message.
fn writer(proved: &Proved, buffer: BufferId) -> String {
    proved.first(|step| match step {
        Step::Upload { to, .. } | Step::Copy { to, .. } => *to == buffer,
        Step::Launch { writes, .. } => writes.contains(&buffer),
        _ => false,
    })
}

/// The first step of a GPU that reads a weight, for a message.
fn reader(proved: &Proved, gpu: GpuId, weight: Weight) -> String {
    proved.first(|step| match step {
        Step::Launch { reads, stream, .. } => proved.gpu(*stream) == gpu && reads.contains(&Operand::Weight(weight)),
        _ => false,
    })
}

/// Rule 7.
fn weights(proved: &Proved, emitted: &Emitted, output: &Crate) -> Result<()> {
    let file = WeightsFile::new(output)?;
    for (number, (gpu, found)) in proved.plan.gpus.iter().zip(&emitted.gpus).enumerate() {
        let id = GpuId::new(number);
        let mut uploads = found.uploads.iter();
        for &(weight, offset) in &gpu.weights {
            let (key, size) = (proved.key(weight), weight.bytes(proved.graph));
            let of = || format!("{}the weight `{key}` of GPU {number}", reader(proved, id, weight));
            let region = Region { gpu: number, area: Area::Weights, offset, bytes: size };
            let Some((index, to)) = uploads.next() else { return wrong(format!("{} is not uploaded in {BUFFERS}", of())) };
            if to.region != region {
                let found = bytes(to.region);
                return wrong(format!("{} is {}, but {found} (`{}`) are uploaded in {BUFFERS}", of(), bytes(region), to.name));
            }
            match emitted.weights.get(*index) {
                Some(name) if *name == key => {}
                Some(other) => return wrong(format!("{} is uploaded from `{other}` in {BUFFERS}", of())),
                None => return wrong(format!("{} is uploaded from number {index} in {BUFFERS}, which does not exist", of())),
            }
            if let Some(difference) = file.difference(proved, weight, &key) {
                return wrong(format!("{} {difference} in weights.safetensors", of()));
            }
        }
        if let Some((_, more)) = uploads.next() {
            return wrong(format!("`{}` is uploaded to GPU {number} in {BUFFERS}, but no step reads it", more.name));
        }
    }
    match emitted.embedded.as_deref() {
        None | Some("../weights.safetensors") => Ok(()),
        Some(other) => wrong(format!("{PLAN} embeds {other} as the weights file")),
    }
}

/// The weights file, whose data are not in memory: its header, and the constants in their order.
struct WeightsFile<'a> {
    header: Metadata,
    weights: &'a Weights,
    /// The constant that begins at each byte of the data.
    begins: BTreeMap<u64, usize>,
}

impl<'a> WeightsFile<'a> {
    fn new(output: &'a Crate) -> Result<WeightsFile<'a>> {
        let Some(weights) = &output.weights else { return wrong("there is no weights file".into()) };
        let header = weights.header().split_first_chunk::<8>();
        let header = header.filter(|(length, text)| u64::from_le_bytes(**length) == text.len() as u64);
        let header = header.and_then(|(_, text)| serde_json::from_slice::<Metadata>(text).ok());
        let Some(header) = header else { return wrong("weights.safetensors does not begin with its header".into()) };
        let mut begins = BTreeMap::new();
        let mut end = 0;
        for (number, (constant, packing)) in weights.constants().iter().enumerate() {
            begins.insert(end, number);
            let values = constant.bytes().len() as u64;
            end += packing.map_or(values, |packing| packing.elements() * constant.dtype().bytes());
        }
        Ok(WeightsFile { header, weights, begins })
    }

    /// What the file has instead of `weight` under the name `key`.
    fn difference(&self, proved: &Proved, weight: Weight, key: &str) -> Option<String> {
        let Some(info) = self.header.info(key) else { return Some("is not".into()) };
        let tensor = proved.graph.tensor(weight.tensor);
        let (dtype, shape) = (tensor.dtype.stored(), weight.shape(proved.graph));
        if info.dtype != dtype || info.shape != shape {
            return Some(format!("is of type {dtype:?} and shape {shape:?}, but of {:?} and {:?}", info.dtype, info.shape));
        }
        let begin = info.data_offsets.0 as u64;
        let data = self.begins.get(&begin).and_then(|&at| self.weights.constants().get(at));
        let same = data.zip(proved.graph.constant(weight.tensor)).is_some_and(|((found, packing), constant)| {
            // the file shares the graph's memory
            *packing == weight.packing && (std::ptr::eq(found.bytes(), constant.bytes()) || found == constant)
        });
        (!same).then(|| format!("has the bytes of another constant at {begin}"))
    }
}

/// Rule 9.
fn kernels(proved: &Proved, emitted: &Emitted, output: &Crate) -> Result<()> {
    // by name: the kernel, and the GPUs that launch it
    let mut launched: BTreeMap<&str, (&kernel::Kernel, BTreeSet<usize>)> = BTreeMap::new();
    for step in &proved.plan.steps {
        if let Some(kernel) = proved.kernel(step) {
            launched.entry(&kernel.name).or_insert((kernel, BTreeSet::new())).1.insert(proved.gpu(step.stream()).index());
        }
    }
    count("kernels", launched.len(), emitted.kernels.len())?;
    count("sources", launched.len(), emitted.sources.len())?;
    let mut seen = BTreeSet::new();
    for (number, found) in emitted.kernels.iter().enumerate() {
        let of = || format!("{}kernel {}", proved.first(|step| proved.kernel(step).is_some_and(|k| k.name == found.name)), found.name);
        let Some((kernel, gpus)) = launched.get(&found.name[..]) else { return wrong(format!("no step launches {}", of())) };
        equal(&number, &found.index, || format!("{}: its index", of()))?;
        equal(&gpus.iter().copied().collect(), &found.gpus, || format!("{}: its GPUs", of()))?;
        images(proved, found, output, of)?;
        let path = format!("../kernels/{}.cu", kernel.name);
        if !emitted.sources.iter().any(|(name, at)| *name == kernel.name && *at == path) {
            return wrong(format!("{}: its source is not {path} in {KERNELS}", of()));
        }
        // after one line that says what made the file
        let text = file(output, &path).and_then(|bytes| bytes.strip_suffix(kernel.source.as_bytes()));
        if !text.is_some_and(|mark| mark.starts_with(b"// ") && mark.iter().position(|&c| c == b'\n') == mark.len().checked_sub(1)) {
            return wrong(format!("{}: {path} is not its source", of()));
        }
        headers(&kernel.source, &mut seen, emitted, output, of)?;
    }
    equal(&driver(proved), &emitted.driver, || "the version of CUDA that the driver must support".into())
}

/// The images of a kernel, and their files.
fn images(proved: &Proved, found: &Kernel, output: &Crate, of: impl Fn() -> String) -> Result<()> {
    let shipped = proved.shipped.images.get(&found.name).map_or(&[][..], Vec::as_slice);
    let mut planned = Vec::new();
    for image in shipped {
        let (kind, end) = if image.arch.starts_with("sm_") { ("ImageKind::Cubin", "cubin") } else { ("ImageKind::Ptx", "ptx") };
        let number: u32 = image.arch.rsplit('_').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let path = format!("../kernels/{}.{}.{end}", found.name, image.arch);
        if file(output, &path) != Some(&image.data[..]) {
            return wrong(format!("{}: {path} is not its image for {}", of(), image.arch));
        }
        planned.push(Image { kind: kind.into(), arch: (number / 10, number % 10), path });
    }
    equal(&planned, &found.images, || format!("{}: its images", of()))
}

/// Whether all headers that a source includes, directly or not, are there. `seen` are those that
/// were looked at before.
fn headers<'a>(source: &'a str, seen: &mut BTreeSet<&'a str>, emitted: &Emitted, output: &Crate, of: impl Fn() -> String) -> Result<()> {
    let mut waiting: Vec<&str> = vec![source];
    while let Some(text) = waiting.pop() {
        for name in text.lines().filter_map(|line| line.trim().strip_prefix("#include \"")?.strip_suffix('"')) {
            // a name with another ending is that of a header for CPUs, which the virtual GPUs have
            if !name.ends_with(".cuh") || !seen.insert(name) {
                continue;
            }
            let path = format!("../kernels/{name}");
            let listed = emitted.headers.iter().any(|(header, at)| header == name && *at == path);
            match embedded::file(&format!("kernels/{name}")) {
                Some(text) if listed && file(output, &path) == Some(text.as_bytes()) => waiting.push(text),
                _ => return wrong(format!("{}: the header {name}, which it includes, is not {path} in {KERNELS}", of())),
            }
        }
    }
    Ok(())
}

/// A file of the crate, by its path from `src/`.
fn file<'a>(output: &'a Crate, path: &str) -> Option<&'a [u8]> {
    output.files.get(path.strip_prefix("../")?).map(Vec::as_slice)
}

/// The oldest driver that loads what NVRTC of this version makes, or compiles with version 12.
fn driver(proved: &Proved) -> u32 {
    let major = proved.shipped.nvrtc.map_or(12, |(major, _)| major);
    1000 * u32::try_from(major).unwrap_or(0).max(12)
}

fn count(what: &str, planned: usize, found: usize) -> Result<()> {
    if planned == found { Ok(()) } else { wrong(format!("the plan has {planned} {what}, the generated code {found}")) }
}

/// Fails if a value differs from what is planned.
fn equal<T: PartialEq + std::fmt::Debug>(planned: &T, found: &T, what: impl Fn() -> String) -> Result<()> {
    if planned == found { Ok(()) } else { wrong(format!("{} is {planned:?} in the plan, but {found:?} in the generated code", what())) }
}
