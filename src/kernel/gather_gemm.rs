//! Convolution and matrix product in f32 as gathered matrix products: `gather_gemm.cuh`, for
//! compute capability 8.0 and above.
//!
//! A candidate is a tile and a split: how many blocks share the sums of a tile. There are over a
//! hundred, so a model counts the cycles of each on the device, and the best [`KEPT`] become
//! candidates. The model takes cycles per step from a simulation of the machine code
//! (`benchmarks/machine_code`): **simulated, not measured**.
//!
//! A launch takes as many waves as its blocks need. A wave takes
//! `around + steps * cycles per step`, where a multiprocessor's blocks share its time. `around` is
//! what comes before and after the steps: the first loads, the epilogue, the stores. After a split
//! sum comes the time in which the last block of a tile reads the partial sums of all.

use super::expr::Epilogue;
use super::loops::trips;
use super::packing::Packing;
use super::spec::{KernelSpec, Needs};
use super::{MAX_ELEMENTS, OpContext};
use crate::device::DeviceModel;
use crate::graph::DType;

/// Terms of the sums per step.
pub(super) const STEP: usize = 16;

/// The compute capability that asynchronous copies need.
const CAPABILITY: (u32, u32) = (8, 0);

/// How many blocks may share the sums of a tile.
const SPLITS: [u64; 13] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24];

/// The most memory for partial sums, in bytes.
const MAX_WORKSPACE: u64 = 64 << 20;

/// The most layers of a grid.
const MAX_LAYERS: u64 = 65_535;

/// The number of candidates per operator.
const KEPT: usize = 8;

/// A tile: `GatherTile<bm, bn, tm, tn, stages>`.
#[derive(Clone, Copy, Debug)]
pub(super) struct GatherTile {
    /// Rows per block.
    bm: u64,
    /// Columns per block.
    bn: u64,
    /// Rows per thread.
    tm: u64,
    /// Columns per thread.
    tn: u64,
    /// Tiles in shared memory.
    stages: u64,
    /// Blocks that fit on a multiprocessor, as far as registers decide: what the compiler is told.
    resident: u32,
    /// Simulated cycles per step with 1, 2 and 4 blocks on a multiprocessor, for compute
    /// capability 8.0, 8.6 and 9.0: windows of 1x7, as in `benchmarks/machine_code/table.tsv`.
    /// Twice the cycles of half as many where so many blocks do not fit.
    cycles: [[u64; 3]; 3],
    /// Simulated cycles around the steps for compute capability 9.0: with one block on a
    /// multiprocessor, and more for each further one. The first pair is that of a whole sum, the
    /// second of a part.
    around: [[u64; 2]; 2],
}

const fn tile([bm, bn, tm, tn]: [u64; 4], stages: u64, resident: u32, cycles: [[u64; 3]; 3], around: [[u64; 2]; 2]) -> GatherTile {
    GatherTile { bm, bn, tm, tn, stages, resident, cycles, around }
}

/// All tiles, large to small. 8x8 outputs per thread read the least shared memory, 4x4 make the
/// most warps. Four stages hide the latency of DRAM; the steps of the largest tiles take so long
/// that three are enough.
const TILES: [GatherTile; 9] = [
    tile([128, 128, 8, 8], 3, 1, [[4379, 8619, 17238], [2558, 5116, 10232], [2503, 4840, 9680]], [[3320, 800], [5600, 800]]),
    tile([128, 64, 8, 8], 3, 3, [[2282, 4408, 8662], [1413, 2586, 5172], [1406, 2580, 4938]], [[3190, 150], [4880, 750]]),
    tile([64, 128, 8, 8], 3, 3, [[2314, 4452, 8904], [1448, 2629, 5258], [1420, 2598, 5196]], [[3190, 150], [4880, 750]]),
    tile([64, 64, 8, 4], 4, 4, [[1235, 2318, 4496], [848, 1445, 2890], [834, 1442, 2745]], [[2240, 180], [3770, 400]]),
    tile([128, 32, 8, 4], 4, 4, [[1208, 2280, 4560], [858, 1489, 2978], [804, 1417, 2736]], [[2240, 180], [3760, 400]]),
    tile([32, 128, 4, 8], 4, 4, [[1263, 2337, 4674], [836, 1466, 2932], [843, 1456, 2782]], [[1990, 200], [3470, 400]]),
    tile([64, 32, 4, 4], 4, 5, [[684, 1244, 2354], [568, 934, 1868], [573, 926, 1792]], [[1570, 100], [2990, 390]]),
    tile([32, 64, 4, 4], 4, 5, [[694, 1256, 2372], [567, 948, 1896], [572, 938, 1795]], [[1580, 100], [3000, 390]]),
    tile([32, 32, 4, 4], 4, 10, [[698, 701, 1238], [508, 575, 952], [499, 566, 947]], [[1580, 60], [2850, 170]]),
];

