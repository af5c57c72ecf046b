//! Measuring what the operators of a model cost on the GPUs of this machine, and what transfers between them cost.
//!
//! **In**: graphs, GPUs. **Out**: a [`Profile`](crate::cost::Profile). On virtual GPUs all paths are real and all times meaningless.
//!
//! 1. GPUs of one kind (name, multiprocessors, memory, clocks, driver) are measured once.
//! 2. Every *distinct* kernel is measured once: all candidates of all operators, by name. Candidates of one operator take turns, round by round, so that a clock that falls
//!    meets them alike.
//! 3. A round enqueues several launches behind a [gate](crate::run::runtime::Gate) and takes the time between two events around them: launching from the host does
//!    not count, the gap between kernels does. The first round warms up; of the others the median counts, and the distance of the quartiles is recorded.
//! 4. Each launch uses another copy of its inputs, weights and output, in turn, over twice the memory that the L2 cache holds: in a model the cache has seen
//!    other operators before this one.
//! 5. Transfers are measured by the runtime (`run/runtime/links.rs`), over sizes, and checked with data.
//!
//! The share of the GPU that a kernel keeps busy is estimated: no event measures it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cudarc::driver::sys::{CUdevice_attribute as Attribute, CUevent_flags};
use cudarc::driver::{CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DriverError, LaunchConfig, PushKernelArg, result};
use cudarc::nvrtc::Ptx;

use crate::cost::{self, Conditions, Link, Measured, Profile, TargetGpu, Work, kernels_hash};
use crate::error::{Error, Result};
use crate::graph::{DType, Graph};
use crate::ids::OpId;
use crate::kernel::{self, Kernel, nvrtc::Nvrtc};
use crate::run::runtime::{self, BEHIND_A_GATE, Gate, is_virtual, links};

/// How to measure.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The machine's GPUs; by default all of them.
    pub gpus: Option<Vec<usize>>,
    /// Fewer rounds and shorter ones.
    pub quick: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Groups of kernels measured.
    pub done: usize,
    /// Of how many.
    pub of: usize,
    /// Time left, by the pace so far.
    pub left: Duration,
}

/// The GPUs of this machine; none without a driver.
pub fn present() -> Result<Vec<(TargetGpu, Conditions)>> {
    // SAFETY: only asks whether the library can be opened; cudarc panics without it.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Ok(Vec::new());
    }
    let count = match CudaContext::device_count() {
        Ok(count) => count.max(0) as usize,
        // A driver without a GPU says so, or that it cannot be initialised.
        Err(_) => 0,
    };
    (0..count).map(describe).collect()
}

fn describe(ordinal: usize) -> Result<(TargetGpu, Conditions)> {
    let context = CudaContext::new(ordinal).map_err(device)?;
    let attribute = |which| context.attribute(which).map_err(device);
    let (major, minor) = context.compute_capability().map_err(device)?;
    let mut driver = 0;
    // SAFETY: writes one integer.
    unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut driver) }.result().map_err(device)?;
    let name = context.name().map_err(device)?;
    let gpu = TargetGpu {
        device: name.replace([',', '\n'], " "),
        compute_capability: (major as u32, minor as u32),
        memory: context.total_mem().map_err(device)? as u64,
    };
    let conditions = Conditions {
        sms: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
        clock: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)? as u32 / 1000,
        memory_clock: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)? as u32 / 1000,
        driver,
        kernels: kernels_hash(),
    };
    Ok((gpu, conditions))
}

fn device(error: DriverError) -> Error {
    Error::Device(format!("measuring: {error}"))
}

