//! Costs without a GPU: a roofline with occupancy, from a device model.
//!
//! ## The question
//!
//! How long does a kernel run alone, and what share of the GPU does it keep busy? The inputs are
//! the operator's arithmetic and its tensors ([`Work`]), the kernel's grid and the resources of one
//! block (threads, registers, shared memory), and the device's figures.
//!
//! ## The formulas
//!
//! * *Occupancy* (CUDA programming guide, multiprocessor level; CUDA occupancy calculator). Blocks
//!   resident on an SM: the least of what its threads, registers (allocated per warp, in units),
//!   shared memory (allocated per block, in units, and on most GPUs 1 KB for the system) and block
//!   slots allow.
//! * *Waves.* The grid runs in waves of `SMs * blocks per SM` blocks; the last one may be partial,
//!   and then takes as long as the fullest SM needs: the tail effect.
//! * *Arithmetic of a wave.* On an SM with `w` resident warps: `flops / (peak of an SM *
//!   compute_efficiency * min(1, w * ilp / needed))`. `needed` is `schedulers * arithmetic latency`
//!   warps, 16 on this generation: Little's law, as the programming guide applies it to hide
//!   latency. `ilp` is the number of independent instructions of a warp, which tiled kernels have
//!   plenty of. It is not known; we take `registers / 32`, between 1 and 4, as an **assumption**:
//!   accumulators are what registers are for.
//! * *Memory of a wave.* `bytes / (bandwidth * bandwidth_efficiency * min(1, in flight /
//!   needed))`: a few warps cannot fill the memory pipe. Here `needed` is `bandwidth * memory
//!   latency` (Little's law again), and `in flight` is `warps * 32 lanes * 4 bytes * ilp`. Bytes
//!   are each input once, weights included, and each output once: no operator finds its inputs in
//!   the cache (pessimistic for small tensors), and none reads anything twice (optimistic for
//!   tiles).
//! * *Roofline* (Williams, Waterman and Patterson, CACM 2009): a kernel takes the larger of its
//!   arithmetic and its memory time, plus one memory latency to fill the pipe, plus the launch gap.
//! * *Known effort.* Kernels that stream, and have no tiles, say what a thread does ([`Effort`]).
//!   Then a wave takes one memory latency for each round of loads, the cycles of its chain, and the
//!   largest of four times: its instructions on the SM's schedulers, its words on the SM's
//!   load/store unit (32 words a cycle), its arithmetic at peak, and its bytes at the sustained
//!   bandwidth. What a kernel keeps in flight is in its rounds: the more, the fewer.
//! * *Utilisation.* The largest of three shares, each over the kernel's whole time: arithmetic
//!   sustained, bandwidth sustained, block slots held. Rounded to four digits, and at least 0.0001.
//!
//! * *Counted cycles.* Kernels that compute products in tiles bring their own figure,
//!   [`Kernel::cycles`]: those that gather from cycles per step of their machine code. It takes the
//!   place of the arithmetic time, and includes the depth of the sums, the padding of tiles, and
//!   split sums.
//!
//! The fastest of the operator's candidates is chosen; ties go to the earlier. Times are rounded
//! up, and at least 1 ns.
//!
//! ## What it does not see
//!
//! Caches, the padding of packed weights, bank conflicts, clocks that change. A profile sees them.
//! The estimate is for sensible plans without a GPU at hand; treat absolute times with care.

use std::collections::BTreeSet;

use super::{CostTable, MeasuredStages, OperatorCost};
use crate::device::{DeviceModel, Nanos, Target};
use crate::error::{Error, Result};
use crate::graph::{Graph, OpKind, Operator};
use crate::ids::{OpId, TensorId};
use crate::kernel::{self, Effort, Kernel};

/// What an operator must do, whatever the kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Arithmetic operations; a multiply-add is two.
    pub flops: f64,
    /// Bytes read and written, each once.
    pub bytes: f64,
}

/// How a kernel performs on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Duration, launch gap included.
    pub time: Nanos,
    /// Share of the device that it keeps busy, in (0, 1].
    pub utilisation: f64,
}

/// Costs of `graph` on `target`, with the fastest kernel of each operator: [`estimate_with`] over
/// [`kernel::candidates`].
pub fn estimate(graph: &Graph, target: &Target) -> Result<CostTable> {
    estimate_with(graph, target, |op, device| kernel::candidates(graph, op, device))
}

