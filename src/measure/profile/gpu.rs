//! A GPU under measurement: its loaded kernels, memory for their arguments, streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::sys::{CUdevice_attribute as Attribute, CUevent_flags, CUfunction_attribute as FunctionAttribute};
use cudarc::driver::{CudaContext, CudaEvent, CudaFunction, CudaStream, DriverError, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

use super::pool::ArgumentPool;
use super::{Argument, Counter, ProfileOptions, SignatureGroup, device};
use crate::cost::{self, Conditions, Measured};
use crate::device::{TargetGpu, closest};
use crate::error::{Error, Result};
use crate::kernel::{self, Kernel};
use crate::program::compile_images;
use crate::runtime::nvrtc::Nvrtc;
use crate::runtime::{self, ExecutableGraph, MAX_BLOCKED_OPERATIONS, StreamBlocker, is_virtual};

/// A kernel that is ready for launches.
struct LoadedKernel {
    kernel: Kernel,
    function: CudaFunction,
    arguments: Vec<Argument>,
}

/// A GPU with all kernel candidates loaded, ready to measure them.
pub(super) struct ProfiledGpu {
    gpu: TargetGpu,
    context: Arc<CudaContext>,
    /// Operators run on the first one.
    streams: Vec<Arc<CudaStream>>,
    pool: ArgumentPool,
    kernels: BTreeMap<String, LoadedKernel>,
    quick: bool,
}

impl ProfiledGpu {
    /// Compiles and loads all candidates of `groups` for the machine's GPU `ordinal`.
    pub fn new(ordinal: usize, gpu: &(TargetGpu, Conditions), groups: &[SignatureGroup], options: &ProfileOptions) -> Result<ProfiledGpu> {
        let context = CudaContext::new(ordinal).map_err(device)?;
        // SAFETY: code that uses several streams orders them with events, and memory is freed only
        // after all of them have been synchronised.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(device)?;
        let cache = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE).map_err(device)?.max(0) as u64;
        let lists: Vec<Vec<Argument>> =
            groups.iter().flat_map(|group| group.candidates.iter().map(|kernel| group.arguments(kernel))).collect();
        let pool = ArgumentPool::new(&stream, &lists, options.schedule.max_streams, cache)?;
        let model = closest(&gpu.0.device)?;
        // A kernel that needs more than the GPU has is not a candidate there.
        let runs = |kernel: &&Kernel, group: &SignatureGroup| cost::kernel_time(kernel, group.work, &model).is_some();
        let all: Vec<(&Kernel, &SignatureGroup)> =
            groups.iter().flat_map(|group| group.candidates.iter().filter(|k| runs(k, group)).map(move |k| (k, group))).collect();
        let mut code = compile(&all.iter().map(|(kernel, _)| *kernel).collect::<Vec<_>>(), gpu)?;
        let mut kernels = BTreeMap::new();
        for (kernel, group) in all {
            let function = load(&context, kernel, code.remove(kernel.name.as_str()).unwrap_or_default())?;
            let arguments = group.arguments(kernel);
            kernels.insert(kernel.name.clone(), LoadedKernel { kernel: kernel.clone(), function, arguments });
        }
        Ok(ProfiledGpu { gpu: gpu.0.clone(), context, streams: vec![stream], pool, kernels, quick: options.quick })
    }

    /// Measures all candidates of all groups, each alone.
    pub fn operators(&mut self, groups: &[SignatureGroup], counter: &mut Counter) -> Result<BTreeMap<String, Measured>> {
        let model = closest(&self.gpu.device)?;
        let mut measured = BTreeMap::new();
        for group in groups {
            let candidates: Vec<&LoadedKernel> = group.candidates.iter().filter_map(|k| self.kernels.get(&k.name)).collect();
            for (LoadedKernel { kernel, .. }, times) in candidates.iter().zip(self.take_turns(&candidates)?) {
                let at = |share: usize| times[(times.len() - 1) * share / 4];
                let time = at(2).max(1);
                let spread = ((at(3) - at(1)) as f64 / time as f64 * 1e4).round() / 1e4;
                let utilisation = cost::kernel_time(kernel, group.work, &model).map_or(1.0, |estimate| estimate.utilisation);
                measured.insert(kernel.name.clone(), Measured { time, utilisation, spread });
            }
            counter.tick();
        }
        self.context.synchronize().map_err(device)?;
        Ok(measured)
    }

    /// Rounds of a measurement, and how long each should take, in nanoseconds.
    fn effort(&self) -> (usize, u64) {
        if self.quick { (3, 100_000) } else { (11, 500_000) }
    }

    /// Sorted times of one launch of each candidate, in nanoseconds, one per round.
    fn take_turns(&self, candidates: &[&LoadedKernel]) -> Result<Vec<Vec<u64>>> {
        let (rounds, long) = self.effort();
        let stream = &self.streams[0];
        let slots = candidates.iter().map(|loaded| self.pool.slots(&loaded.arguments)).collect::<Result<Vec<_>>>()?;
        let mut turn = 0;
        let mut run = |who: usize, count: usize| -> Result<u64> {
            let (loaded, slots) = (candidates[who], &slots[who]);
            let all = self.between_events(|| {
                (0..count).try_for_each(|_| {
                    turn += 1;
                    launch(stream, loaded, &slots[turn % slots.len()])
                })
            })?;
            Ok((all / count as f64).round() as u64)
        };
        // The driver may load a kernel at its first launch, and wait for all earlier work first: on
        // a blocked stream, forever.
        for (loaded, slots) in candidates.iter().zip(&slots) {
            launch(stream, loaded, &slots[0])?;
        }
        stream.synchronize().map_err(device)?;
        let mut counts = Vec::new();
        for who in 0..candidates.len() {
            counts.push((long / run(who, 1)?.max(1)).clamp(1, 100) as usize);
        }
        let mut times = vec![Vec::new(); candidates.len()];
        for round in 0..=rounds {
            for step in 0..candidates.len() {
                let who = (round + step) % candidates.len();
                let time = run(who, counts[who].min(MAX_BLOCKED_OPERATIONS))?;
                if round > 0 {
                    times[who].push(time);
                }
            }
        }
        times.iter_mut().for_each(|times| times.sort_unstable());
        Ok(times)
    }

    /// The median time of these kernels when they run concurrently, each on a stream of its own, in
    /// nanoseconds: from the fork of the streams to their join. `None` if one of them does not run
    /// on this GPU. `alone` is the sum of their times.
    ///
    /// Forks and joins follow each other in one CUDA graph, as in a plan. If the driver refuses the
    /// graph, plain streams are used.
    pub fn stage(&mut self, names: &[String], alone: u64) -> Result<Option<u64>> {
        while self.streams.len() < names.len() {
            self.streams.push(self.context.new_stream().map_err(device)?);
        }
        let Some(members) = names.iter().map(|name| self.kernels.get(name)).collect::<Option<Vec<_>>>() else { return Ok(None) };
        let arguments: Vec<Argument> = members.iter().flat_map(|m| m.arguments.iter().copied()).collect();
        let slots = self.pool.slots(&arguments)?;
        let (rounds, long) = self.effort();
        // Each member takes a launch, a record and a wait.
        let count = (long / alone.max(1)).clamp(4, (MAX_BLOCKED_OPERATIONS / (3 * members.len())).max(4) as u64) as usize;
        let event = || self.context.new_event(None).map_err(device);
        let (fork, joins) = (event()?, members.iter().map(|_| event()).collect::<Result<Vec<CudaEvent>>>()?);
        let origin_stream = &self.streams[0];
        let enqueue = || -> Result<(), DriverError> {
            for turn in 0..count {
                let mut addresses = slots[turn % slots.len()].as_slice();
                fork.record(origin_stream)?;
                for (stream, (member, join)) in self.streams.iter().zip(members.iter().zip(&joins)) {
                    let (mine, rest) = addresses.split_at(member.arguments.len());
                    addresses = rest;
                    if !Arc::ptr_eq(stream, origin_stream) {
                        stream.wait(&fork)?;
                    }
                    launch_raw(stream, member, mine)?;
                    join.record(stream)?;
                }
                joins[1..].iter().try_for_each(|join| origin_stream.wait(join))?;
            }
            Ok(())
        };
        let graph = ExecutableGraph::capture(origin_stream, || enqueue().map_err(|e| runtime::Error::Plan(e.to_string()))).ok();
        let mut times = Vec::new();
        for round in 0..=rounds {
            let time = self.between_events(|| match &graph {
                Some(graph) => graph.launch().map_err(crate::run::device),
                None => enqueue().map_err(device),
            })?;
            if round > 0 {
                times.push((time / count as f64).round() as u64);
            }
        }
        times.sort_unstable();
        Ok(Some(times[times.len() / 2].max(1)))
    }

    /// Nanoseconds that the work enqueued on the first stream takes, launching not counted.
    fn between_events(&self, enqueue: impl FnOnce() -> Result<()>) -> Result<f64> {
        let stream = &self.streams[0];
        let event = || self.context.new_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(device);
        let (first, last) = (event()?, event()?);
        let blocker = StreamBlocker::block(stream).map_err(crate::run::device)?;
        first.record(stream).map_err(device)?;
        enqueue()?;
        last.record(stream).map_err(device)?;
        blocker.unblock().map_err(crate::run::device)?;
        stream.synchronize().map_err(device)?;
        Ok(f64::from(first.elapsed_ms(&last).map_err(device)?.max(0.0)) * 1e6)
    }
}

