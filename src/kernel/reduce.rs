//! Reductions: one thread, warp or block per output.

use super::OpContext;
use super::loops::{Strided, counted, trips};
use super::spec::{KernelSpec, Needs, blocks, by_x, ints};
use crate::Result;
use crate::graph::{Reduce, ReduceKind};

pub(super) fn specs(ctx: &OpContext, reduce: &Reduce) -> Result<Vec<KernelSpec>> {
    let x = ctx.only_input()?;
    let out = &ctx.output.shape;
    let reduced = |axis: usize| reduce.axes.contains(&axis);
    let fits = out.len() == x.shape.len()
        && reduce.axes.iter().all(|&a| a < out.len())
        && (0..out.len()).all(|a| out[a] == if reduced(a) { 1 } else { x.shape[a] });
    ctx.require(fits, "its axes or its output do not fit its input")?;

    let kept_axes = picked_axes(&x.shape, |a| !reduced(a));
    let reduced_axes = picked_axes(&x.shape, reduced);
    let (outputs, count) = (ctx.output.elements(), x.elements() / ctx.output.elements());
    if let ReduceKind::ArgMax { last } | ReduceKind::ArgMin { last } = reduce.kind {
        return Ok(positions(ctx, reduce.kind, last, &kept_axes, &reduced_axes, [outputs, count]));
    }
    let (kind, name, words) = match reduce.kind {
        ReduceKind::Sum => ("ReduceSum", "sum", "Sum"),
        ReduceKind::Mean => ("ReduceMean", "mean", "Mean"),
        ReduceKind::Max => ("ReduceMax", "max", "Maximum"),
        ReduceKind::Min => ("ReduceMin", "min", "Minimum"),
        ReduceKind::Product => ("ReduceProduct", "product", "Product"),
        ReduceKind::ArgMax { .. } | ReduceKind::ArgMin { .. } => return Err(ctx.wrong("a position is not a value")),
    };
    let spec = |how: &str, threads: u32, per_block: u32, shared: u32| {
        let size = if how == "block" { count.to_string() } else { format!("{outputs}, {count}") };
        let trips = match how {
            "thread" => trips(&[counted(count as usize, 256, 64)]),
            "warp" => Strided::warp(count as usize, 32).main(),
            _ => Strided::block(count as usize, threads).main(),
        };
        KernelSpec {
            signature: format!(
                "reduce_{name}_k{}s{}_r{}s{}",
                by_x(&kept_axes.dims),
                by_x(&kept_axes.strides),
                by_x(&reduced_axes.dims),
                by_x(&reduced_axes.strides)
            ),
            candidate: format!("{how}{threads}"),
            comment: vec![
                format!("{words}: {outputs} outputs, each of {count} elements, one {how} per output."),
                "Kept and Reduced are the kept and the reduced axes, coalesced where possible, with their strides.".into(),
            ],
            header: "reduce.cuh",
            params: ctx.params(&["x"]),
            sync: how != "thread",
            threads,
            grid: [blocks(outputs, per_block), 1, 1],
            static_shared_bytes: shared,
            registers: 32,
            trips,
            needs: Needs::default(),
            body: vec![
                format!("using Kept = {};", kept_axes.cpp()),
                format!("using Reduced = {};", reduced_axes.cpp()),
                format!("reduce_{how}<{kind}, Kept, Reduced, {size}, {threads}>(x, y);"),
            ],
        }
    };
    let threads = ctx.block_size(outputs);
    let by_thread = || spec("thread", threads, threads, 0);
    let by_warp = || spec("warp", 128, 4, 0);
    let by_block = || spec("block", 256, 1, 8 * x.dtype.bytes().max(4) as u32);

    // Neighbouring outputs read neighbouring elements: neighbouring threads use whole cache lines.
    let side_by_side = reduced_axes.strides.last() != Some(&1);
    let many = outputs >= 32 * ctx.device.sms;
    Ok(if count <= 8 || (side_by_side && (many || count <= 128)) {
        vec![by_thread(), by_warp()]
    } else if count > 256 && outputs < 4 * ctx.device.sms {
        vec![by_block(), by_warp(), by_thread()]
    } else {
        vec![by_warp(), by_block(), by_thread()]
    })
}

