//! Resampling by tables: one thread computes one point in a few planes.

use super::loops::counted;
use super::spec::{KernelSpec, Needs, blocks, by_x};
use super::{OpContext, expr};
use crate::Result;
use crate::graph::{Resample, TappedAxis};

/// An axis as the kernel sees it. Neighbouring axes that are not resampled are coalesced; their
/// `taps` is 0.
struct Axis {
    from: usize,
    size: usize,
    stride: usize,
    taps: usize,
}

pub(super) fn specs(ctx: &OpContext, resample: &Resample) -> Result<Vec<KernelSpec>> {
    let fixed = resample.fixed_inputs();
    ctx.require(!resample.axes.is_empty() && ctx.inputs.len() >= fixed, "an axis or a table is missing")?;
    let (x, more) = (&ctx.inputs[0].shape, &ctx.inputs[fixed..]);
    let out = &ctx.output.shape;
    let taps = |axis: usize| resample.axes.iter().find(|a| a.axis == axis).map_or(0, |a| a.taps);
    let tables = (0..resample.axes.len()).all(|i| {
        let tapped = resample.axes[i];
        let shape = &ctx.inputs[resample.positions(i)].shape;
        tapped.axis < out.len() && *shape == [out[tapped.axis], tapped.taps]
    });
    let sound = x.len() == out.len()
        && (0..x.len()).all(|axis| taps(axis) > 0 || x[axis] == out[axis])
        && resample.axes.iter().all(|a| resample.weighted || a.taps == 1)
        && more.iter().all(|t| t.elements() == ctx.output.elements())
        && resample.epilogue.inputs() <= more.len() + 1;
    ctx.require(tables && sound, "its tables, its shapes or the epilogue's inputs contradict each other")?;

    let mut axes: Vec<Axis> = Vec::new();
    let mut planes = 1;
    for axis in 0..x.len() {
        let (from, size, taps) = (x[axis], out[axis], taps(axis));
        let stride = x[axis + 1..].iter().product();
        match axes.last_mut() {
            None if taps == 0 => planes *= size,
            Some(outer) if taps == 0 && outer.taps == 0 => {
                outer.from *= from;
                outer.size *= size;
                outer.stride = stride;
            }
            _ => axes.push(Axis { from, size, stride, taps }),
        }
    }
    let plane: usize = axes.iter().map(|a| a.from).product();
    let points: usize = axes.iter().map(|a| a.size).product();

    let count = resample.axes.len();
    let mut names = vec!["x".to_string()];
    for k in 0..count {
        names.push(format!("positions{k}"));
        if resample.weighted {
            names.push(format!("weights{k}"));
        }
    }
    let arguments: Vec<String> = (1..=more.len()).map(|i| format!("x{i}")).collect();
    names.extend(arguments.clone());
    let listed = |name: &str| (0..count).map(|k| format!("{name}{k}")).collect::<Vec<_>>().join(", ");
    let weights = if resample.weighted { listed("weights") } else { vec!["nullptr"; count].join(", ") };
    let types: Vec<String> = axes.iter().map(|a| format!("ResampleAxis<{}, {}, {}>", a.size, a.stride, a.taps)).collect();

    let mut suffix: String =
        axes.iter().map(|a| if a.taps == 0 { format!("_k{}", a.size) } else { format!("_{}to{}t{}", a.from, a.size, a.taps) }).collect();
    let mut words = String::new();
    if let Some(outside) = resample.outside {
        suffix += &format!("_o{:x}", outside.bits());
        words += &format!(", {outside} outside x");
    }
    if !resample.epilogue.is_identity() {
        suffix += &format!("_{}", expr::name(&resample.epilogue));
        words += &format!(", then {} of that number x0", resample.epilogue);
    }
    if more.len() + 1 > resample.epilogue.inputs().max(1) {
        suffix += &format!("_i{}", more.len()); // inputs that nothing reads are still parameters
    }
    let how = if resample.weighted { "resample" } else { "pick" };
    let column = |value: fn(&Axis) -> usize| by_x(&axes.iter().map(value).collect::<Vec<_>>());

    let spec = |neighbours: usize| {
        let work = (planes / neighbours * points) as u64;
        let threads = ctx.block_size(work);
        let trips = if resample.weighted { loops(&resample.axes, neighbours) } else { vec![] };
        KernelSpec {
            signature: format!("{how}_n{planes}{suffix}"),
            candidate: format!("p{neighbours}t{threads}"),
            comment: vec![
                format!(
                    "Resampling of {planes} planes of {} to {}: taps {}{words}.",
                    column(|a| a.from),
                    column(|a| a.size),
                    column(|a| a.taps)
                ),
                format!("A thread computes one point of {neighbours} planes."),
            ],
            header: "resample.cuh",
            params: ctx.params(&names),
            sync: false,
            threads,
            grid: [blocks(work, threads), 1, 1],
            static_shared_bytes: 0,
            registers: if resample.weighted { 40 } else { 32 },
            trips,
            needs: Needs::default(),
            body: vec![
                format!("using Axes = Resampled<{}>;", types.join(", ")),
                format!("using Epilogue = {};", expr::cpp(&resample.epilogue)),
                format!("const int *const positions[] = {{{}}};", listed("positions")),
                format!("const float *const weights[] = {{{weights}}};"),
                format!(
                    "resample<Axes, {}, 0x{:x}u, {planes}, {plane}, {neighbours}, {threads}, Epilogue>(x, positions, weights, y{});",
                    resample.weighted,
                    resample.outside.map_or(0, |outside| outside.bits()),
                    arguments.iter().map(|x| format!(", {x}")).collect::<String>()
                ),
            ],
        }
    };
    // the planes of a thread share its reads of the tables; fewer planes per thread make more
    // threads
    let mut widths: Vec<usize> = [8, 4, 2, 1].into_iter().filter(|w| planes.is_multiple_of(*w)).take(2).collect();
    if !widths.contains(&1) {
        widths.push(1);
    }
    Ok(widths.into_iter().map(spec).collect())
}

