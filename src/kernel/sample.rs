//! Sampling at computed places: a thread a place and a few channels.

use super::Site;
use super::draft::{Draft, Needs, block_size, blocks, joined};
use super::loops::{counted, trips};
use crate::Result;
use crate::graph::{GridSample, Interpolation, Outside};

pub(super) fn drafts(site: &Site, sample: &GridSample) -> Result<Vec<Draft>> {
    let [x, grid] = site.inputs[..] else { return Err(site.wrong("it must have an input and a grid")) };
    site.only_f32()?;
    let (from, to) = (&x.shape, &site.output.shape);
    let axes = from.len().saturating_sub(2);
    let sound = axes > 0
        && grid.shape.len() == from.len()
        && to.len() == from.len()
        && grid.shape[axes + 1] == axes
        && to[2..] == grid.shape[1..=axes];
    site.require(sound && from[..2] == to[..2] && grid.shape[0] == from[0], "its shapes contradict each other")?;
    if axes > 3 || (axes > 2 && sample.interpolation == Interpolation::Cubic) {
        return Err(site.unsupported(&format!("{} sampling over {axes} axes", sample.interpolation.name())));
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
    let places = (n * points) as u64;
    let draft = |channels: usize| {
        let rows = (c / channels) as u64;
        let threads = block_size(places * rows);
        Draft {
            signature: format!(
                "grid_{}_{}_a{}_n{n}c{c}_{}_p{points}",
                mode[6..].to_lowercase(),
                outside[7..].to_lowercase(),
                u8::from(sample.align_corners),
                joined(&from[2..])
            ),
            candidate: format!("c{channels}t{threads}"),
            comment: vec![format!(
                "Sampling of x {} at {points} places of each image:{sample}. A thread reads {channels} channels at one place.",
                x.shape_text()
            )],
            header: "sample.cuh",
            params: site.params(&["x", "grid"]),
            sync: false,
            threads,
            grid: [blocks(places, threads), rows, 1],
            static_shared_bytes: 0,
            registers: if sample.interpolation == Interpolation::Cubic { 80 } else { 48 },
            trips: trips(&[counted(channels, 32 / taps, 1)]),
            needs: Needs::default(),
            body: vec![format!(
                "grid_sample<{mode}, {outside}, {}, {n}, {c}, {points}, {channels}, {threads}, {}>(x, grid, y);",
                sample.align_corners,
                joined(&from[2..]).replace('x', ", ")
            )],
        }
    };
    let mut widths: Vec<usize> = [8, 4, 2, 1].into_iter().filter(|w| c.is_multiple_of(*w)).take(2).collect();
    if !widths.contains(&1) {
        widths.push(1);
    }
    Ok(widths.into_iter().map(draft).collect())
}