/// Measures all operators of `graphs`.
///
/// # Errors
///
/// [`Error::Device`] where there is no such GPU or it fails; [`Error::Tool`] without NVRTC.
pub fn profile(graphs: &[&Graph], options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Profile> {
    let all = present()?;
    if all.is_empty() {
        return Err(Error::Device("there is no GPU to measure: run this where one is, or name a device model with --device".into()));
    }
    let ordinals = options.gpus.clone().unwrap_or_else(|| (0..all.len()).collect());
    if let Some(gpu) = ordinals.iter().find(|&&gpu| gpu >= all.len()) {
        return Err(Error::Usage(format!("GPU {gpu}: the machine has {}, counted from 0", all.len())));
    }
    let groups = groups(graphs)?;
    let mut kinds: Vec<usize> = Vec::new();
    for &ordinal in &ordinals {
        if !kinds.iter().any(|&kind| all[kind] == all[ordinal]) {
            kinds.push(ordinal);
        }
    }
    let mut clock = Clock { since: Instant::now(), done: 0, of: groups.len() * kinds.len(), progress };
    let measured: Vec<BTreeMap<String, Measured>> =
        kinds.iter().map(|&kind| measure(kind, &all[kind], &groups, options.quick, &mut clock)).collect::<Result<_>>()?;
    let mut kernels: BTreeMap<String, Vec<Option<Measured>>> = BTreeMap::new();
    for name in measured.iter().flat_map(|of_kind| of_kind.keys()) {
        let of_gpu = |&ordinal: &usize| {
            let kind = kinds.iter().position(|&kind| all[kind] == all[ordinal])?;
            measured[kind].get(name).copied()
        };
        kernels.insert(name.clone(), ordinals.iter().map(of_gpu).collect());
    }
    let mut links = vec![vec![None; ordinals.len()]; ordinals.len()];
    let rounds = if options.quick { 3 } else { 11 };
    for report in links::measure(&ordinals, rounds).map_err(crate::run::device)? {
        let place = |gpu: usize| ordinals.iter().position(|&o| o == gpu).unwrap_or(0);
        links[place(report.from)][place(report.to)] = Some(Link { latency: report.latency, bandwidth: report.bandwidth.max(1.0).round() });
    }
    let (gpus, conditions) = ordinals.iter().map(|&ordinal| all[ordinal].clone()).unzip();
    Ok(Profile { version: env!("CARGO_PKG_VERSION").into(), gpus, conditions, links, kernels })
}

/// All kernels that could compute an operator of `graphs`, each once.
pub fn kernels(graphs: &[&Graph]) -> Result<Vec<Kernel>> {
    Ok(groups(graphs)?.into_iter().flat_map(|group| group.candidates).collect())
}

/// The candidates of operators of one signature, and what they are given.
struct Group {
    candidates: Vec<Kernel>,
    /// Bytes of each input, in order, and of the output; and whether it holds f32.
    arguments: Vec<(u64, bool)>,
    work: Work,
}

fn groups(graphs: &[&Graph]) -> Result<Vec<Group>> {
    let mut groups: BTreeMap<Vec<String>, Group> = BTreeMap::new();
    for graph in graphs {
        for op in graph.op_ids() {
            let candidates = kernel::candidates(graph, op)?;
            let names = candidates.iter().map(|k| k.name.clone()).collect();
            groups.entry(names).or_insert_with(|| Group { candidates, arguments: arguments(graph, op), work: cost::work(graph, op) });
        }
    }
    Ok(groups.into_values().collect())
}

fn arguments(graph: &Graph, op: OpId) -> Vec<(u64, bool)> {
    let operator = graph.operator(op);
    let tensors = operator.inputs.iter().chain(&operator.outputs).map(|&t| graph.tensor(t));
    tensors.map(|t| (t.bytes(), t.dtype == DType::F32)).collect()
}

struct Clock<'a> {
    since: Instant,
    done: usize,
    of: usize,
    progress: &'a mut dyn FnMut(Progress),
}

impl Clock<'_> {
    fn tick(&mut self) {
        self.done += 1;
        let left = self.since.elapsed().mul_f64((self.of - self.done) as f64 / self.done as f64);
        (self.progress)(Progress { done: self.done, of: self.of, left });
    }
}

