//! Reductions: a thread, a warp or a block an output.

use super::draft::{Draft, Needs, block_size, blocks, ints, joined};
use super::loops::{Strided, counted, trips};
use super::{MULTIPROCESSORS, Site};
use crate::Result;
use crate::graph::{Reduce, ReduceKind};

pub(super) fn drafts(site: &Site, reduce: &Reduce) -> Result<Vec<Draft>> {
    let x = site.only_input()?;
    let out = &site.output.shape;
    let reduced = |axis: usize| reduce.axes.contains(&axis);
    let fits = out.len() == x.shape.len()
        && reduce.axes.iter().all(|&a| a < out.len())
        && (0..out.len()).all(|a| out[a] == if reduced(a) { 1 } else { x.shape[a] });
    site.require(fits, "its axes or its output do not fit its input")?;

    let kept_axes = merge(&x.shape, |a| !reduced(a));
    let reduced_axes = merge(&x.shape, reduced);
    let (outputs, count) = (site.output.elements(), x.elements() / site.output.elements());
    if let ReduceKind::ArgMax { last } | ReduceKind::ArgMin { last } = reduce.kind {
        return Ok(places(site, reduce.kind, last, &kept_axes, &reduced_axes, [outputs, count]));
    }
    let (kind, name, words) = match reduce.kind {
        ReduceKind::Sum => ("ReduceSum", "sum", "Sum"),
        ReduceKind::Mean => ("ReduceMean", "mean", "Mean"),
        ReduceKind::Max => ("ReduceMax", "max", "Maximum"),
        ReduceKind::Min => ("ReduceMin", "min", "Minimum"),
        ReduceKind::Product => ("ReduceProduct", "product", "Product"),
        ReduceKind::ArgMax { .. } | ReduceKind::ArgMin { .. } => return Err(site.wrong("a place is not a value")),
    };
    let draft = |how: &str, threads: u32, per_block: u32, shared: u32| {
        let size = if how == "block" { count.to_string() } else { format!("{outputs}, {count}") };
        let trips = match how {
            "thread" => trips(&[counted(count as usize, 256, 64)]),
            "warp" => Strided::warp(count as usize, 32).main(),
            _ => Strided::block(count as usize, threads).main(),
        };
        Draft {
            signature: format!(
                "reduce_{name}_k{}s{}_r{}s{}",
                joined(&kept_axes.dims),
                joined(&kept_axes.strides),
                joined(&reduced_axes.dims),
                joined(&reduced_axes.strides)
            ),
            candidate: format!("{how}{threads}"),
            comment: vec![
                format!("{words}: {outputs} outputs, each of {count} elements, a {how} an output."),
                "Kept and Reduced are the axes that stay and those that go, merged where possible, and their strides.".into(),
            ],
            header: "reduce.cuh",
            params: site.params(&["x"]),
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
    let threads = block_size(outputs);
    let by_thread = || draft("thread", threads, threads, 0);
    let by_warp = || draft("warp", 128, 4, 0);
    let by_block = || draft("block", 256, 1, 8 * x.dtype.bytes().max(4) as u32);

    // Neighbouring outputs read neighbours: threads side by side use whole cache lines.
    let side_by_side = reduced_axes.strides.last() != Some(&1);
    let many = outputs >= 32 * MULTIPROCESSORS;
    Ok(if count <= 8 || (side_by_side && (many || count <= 128)) {
        vec![by_thread(), by_warp()]
    } else if count > 256 && outputs < 4 * MULTIPROCESSORS {
        vec![by_block(), by_warp(), by_thread()]
    } else {
        vec![by_warp(), by_block(), by_thread()]
    })
}

/// Where the largest or smallest element is: by a block where few look at many, else by a thread.
fn places(site: &Site, kind: ReduceKind, last: bool, kept: &Axes, reduced: &Axes, [outputs, count]: [u64; 2]) -> Vec<Draft> {
    let (cpp, name, words) = match kind {
        ReduceKind::ArgMin { .. } => ("ArgMin", "argmin", "smallest"),
        _ => ("ArgMax", "argmax", "largest"),
    };
    let (suffix, which) = if last { ("last", "last") } else { ("", "first") };
    let draft = |how: &str, threads: u32, per_block: u32, shared: u32, size: String, trips: Vec<u64>| Draft {
        signature: format!(
            "{name}{suffix}_k{}s{}_r{}s{}",
            joined(&kept.dims),
            joined(&kept.strides),
            joined(&reduced.dims),
            joined(&reduced.strides)
        ),
        candidate: format!("{how}{threads}"),
        comment: vec![format!(
            "Place of the {words} element, the {which} of several: {outputs} outputs, each of {count} elements, a {how} an output."
        )],
        header: "reduce.cuh",
        params: site.params(&["x"]),
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
    let threads = block_size(outputs);
    let by_thread = draft("thread", threads, threads, 0, format!("{outputs}, {count}"), trips(&[counted(count as usize, 32, 4)]));
    let by_block = draft("block", 128, 1, 128 * 16, count.to_string(), Strided::split(count.div_ceil(128) as usize, 4).main());
    if count > 64 && outputs < 32 * MULTIPROCESSORS { vec![by_block, by_thread] } else { vec![by_thread, by_block] }
}

/// Some axes of a tensor, neighbours merged.
pub(super) struct Axes {
    pub dims: Vec<usize>,
    pub strides: Vec<usize>,
}

impl Axes {
    pub fn cpp(&self) -> String {
        format!("IndexMap<{}, {}>", ints(&self.dims), ints(&self.strides))
    }
}

/// The axes of a contiguous `shape` that `wanted` picks: those of size 1 dropped, neighbours merged.
pub(super) fn merge(shape: &[usize], wanted: impl Fn(usize) -> bool) -> Axes {
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
    fn neighbouring_axes_merge() {
        let both = |shape: &[usize], reduced: &[usize]| {
            let (k, r) = (merge(shape, |a| !reduced.contains(&a)), merge(shape, |a| reduced.contains(&a)));
            ((k.dims, k.strides), (r.dims, r.strides))
        };
        assert_eq!(both(&[2, 3, 4, 5], &[2, 3]), ((vec![6], vec![20]), (vec![20], vec![1])));
        assert_eq!(both(&[2, 3, 4, 5], &[0, 2]), ((vec![3, 5], vec![20, 1]), (vec![2, 4], vec![60, 5])));
        assert_eq!(both(&[2, 1, 4], &[0, 1, 2]), ((vec![], vec![]), (vec![8], vec![1])));
    }
}
