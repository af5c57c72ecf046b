//! Matrix product: tiles, or, for one or a few vectors, kernels that read the matrix once per
//! vector; for integers and f64, and for more products than a grid has layers, one
//! thread per output.

use super::expr::Epilogue;
use super::loops::{Strided, counted, trips};
use super::packing::Packing;
use super::spec::{KernelSpec, Needs, blocks, shape_struct};
use super::{OpContext, gather_gemm, tile};
use crate::Result;
use crate::graph::MatMul;

/// With at most this many vectors, the matrix is read once for each.
const MAX_VECTORS: usize = 4;

/// The most products of a batch that the third axis of a grid can number.
const MAX_GRID_Z: usize = 65_535;

pub(super) fn specs(ctx: &OpContext, matmul: &MatMul) -> Result<Vec<KernelSpec>> {
    check(ctx, matmul)?;
    let epilogue = Epilogue::new(ctx, ["a", "b"], matmul.bias, matmul.n, &matmul.epilogue)?;
    if !tile::takes(ctx.inputs[0].dtype) || matmul.batch > MAX_GRID_Z {
        return Ok(vec![by_thread(ctx, matmul, &epilogue)]);
    }
    let mut specs = Vec::new();
    if matmul.m.min(matmul.n) <= MAX_VECTORS {
        specs.push(gemv(matmul, &epilogue));
    }
    if gather_gemm::takes(ctx) {
        specs.extend(gathered(ctx, matmul, &epilogue));
        return Ok(specs);
    }
    let tiles = tile::ranked(matmul.m, matmul.n, matmul.batch, ctx.device.sms);
    specs.extend(tiles.iter().take(4 - 2 * specs.len()).map(|tile| tiled(matmul, &epilogue, tile)));
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
            divides: false,
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

fn tiled(matmul: &MatMul, epilogue: &Epilogue, tile: &tile::TileShape) -> KernelSpec {
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
        needs: Needs::default(),
        body,
    }
}

fn gemv(matmul: &MatMul, epilogue: &Epilogue) -> KernelSpec {
    let MatMul { batch, m, n, k, a_strides: a, b_strides: b, c_strides: c, .. } = *matmul;
    // Strides along (batch, line, k) of the matrix, (batch, vector, k) of the vectors, (line,
    // vector) of the output.
    let b_is_matrix = m <= n;
    let (lines, vectors, matrix, vector, out) =
        if b_is_matrix { (n, m, [b[0], b[2], b[1]], a, [c[2], c[1]]) } else { (m, n, a, [b[0], b[2], b[1]], [c[1], c[2]]) };
    let mut body = shape_struct(&[
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
    // the 8 warps of a block share the sums: each warp's loop is unrolled completely up to 64
    // iterations
    let of_lines = if k.div_ceil(8) <= 64 { vec![] } else { Strided::unrolled(k.div_ceil(8), 4).both() };
    let (how, threads, per_block, shared, trips, description) = if by_lines {
        ("gemv_lines", 256, 32, 1024, of_lines, "A block computes 32 neighbouring outputs; its warps share the sums.")
    } else {
        ("gemv_warp", 128, 4, 0, Strided::warp(k, 32 * width).both(), "A warp computes one output.")
    };
    let operands = if b_is_matrix { "b, a" } else { "a, b" };
    let (bias, more) = (epilogue.bias_argument, &epilogue.more_arguments);
    body.push(format!("{how}<Shape, {threads}, {}>({operands}, {bias}, y{more});", epilogue.cpp));
    KernelSpec {
        signature: signature(matmul, epilogue),
        candidate: how.into(),
        comment: vec![words(matmul, epilogue), description.into()],
        header: "matmul.cuh",
        params: epilogue.params.clone(),
        sync: true,
        threads,
        grid: [blocks(lines as u64, per_block), vectors as u64, batch as u64],
        static_shared_bytes: shared,
        registers: 40,
        trips,
        needs: Needs::default(),
        body,
    }
}
