//! Operators that only move elements: transposition, slice, padding, triangles.

use super::spec::{KernelSpec, Needs, blocks, by_x, strides_of, vector, words_of};
use super::{Effort, OpContext};
use crate::Result;
use crate::graph::{Pad, PadMode, Slice, Transpose, Trilu};

pub(super) fn transpose(ctx: &OpContext, Transpose { permutation }: &Transpose) -> Result<Vec<KernelSpec>> {
    let x = &ctx.only_input()?.shape;
    let out = &ctx.output.shape;
    let fits = permutation.len() == x.len()
        && out.len() == x.len()
        && (0..x.len()).all(|axis| permutation.contains(&axis))
        && permutation.iter().zip(out).all(|(&axis, &size)| x[axis] == size);
    ctx.require(fits, "its permutation and its shapes contradict each other")?;
    let own = strides_of(x);
    let strides = permutation.iter().map(|&axis| own[axis] as i64).collect();
    Ok(vec![strided(ctx, 0, strides)])
}

pub(super) fn slice(ctx: &OpContext, slice: &Slice) -> Result<Vec<KernelSpec>> {
    let x = &ctx.only_input()?.shape;
    let out = &ctx.output.shape;
    ctx.require([out.len(), slice.begin.len(), slice.step.len()] == [x.len(); 3], "it needs one start and one step per axis")?;
    let inside = |axis: usize| {
        let last = slice.begin[axis] as i128 + slice.step[axis] as i128 * (out[axis] as i128 - 1);
        slice.begin[axis] < x[axis] && (0..x[axis] as i128).contains(&last)
    };
    ctx.require((0..x.len()).all(inside), "it reads outside its input")?;
    let own = strides_of(x);
    let first = slice.begin.iter().zip(&own).map(|(&begin, &stride)| (begin * stride) as i64).sum();
    let strides = slice.step.iter().zip(&own).map(|(&step, &stride)| step as i64 * stride as i64).collect();
    Ok(vec![strided(ctx, first, strides)])
}