/// Simulated cycles per copy and step where the terms of a step belong to several taps: for one
/// block on a multiprocessor, and for each of several.
const LOCATE_ALONE: u64 = 45;
const LOCATE: u64 = 18;

/// Cycles per output of a thread that stores of four outputs at a time save.
const QUAD: u64 = 14;

/// Cycles that the further inputs of an epilogue take.
const FURTHER_INPUTS: u64 = 600;

/// Bytes of partial sums that a multiprocessor reads from the L2 cache per cycle, and the cycles
/// before the first arrive: two latencies.
const REDUCED_PER_CYCLE: u64 = 64;
const REDUCE: u64 = 560;

impl GatherTile {
    fn threads(&self) -> u64 {
        (self.bm / self.tm) * (self.bn / self.tn)
    }

    /// Dynamic shared memory: tiles of both operands, rows padded by four floats.
    fn shared_bytes(&self) -> u64 {
        self.stages * STEP as u64 * (self.bm + self.bn + 8) * 4
    }

    /// `GatherTile<64, 64, 8, 4, 4>`.
    fn cpp(&self) -> String {
        let GatherTile { bm, bn, tm, tn, stages, .. } = self;
        format!("GatherTile<{bm}, {bn}, {tm}, {tn}, {stages}>")
    }

    /// Registers per thread that the compiler may use: those that `resident` blocks leave, in
    /// eights, but no more than the largest tiles need.
    fn registers(&self) -> u32 {
        ((65_536 / u64::from(self.resident) / self.threads()) as u32 / 8 * 8).min(168)
    }

    /// Cycles per step with `blocks` on a multiprocessor.
    fn step(&self, device: &DeviceModel, blocks: u64) -> u64 {
        let [one, two, four] = match device.compute_capability {
            (8, 0) => self.cycles[0],
            (8, _) => self.cycles[1],
            _ => self.cycles[2],
        };
        match blocks {
            1 => one,
            2 => two,
            // two warps of a third block leave two schedulers waiting for the other two
            3 if self.threads() == 64 => four,
            3 => (two + four) / 2,
            more => four * more / 4,
        }
    }
}

/// A product of `rows` by `columns`, `products` times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
    pub rows: usize,
    pub columns: usize,
    /// Groups of a convolution, or the batch of a matrix product.
    pub products: usize,
    /// Terms of each sum.
    pub terms: usize,
    /// Whether the terms of a step belong to several taps of a window.
    pub straddles: bool,
    /// Whether four neighbouring outputs of a row are stored at once.
    pub quads: bool,
    /// Whether the epilogue has further inputs.
    pub further_inputs: bool,
}

/// A tile and a split, with the cycles that the launch takes.
#[derive(Clone, Copy, Debug)]
struct Launch {
    tile: GatherTile,
    split: u64,
    cycles: u64,
}

impl Extents {
    fn steps(&self) -> u64 {
        self.terms.div_ceil(STEP) as u64
    }

    /// Blocks for one part of the sums: along columns, rows and products.
    fn grid(&self, tile: &GatherTile) -> [u64; 3] {
        [(self.columns as u64).div_ceil(tile.bn), (self.rows as u64).div_ceil(tile.bm), self.products as u64]
    }

    fn tiles(&self, tile: &GatherTile) -> u64 {
        self.grid(tile).iter().fold(1, |product: u64, &n| product.saturating_mul(n))
    }

    /// Bytes of partial sums: those of all outputs of a tile, inside the result or not.
    fn workspace(&self, tile: &GatherTile, split: u64) -> u64 {
        if split == 1 { 0 } else { self.tiles(tile).saturating_mul(split * tile.bm * tile.bn * 4) }
    }