/// Measures all groups on one GPU.
fn measure(
    ordinal: usize,
    gpu: &(TargetGpu, Conditions),
    groups: &[Group],
    quick: bool,
    clock: &mut Clock<'_>,
) -> Result<BTreeMap<String, Measured>> {
    let context = CudaContext::new(ordinal).map_err(device)?;
    // SAFETY: one stream is used, and it is waited for before memory is freed.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().map_err(device)?;
    let model = cost::closest(&gpu.0.device)?;
    let cache = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE).map_err(device)?.max(0) as u64;
    let pool = Pool::new(&stream, groups, cache)?;
    let all: Vec<&Kernel> = groups.iter().flat_map(|group| &group.candidates).collect();
    let code = compile(&all, gpu)?;
    let mut measured = BTreeMap::new();
    for group in groups {
        let mut contestants = Vec::new();
        for kernel in &group.candidates {
            // One that asks for more than the GPU has is no candidate there.
            let Some(estimate) = cost::kernel_time(kernel, group.work, &model) else { continue };
            let code = code.get(kernel.name.as_str()).cloned().unwrap_or_default();
            contestants.push((kernel, load(&context, kernel, code)?, estimate.utilisation));
        }
        let places = pool.places(group, cache)?;
        let times = take_turns(&stream, &contestants, &places, quick)?;
        for ((kernel, _, utilisation), times) in contestants.iter().zip(times) {
            let at = |share: usize| times[(times.len() - 1) * share / 4];
            let time = at(2).max(1);
            let spread = ((at(3) - at(1)) as f64 / time as f64 * 1e4).round() / 1e4;
            measured.insert(kernel.name.clone(), Measured { time, utilisation: *utilisation, spread });
        }
        clock.tick();
    }
    stream.synchronize().map_err(device)?;
    Ok(measured)
}

/// Machine code of each kernel, by name.
fn compile<'a>(kernels: &[&'a Kernel], gpu: &(TargetGpu, Conditions)) -> Result<BTreeMap<&'a str, Vec<u8>>> {
    let (major, minor) = gpu.0.compute_capability;
    if is_virtual(&gpu.0.device) {
        // Their NVRTC is a stand-in, whose output must not get into the cache of images.
        let sources: Vec<(&str, &str)> = kernels.iter().map(|k| (k.name.as_str(), k.source.as_str())).collect();
        let headers = kernel::headers();
        let one = |k: &&'a Kernel| Ok((k.name.as_str(), runtime::compile(&sources, &headers, &k.name, (major, minor)).map_err(nvrtc)?));
        return kernels.iter().map(one).collect();
    }
    let compiler = Nvrtc::load().map_err(nvrtc)?;
    let images = kernel::compile_images(kernels, &[format!("sm_{major}{minor}")], &compiler)?;
    let mut code: BTreeMap<String, Vec<u8>> = images.into_iter().map(|image| (image.kernel, image.data)).collect();
    Ok(kernels.iter().filter_map(|k| Some((k.name.as_str(), code.remove(&k.name)?))).collect())
}

fn nvrtc(message: String) -> Error {
    Error::Tool { tool: "NVRTC".into(), message }
}

fn load(context: &std::sync::Arc<CudaContext>, kernel: &Kernel, code: Vec<u8>) -> Result<CudaFunction> {
    let refused = |error: DriverError| Error::Device(format!("kernel {}: {error}", kernel.name));
    let module = context.load_module(Ptx::from_binary(code)).map_err(refused)?;
    let function = module.load_function(&kernel.name).map_err(refused)?;
    if kernel.shared_bytes > 48 * 1024 {
        let most = cudarc::driver::sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(most, kernel.shared_bytes as i32).map_err(refused)?;
    }
    Ok(function)
}

/// Sorted times of one launch of each contestant, in nanoseconds, one a round.
fn take_turns(
    stream: &CudaStream,
    contestants: &[(&Kernel, CudaFunction, f64)],
    places: &[Vec<u64>],
    quick: bool,
) -> Result<Vec<Vec<u64>>> {
    let (rounds, long) = if quick { (3, 100_000) } else { (11, 500_000) };
    let event = || stream.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(device);
    let (first, last) = (event()?, event()?);
    let mut turn = 0;
    let mut run = |kernel: &Kernel, function: &CudaFunction, count: usize| -> Result<u64> {
        let gate = Gate::close(stream).map_err(crate::run::device)?;
        first.record(stream).map_err(device)?;
        for _ in 0..count {
            turn += 1;
            let mut call = stream.launch_builder(function);
            for address in &places[turn % places.len()] {
                call.arg(address);
            }
            let ([x, y, z], [bx, by, bz]) = (kernel.grid, kernel.block);
            let config = LaunchConfig { grid_dim: (x, y, z), block_dim: (bx, by, bz), shared_mem_bytes: kernel.shared_bytes };
            // SAFETY: a kernel takes one pointer an input and one for its output, in this order, and each place holds all of them.
            unsafe { call.launch(config) }.map_err(device)?;
        }
        last.record(stream).map_err(device)?;
        drop(gate);
        stream.synchronize().map_err(device)?;
        Ok((f64::from(first.elapsed_ms(&last).map_err(device)?.max(0.0)) * 1e6 / count as f64).round() as u64)
    };
    let mut counts = Vec::new();
    for (kernel, function, _) in contestants {
        let once = run(kernel, function, 1)?.max(1);
        counts.push((long / once).clamp(1, 100) as usize);
    }
    let mut times = vec![Vec::new(); contestants.len()];
    for round in 0..=rounds {
        for step in 0..contestants.len() {
            let who = (round + step) % contestants.len();
            let (kernel, function, _) = &contestants[who];
            let time = run(kernel, function, counts[who].min(BEHIND_A_GATE))?;
            if round > 0 {
                times[who].push(time);
            }
        }
    }
    times.iter_mut().for_each(|times| times.sort_unstable());
    Ok(times)
}