/// Copies the elements at `first` plus multiples of `strides`, in elements of the input, over the
/// output's axes.
fn strided(ctx: &OpContext, first: i64, strides: Vec<i64>) -> KernelSpec {
    let (dims, strides) = coalesce_strided(&ctx.output.shape, &strides);
    let last = dims.len() - 1;
    let most = vector(ctx.output.dtype);
    let aligned = first % most as i64 == 0 && strides[..last].iter().all(|s| s % most as i64 == 0);
    let width = if dims[last].is_multiple_of(most) && strides[last] == 1 && aligned { most as u64 } else { 1 };
    let elements = ctx.output.elements();
    let threads = ctx.block_size(elements / width);
    // neighbouring threads read elements that are a stride apart
    let apart = if width == 1 { strides[last].unsigned_abs().clamp(1, 32) } else { 1 };
    let effort = Effort { instructions: 40, words: words_of(ctx.output.dtype, width) * (1 + apart), rounds: 1, chain: 0 };
    let name_of_strides = strides.iter().map(|s| s.to_string().replace('-', "m")).collect::<Vec<_>>().join("x");
    let cpp = |values: &[String]| format!("Ints<{}>", values.join(", "));
    let dims_cpp = cpp(&dims.iter().map(|d| d.to_string()).collect::<Vec<_>>());
    let strides_cpp = cpp(&strides.iter().map(|s| s.to_string()).collect::<Vec<_>>());
    KernelSpec {
        signature: format!("copy_d{}_s{name_of_strides}_f{first}", by_x(&dims)),
        candidate: format!("v{width}t{threads}"),
        comment: vec![format!("y {} reads x from element {first}, with strides {strides:?} along y's axes.", by_x(&dims))],
        header: "copy.cuh",
        params: ctx.params(&["x"]),
        sync: false,
        threads,
        grid: [blocks(elements / width, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 24,
        trips: vec![],
        needs: Needs { effort: Some(effort), ..Needs::default() },
        body: vec![format!("strided_copy<{elements}, {dims_cpp}, {strides_cpp}, {first}, {width}, {threads}>(x, y);")],
    }
}

pub(super) fn pad(ctx: &OpContext, pad: &Pad) -> Result<Vec<KernelSpec>> {
    let x = &ctx.only_input()?.shape;
    let out = &ctx.output.shape;
    let fits = [out.len(), pad.before.len(), pad.after.len()] == [x.len(); 3]
        && (0..x.len()).all(|a| pad.before[a] + x[a] + pad.after[a] == out[a])
        && (pad.mode != PadMode::Reflect || (0..x.len()).all(|a| pad.before[a].max(pad.after[a]) < x[a]));
    ctx.require(fits, "its padding and its shapes contradict each other")?;
    let (mode, bits, words) = match pad.mode {
        PadMode::Constant(value) => ("PadConstant", value.bits(), format!("padded with {value}")),
        PadMode::Reflect => ("PadReflect", 0, "padded with its mirror image".into()),
        PadMode::Edge => ("PadEdge", 0, "padded with its edges".into()),
    };
    let axes = padded_axes(x, pad);
    let elements = ctx.output.elements();
    let threads = ctx.block_size(elements);
    let names = axes.iter().map(|a| format!("{}b{}x{}", a[0], a[1], a[2])).collect::<Vec<_>>().join("_");
    let list: String =
        axes.iter().map(|[size, before, extent, stride]| format!(", PadAxis<{size}, {before}, {extent}, {stride}>")).collect();
    let column = |i: usize| by_x(&axes.iter().map(|a| a[i]).collect::<Vec<_>>());
    let kind = mode.to_lowercase();
    Ok(vec![KernelSpec {
        signature: format!("{kind}_{names}_v{bits:08x}"),
        candidate: format!("t{threads}"),
        comment: vec![format!(
            "x {} {words}, starting at {:?} in y {}.",
            column(2),
            axes.iter().map(|a| a[1]).collect::<Vec<_>>(),
            column(0)
        )],
        header: "copy.cuh",
        params: ctx.params(&["x"]),
        sync: false,
        threads,
        grid: [blocks(elements, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 24,
        trips: vec![],
        needs: Needs::default(),
        body: vec![format!("padded_copy<{elements}, {mode}, 0x{bits:08x}u, {threads}{list}>(x, y);")],
    }])
}

pub(super) fn trilu(ctx: &OpContext, trilu: &Trilu) -> Result<Vec<KernelSpec>> {
    let x = ctx.only_input()?;
    let &[.., rows, columns] = &x.shape[..] else { return Err(ctx.wrong("it must have at least two axes")) };
    ctx.require(x.shape == ctx.output.shape, "its output does not fit its input")?;
    let elements = x.elements();
    let threads = ctx.block_size(elements);
    let triangle = if trilu.upper { "upper" } else { "lower" };
    let diagonal = trilu.diagonal;
    Ok(vec![KernelSpec {
        signature: format!("trilu_{triangle}_e{elements}r{rows}c{columns}_k{}", diagonal.to_string().replace('-', "m")),
        candidate: format!("t{threads}"),
        comment: vec![format!("The {triangle} triangle of {rows}x{columns} matrices, from diagonal {diagonal} on, and 0 elsewhere.")],
        header: "copy.cuh",
        params: ctx.params(&["x"]),
        sync: false,
        threads,
        grid: [blocks(elements, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 24,
        trips: vec![],
        needs: Needs::default(),
        body: vec![format!("triangle<{elements}, {rows}, {columns}, {}, {diagonal}, {threads}>(x, y);", trilu.upper)],
    }])
}

/// The axes of `shape` and their strides. Axes of size 1 are dropped, and neighbours are coalesced
/// where they step as one axis. Never empty.
fn coalesce_strided(shape: &[usize], strides: &[i64]) -> (Vec<usize>, Vec<i64>) {
    let mut coalesced: Vec<(usize, i64)> = Vec::new(); // innermost first
    for (&size, &stride) in shape.iter().zip(strides).rev().filter(|(size, _)| **size > 1) {
        match coalesced.last_mut() {
            Some((inner, step)) if *step * *inner as i64 == stride => *inner *= size,
            _ => coalesced.push((size, stride)),
        }
    }
    if coalesced.is_empty() {
        coalesced.push((1, 1));
    }
    coalesced.into_iter().rev().unzip()
}

/// Size in y, padding before, extent in x and stride in x of each axis, outermost first. Axes
/// without padding coalesce with their outer neighbours: with any of them if the padding is a
/// constant, else only with those that have no padding either.
fn padded_axes(x: &[usize], pad: &Pad) -> Vec<[usize; 4]> {
    let mut axes: Vec<[usize; 4]> = Vec::new(); // innermost first
    let mut stride = 1;
    for (axis, &extent) in x.iter().enumerate().rev() {
        let (before, size) = (pad.before[axis], pad.before[axis] + extent + pad.after[axis]);
        let constant = matches!(pad.mode, PadMode::Constant(_));
        match axes.last_mut() {
            Some(inner) if inner[0] == inner[2] && (constant || size == extent) => {
                *inner = [size * inner[0], before * inner[0], extent * inner[0], inner[3]];
            }
            _ => axes.push([size, before, extent, stride]),
        }
        stride *= extent;
    }
    if axes.is_empty() {
        axes.push([1, 0, 1, 1]);
    }
    axes.reverse();
    axes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_coalesce_where_they_step_as_one() {
        assert_eq!(coalesce_strided(&[2, 3, 4, 5], &[60, 20, 5, 1]), (vec![120], vec![1]));
        assert_eq!(coalesce_strided(&[2, 4, 5, 3], &[60, 5, 1, 20]), (vec![2, 20, 3], vec![60, 1, 20]));
        assert_eq!(coalesce_strided(&[1, 6], &[0, -1]), (vec![6], vec![-1]));
        assert_eq!(coalesce_strided(&[1, 1], &[7, 1]), (vec![1], vec![1]));
    }

    #[test]
    fn axes_without_padding_coalesce() {
        let pad = |mode, before: &[usize]| Pad { before: before.to_vec(), after: vec![0; before.len()], mode };
        assert_eq!(padded_axes(&[2, 3, 4], &pad(PadMode::Constant(0.0.into()), &[0, 1, 0])), [[2, 0, 2, 12], [16, 4, 12, 1]]);
        assert_eq!(padded_axes(&[2, 3, 4], &pad(PadMode::Edge, &[0, 1, 0])), [[2, 0, 2, 12], [4, 1, 3, 4], [4, 0, 4, 1]]);
        assert_eq!(padded_axes(&[2, 3, 4], &pad(PadMode::Edge, &[0, 0, 1])), [[6, 0, 6, 4], [5, 1, 4, 1]]);
    }
}