fn launch(stream: &Arc<CudaStream>, loaded: &LoadedKernel, addresses: &[u64]) -> Result<()> {
    launch_raw(stream, loaded, addresses).map_err(device)
}

fn launch_raw(stream: &Arc<CudaStream>, loaded: &LoadedKernel, addresses: &[u64]) -> Result<(), DriverError> {
    let LoadedKernel { kernel, function, arguments } = loaded;
    let mut call = stream.launch_builder(function);
    for (address, _) in addresses.iter().zip(arguments) {
        call.arg(address);
    }
    let ([x, y, z], [bx, by, bz]) = (kernel.grid, kernel.block);
    let config = LaunchConfig { grid_dim: (x, y, z), block_dim: (bx, by, bz), shared_mem_bytes: kernel.shared_bytes };
    // SAFETY: a kernel takes one pointer per input, one for its output, and one each for its
    // workspace and its counters, if any, in this order. Each slot holds all of them.
    unsafe { call.launch(config) }.map(|_| ())
}

/// Machine code of each kernel, by name.
fn compile<'a>(kernels: &[&'a Kernel], gpu: &(TargetGpu, Conditions)) -> Result<BTreeMap<&'a str, Vec<u8>>> {
    let (major, minor) = gpu.0.compute_capability;
    if is_virtual(&gpu.0.device) {
        // Their NVRTC is a stand-in, whose output must not enter the image cache.
        let sources: Vec<(&str, &str)> = kernels.iter().map(|k| (k.name.as_str(), k.source.as_str())).collect();
        let headers = kernel::headers();
        let one = |k: &&'a Kernel| Ok((k.name.as_str(), runtime::compile(&sources, &headers, &k.name, (major, minor)).map_err(nvrtc)?));
        return kernels.iter().map(one).collect();
    }
    let compiler = Nvrtc::load().map_err(nvrtc)?;
    let images = compile_images(kernels, &[format!("sm_{major}{minor}")], &compiler)?;
    let mut code: BTreeMap<String, Vec<u8>> = images.into_iter().map(|image| (image.kernel, image.data)).collect();
    Ok(kernels.iter().filter_map(|k| Some((k.name.as_str(), code.remove(&k.name)?))).collect())
}

fn nvrtc(message: String) -> Error {
    Error::Tool { tool: "NVRTC".into(), message }
}

fn load(context: &Arc<CudaContext>, kernel: &Kernel, code: Vec<u8>) -> Result<CudaFunction> {
    let refused = |error: DriverError| Error::Device(format!("kernel {}: {error}", kernel.name));
    let module = context.load_module(Ptx::from_binary(code)).map_err(refused)?;
    let function = module.load_function(&kernel.name).map_err(refused)?;
    if kernel.shared_bytes > 48 * 1024 {
        let most = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(most, kernel.shared_bytes as i32).map_err(refused)?;
    }
    Ok(function)
}