/// Costs of `graph` on `target`. `candidates` gives the kernels that compute an operator on a kind
/// of GPU; it is called once per kind.
///
/// # Errors
///
/// [`Error::Unsupported`] with every operator that has no kernel, or none that fits on a GPU;
/// whatever else `candidates` fails with.
pub fn estimate_with(
    graph: &Graph,
    target: &Target,
    mut candidates: impl FnMut(OpId, &DeviceModel) -> Result<Vec<Kernel>>,
) -> Result<CostTable> {
    let mut unsupported = Vec::new();
    let mut operators = Vec::new();
    for op in graph.op_ids() {
        let work = work(graph, op);
        let row = super::by_kind(&target.gpus, |device| {
            let kernels = candidates(op, device)?;
            fastest(&kernels, work, device).ok_or_else(|| {
                let Operator { name, kind, .. } = graph.operator(op);
                let (kind, count, device) = (kind.name(), kernels.len(), &device.name);
                Error::Unsupported(vec![format!("{op} {name:?} ({kind}): none of {count} kernels fits on {device}")])
            })
        });
        match row {
            Ok(row) => operators.push(row),
            Err(Error::Unsupported(reasons)) => unsupported.extend(reasons),
            Err(other) => return Err(other),
        }
    }
    if !unsupported.is_empty() {
        return Err(Error::Unsupported(unsupported));
    }
    Ok(CostTable {
        source: target.source(),
        gpus: target.table_gpus(),
        operators,
        links: target.links.clone(),
        stages: MeasuredStages::new(),
        grouped_launches: Vec::new(),
    })
}

/// The fastest of `kernels`; ties go to the earlier. `None` if none fits on the device.
pub fn fastest(kernels: &[Kernel], work: Work, device: &DeviceModel) -> Option<OperatorCost> {
    let costs = kernels.iter().filter_map(|kernel| Some((kernel, kernel_time(kernel, work, device)?)));
    let (kernel, estimate) = costs.min_by_key(|(_, estimate)| estimate.time)?;
    Some(OperatorCost { time: estimate.time, utilisation: estimate.utilisation, kernel: kernel.clone() })
}

/// The work of `op`.
pub fn work(graph: &Graph, op: OpId) -> Work {
    let operator = graph.operator(op);
    let flops = operator.flops(graph);
    if let OpKind::Gather(_) = operator.kind {
        // it reads as much of its data as it writes
        let bytes = |t: TensorId| graph.tensor(t).bytes() as f64;
        let read = operator.inputs.iter().skip(1).map(|&t| bytes(t)).sum::<f64>();
        return Work { flops, bytes: read + 2.0 * operator.outputs.iter().map(|&t| bytes(t)).sum::<f64>() };
    }
    if let OpKind::Resample(resample) = &operator.kind {
        // a small result reads only part of its input
        let bytes = |t: TensorId| graph.tensor(t).bytes() as f64;
        let output = operator.outputs.first().map_or(0.0, |&y| graph.tensor(y).elements() as f64);
        let taps = output * resample.taps() as f64 * operator.inputs.first().map_or(0.0, |&x| graph.tensor(x).dtype.bytes() as f64);
        let read = operator.inputs.first().map_or(0.0, |&x| bytes(x).min(taps));
        let others: f64 = operator.inputs.iter().skip(1).chain(&operator.outputs).map(|&t| bytes(t)).sum();
        return Work { flops, bytes: read + others };
    }
    // The same bytes under several shapes count once.
    let regions: BTreeSet<(TensorId, u64, u64)> =
        operator.inputs.iter().chain(&operator.outputs).map(|&t| (graph.root(t), graph.begin(t), graph.tensor(t).bytes())).collect();
    Work { flops, bytes: regions.iter().map(|&(_, _, bytes)| bytes as f64).sum() }
}

/// Blocks of `kernel` that fit on one SM at a time; `None` if not even one does.
pub fn blocks_per_sm(kernel: &Kernel, device: &DeviceModel) -> Option<u64> {
    let threads = kernel.block.iter().map(|&n| u64::from(n)).product();
    let shared = u64::from(kernel.shared_bytes) + u64::from(kernel.static_shared_bytes);
    device.blocks_per_sm(threads, u64::from(kernel.registers), shared)
}