    /// Cycles of the launch; `None` if no block fits on the device, or the split is of no use.
    fn cycles(&self, device: &DeviceModel, tile: &GatherTile, split: u64) -> Option<u64> {
        let per_sm = device.blocks_per_sm(tile.threads(), u64::from(tile.registers()), tile.shared_bytes())?;
        let workspace = self.workspace(tile, split);
        if split * self.products as u64 > MAX_LAYERS {
            return None;
        }
        if split > 1 && (split * 2 > self.steps() || workspace > MAX_WORKSPACE || workspace / 4 > MAX_ELEMENTS) {
            return None;
        }
        let steps = self.steps().div_ceil(split);
        let [first, further] = tile.around[usize::from(split > 1)];
        let copies = STEP as u64 * tile.bn / tile.threads();
        let wave = |blocks: u64| {
            let locate = if self.straddles { copies * LOCATE_ALONE.max(LOCATE * blocks) } else { 0 };
            let quads = if self.quads { QUAD * tile.tm * tile.tn } else { 0 };
            let inputs = if self.further_inputs { FURTHER_INPUTS } else { 0 };
            let around = first + further * (blocks - 1) + inputs - quads;
            steps.saturating_mul(tile.step(device, blocks) + locate).saturating_add(around)
        };
        let blocks = self.tiles(tile).saturating_mul(split);
        let (full, rest) = (blocks / (device.sms * per_sm), blocks % (device.sms * per_sm));
        let mut cycles = full.saturating_mul(wave(per_sm));
        if rest > 0 {
            cycles = cycles.saturating_add(wave(rest.div_ceil(device.sms)));
        }
        if split > 1 {
            cycles = cycles.saturating_add(REDUCE + split * tile.bm * tile.bn * 4 / REDUCED_PER_CYCLE);
        }
        Some(cycles)
    }

    /// All launches, the fastest first; ties go to the larger tile and the smaller
    /// split.
    fn launches(&self, device: &DeviceModel) -> Vec<Launch> {
        let all = TILES.iter().flat_map(|tile| SPLITS.map(|split| (tile, split)));
        let mut launches: Vec<Launch> =
            all.filter_map(|(&tile, split)| Some(Launch { tile, split, cycles: self.cycles(device, &tile, split)? })).collect();
        launches.sort_by_key(|launch| launch.cycles);
        launches
    }
}

/// What distinguishes the kernels of an operator from another's.
pub(super) struct Product<'a> {
    pub extents: Extents,
    pub signature: String,
    pub words: String,
    /// `struct Shape`.
    pub shape: Vec<String>,
    /// The template, with what comes between Shape and tile, and between tile and epilogue:
    /// `conv_gather`, no further arguments.
    pub template: &'static str,
    pub operands: [&'static str; 2],
    /// Template arguments after the tile: `PackedB<Shape, true>, `; may be empty.
    pub arguments: String,
    /// In the names of the candidates, what distinguishes kernels of one signature: which operands
    /// are packed.
    pub variant: &'static str,
    pub packings: Vec<(usize, Packing)>,
    pub epilogue: &'a Epilogue,
}

/// Whether the family computes operators with such operands on the device.
pub(super) fn takes(ctx: &OpContext) -> bool {
    ctx.device.compute_capability >= CAPABILITY && ctx.inputs[..2].iter().all(|x| x.dtype == DType::F32)
}

/// The candidates, the fastest first.
pub(super) fn specs(ctx: &OpContext, product: &Product) -> Vec<KernelSpec> {
    let launches = product.extents.launches(ctx.device);
    let kept = if ctx.all { launches.len() } else { KEPT };
    launches.iter().take(kept).map(|launch| spec(product, launch)).collect()
}

