//! Attention: a block computes a few rows of one head; the scores are never stored.

use super::OpContext;
use super::loops::{counted, trips};
use super::spec::{KernelSpec, Needs, blocks, shape_struct};
use crate::Result;
use crate::graph::Attention;

/// Bytes of static shared memory that a block can have on every GPU.
const SHARED: usize = 48 * 1024;

pub(super) fn specs(ctx: &OpContext, a: &Attention) -> Result<Vec<KernelSpec>> {
    ctx.only_f32()?;
    check(ctx, a)?;
    let specs: Vec<KernelSpec> = [32, 16, 8].into_iter().filter_map(|rows| spec(ctx, a, rows)).collect();
    // fewer rows per block if that keeps more multiprocessors busy
    let few = |d: &&KernelSpec| d.grid.iter().product::<u64>() < ctx.device.sms;
    let first = specs.iter().take_while(few).count().min(specs.len().saturating_sub(1));
    let mut ordered = specs;
    ordered.rotate_left(first);
    if ordered.is_empty() { Err(ctx.unsupported("its head depth is too large for shared memory")) } else { Ok(ordered) }
}

/// Checks that every offset that the kernel computes is inside its tensor.
fn check(ctx: &OpContext, a: &Attention) -> Result<()> {
    let masked = usize::from(a.mask_strides.is_some());
    ctx.require(
        ctx.inputs.len() == 3 + masked && a.kv_heads > 0 && a.heads.is_multiple_of(a.kv_heads.max(1)),
        "an operand is missing, or its heads are not a multiple of the key heads",
    )?;
    let inside = |sizes: [usize; 4], strides: [usize; 4], elements: u64| {
        let last =
            sizes.iter().zip(strides).try_fold(0u64, |sum, (&e, s)| sum.checked_add((e as u64).checked_sub(1)?.checked_mul(s as u64)?));
        last.is_some_and(|last| last < elements)
    };
    let elements = |i: usize| ctx.inputs[i].elements();
    let sound = inside([a.batch, a.heads, a.rows, a.depth], a.q_strides, elements(0))
        && inside([a.batch, a.kv_heads, a.columns, a.depth], a.k_strides, elements(1))
        && inside([a.batch, a.kv_heads, a.columns, a.value_depth], a.v_strides, elements(2))
        && a.mask_strides.is_none_or(|strides| inside([a.batch, a.heads, a.rows, a.columns], strides, elements(3)))
        && inside([a.batch, a.heads, a.rows, a.value_depth], a.y_strides, ctx.output.elements());
    ctx.require(sound, "its extents and strides do not fit its operands")
}

/// The kernel whose blocks compute `rows` rows, if its tiles fit into shared memory.
fn spec(ctx: &OpContext, a: &Attention, rows: usize) -> Option<KernelSpec> {
    let (width, value_width) = (a.depth.next_multiple_of(4) + 4, a.value_depth.next_multiple_of(16) + 4);
    let shared = |columns: usize| 4 * (rows * width + columns * (width + value_width) + rows * (columns + 4));
    let enough = a.columns.next_power_of_two().clamp(8, 32);
    let columns = [32, 16, 8].into_iter().find(|&columns| columns <= enough && shared(columns) <= SHARED)?;
    let threads = 4 * rows as u32;
    let strides = |name: &str, last: &str, s: [usize; 4]| {
        [("BATCH", s[0]), ("HEAD", s[1]), ("ROW", s[2]), (last, s[3])].map(|(axis, s)| (format!("{name}_{axis}"), s))
    };
    let mask = a.mask_strides.unwrap_or_default();
    let all = [
        strides("Q", "DEPTH", a.q_strides),
        strides("K", "DEPTH", a.k_strides),
        strides("V", "DEPTH", a.v_strides),
        strides("M", "COLUMN", mask),
        strides("Y", "DEPTH", a.y_strides),
    ];
    let rows_of_strides: Vec<Vec<(&str, usize)>> =
        all.iter().map(|four| four.iter().map(|(name, s)| (name.as_str(), *s)).collect()).collect();
    let masked = a.mask_strides.is_some();
    let head = [
        vec![("HEADS", a.heads), ("KV_HEADS", a.kv_heads), ("ROWS", a.rows), ("COLUMNS", a.columns)],
        vec![("DEPTH", a.depth), ("VALUES", a.value_depth), ("CAUSAL", usize::from(a.causal)), ("MASKED", usize::from(masked))],
    ];
    let table: Vec<&[(&str, usize)]> = head.iter().chain(&rows_of_strides).map(|row| row.as_slice()).collect();
    let mut body = shape_struct(&table);
    let scale = a.scale.to_bits();
    body.insert(body.len() - 1, format!("  enum : unsigned {{ SCALE = 0x{scale:08x}u /* {:?} */ }};", a.scale));
    body.push(format!("attention<Shape, {rows}, {columns}>(q, k, v, {}, y);", if masked { "mask" } else { "nullptr" }));
    // a step is a tile of columns: one loop computes its scores, and one adds up its values
    let steps = a.columns.div_ceil(columns) as u64;
    let quads = value_width / 16; // per thread, in a row of values
    let scores = counted(a.depth.div_ceil(4), 128 / columns, 64 / columns);
    let values = counted(columns, 128 / (4 * quads), 64usize.div_ceil(4 * quads));
    let all = trips(&[if steps > 1 { steps } else { 0 }, steps * scores, steps * values]);
    // a single step is straight-line code: only the loops that fill shared memory are left
    let filled = rows.max(columns) * width.max(value_width) / threads as usize / 4;
    let trips = if all.is_empty() { vec![filled as u64] } else { all };
    let four = |s: [usize; 4]| s.map(|s| s.to_string()).join("x");
    Some(KernelSpec {
        signature: format!(
            "attention_b{}h{}g{}m{}n{}d{}v{}_s{scale:08x}{}_q{}_k{}_v{}_m{}_y{}",
            a.batch,
            a.heads,
            a.kv_heads,
            a.rows,
            a.columns,
            a.depth,
            a.value_depth,
            if a.causal { "_causal" } else { "" },
            four(a.q_strides),
            four(a.k_strides),
            four(a.v_strides),
            if masked { four(mask) } else { "none".into() },
            four(a.y_strides)
        ),
        candidate: format!("bm{rows}bn{columns}"),
        comment: vec![
            format!(
                "Attention of {} heads in a batch of {}: {} rows of {} elements see {} columns{}{}; a row of the result has {} elements.",
                a.heads,
                a.batch,
                a.rows,
                a.depth,
                a.columns,
                if masked { " under a mask" } else { "" },
                if a.causal { " up to their own" } else { "" },
                a.value_depth
            ),
            format!("A block of {threads} threads computes {rows} rows, {columns} columns at a time."),
        ],
        header: "attention.cuh",
        params: ctx.params(if masked { &["q", "k", "v", "mask"] } else { &["q", "k", "v"] }),
        sync: true,
        threads,
        grid: [blocks(a.rows as u64, rows as u32), a.heads as u64, a.batch as u64],
        static_shared_bytes: shared(columns) as u32,
        registers: (40 + value_width / 4) as u32,
        trips,
        needs: Needs::default(),
        body,
    })
}
