//! Tile shapes of `tile.cuh`, and which of them a product of a given size suggests.
//!
//! Large tiles load less per multiplication; small tiles make more blocks. [`ranked`] orders the
//! shapes by a rough time: the busiest multiprocessor's blocks, times the work per block, times the
//! shape's inefficiency, over how well its threads hide latency.

use crate::device::DeviceModel;
use crate::graph::DType;

/// One shape: `Tile<bm, bn, bk, tm, tn>`.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileShape {
    /// Rows per block.
    pub bm: u32,
    /// Columns per block.
    pub bn: u32,
    /// Terms of the sum per step.
    pub bk: u32,
    /// Rows per thread.
    pub tm: u32,
    /// Columns per thread.
    pub tn: u32,
    /// Registers per thread: what ptxas 12.9 needs on sm_86 for a 3x3 convolution.
    pub registers: u32,
    /// Time per multiplication on a full GPU, in percent of the largest shape's.
    inefficiency: u64,
}

const fn tile(bm: u32, bn: u32, bk: u32, tm: u32, tn: u32, registers: u32, inefficiency: u64) -> TileShape {
    TileShape { bm, bn, bk, tm, tn, registers, inefficiency }
}

/// All shapes, large to small.
const TILES: &[TileShape] = &[
    tile(128, 128, 8, 8, 8, 128, 100),
    tile(128, 64, 8, 8, 8, 128, 105),
    tile(64, 128, 8, 8, 8, 128, 105),
    tile(64, 64, 16, 8, 4, 96, 115),
    tile(64, 32, 16, 4, 4, 72, 140),
    tile(32, 64, 16, 4, 4, 72, 140),
    tile(32, 32, 16, 4, 4, 93, 160),
    tile(16, 64, 16, 4, 4, 91, 170),
];

/// Whether a tile multiplies elements of this type: it computes in single precision.
pub(super) fn takes(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32)
}

impl TileShape {
    /// Threads per block.
    pub fn threads(&self) -> u32 {
        (self.bm / self.tm) * (self.bn / self.tn)
    }

    /// Static shared memory per block: two tiles of each operand, rows padded by four floats.
    pub fn shared_bytes(&self) -> u32 {
        2 * self.bk * (self.bm + self.bn + 8) * 4
    }

    /// Blocks for `rows` by `columns`: (along columns, along rows).
    pub fn grid(&self, rows: usize, columns: usize) -> [u64; 2] {
        [(columns as u64).div_ceil(u64::from(self.bn)), (rows as u64).div_ceil(u64::from(self.bm))]
    }

    /// Iterations of the main loop for sums of `terms` terms. A step takes `bk` of them, and a
    /// single step is not a loop. The compiler peels off the last iteration, which still counts.
    pub fn steps(&self, terms: usize) -> u64 {
        match terms.div_ceil(self.bk as usize) {
            1 => 0,
            steps => steps as u64,
        }
    }

    /// `bm64bn64bk16`.
    pub fn name(&self) -> String {
        format!("bm{}bn{}bk{}", self.bm, self.bn, self.bk)
    }

    /// `Tile<64, 64, 16, 8, 4>`.
    pub fn cpp(&self) -> String {
        format!("Tile<{}, {}, {}, {}, {}>", self.bm, self.bn, self.bk, self.tm, self.tn)
    }

    fn rough_time(&self, rows: usize, columns: usize, products: usize, sms: u64) -> u64 {
        let [x, y] = self.grid(rows, columns);
        let on_one = x.saturating_mul(y).saturating_mul(products as u64).div_ceil(sms);
        let threads = on_one.saturating_mul(u64::from(self.threads())).min(256); // 256 threads keep a multiprocessor busy
        let work = u64::from(self.bm * self.bn) * self.inefficiency;
        on_one.saturating_mul(work).saturating_mul(256) / threads
    }
}

/// A product that tiles compute `products` times.
#[derive(Clone, Copy, Debug)]
pub(super) struct TiledProduct {
    pub rows: usize,
    pub columns: usize,
    pub products: usize,
    /// Terms of each sum.
    pub terms: usize,
}

/// Cycles before and after the sums: the launch of a block, the first loads, the stores. An
/// **assumption**.
const AROUND: u64 = 1500;

/// All shapes with the cycles that they take on `device`, the fastest first; ties go to the larger.
/// The outputs of a tile outside the result count like the others.
pub(super) fn ranked(product: TiledProduct, device: &DeviceModel) -> Vec<(TileShape, u64)> {
    let TiledProduct { rows, columns, products, terms } = product;
    let lanes = (device.fp32_lanes_per_sm as f64 * device.compute_efficiency) as u64;
    let cycles = |tile: &TileShape| {
        let time = tile.rough_time(rows, columns, products, device.sms).saturating_mul(terms as u64);
        AROUND.saturating_add(time / (100 * lanes.max(1)))
    };
    let mut tiles: Vec<_> = TILES.iter().map(|tile| (*tile, cycles(tile))).collect();
    tiles.sort_by_key(|&(_, cycles)| cycles);
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::device;

    #[test]
    fn small_products_get_small_tiles() {
        let area = |rows, columns| {
            let product = TiledProduct { rows, columns, products: 1, terms: 576 };
            let t = ranked(product, &device("a40").unwrap())[0].0;
            t.bm * t.bn
        };
        assert_eq!(area(512, 112 * 112), 128 * 128);
        assert!(area(192, 17 * 17) <= 64 * 32);
        assert!(area(16, 55 * 55) <= 64 * 32);
    }

    #[test]
    fn steps_cover_the_sum() {
        for t in TILES {
            let bk = u64::from(t.bk);
            assert_eq!([576, 577, 3 * 7 * 7].map(|terms| t.steps(terms)), [576, 577, 147u64].map(|terms| terms.div_ceil(bk)), "{t:?}");
            assert_eq!(t.steps(8), 0, "one step is no loop");
        }
    }

    #[test]
    fn threads_cover_every_tile() {
        for t in TILES {
            assert!(t.threads() % t.bn == 0 && t.threads() <= 1024 && t.shared_bytes() <= 48 * 1024, "{t:?}");
            assert_eq!(t.bk % (t.threads() / t.bn), 0, "{t:?}");
            assert_eq!(t.bm * t.bk % (4 * t.threads()), 0, "{t:?}");
            assert_eq!(t.bn * t.bk % (4 * t.threads()), 0, "{t:?}");
        }
    }
}