/// How `kernel` performs on `device` when it does `work`; `None` if it does not fit.
pub fn kernel_time(kernel: &Kernel, work: Work, device: &DeviceModel) -> Option<Estimate> {
    let per_sm = blocks_per_sm(kernel, device)?;
    let threads: u64 = kernel.block.iter().map(|&n| u64::from(n)).product();
    let warps_per_block = threads.div_ceil(device.warp) as f64;
    let blocks: u64 = kernel.grid.iter().fold(1u64, |product, &n| product.saturating_mul(u64::from(n)));
    if blocks == 0 {
        return None;
    }
    let ilp = (f64::from(kernel.registers) / 32.0).clamp(1.0, 4.0);
    let flops_per_block = work.flops / blocks as f64;
    let bytes_per_block = work.bytes / blocks as f64;

    let sm_peak = device.peak_flops() / device.sms as f64 * device.compute_efficiency;
    let warps_needed = (device.schedulers_per_sm * device.arithmetic_latency_cycles) as f64;
    // Seconds of arithmetic for `n` blocks that share an SM.
    let arithmetic = |n: u64| {
        let hidden = (n as f64 * warps_per_block * ilp / warps_needed).min(1.0);
        n as f64 * flops_per_block / (sm_peak * hidden)
    };
    let bandwidth = device.bandwidth * device.bandwidth_efficiency;
    let bytes_needed = device.bandwidth * device.memory_latency_ns as f64 * 1e-9;
    // Seconds of memory traffic for `n` blocks that share the GPU.
    let memory = |n: u64| {
        let in_flight = n as f64 * warps_per_block * device.warp as f64 * 4.0 * ilp;
        n as f64 * bytes_per_block / (bandwidth * (in_flight / bytes_needed).min(1.0))
    };

    let wave = device.sms * per_sm;
    let (full, tail) = (blocks / wave, blocks % wave);
    let mut arithmetic_time = full as f64 * arithmetic(per_sm);
    let mut memory_time = full as f64 * memory(wave);
    if tail > 0 {
        arithmetic_time += arithmetic(tail.div_ceil(device.sms));
        memory_time += memory(tail);
    }
    let busy = match (kernel.cycles, &kernel.effort) {
        (Some(cycles), _) => {
            // partial sums are written and read again
            let bytes = work.bytes + 2.0 * kernel.workspace_bytes as f64;
            let loads = (bytes / bandwidth * 1e9).ceil() as Nanos + device.memory_latency_ns;
            loads.max((cycles as f64 / device.clock_hz * 1e9).ceil() as Nanos)
        }
        (None, Some(effort)) => known_effort(kernel, effort, work, device, per_sm),
        (None, None) => (arithmetic_time.max(memory_time) * 1e9).ceil() as Nanos + device.memory_latency_ns,
    };
    let time = (busy + device.launch_gap_ns).max(1);

    let sustained = (work.flops / (sm_peak * device.sms as f64)).max(work.bytes / bandwidth) * 1e9;
    let slots = blocks as f64 / (blocks.div_ceil(wave) as f64 * wave as f64) * busy as f64;
    // Four digits are more than the model is worth, and readable.
    let utilisation = (slots.max(sustained) / time as f64 * 1e4).round() / 1e4;
    Some(Estimate { time, utilisation: utilisation.clamp(1e-4, 1.0) })
}

/// Cycles per instruction of a warp that is alone on its scheduler: an **assumption**.
const WARP_ISSUE: f64 = 2.0;

