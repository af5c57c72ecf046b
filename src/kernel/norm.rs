//! Normalisations: a thread, a warp or a block a row.

use super::draft::{Draft, Needs, block_size, blocks, ints, joined, numbered};
use super::loops::{Strided, counted, trips};
use super::{MULTIPROCESSORS, Site, elementwise, expr, reduce};
use crate::Result;
use crate::graph::{DType, Lrn, Norm};

/// The longest row that a warp holds in registers.
const WARP_ROW: u64 = 1024;

pub(super) fn drafts(site: &Site, norm: &Norm) -> Result<Vec<Draft>> {
    let Some((x, more)) = site.inputs.split_first() else { return Err(site.wrong("it must have an input")) };
    let shape = &x.shape;
    if x.dtype != DType::F32 {
        return Err(site.unsupported(&format!("tensor {} is of type {}, not f32", x.name, x.dtype.name())));
    }
    let fits = |s: &[usize]| s.len() == shape.len() && s.iter().zip(shape).all(|(&d, &o)| d == o || d == 1);
    let sound = *shape == site.output.shape
        && norm.axes.iter().all(|&a| a < shape.len())
        && norm.epilogue.inputs() <= more.len() + 1
        && more.iter().all(|t| fits(&t.shape));
    site.require(sound, "its axes, its output or the epilogue's inputs do not fit its input")?;

    let normalised = |axis: usize| norm.axes.contains(&axis);
    let (kept, row) = (reduce::merge(shape, |a| !normalised(a)), reduce::merge(shape, normalised));
    let count: u64 = norm.axes.iter().map(|&a| shape[a] as u64).product();
    let rows = x.elements() / count;
    let shapes: Vec<&[usize]> = more.iter().map(|t| &t.shape[..]).collect();
    let (dims, strides) = elementwise::merge(shape, &shapes);
    let maps: String = strides.iter().map(|s| format!(", IndexMap<{}, {}>", ints(&dims), ints(s))).collect();
    let name_of_strides: String = strides.iter().map(|s| format!("_s{}", joined(s))).collect();
    let arguments: String = (1..=more.len()).map(|i| format!(", x{i}")).collect();
    let epsilon = norm.epsilon.to_bits();
    let (kind, words) = if norm.centred { ("norm", "mean and variance") } else { ("rmsnorm", "the root mean square") };

    // a mean over a power of two is a product, which is then part of a multiply-add
    let result_multiplies = (norm.centred && count.is_power_of_two()) || expr::multiplies(&norm.epilogue);

    let draft = |how: &str, threads: u32, per_block: u32, shared: u32, registers: u32| {
        // one pass makes the variance, and another the result: where that multiplies, both count
        let passes = if result_multiplies { 2 } else { 1 };
        let trips = match how {
            "thread" => {
                trips(&[counted(count as usize, 64, 16), if count > 64 && !result_multiplies { 0 } else { counted(count as usize, 16, 8) }])
            }
            "warp" => vec![],
            _ => Strided::block(count as usize, threads).both().repeat(passes),
        };
        let ending = if norm.epilogue.is_identity() { String::new() } else { format!(", then {} of that number x0", norm.epilogue) };
        Draft {
            signature: format!(
                "{kind}_k{}s{}_r{}s{}_e{epsilon:08x}_{}_d{}{name_of_strides}",
                joined(&kept.dims),
                joined(&kept.strides),
                joined(&row.dims),
                joined(&row.strides),
                expr::name(&norm.epilogue),
                joined(&dims)
            ),
            candidate: format!("{how}{threads}"),
            comment: vec![
                format!("Normalisation by {words}: {rows} rows of {count} elements, a {how} a row{ending}."),
                "Rows and Row are the axes that stay and those that are normalised, merged where possible, and their strides.".into(),
            ],
            header: "norm.cuh",
            params: site.params(&numbered(1 + more.len())),
            sync: how != "thread",
            threads,
            grid: [blocks(rows, per_block), 1, 1],
            static_shared_bytes: shared,
            registers,
            trips,
            needs: Needs::default(),
            body: vec![
                format!("using Rows = {};", kept.cpp()),
                format!("using Row = {};", row.cpp()),
                format!("using Epilogue = {};", expr::cpp(&norm.epilogue)),
                format!(
                    "norm_{how}<Rows, Row, {rows}, {count}, {}, 0x{epsilon:08x}u, {threads}, Epilogue{maps}>(x0, y{arguments});",
                    norm.centred
                ),
            ],
        }
    };
    let threads = block_size(rows);
    let by_thread = || draft("thread", threads, threads, 0, 32);
    let by_warp = || draft("warp", 128, 4, 0, 24 + count.div_ceil(32) as u32);
    let by_block = || draft("block", 256, 1, 32, 32);
    // neighbouring rows read neighbours: threads side by side use whole cache lines
    let side_by_side = row.strides.last() != Some(&1);
    Ok(if count <= 8 || (side_by_side && rows >= 32 * MULTIPROCESSORS) {
        vec![by_thread(), if count <= WARP_ROW { by_warp() } else { by_block() }]
    } else if count > WARP_ROW {
        vec![by_block()]
    } else if count >= 512 && rows < MULTIPROCESSORS {
        vec![by_block(), by_warp()]
    } else {
        vec![by_warp(), by_block()]
    })
}

pub(super) fn lrn(site: &Site, lrn: &Lrn) -> Result<Vec<Draft>> {
    let x = site.only_input()?;
    site.only_f32()?;
    site.require(x.shape.len() >= 2 && x.shape == site.output.shape && lrn.size > 0, "its output or its size does not fit its input")?;
    let (channels, inner): (usize, usize) = (x.shape[1], x.shape[2..].iter().product());
    let elements = x.elements();
    let threads = block_size(elements);
    let [alpha, beta, bias] = [lrn.alpha, lrn.beta, lrn.bias].map(f32::to_bits);
    Ok(vec![Draft {
        signature: format!("lrn_n{}c{channels}i{inner}_s{}a{alpha:08x}b{beta:08x}k{bias:08x}", x.shape[0], lrn.size),
        candidate: format!("t{threads}"),
        comment: vec![format!(
            "Local response normalisation of x {} over {} channels: alpha {:e}, beta {:?}, bias {:?}.",
            x.shape_text(),
            lrn.size,
            lrn.alpha,
            lrn.beta,
            lrn.bias
        )],
        header: "lrn.cuh",
        params: site.params(&["x"]),
        sync: false,
        threads,
        grid: [blocks(elements, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 32,
        trips: trips(&[counted(lrn.size, 64, 16)]),
        needs: Needs::default(),
        body: vec![format!(
            "lrn<{elements}, {channels}, {inner}, {}, 0x{alpha:08x}u, 0x{beta:08x}u, 0x{bias:08x}u, {threads}>(x, y);",
            lrn.size
        )],
    }])
}
