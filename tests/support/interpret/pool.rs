//! Pooling, from its definition.

use hiosc::graph::{Pool, PoolIndices, PoolKind, PoolNd, ReduceKind};

use super::reduce::{mean, reduced};
use super::window::{plane, read, taps};
use super::{Operands, position, ravel, zero};
use crate::support::number::Number;

pub fn pool(p: &Pool, of: &Operands) -> Vec<Number> {
    let axes = plane(p.kernel, p.strides, p.dilations, [p.pads_begin, p.pads_end]);
    pool_nd(&PoolNd { kind: p.kind, axes }, of)
}

pub fn pool_nd(p: &PoolNd, of: &Operands) -> Vec<Number> {
    let extents = &of.shapes[0][2..];
    let taps = taps(&p.axes);
    of.each(|_, index| {
        let (mut window, mut padded) = (Vec::new(), 0);
        for tap in &taps {
            let before_the_end = |a: usize| {
                index[2 + a] * p.axes[a].stride + tap[a] * p.axes[a].dilation < p.axes[a].pad_begin + extents[a] + p.axes[a].pad_end
            };
            padded += usize::from((0..p.axes.len()).all(before_the_end));
            let Some(at) = read(&p.axes, &index[2..], tap, extents) else { continue };
            window.push(of.at(0, &[&index[..2], &at[..]].concat()));
        }
        match p.kind {
            PoolKind::Max => reduced(ReduceKind::Max, of.dtype, &window),
            PoolKind::Sum => reduced(ReduceKind::Sum, of.dtype, &window),
            PoolKind::Average { count_include_pad } => {
                let count = if count_include_pad { padded } else { window.len() };
                if count == 0 { zero(of.dtype) } else { mean(of.dtype, &window, count) }
            }
        }
    })
}

pub fn pool_indices(p: &PoolIndices, of: &Operands) -> Vec<Number> {
    let shape = of.shapes[0];
    let taps = taps(&p.axes);
    of.each(|_, index| {
        let mut best: Option<(f64, Vec<usize>)> = None;
        for tap in &taps {
            let Some(at) = read(&p.axes, &index[2..], tap, &shape[2..]) else { continue };
            let v = of.at(0, &[&index[..2], &at[..]].concat()).f64();
            if best.as_ref().is_none_or(|(largest, _)| v > *largest || (v.is_nan() && !largest.is_nan())) {
                best = Some((v, at));
            }
        }
        let at = best.map_or(vec![0; shape.len() - 2], |(_, at)| at);
        let within = if p.column_major {
            let reversed = |v: &[usize]| v.iter().rev().copied().collect::<Vec<_>>();
            ravel(&reversed(&at), &reversed(&shape[2..]))
        } else {
            ravel(&at, &shape[2..])
        };
        position(ravel(&index[..2], &shape[..2]) * shape[2..].iter().product::<usize>() + within)
    })
}