/// How long `kernel` is busy on `device` if `per_sm` of its blocks fit on an SM and its threads do
/// what `effort` says.
fn known_effort(kernel: &Kernel, effort: &Effort, work: Work, device: &DeviceModel, per_sm: u64) -> Nanos {
    let threads: u64 = kernel.block.iter().map(|&n| u64::from(n)).product();
    let blocks: u64 = kernel.grid.iter().fold(1u64, |product, &n| product.saturating_mul(u64::from(n)));
    let latency = device.memory_latency_ns as f64 * 1e-9;
    let seconds = |cycles: f64| cycles / device.clock_hz;
    // Seconds for `n` blocks that share the GPU, `fullest` of them on one SM.
    let of_wave = |n: u64, fullest: u64| {
        let warps = (fullest * threads.div_ceil(device.warp)) as f64;
        let share = n as f64 / blocks as f64;
        let arithmetic = work.flops * share / device.peak_flops();
        let issue = seconds((warps / device.schedulers_per_sm as f64).max(WARP_ISSUE) * effort.instructions as f64);
        let words = seconds(warps * effort.words as f64);
        let memory = work.bytes * share / (device.bandwidth * device.bandwidth_efficiency);
        let waits = effort.rounds.saturating_sub(1) as f64 * latency + seconds(effort.chain as f64);
        latency + waits + issue.max(words).max(arithmetic).max(memory)
    };
    let wave = device.sms * per_sm;
    let (full, tail) = (blocks / wave, blocks % wave);
    let mut time = full as f64 * of_wave(wave, per_sm);
    if tail > 0 {
        time += of_wave(tail, tail.div_ceil(device.sms));
    }
    (time * 1e9).ceil() as Nanos
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Link, device};
    use crate::graph::{Conv, DType, Expr, Origin, Tensor, Unary};

    fn kernel(grid: u32, block: u32, registers: u32, shared: u32) -> Kernel {
        Kernel {
            name: format!("k{grid}_{block}_{registers}_{shared}"),
            source: String::new(),
            grid: [grid, 1, 1],
            block: [block, 1, 1],
            shared_bytes: 0,
            static_shared_bytes: shared,
            registers,
            ..Kernel::default()
        }
    }

    fn a40() -> DeviceModel {
        device("a40").unwrap()
    }

    #[test]
    fn occupancy_is_what_the_calculator_says() {
        let blocks = |block, registers, shared| blocks_per_sm(&kernel(1, block, registers, shared), &a40());
        assert_eq!(blocks(256, 32, 0), Some(6)); // threads: 1536 / 256
        assert_eq!(blocks(32, 32, 0), Some(16)); // block slots
        assert_eq!(blocks(256, 128, 0), Some(2)); // registers: 65536 / (128 * 32) / 8
        assert_eq!(blocks(256, 33, 0), Some(6)); // 33 registers count as 40: 51 warps, no limit yet
        assert_eq!(blocks(256, 41, 0), Some(5)); // 41 as 48: 42 warps
        assert_eq!(blocks(128, 32, 32 * 1024), Some(3)); // shared: 100 KB / 33 KB
        assert_eq!(blocks(128, 32, 99 * 1024), Some(1));
        assert_eq!(blocks(128, 32, 99 * 1024 + 1), None);
        assert_eq!(blocks(1025, 32, 0), None);
        assert_eq!(blocks(1024, 255, 0), None); // more registers than an SM has
    }

    #[test]
    fn a_v100_reserves_no_shared_memory() {
        let blocks = |shared| blocks_per_sm(&kernel(1, 64, 16, shared), &device("v100").unwrap());
        assert_eq!(blocks(0), Some(32)); // block slots, as threads
        assert_eq!(blocks(49152), Some(2));
    }

    #[test]
    fn a_large_kernel_is_bound_by_its_roof() {
        let device = a40();
        let big = kernel(84 * 6 * 100, 256, 40, 0);
        let compute = kernel_time(&big, Work { flops: 37.4e12, bytes: 1e6 }, &device).unwrap();
        assert!((compute.time as f64 / (1e9 / 0.6) - 1.0).abs() < 0.01, "{compute:?}");
        let memory = kernel_time(&big, Work { flops: 1e6, bytes: 696e9 }, &device).unwrap();
        assert!((memory.time as f64 / (1e9 / 0.85) - 1.0).abs() < 0.01, "{memory:?}");
        assert!(compute.utilisation > 0.99 && memory.utilisation > 0.99);
    }

    #[test]
    fn an_empty_kernel_costs_its_launch() {
        let e = kernel_time(&kernel(1, 32, 16, 0), Work { flops: 0.0, bytes: 0.0 }, &a40()).unwrap();
        assert_eq!(e.time, 900 + 500);
        assert!(e.utilisation > 0.0 && e.utilisation < 0.01, "{e:?}");
    }

    #[test]
    fn one_block_more_than_a_wave_costs_a_tail() {
        let wave = 84 * 2;
        let work = |blocks: u32| Work { flops: f64::from(blocks) * 1e8, bytes: 1.0 };
        let time = |blocks: u32| kernel_time(&kernel(blocks, 256, 128, 0), work(blocks), &a40()).unwrap().time as f64;
        assert!(time(wave + 1) > 1.4 * time(wave), "{} {}", time(wave + 1), time(wave));
        assert!(time(2 * wave) < 2.01 * time(wave));
    }

    #[test]
    fn a_small_grid_leaves_the_gpu_idle() {
        let work = Work { flops: 1e8, bytes: 1e5 };
        let small = kernel_time(&kernel(20, 256, 128, 0), work, &a40()).unwrap();
        let wide = kernel_time(&kernel(168, 256, 128, 0), work, &a40()).unwrap();
        assert!(small.time > wide.time);
        assert!(small.utilisation < 0.5 && wide.utilisation > 0.7, "{small:?} {wide:?}");
    }

    #[test]
    fn the_fastest_candidate_is_taken_and_the_earlier_of_equals() {
        let work = Work { flops: 1e8, bytes: 1e5 };
        let (slow, fast, mut twin) = (kernel(20, 256, 128, 0), kernel(168, 256, 128, 0), kernel(168, 256, 128, 0));
        twin.name = "twin".into();
        let too_big = kernel(168, 2048, 128, 0);
        assert_eq!(fastest(&[too_big.clone(), slow, fast.clone(), twin], work, &a40()).unwrap().kernel, fast);
        assert!(fastest(&[too_big], work, &a40()).is_none());
    }

    #[test]
    fn what_a_thread_does_decides_if_it_is_known() {
        let work = Work { flops: 1e6, bytes: 1.5e6 };
        let time = |grid: u32, block: u32, effort: Effort| {
            kernel_time(&Kernel { effort: Some(effort), ..kernel(grid, block, 32, 0) }, work, &a40()).unwrap().time
        };
        let one = Effort { instructions: 100, words: 8, rounds: 1, chain: 0 };
        let base = time(84, 128, one);
        assert!((900 + 500..6000).contains(&base), "a latency, and its bytes: {base}");
        assert_eq!(time(84, 128, Effort { rounds: 3, ..one }), base + 2 * 500, "each round waits for memory");
        assert_eq!(time(84, 128, Effort { chain: 1740, ..one }), base + 1000, "1.74 GHz");
        // Twelve warps share a scheduler.
        let long = time(84 * 3, 512, Effort { instructions: 10_000, ..one });
        assert!((12.0 * 10_000.0 / 1.74..12.0 * 10_000.0 / 1.74 + 2000.0).contains(&(long as f64)), "{long}");
        // More threads are no better if each reads its row three times.
        let (warps, blocks) = (Effort { instructions: 200, ..one }, Effort { instructions: 200, rounds: 3, chain: 600, ..one });
        assert!(time(384, 128, warps) < time(1536, 256, blocks));
    }

    /// `x [1,8,10,10]` by `w [16,8,3,3]` with bias and relu.
    fn convolution() -> Graph {
        let mut graph = Graph::default();
        let tensor =
            |name: &str, shape: &[usize]| Tensor { name: name.into(), dtype: DType::F32, shape: shape.into(), origin: Origin::Input };
        let inputs =
            [("x", &[1, 8, 10, 10][..]), ("w", &[16, 8, 3, 3]), ("b", &[16])].map(|(name, shape)| graph.add_tensor(tensor(name, shape)));
        let y = graph.add_tensor(tensor("y", &[1, 16, 10, 10]));
        let kind = OpKind::Conv(Conv {
            kernel: [3, 3],
            strides: [1, 1],
            dilations: [1, 1],
            pads_begin: [1, 1],
            pads_end: [1, 1],
            groups: 1,
            bias: true,
            epilogue: Expr::identity().then(Unary::Relu),
        });
        graph.inputs = inputs.to_vec();
        graph.outputs = vec![y];
        graph.add_operator(Operator { name: "conv".into(), kind, inputs: inputs.to_vec(), outputs: vec![y] });
        graph
    }

    #[test]
    fn work_of_a_convolution() {
        let work = work(&convolution(), OpId(0));
        assert_eq!(work.flops, 1600.0 * (2.0 * 72.0 + 2.0));
        assert_eq!(work.bytes, 4.0 * (800 + 1152 + 16 + 1600) as f64);
    }

    #[test]
    fn a_table_has_all_gpus_and_links() {
        let graph = convolution();
        let target = Target::uniform("a40", 3, "nvlink").unwrap();
        let table = estimate_with(&graph, &target, |_, _| Ok(vec![kernel(25, 64, 64, 0)])).unwrap();
        assert_eq!(table.source, "estimated from device model a40, links nvlink, pcie4");
        assert_eq!(table.operators[0].len(), 3);
        assert_eq!(table.operators[0][0], table.operators[0][2]);
        assert_eq!(table.links[0][0], None);
        assert_eq!(table.links[0][1], Some(Link { latency: 3000, bandwidth: 56.25e9 * 0.84 }));
        assert_eq!(table.links[2][1], Some(Link { latency: 6000, bandwidth: 31.5e9 * 0.79 }));
        assert_eq!(table.gpus[1].memory, 48_000_000_000);

        let error = estimate_with(&graph, &target, |_, _| Ok(vec![kernel(1, 2048, 1, 0)])).unwrap_err().to_string();
        assert_eq!(error, "unsupported: %0 \"conv\" (conv): none of 1 kernels fits on a40");
    }
}
