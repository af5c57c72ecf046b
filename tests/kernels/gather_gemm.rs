//! Convolutions and products that gather their operands: every tile, loader, split and epilogue,
//! against plain loops.

use std::collections::BTreeSet;

use hiosc::graph::{Binary, Conv, Expr, OpKind, Unary};
use hiosc::kernel::{self, Kernel};

use super::conv::conv_case;
use super::matmul::matmul_case;
use crate::support::a40;
use crate::support::harness::{KernelCase, Random, check_kernels, graph_with};
use crate::support::operators::MatrixLayout::{self, Columns, Rows};
use crate::support::operators::{relu, two};

const TILES: [&str; 9] = ["32x32", "32x64", "64x32", "128x32", "32x128", "64x64", "64x128", "128x64", "128x128"];
const SPLITS: [u64; 13] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24];

/// Some kernels of a case with these constants: for each number a tile and a split, or the largest
/// split below it that the case has steps for.
fn some(case: &KernelCase, constants: &[usize], numbers: std::ops::Range<usize>) -> Vec<Kernel> {
    let (graph, op) = graph_with(case, constants);
    let all = kernel::every_candidate(&graph, op, &a40()).unwrap_or_else(|e| panic!("{:?}: {e}", case.kind));
    let one = |number: usize| {
        let (tile, most) = (TILES[number % TILES.len()], SPLITS[number * 4 % SPLITS.len()]);
        let suits = |kernel: &&Kernel| {
            let (of, split) = candidate(&kernel.name);
            of == tile && split.parse().is_ok_and(|split: u64| split <= most)
        };
        all.iter().filter(suits).max_by_key(|kernel| kernel.split).unwrap_or_else(|| panic!("{:?} has no tile {tile}", case.kind)).clone()
    };
    let mut kernels: Vec<Kernel> = numbers.map(one).collect();
    kernels.sort();
    kernels.dedup();
    kernels
}

/// The tile and the split of a kernel: `gatherb64x32s4`.
fn candidate(name: &str) -> (String, String) {
    let last = name.rsplit('_').next().unwrap_or_default().trim_start_matches("gather").trim_start_matches(['a', 'b']);
    let (tile, split) = last.split_once('s').unwrap_or_default();
    (tile.into(), split.into())
}

fn assert_all_tiles_and_splits(names: &[String]) {
    if names.is_empty() {
        return; // no C++ compiler
    }
    let (tiles, splits): (BTreeSet<String>, BTreeSet<String>) = names.iter().map(|name| candidate(name)).unzip();
    assert!(tiles.len() == TILES.len() && splits.len() == SPLITS.len(), "{tiles:?}, {splits:?}");
}

fn pad(p: usize, conv: Conv) -> Conv {
    Conv { pads_begin: [p, p], pads_end: [p, p], ..conv }
}

#[test]
fn gathered_convolutions() {
    let mut r = Random(71);
    let plain = crate::support::operators::plain;
    let residual = two(Binary::Add).then(Unary::Relu);
    let fused = |conv: Conv| Conv { bias: true, epilogue: relu(), ..conv };
    let strided = |conv: Conv| Conv { strides: [2, 2], ..conv };
    let cases = vec![
        // planes: in fours, one by one, several images, channels that do not fill a step
        conv_case(&mut r, [1, 800, 8, 8], 48, fused(plain([1, 1]))),
        conv_case(&mut r, [1, 800, 7, 7], 33, plain([1, 1])),
        conv_case(&mut r, [3, 100, 5, 5], 17, fused(plain([1, 1]))),
        conv_case(&mut r, [2, 775, 6, 6], 130, Conv { epilogue: residual.clone(), ..plain([1, 1]) }),
        // windows, whose taps begin with a step
        conv_case(&mut r, [1, 96, 17, 17], 40, fused(pad(1, plain([3, 3])))),
        conv_case(&mut r, [1, 112, 9, 9], 64, Conv { pads_begin: [0, 3], pads_end: [0, 3], ..plain([1, 7]) }),
        conv_case(&mut r, [1, 112, 9, 8], 64, Conv { pads_begin: [3, 0], pads_end: [3, 0], ..plain([7, 1]) }),
        conv_case(&mut r, [2, 96, 13, 11], 9, Conv { bias: true, epilogue: residual.clone(), ..pad(1, plain([3, 3])) }),
        conv_case(&mut r, [1, 768, 9, 9], 20, strided(plain([1, 1]))),
        conv_case(&mut r, [1, 96, 15, 14], 130, Conv { dilations: [2, 3], ..pad(2, plain([3, 3])) }),
        // windows, whose taps begin within a step
        conv_case(&mut r, [1, 3, 35, 33], 32, fused(strided(plain([3, 3])))),
        conv_case(&mut r, [1, 3, 29, 31], 24, fused(pad(3, strided(plain([7, 7]))))),
        conv_case(&mut r, [1, 34, 10, 9], 70, Conv { pads_begin: [0, 2], pads_end: [3, 1], strides: [1, 2], ..plain([4, 6]) }),
        conv_case(&mut r, [1, 90, 5, 5], 10, fused(pad(4, plain([3, 3])))),
        conv_case(&mut r, [1, 25, 1, 40], 5, Conv { strides: [1, 3], ..plain([1, 32]) }),
        // groups
        conv_case(&mut r, [1, 1600, 8, 8], 40, Conv { groups: 2, ..fused(plain([1, 1])) }),
        conv_case(&mut r, [2, 270, 7, 7], 90, Conv { groups: 3, epilogue: residual, bias: true, ..pad(1, plain([3, 3])) }),
        conv_case(&mut r, [1, 192, 7, 7], 150, Conv { groups: 2, ..pad(1, plain([3, 3])) }),
    ];
    let work = cases.into_iter().enumerate().map(|(i, case)| (some(&case, &[1], i * 5..i * 5 + 5), case)).map(|(k, c)| (c, k)).collect();
    assert_all_tiles_and_splits(&check_kernels("gathered convolutions", work));
}

#[test]
fn gathered_products() {
    let mut r = Random(72);
    let layouts = [[Rows, Columns, Rows], [Rows, Rows, Rows], [Columns, Rows, Rows], [Columns, Columns, Columns], [Rows, Rows, Columns]];
    let extents =
        [[1, 100, 77, 800], [2, 40, 36, 777], [1, 65, 64, 800], [3, 33, 130, 775], [1, 9, 300, 790], [1, 20, 12, 64], [2, 16, 48, 17]];
    let epilogues = [Expr::identity(), relu(), two(Binary::Add)];
    let mut work = Vec::new();
    for (i, constants) in [&[][..], &[0], &[1]].into_iter().enumerate() {
        for (j, &layout) in layouts.iter().enumerate() {
            for k in 0..2 {
                let number = (i * layouts.len() + j) * 2 + k;
                let extent = extents[number % extents.len()];
                let layout: [MatrixLayout; 3] = layout;
                let case = matmul_case(&mut r, extent, layout, number.is_multiple_of(2), epilogues[number % 3].clone());
                let kernels = some(&case, constants, number * 2..number * 2 + 2);
                assert!(matches!(case.kind, OpKind::MatMul(_)));
                work.push((case, kernels));
            }
        }
    }
    assert_all_tiles_and_splits(&check_kernels("gathered products", work));
}
