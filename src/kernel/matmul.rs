//! Matrix product: tiles, or, for one or a few vectors, kernels that read the matrix once per
//! vector; for integers and f64, and for more products than a grid has layers, one
//! thread per output.

use super::expr::Epilogue;
use super::loops::{counted, trips};
use super::packing::Packing;
use super::spec::{KernelSpec, Needs, SHUFFLES, blocks, shape_struct, warps_of_rows};
use super::{Effort, OpContext, gather_gemm, tile};
use crate::Result;
use crate::graph::MatMul;

/// Products of at most this many vectors may be computed without tiles, which they would not fill.
const MAX_VECTORS: usize = 8;

/// Registers for what a thread has in flight, if a block has `threads`.
fn in_flight(threads: u32) -> usize {
    if threads > 256 { 24 } else { 96 }
}

/// The most products of a batch that the third axis of a grid can number.
const MAX_GRID_Z: usize = 65_535;

pub(super) fn specs(ctx: &OpContext, matmul: &MatMul) -> Result<Vec<KernelSpec>> {
    check(ctx, matmul)?;
    let epilogue = Epilogue::new(ctx, ["a", "b"], matmul.bias, matmul.n, &matmul.epilogue)?;
    if !tile::takes(ctx.inputs[0].dtype) || matmul.batch > MAX_GRID_Z {
        return Ok(vec![by_thread(ctx, matmul, &epilogue)]);
    }
    let mut specs = Vec::new();
    let vectors = matmul.m.min(matmul.n);
    if vectors <= MAX_VECTORS {
        specs.extend(gemv(ctx, matmul, &epilogue, vectors));
        if vectors > 1 {
            specs.extend(gemv(ctx, matmul, &epilogue, 1));
        }
    }
    if gather_gemm::takes(ctx) {
        specs.extend(gathered(ctx, matmul, &epilogue));
        return Ok(specs);
    }
    let product = tile::TiledProduct { rows: matmul.m, columns: matmul.n, products: matmul.batch, terms: matmul.k };
    let tiles = tile::ranked(product, ctx.device);
    specs.extend(tiles.iter().map(|tile| tiled(matmul, &epilogue, tile)));
    Ok(specs)
}

/// Checks that every offset that the kernel computes is inside its tensor.
fn check(ctx: &OpContext, matmul: &MatMul) -> Result<()> {
    ctx.require(ctx.inputs.len() >= 2, "an operand is missing")?;
    let MatMul { batch, m, n, k, .. } = *matmul;
    let inside = |extents: [usize; 3], strides: [usize; 3], elements: u64| {
        let last =
            extents.iter().zip(strides).try_fold(0u64, |sum, (&e, s)| sum.checked_add((e as u64).checked_sub(1)?.checked_mul(s as u64)?));
        last.is_some_and(|last| last < elements)
    };
    let sound = inside([batch, m, k], matmul.a_strides, ctx.inputs[0].elements())
        && inside([batch, k, n], matmul.b_strides, ctx.inputs[1].elements())
        && inside([batch, m, n], matmul.c_strides, ctx.output.elements())
        && (batch as u64).saturating_mul(m as u64).saturating_mul(n as u64) == ctx.output.elements();
    ctx.require(sound, "its extents and strides do not fit its operands")
}

/// A stride as the kernel gets it: 0 if its axis has one element, since it is never used.
fn stride(extent: usize, stride: usize) -> usize {
    if extent == 1 { 0 } else { stride }
}

fn signature(matmul: &MatMul, epilogue: &Epilogue) -> String {
    let MatMul { batch, m, n, k, .. } = *matmul;
    let three = |[x, y, z]: [usize; 3], strides: [usize; 3]| {
        format!("{}x{}x{}", stride(x, strides[0]), stride(y, strides[1]), stride(z, strides[2]))
    };
    format!(
        "matmul_b{batch}m{m}n{n}k{k}_a{}_b{}_c{}{}",
        three([batch, m, k], matmul.a_strides),
        three([batch, k, n], matmul.b_strides),
        three([batch, m, n], matmul.c_strides),
        epilogue.suffix
    )
}

fn words(matmul: &MatMul, epilogue: &Epilogue) -> String {
    let MatMul { batch, m, n, k, .. } = *matmul;
    let times = if batch == 1 { String::new() } else { format!(", batch of {batch}") };
    format!("Matrix product y [{m} x {n}] = a [{m} x {k}] * b [{k} x {n}]{times}{}.", epilogue.words)
}

/// `struct Shape`, beginning with `sizes`.
fn shape(matmul: &MatMul, sizes: &[(&str, usize)]) -> Vec<String> {
    let MatMul { batch, m, n, k, a_strides: a, b_strides: b, c_strides: c, .. } = *matmul;
    shape_struct(&[
        sizes,
        &[("A_BATCH", stride(batch, a[0])), ("A_M", stride(m, a[1])), ("A_K", stride(k, a[2]))],
        &[("B_BATCH", stride(batch, b[0])), ("B_K", stride(k, b[1])), ("B_N", stride(n, b[2]))],
        &[("C_BATCH", stride(batch, c[0])), ("C_M", stride(m, c[1])), ("C_N", stride(n, c[2]))],
    ])
}