/// Memory that kernels are given, in many places.
struct Pool {
    floats: CudaSlice<f32>,
    /// For what holds no floats: zeros are valid indices.
    zeros: CudaSlice<u8>,
    base: u64,
    zero: u64,
}

const ALIGNMENT: u64 = 256;

/// Bytes of one place.
fn place_bytes(group: &Group) -> u64 {
    group.arguments.iter().filter(|(_, float)| *float).map(|(bytes, _)| bytes.next_multiple_of(ALIGNMENT)).sum::<u64>().max(ALIGNMENT)
}

/// Places of a group: together they are twice the cache, and at least two.
fn place_count(group: &Group, cache: u64) -> u64 {
    (2 * cache).div_ceil(place_bytes(group)).clamp(2, 64)
}

impl Pool {
    fn new(stream: &std::sync::Arc<CudaStream>, groups: &[Group], cache: u64) -> Result<Pool> {
        let bytes = groups.iter().map(|g| place_bytes(g) * place_count(g, cache)).max().unwrap_or(ALIGNMENT);
        let others = groups.iter().flat_map(|g| &g.arguments).filter(|(_, float)| !float).map(|(bytes, _)| *bytes).max().unwrap_or(1);
        let zeros = stream.alloc_zeros::<u8>(others.max(1) as usize).map_err(device)?;
        // SAFETY: all of it is written below, before anything reads it.
        let mut floats = unsafe { stream.alloc::<f32>(bytes as usize / 4) }.map_err(device)?;
        // Values in [-1, 1): all zeros would flatter the GPU, which draws less power with them.
        let mut state = 1u32;
        let values: Vec<f32> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .take((1 << 18).min(floats.len()))
        .collect();
        let mut filled = values.len();
        stream.memcpy_htod(&values, &mut floats.slice_mut(..filled)).map_err(device)?;
        let base = floats.device_ptr(stream).0;
        while filled < floats.len() {
            let more = filled.min(floats.len() - filled);
            // SAFETY: both ranges lie within the allocation and do not overlap.
            unsafe { result::memcpy_dtod_async(base + 4 * filled as u64, base, 4 * more, stream.cu_stream()) }.map_err(device)?;
            filled += more;
        }
        stream.synchronize().map_err(device)?;
        let zero = zeros.device_ptr(stream).0;
        Ok(Pool { floats, zeros, base, zero })
    }

    /// Addresses of the arguments in each place.
    fn places(&self, group: &Group, cache: u64) -> Result<Vec<Vec<u64>>> {
        let (bytes, count) = (place_bytes(group), place_count(group, cache));
        if bytes * count > self.floats.num_bytes() as u64 || group.arguments.iter().any(|(b, float)| !float && *b > self.zeros.len() as u64)
        {
            return Err(Error::internal("profile", "the pool is too small"));
        }
        let place = |index: u64| {
            let mut at = self.base + index * bytes;
            let address = |&(bytes, float): &(u64, bool)| {
                if !float {
                    return self.zero;
                }
                let here = at;
                at += bytes.next_multiple_of(ALIGNMENT);
                here
            };
            group.arguments.iter().map(address).collect()
        };
        Ok((0..count).map(place).collect())
    }
}