fn spec(product: &Product, &Launch { tile, split, cycles }: &Launch) -> KernelSpec {
    let Product { extents, template, epilogue, .. } = product;
    let [columns, rows, products] = extents.grid(&tile);
    let steps = extents.steps().div_ceil(split);
    let (parts, counters) = if split == 1 {
        ("Parts<1>{}".to_string(), 0)
    } else {
        (format!("Parts<{split}>{{workspace, counters}}"), extents.tiles(&tile) as u32)
    };
    let ([a, b], bias, more) = (product.operands, epilogue.bias_argument, &epilogue.more_arguments);
    let mut body = product.shape.clone();
    body.push(format!("using Tile = {};", tile.cpp()));
    body.push(format!("{template}<Shape, Tile, {}{}>({a}, {b}, {bias}, y, {parts}{more});", product.arguments, epilogue.cpp));
    let shares = if split == 1 { String::new() } else { format!(" {split} blocks share the sums of a tile.") };
    KernelSpec {
        signature: product.signature.clone(),
        candidate: format!("gather{}{}x{}s{split}", product.variant, tile.bm, tile.bn),
        comment: vec![
            product.words.clone(),
            format!("A block of {} threads computes {} rows of {} columns.{shares}", tile.threads(), tile.bm, tile.bn),
        ],
        header: "gather_gemm.cuh",
        params: epilogue.params.clone(),
        sync: true,
        threads: tile.threads() as u32,
        grid: [columns, rows, products * split],
        static_shared_bytes: 0,
        registers: tile.registers(),
        // a single step is not a loop if the compiler knows that there is only one
        trips: trips(&[if split == 1 && steps == 1 { 0 } else { steps }]),
        needs: Needs {
            shared_bytes: tile.shared_bytes() as u32,
            resident_blocks: Some(tile.resident),
            cycles: Some(cycles),
            split: split as u32,
            workspace_bytes: extents.workspace(&tile, split),
            counters,
            packings: product.packings.clone(),
            min_capability: CAPABILITY,
            ..Needs::default()
        },
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::device;

    fn extents(rows: usize, columns: usize, terms: usize) -> Extents {
        Extents { rows, columns, products: 1, terms, straddles: false, quads: true, further_inputs: false }
    }

    fn best(extents: Extents, name: &str) -> (u64, u64, u64) {
        let launch = extents.launches(&device(name).unwrap())[0];
        (launch.tile.bm, launch.tile.bn, launch.split)
    }

    #[test]
    fn small_products_split_their_sums() {
        let deep = extents(384, 64, 448 * 9);
        let (bm, bn, split) = best(deep, "h100");
        let blocks = (384 / bm) * 64u64.div_ceil(bn) * split;
        assert!(split >= 8 && blocks >= 96, "{bm}x{bn}, split {split}");
        let wide = extents(256, 112 * 112, 64);
        assert_eq!(best(wide, "h100").2, 1, "blocks enough without");
    }

    #[test]
    fn a_split_is_no_finer_than_the_steps() {
        let shallow = extents(32, 32, 48);
        let all = shallow.launches(&device("a40").unwrap());
        assert!(all.iter().all(|launch| launch.split == 1), "{all:?}");
    }

    /// Within a tenth, so that a change of the machine code that matters reaches the choice.
    #[test]
    fn cycles_are_those_of_the_machine_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benchmarks/machine_code/table.tsv");
        let table = std::fs::read_to_string(path).unwrap();
        for t in TILES {
            for (architecture, cycles) in ["sm_80", "sm_86", "sm_90"].into_iter().zip(t.cycles) {
                let body = format!("1x7, whole steps of a tap: {}x{}\t{architecture}\t", t.bm, t.bn);
                let row = table.lines().find_map(|line| line.strip_prefix(&body)).expect("a row of the table");
                let simulated: Vec<Option<u64>> = row.split('\t').skip(6).map(|cell| cell.parse().ok()).collect();
                assert!(simulated.len() == 3 && simulated[0].is_some(), "{row}");
                for (cycles, simulated) in cycles.into_iter().zip(simulated) {
                    let near = |simulated: u64| cycles.abs_diff(simulated) * 10 <= simulated;
                    assert!(simulated.is_none_or(near), "{body}{row}: {:?}", t.cycles);
                }
            }
        }
    }

    #[test]
    fn every_tile_fits_its_devices() {
        for name in ["a40", "a100", "h100", "l4", "rtx4090"] {
            let device = device(name).unwrap();
            for t in TILES {
                assert!(device.blocks_per_sm(t.threads(), t.registers().into(), t.shared_bytes()).is_some(), "{t:?} on {name}");
                assert_eq!(t.bm * STEP as u64 / 4 % t.threads(), 0, "{t:?}");
            }
        }
    }
}
