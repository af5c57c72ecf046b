//! Sampling at computed positions: one thread reads a few channels at one position.

use super::OpContext;
use super::loops::{counted, trips};
use super::spec::{KernelSpec, Needs, blocks, by_x};
use crate::Result;
use crate::graph::{GridSample, Interpolation, Outside};

pub(super) fn specs(ctx: &OpContext, sample: &GridSample) -> Result<Vec<KernelSpec>> {
    let [x, grid] = ctx.inputs[..] else { return Err(ctx.wrong("it must have an input and a grid")) };
    ctx.only_f32()?;
    let (from, to) = (&x.shape, &ctx.output.shape);
    let axes = from.len().saturating_sub(2);
    let sound = axes > 0
        && grid.shape.len() == from.len()
        && to.len() == from.len()
        && grid.shape[axes + 1] == axes
        && to[2..] == grid.shape[1..=axes];
    ctx.require(sound && from[..2] == to[..2] && grid.shape[0] == from[0], "its shapes contradict each other")?;
    if axes > 3 || (axes > 2 && sample.interpolation == Interpolation::Cubic) {
        return Err(ctx.unsupported(&format!("{} sampling over {axes} axes", sample.interpolation.name())));
    }
    let (n, c) = (from[0], from[1]);
    let points: usize = to[2..].iter().product();
    let mode = match sample.interpolation {
        Interpolation::Nearest => "SampleNearest",
        Interpolation::Linear => "SampleLinear",
        Interpolation::Cubic => "SampleCubic",
    };
    let outside = match sample.outside {
        Outside::Zeros => "OutsideZeros",
        Outside::Border => "OutsideBorder",
        Outside::Reflection => "OutsideReflection",
    };
    let taps = (sample.taps() as usize).pow(axes as u32);
    let positions = (n * points) as u64;
    let spec = |channels: usize| {
        let rows = (c / channels) as u64;
        let threads = ctx.block_size(positions * rows);
        KernelSpec {
            signature: format!(
                "grid_{}_{}_a{}_n{n}c{c}_{}_p{points}",
                mode[6..].to_lowercase(),
                outside[7..].to_lowercase(),
                u8::from(sample.align_corners),
                by_x(&from[2..])
            ),
            candidate: format!("c{channels}t{threads}"),
            comment: vec![format!(
                "Sampling of x {} at {points} positions per image:{sample}. A thread reads {channels} channels at one position.",
                x.shape_text()
            )],
            header: "grid_sample.cuh",
            params: ctx.params(&["x", "grid"]),
            sync: false,
            threads,
            grid: [blocks(positions, threads), rows, 1],
            static_shared_bytes: 0,
            registers: if sample.interpolation == Interpolation::Cubic { 80 } else { 48 },
            trips: trips(&[counted(channels, 32 / taps, 1)]),
            needs: Needs::default(),
            body: vec![format!(
                "grid_sample<{mode}, {outside}, {}, {n}, {c}, {points}, {channels}, {threads}, {}>(x, grid, y);",
                sample.align_corners,
                by_x(&from[2..]).replace('x', ", ")
            )],
        }
    };
    let mut widths: Vec<usize> = [8, 4, 2, 1].into_iter().filter(|w| c.is_multiple_of(*w)).take(2).collect();
    if !widths.contains(&1) {
        widths.push(1);
    }
    Ok(widths.into_iter().map(spec).collect())
}