/// Iterations of the loops over taps that multiply outside their inner loops, outermost first. Taps
/// of weight 0 count, although they are skipped.
fn loops(axes: &[TappedAxis], neighbours: usize) -> Vec<u64> {
    // multiply-adds per iteration: all of them, and those outside the inner loops
    let (mut work, mut own) = (neighbours, neighbours);
    let mut found: Vec<(usize, u64)> = Vec::new(); // multiply-adds and iterations, innermost first
    for &TappedAxis { taps, .. } in axes.iter().rev() {
        let part = if work <= 8 { 4 } else { 1 };
        let left = counted(taps, 64 / work, part);
        found.iter_mut().for_each(|(_, iterations)| *iterations *= taps as u64);
        if left > 0 {
            found.push((part * own, left));
        }
        own *= if left > 0 { taps % part } else { taps };
        work *= taps;
    }
    let most = found.iter().map(|&(own, _)| own).max().unwrap_or(0);
    found.into_iter().rev().filter(|&(own, _)| own > 0 && 10 * own >= most).map(|(_, iterations)| iterations).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_over_taps() {
        let loops = |taps: &[usize], neighbours| {
            let axes: Vec<TappedAxis> = taps.iter().enumerate().map(|(axis, &taps)| TappedAxis { axis, taps }).collect();
            super::loops(&axes, neighbours)
        };
        assert!(loops(&[4, 4], 4).is_empty(), "64 multiply-adds are straight code");
        assert_eq!(loops(&[6, 6], 4), [6], "the inner axis is");
        assert_eq!(loops(&[20, 20], 4), [20 * 5]);
        assert_eq!(loops(&[18, 18], 4), [18, 18 * 4], "two taps are left over within the outer loop");
    }
}
