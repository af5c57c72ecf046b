//! Normalisations: one thread, warp or block per row.

use super::loops::{Strided, counted, trips};
use super::spec::{BLOCK_SHUFFLES, KernelSpec, Needs, SHUFFLES, blocks, by_x, ints, numbered, vector_of_row, warps_of_rows};
use super::{Effort, OpContext, elementwise, expr, reduce};
use crate::Result;
use crate::graph::{DType, Norm};

/// The longest row that a warp holds in registers.
const WARP_ROW: u64 = 1024;

pub(super) fn specs(ctx: &OpContext, norm: &Norm) -> Result<Vec<KernelSpec>> {
    let Some((x, more)) = ctx.inputs.split_first() else { return Err(ctx.wrong("it must have an input")) };
    let shape = &x.shape;
    if x.dtype != DType::F32 {
        return Err(ctx.unsupported(&format!("tensor {} is of type {}, not f32", x.name, x.dtype.name())));
    }
    let fits = |s: &[usize]| s.len() == shape.len() && s.iter().zip(shape).all(|(&d, &o)| d == o || d == 1);
    let sound = *shape == ctx.output.shape
        && norm.axes.iter().all(|&a| a < shape.len())
        && norm.epilogue.inputs() <= more.len() + 1
        && more.iter().all(|t| fits(&t.shape));
    ctx.require(sound, "its axes, its output or the epilogue's inputs do not fit its input")?;

    let normalised = |axis: usize| norm.axes.contains(&axis);
    let (kept, row) = (reduce::picked_axes(shape, |a| !normalised(a)), reduce::picked_axes(shape, normalised));
    let count: u64 = norm.axes.iter().map(|&a| shape[a] as u64).product();
    let rows = x.elements() / count;
    let shapes: Vec<&[usize]> = more.iter().map(|t| &t.shape[..]).collect();
    let (dims, strides) = elementwise::coalesce_broadcast(shape, &shapes);
    let maps: String = strides.iter().map(|s| format!(", IndexMap<{}, {}>", ints(&dims), ints(s))).collect();
    let name_of_strides: String = strides.iter().map(|s| format!("_s{}", by_x(s))).collect();
    let arguments: String = (1..=more.len()).map(|i| format!(", x{i}")).collect();
    let epsilon = norm.epsilon.to_bits();
    let (kind, words) = if norm.centred { ("norm", "mean and variance") } else { ("rmsnorm", "the root mean square") };

    // a mean over a power of two becomes a product, which is then part of a multiply-add
    let result_multiplies = (norm.centred && count.is_power_of_two()) || expr::multiplies(&norm.epilogue);

    // neighbours of a row are neighbours in every tensor
    let quads = row.strides == [1] && kept.strides.iter().all(|stride| stride.is_multiple_of(4)) && elementwise::quads(&dims, &strides);
    let width = if quads { vector_of_row(count as usize, x.dtype) } else { 1 };
    // neighbouring rows are neighbours in memory: neighbouring threads use whole cache lines
    let side_by_side = row.strides.last() != Some(&1);

    let spec = |how: &str, threads: u32, per_block: u32, shared: u32, registers: u32| {
        // one pass computes the variance, and another the result; if that multiplies, both count
        let passes = if result_multiplies { 2 } else { 1 };
        let trips = match how {
            "thread" => {
                trips(&[counted(count as usize, 64, 16), if count > 64 && !result_multiplies { 0 } else { counted(count as usize, 16, 8) }])
            }
            "warp" => vec![],
            _ => Strided::block(count as usize, threads).both().repeat(passes),
        };
        let part = count.div_ceil(match how {
            "thread" => 1,
            "warp" => 32,
            _ => u64::from(threads),
        });
        let inputs = more.len() as u64;
        // the elements that neighbouring threads read are as far apart as their rows, or neighbours
        let apart = if (how == "thread") == side_by_side { 1 } else { count.min(32) };
        let (reads, rounds, chain) = match how {
            "thread" => (3, 3 * part.div_ceil(16), 0),
            "warp" => (1, 1, 2 * SHUFFLES),
            _ => (3, 3 * part.div_ceil(16), 2 * BLOCK_SHUFFLES),
        };
        let effort = Effort { instructions: part * (8 + 4 * inputs) + 80, words: part * (reads + inputs + 1) * apart, rounds, chain };
        let arguments_of_warp = if how == "warp" { format!("{width}, ") } else { String::new() };
        let ending = if norm.epilogue.is_identity() { String::new() } else { format!(", then {} of that number x0", norm.epilogue) };
        KernelSpec {
            signature: format!(
                "{kind}_k{}s{}_r{}s{}_e{epsilon:08x}_{}_d{}{name_of_strides}",
                by_x(&kept.dims),
                by_x(&kept.strides),
                by_x(&row.dims),
                by_x(&row.strides),
                expr::name(&norm.epilogue),
                by_x(&dims)
            ),
            candidate: format!("{how}{threads}"),
            comment: vec![
                format!("Normalisation by {words}: {rows} rows of {count} elements, one {how} per row{ending}."),
                "Rows and Row are the kept and the normalised axes, coalesced where possible, with their strides.".into(),
            ],
            header: "norm.cuh",
            params: ctx.params(&numbered(1 + more.len())),
            sync: how != "thread",
            threads,
            grid: [blocks(rows, per_block), 1, 1],
            static_shared_bytes: shared,
            registers,
            trips,
            needs: Needs { effort: Some(effort), ..Needs::default() },
            body: vec![
                format!("using Rows = {};", kept.cpp()),
                format!("using Row = {};", row.cpp()),
                format!("using Epilogue = {};", expr::cpp(&norm.epilogue)),
                format!(
                    "norm_{how}<Rows, Row, {rows}, {count}, {}, 0x{epsilon:08x}u, {threads}, {arguments_of_warp}Epilogue{maps}>(x0, y{arguments});",
                    norm.centred
                ),
            ],
        }
    };
    let threads = ctx.block_size(rows);
    let by_thread = || spec("thread", threads, threads, 0, 32);
    let in_block = warps_of_rows(ctx, rows);
    let by_warp = || spec("warp", in_block, in_block / 32, 0, 24 + count.div_ceil(32) as u32 * (1 + more.len() as u32));
    let by_block = || spec("block", 256, 1, 32, 32);
    // A block per row takes longer than a warp as long as the warp can hold the row.
    Ok(if count <= 8 || (side_by_side && rows >= 32 * ctx.device.sms) {
        vec![by_thread(), if count <= WARP_ROW { by_warp() } else { by_block() }]
    } else if count > WARP_ROW {
        vec![by_block()]
    } else {
        vec![by_warp()]
    })
}
