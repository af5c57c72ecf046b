//! Pooling: one output a thread.

use super::Site;
use super::draft::{Draft, Needs, block_size, blocks, joined, shape_struct};
use super::loops::{counted, trips};
use crate::Result;
use crate::graph::{Pool, PoolKind};

pub(super) fn drafts(site: &Site, pool: &Pool) -> Result<Vec<Draft>> {
    let x = site.only_input()?;
    let (&[n, c, h, w], &[n_out, c_out, p, q]) = (&x.shape[..], &site.output.shape[..]) else {
        return Err(site.wrong("input and output must have four axes"));
    };
    let positive = |v: [usize; 2]| v[0] > 0 && v[1] > 0;
    let sound = [n, c] == [n_out, c_out] && positive(pool.kernel) && positive(pool.strides) && positive(pool.dilations);
    site.require(sound, "its attributes and shapes contradict each other")?;

    let (kind, name, words) = match pool.kind {
        PoolKind::Max => ("PoolMax", "max", "Maximum"),
        PoolKind::Average { count_include_pad: false } => ("PoolAverage", "avg", "Mean"),
        PoolKind::Average { count_include_pad: true } => ("PoolAveragePadded", "avgpad", "Mean (padding counts)"),
        PoolKind::Sum => ("PoolSum", "sum", "Sum"),
    };
    let ([r, s], [top, left], [bottom, right]) = (pool.kernel, pool.pads_begin, pool.pads_end);
    let pads = [top, left, bottom, right];
    let outputs = site.output.elements();
    let threads = block_size(outputs);
    let mut body = shape_struct(&[
        &[("PLANES", n * c), ("H", h), ("W", w), ("P", p), ("Q", q)],
        &[("R", r), ("S", s), ("STRIDE_H", pool.strides[0]), ("STRIDE_W", pool.strides[1])],
        &[("DILATION_H", pool.dilations[0]), ("DILATION_W", pool.dilations[1])],
        &[("PAD_H", top), ("PAD_W", left), ("PAD_BOTTOM", bottom), ("PAD_RIGHT", right)],
    ]);
    body.push(format!("pool<Shape, {kind}, {threads}>(x, y);"));
    Ok(vec![Draft {
        signature: format!(
            "pool_{name}_n{n}c{c}h{h}w{w}_p{p}q{q}_r{r}s{s}_st{}p{}d{}",
            joined(&pool.strides),
            joined(&pads),
            joined(&pool.dilations)
        ),
        candidate: format!("t{threads}"),
        comment: vec![format!(
            "{words} over windows of {r}x{s}, stride {}, dilation {}, padding {}: x {} gives y {}.",
            joined(&pool.strides),
            joined(&pool.dilations),
            joined(&pads),
            x.shape_text(),
            site.output.shape_text()
        )],
        header: "pool.cuh",
        params: site.params(&["x"]),
        sync: false,
        threads,
        grid: [blocks(outputs, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 32,
        trips: trips(&[counted(r, 64 / s, 32usize.div_ceil(s))]),
        needs: Needs::default(),
        body,
    }])
}