/// Positions of the largest or smallest elements: one block per output if there are few outputs of
/// many elements, else one thread.
fn positions(ctx: &OpContext, kind: ReduceKind, last: bool, kept: &Axes, reduced: &Axes, [outputs, count]: [u64; 2]) -> Vec<KernelSpec> {
    let (cpp, name, words) = match kind {
        ReduceKind::ArgMin { .. } => ("ArgMin", "argmin", "smallest"),
        _ => ("ArgMax", "argmax", "largest"),
    };
    let (suffix, which) = if last { ("last", "last") } else { ("", "first") };
    let spec = |how: &str, threads: u32, per_block: u32, shared: u32, size: String, trips: Vec<u64>| KernelSpec {
        signature: format!(
            "{name}{suffix}_k{}s{}_r{}s{}",
            by_x(&kept.dims),
            by_x(&kept.strides),
            by_x(&reduced.dims),
            by_x(&reduced.strides)
        ),
        candidate: format!("{how}{threads}"),
        comment: vec![format!(
            "Position of the {words} element, the {which} of equal ones: {outputs} outputs, each of {count} elements, one {how} per output."
        )],
        header: "reduce.cuh",
        params: ctx.params(&["x"]),
        sync: how != "thread",
        threads,
        grid: [blocks(outputs, per_block), 1, 1],
        static_shared_bytes: shared,
        registers: 32,
        trips,
        needs: Needs::default(),
        body: vec![
            format!("using Kept = {};", kept.cpp()),
            format!("using Reduced = {};", reduced.cpp()),
            format!("find_{how}<{cpp}<{last}>, Kept, Reduced, {size}, {threads}>(x, y);"),
        ],
    };
    let threads = ctx.block_size(outputs);
    let by_thread = spec("thread", threads, threads, 0, format!("{outputs}, {count}"), trips(&[counted(count as usize, 32, 4)]));
    let by_block = spec("block", 128, 1, 128 * 16, count.to_string(), Strided::unrolled(count.div_ceil(128) as usize, 4).main());
    if count > 64 && outputs < 32 * ctx.device.sms { vec![by_block, by_thread] } else { vec![by_thread, by_block] }
}

/// Some axes of a tensor, neighbours coalesced.
pub(super) struct Axes {
    pub dims: Vec<usize>,
    pub strides: Vec<usize>,
}

impl Axes {
    pub fn cpp(&self) -> String {
        format!("IndexMap<{}, {}>", ints(&self.dims), ints(&self.strides))
    }
}

/// The axes of a contiguous `shape` that `wanted` picks. Axes of size 1 are dropped, and neighbours
/// are coalesced.
pub(super) fn picked_axes(shape: &[usize], wanted: impl Fn(usize) -> bool) -> Axes {
    let mut axes = Axes { dims: Vec::new(), strides: Vec::new() }; // innermost first
    let mut stride = 1;
    for axis in (0..shape.len()).rev() {
        if shape[axis] > 1 && wanted(axis) {
            match (axes.dims.last_mut(), axes.strides.last()) {
                (Some(dim), Some(inner)) if *dim * inner == stride => *dim *= shape[axis],
                _ => {
                    axes.dims.push(shape[axis]);
                    axes.strides.push(stride);
                }
            }
        }
        stride *= shape[axis];
    }
    axes.dims.reverse();
    axes.strides.reverse();
    axes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_axes_coalesce() {
        let both = |shape: &[usize], reduced: &[usize]| {
            let (k, r) = (picked_axes(shape, |a| !reduced.contains(&a)), picked_axes(shape, |a| reduced.contains(&a)));
            ((k.dims, k.strides), (r.dims, r.strides))
        };
        assert_eq!(both(&[2, 3, 4, 5], &[2, 3]), ((vec![6], vec![20]), (vec![20], vec![1])));
        assert_eq!(both(&[2, 3, 4, 5], &[0, 2]), ((vec![3, 5], vec![20, 1]), (vec![2, 4], vec![60, 5])));
        assert_eq!(both(&[2, 1, 4], &[0, 1, 2]), ((vec![], vec![]), (vec![8], vec![1])));
    }
}