fn by_thread(ctx: &OpContext, matmul: &MatMul, epilogue: &Epilogue) -> KernelSpec {
    let MatMul { batch, m, n, k, .. } = *matmul;
    let mut body = shape(matmul, &[("BATCH", batch), ("M", m), ("N", n), ("K", k), ("BIAS", usize::from(matmul.bias))]);
    let outputs = (batch * m * n) as u64;
    let threads = ctx.block_size(outputs);
    let (bias, more) = (epilogue.bias_argument, &epilogue.more_arguments);
    body.push(format!("matmul_thread<Shape, {threads}, {}>(a, b, {bias}, y{more});", epilogue.cpp));
    KernelSpec {
        signature: signature(matmul, epilogue),
        candidate: format!("thread{threads}"),
        comment: vec![words(matmul, epilogue), "A thread computes one output.".into()],
        header: "matmul.cuh",
        params: epilogue.params.clone(),
        sync: false,
        threads,
        grid: [blocks(outputs, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 40,
        trips: trips(&[counted(k, 64, 32)]),
        needs: Needs::default(),
        body,
    }
}

/// The candidates of `gather_gemm.rs`.
fn gathered(ctx: &OpContext, matmul: &MatMul, epilogue: &Epilogue) -> Vec<KernelSpec> {
    let MatMul { batch, m, n, k, a_strides: a, b_strides: b, .. } = *matmul;
    let of_a = packing(batch, m, k, a).filter(|&packing| ctx.packable(0, packing));
    let of_b = packing(batch, n, k, [b[0], b[2], b[1]]).filter(|&packing| ctx.packable(1, packing));
    let operand = |packing: Option<Packing>, letter: &str| match packing {
        Some(Packing::TapMajor { groups, .. }) => format!("Packed{letter}<Shape, {}>", groups == 1),
        None => format!("Strided{letter}<Shape>"),
    };
    let product = gather_gemm::Product {
        extents: gather_gemm::Extents {
            rows: m,
            columns: n,
            products: batch,
            terms: k,
            straddles: false,
            quads: n.is_multiple_of(4) && stride(n, matmul.c_strides[2]) == 1,
            further_inputs: !epilogue.more_arguments.is_empty(),
        },
        signature: signature(matmul, epilogue),
        words: words(matmul, epilogue),
        shape: shape(matmul, &[("M", m), ("N", n), ("K", k), ("BIAS", usize::from(matmul.bias))]),
        template: "matmul_gather",
        operands: ["a", "b"],
        arguments: format!("{}, {}, ", operand(of_a, "A"), operand(of_b, "B")),
        variant: match (of_a, of_b) {
            (None, None) => "",
            (Some(_), None) => "a",
            (None, Some(_)) => "b",
            (Some(_), Some(_)) => "ab",
        },
        packings: [of_a, of_b].into_iter().enumerate().filter_map(|(input, packing)| Some((input, packing?))).collect(),
        epilogue,
    };
    gather_gemm::specs(ctx, &product)
}

/// The packing of a whole constant of `lines` lines of `terms` terms, whose strides along
/// (batch, line, term) are given; `None` if it has gaps or another order.
fn packing(batch: usize, lines: usize, terms: usize, [of_batch, of_line, of_term]: [usize; 3]) -> Option<Packing> {
    let is = |extent: usize, stride: usize, expected: usize| extent == 1 || stride == expected;
    let transposed = match () {
        () if is(terms, of_term, 1) && is(lines, of_line, terms) => false,
        () if is(lines, of_line, 1) && is(terms, of_term, lines) => true,
        () => return None,
    };
    let groups = match () {
        () if is(batch, of_batch, 0) => 1,
        () if of_batch == lines * terms => batch,
        () => return None,
    };
    Some(Packing::TapMajor { groups, rows: lines, channels: terms, taps: 1, transposed })
}

fn tiled(matmul: &MatMul, epilogue: &Epilogue, (tile, cycles): &(tile::TileShape, u64)) -> KernelSpec {
    let MatMul { batch, m, n, k, .. } = *matmul;
    let mut body = shape(matmul, &[("M", m), ("N", n), ("K", k), ("BIAS", usize::from(matmul.bias))]);
    let (bias, more) = (epilogue.bias_argument, &epilogue.more_arguments);
    body.push(format!("matmul_tiled<Shape, {}, {}>(a, b, {bias}, y{more});", tile.cpp(), epilogue.cpp));
    let [columns, rows] = tile.grid(m, n);
    KernelSpec {
        signature: signature(matmul, epilogue),
        candidate: tile.name(),
        comment: vec![words(matmul, epilogue), format!("A block of {} threads computes {} x {}.", tile.threads(), tile.bm, tile.bn)],
        header: "matmul.cuh",
        params: epilogue.params.clone(),
        sync: true,
        threads: tile.threads(),
        grid: [columns, rows, batch as u64],
        static_shared_bytes: tile.shared_bytes(),
        registers: tile.registers,
        trips: trips(&[tile.steps(k)]),
        needs: Needs { cycles: Some(*cycles), ..Needs::default() },
        body,
    }
}

/// The kernels that multiply one line of the matrix, or 32, by `at_once` vectors.
fn gemv(ctx: &OpContext, matmul: &MatMul, epilogue: &Epilogue, at_once: usize) -> Vec<KernelSpec> {
    let MatMul { batch, m, n, k, a_strides: a, b_strides: b, c_strides: c, .. } = *matmul;
    // Strides along (batch, line, k) of the matrix, (batch, vector, k) of the vectors, (line,
    // vector) of the output.
    let b_is_matrix = m <= n;
    let (lines, vectors, matrix, vector, out) =
        if b_is_matrix { (n, m, [b[0], b[2], b[1]], a, [c[2], c[1]]) } else { (m, n, a, [b[0], b[2], b[1]], [c[1], c[2]]) };
    let body = shape_struct(&[
        &[("LINES", lines), ("VECTORS", vectors), ("K", k)],
        &[("MATRIX_BATCH", stride(batch, matrix[0])), ("MATRIX_LINE", stride(lines, matrix[1])), ("MATRIX_K", stride(k, matrix[2]))],
        &[("VECTOR_BATCH", stride(batch, vector[0])), ("VECTOR_VECTOR", stride(vectors, vector[1])), ("VECTOR_K", stride(k, vector[2]))],
        &[("OUT_BATCH", stride(batch, c[0])), ("OUT_LINE", stride(lines, out[0])), ("OUT_VECTOR", stride(vectors, out[1]))],
        &[("BIAS", usize::from(matmul.bias)), ("BIAS_LINE", usize::from(b_is_matrix)), ("BIAS_VECTOR", usize::from(!b_is_matrix))],
    ]);
    let by_lines = matrix[1] == 1 && matrix[2] != 1 && lines > 1;
    let quads = |[of_batch, of_line, of_k]: [usize; 3], lines: usize| {
        stride(k, of_k) == 1 && stride(lines, of_line).is_multiple_of(4) && stride(batch, of_batch).is_multiple_of(4)
    };
    let width = if k.is_multiple_of(4) && quads(matrix, lines) && quads(vector, vectors) { 4 } else { 1 };
    let operands = if b_is_matrix { "b, a" } else { "a, b" };
    let (bias, more) = (epilogue.bias_argument, &epilogue.more_arguments);
    let by = if at_once == 1 { "one vector".into() } else { format!("{at_once} vectors") };

    let spec = |how: &str, threads: u32| {
        let warps = threads as usize / 32;
        // of a warp: its iterations, the words that one of them loads, and what follows
        let (steps, loads, apart, per_block, shared, chain, description) = if by_lines {
            let shared = 4 * threads * at_once as u32;
            (
                k / warps,
                1 + at_once,
                1,
                32,
                shared,
                100 + 4 * warps as u64,
                format!("A block multiplies 32 neighbouring lines by {by}; its warps share the sums."),
            )
        } else {
            // the lanes of a warp read neighbours, or elements that are far apart
            let apart = if stride(k, matrix[2]) <= 1 { 1 } else { 32 };
            (
                k / (32 * width),
                width * (1 + at_once),
                apart,
                warps,
                0,
                at_once as u64 * SHUFFLES,
                format!("A warp multiplies one line by {by}."),
            )
        };
        let unroll = (in_flight(threads) / loads).clamp(1, steps.max(1));
        let multiply_adds = if by_lines { at_once } else { at_once * width };
        let effort = Effort {
            instructions: ((steps + 1) * (multiply_adds + 2 * loads / width) + 30 * at_once + 60) as u64,
            words: ((steps + 1) * loads * apart) as u64,
            rounds: (steps.div_ceil(unroll)).max(1) as u64,
            chain,
        };
        let mut body = body.clone();
        body.push(format!("{how}<Shape, {at_once}, {unroll}, {threads}, {}>({operands}, {bias}, y{more});", epilogue.cpp));
        KernelSpec {
            signature: signature(matmul, epilogue),
            candidate: format!("{how}{at_once}t{threads}"),
            comment: vec![words(matmul, epilogue), description],
            header: "matmul.cuh",
            params: epilogue.params.clone(),
            sync: true,
            threads,
            grid: [blocks(lines as u64, per_block as u32), (vectors / at_once) as u64, batch as u64],
            static_shared_bytes: shared,
            registers: (32 + at_once + unroll * loads) as u32,
            trips: trips(&[counted(steps, unroll, unroll)]),
            needs: Needs { effort: Some(effort), resident_blocks: Some(1), ..Needs::default() },
            body,
        }
    };
    if by_lines {
        // more warps share a sum if the lines alone do not keep the device busy
        let few = blocks(lines as u64, 32) * (vectors / at_once * batch) as u64 <= 2 * ctx.device.sms;
        let sizes = if few && k >= 256 { [1024, 256] } else { [256, 1024] };
        sizes.into_iter().map(|threads| spec("gemv_lines", threads)).collect()
    } else {
        vec![spec("gemv_warp", warps_of_rows(ctx, (lines * (vectors / at_once) * batch) as u64))]
    }
}
