//! Operators that read or write by index, and those that order elements.

use super::draft::{Draft, Needs, block_size, blocks, ints, joined, shape_struct, vector};
use super::loops::{counted, trips};
use super::{MULTIPROCESSORS, Site};
use crate::Result;
use crate::graph::{Index, Update};

pub(super) fn drafts(site: &Site, index: Index) -> Result<Vec<Draft>> {
    site.require(site.inputs.len() == index.inputs(), "an input is missing")?;
    match index {
        Index::Gather { axis } => gather(site, axis),
        Index::GatherElements { axis } => gather_elements(site, axis),
        Index::GatherNd { batch_dims } => gather_nd(site, batch_dims),
        Index::ScatterElements { axis, update } => scatter_elements(site, axis, update),
        Index::ScatterNd { update } => scatter_nd(site, update),
        Index::TopK { axis, largest, places } => top_k(site, axis, largest, places),
    }
}

/// Elements before, at and behind `axis`.
fn split(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// Element strides of a contiguous tensor.
fn strides_of(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

/// All but the entry of `axis`.
fn without(values: &[usize], axis: usize) -> Vec<usize> {
    values.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, v)| *v).collect()
}

/// A draft of one thread for each `width` of `work` items.
fn draft(site: &Site, names: &[&str], signature: String, width: usize, work: u64, comment: String) -> Draft {
    let threads = block_size(work / width as u64);
    Draft {
        signature,
        candidate: if width == 1 { format!("t{threads}") } else { format!("v{width}t{threads}") },
        comment: vec![comment],
        header: "gather.cuh",
        params: site.params(names),
        sync: false,
        threads,
        grid: [blocks(work / width as u64, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 32,
        trips: vec![],
        needs: Needs::default(),
        body: Vec::new(),
    }
}

/// Elements that a thread moves at once out of rows of `inner`.
fn width(site: &Site, inner: usize) -> usize {
    let most = vector(site.output.dtype);
    if inner.is_multiple_of(most) { most } else { 1 }
}

const READ: [&str; 2] = ["x", "indices"];

fn gather(site: &Site, axis: usize) -> Result<Vec<Draft>> {
    let (x, indices) = (site.inputs[0], site.inputs[1]);
    site.require(axis < x.shape.len(), "its axis does not exist")?;
    let (outer, length, inner) = split(&x.shape, axis);
    let count = indices.elements() as usize;
    let width = width(site, inner);
    let signature = format!("gather_o{outer}l{length}i{inner}_n{count}");
    let comment = format!("Slices of x {outer}x{length}x{inner} along the middle axis, for {count} indices.");
    let draft = draft(site, &READ, signature, width, site.output.elements(), comment);
    let body = vec![format!("gather<{outer}, {length}, {inner}, {count}, {width}, {}>(x, indices, y);", draft.threads)];
    Ok(vec![Draft { body, ..draft }])
}

fn gather_elements(site: &Site, axis: usize) -> Result<Vec<Draft>> {
    let (x, indices) = (&site.inputs[0].shape, &site.inputs[1].shape);
    site.require(axis < x.len() && x.len() == indices.len() && *indices == site.output.shape, "its shapes do not fit together")?;
    let mut strides = strides_of(x);
    let stride = std::mem::take(&mut strides[axis]);
    let signature = format!("gather_elements_x{}_a{axis}_n{}", joined(x), joined(indices));
    let comment = format!("Elements of x {} at indices along axis {axis}.", site.inputs[0].shape_text());
    let elements = site.output.elements();
    let draft = draft(site, &READ, signature, 1, elements, comment);
    let (dims, strides) = (ints(indices), ints(&strides));
    let call = format!("gather_elements<{elements}, {dims}, {strides}, {}, {stride}, {}>(x, indices, y);", x[axis], draft.threads);
    Ok(vec![Draft { body: vec![call], ..draft }])
}

fn gather_nd(site: &Site, batch_dims: usize) -> Result<Vec<Draft>> {
    let (x, indices) = (&site.inputs[0].shape, &site.inputs[1].shape);
    let tuple = indices.last().copied().unwrap_or(usize::MAX);
    site.require(batch_dims < indices.len() && batch_dims.saturating_add(tuple) <= x.len(), "its shapes do not fit together")?;
    let tuples: usize = indices[..indices.len() - 1].iter().product();
    let per_batch: usize = indices[batch_dims..indices.len() - 1].iter().product();
    let batch_stride: usize = x[batch_dims..].iter().product();
    let inner: usize = x[batch_dims + tuple..].iter().product();
    let dims = &x[batch_dims..batch_dims + tuple];
    let width = width(site, inner);
    let signature = format!("gather_nd_x{}_b{batch_dims}_n{}", joined(x), joined(indices));
    let comment = format!("Slices of x {} at {tuples} tuples of {tuple} indices.", site.inputs[0].shape_text());
    let draft = draft(site, &READ, signature, width, site.output.elements(), comment);
    let strides = &strides_of(x)[batch_dims..batch_dims + tuple];
    let call = format!(
        "gather_nd<{tuples}, {per_batch}, {batch_stride}, {tuple}, {}, {}, {inner}, {width}, {}>(x, indices, y);",
        ints(dims),
        ints(strides),
        draft.threads
    );
    Ok(vec![Draft { body: vec![call], ..draft }])
}

const WRITTEN: [&str; 3] = ["x", "indices", "updates"];

fn update_type(update: Update) -> &'static str {
    match update {
        Update::Replace => "UpdateReplace",
        Update::Add => "UpdateAdd",
        Update::Mul => "UpdateMul",
        Update::Min => "UpdateMin",
        Update::Max => "UpdateMax",
    }
}

/// So many lines keep a GPU busy with a thread each.
const MANY_LINES: usize = 32 * MULTIPROCESSORS as usize;

/// So few updates of a line are looked at by each of its elements.
const FEW_UPDATES: usize = 16;

fn scatter_elements(site: &Site, axis: usize, update: Update) -> Result<Vec<Draft>> {
    let (x, indices) = (&site.inputs[0].shape, &site.inputs[1].shape);
    let fits = axis < x.len() && x.len() == indices.len() && *indices == site.inputs[2].shape && *x == site.output.shape;
    site.require(fits, "its shapes do not fit together")?;
    let (length, count) = (x[axis], indices[axis]);
    let (own, narrow) = (strides_of(x), strides_of(indices));
    let lines: usize = without(x, axis).iter().product();
    let by_line = lines >= MANY_LINES && count > FEW_UPDATES;
    let how = if by_line { "lines" } else { "elements" };
    let work = if by_line { lines } else { lines * length };
    let comment = format!(
        "x {} with updates ({}) of {} along axis {axis}, a thread {}.",
        site.output.shape_text(),
        update.name(),
        site.inputs[1].shape_text(),
        if by_line { "a line" } else { "an element" }
    );
    let signature = format!("scatter_{how}_{}_x{}_a{axis}_n{}", update.name(), joined(x), joined(indices));
    let draft = draft(site, &WRITTEN, signature, 1, work as u64, comment);
    let mut body =
        shape_struct(&[&[("LINES", lines), ("LENGTH", length), ("STRIDE", own[axis]), ("COUNT", count), ("UPDATE_STRIDE", narrow[axis])]]);
    let lists = [x, &own, indices, &narrow].map(|values| ints(&without(values, axis)));
    body.push(format!("scatter_{how}<{}, Shape, {}, {}>(x, indices, updates, y);", update_type(update), lists.join(", "), draft.threads));
    // a thread a line copies the line first, and moves more at once there
    let copies = if by_line { counted(length, 64, 16) } else { 0 };
    let trips = trips(&[if copies > 0 { copies } else { counted(count, 32, 8) }]);
    Ok(vec![Draft { header: "scatter.cuh", trips, body, ..draft }])
}

fn scatter_nd(site: &Site, update: Update) -> Result<Vec<Draft>> {
    let (x, indices) = (&site.inputs[0].shape, &site.inputs[1].shape);
    let tuple = indices.last().copied().unwrap_or(usize::MAX);
    site.require(tuple <= x.len() && *x == site.output.shape, "its shapes do not fit together")?;
    let tuples: usize = indices[..indices.len() - 1].iter().product();
    let inner: usize = x[tuple..].iter().product();
    let elements = site.output.elements();
    let comment = format!("x {} with {tuples} updates ({}) at tuples of {tuple} indices.", site.output.shape_text(), update.name());
    let signature = format!("scatter_nd_{}_x{}_n{}", update.name(), joined(x), joined(indices));
    let draft = draft(site, &WRITTEN, signature, 1, elements, comment);
    let call = format!(
        "scatter_nd<{}, {elements}, {tuples}, {tuple}, {}, {inner}, {}>(x, indices, updates, y);",
        update_type(update),
        ints(&x[..tuple]),
        draft.threads
    );
    let static_shared_bytes = 4 * draft.threads;
    // all blocks look at all tuples
    let trips = trips(&[counted(tuples, 4, 4)]);
    Ok(vec![Draft { header: "scatter.cuh", sync: true, static_shared_bytes, trips, body: vec![call], ..draft }])
}

fn top_k(site: &Site, axis: usize, largest: bool, places: bool) -> Result<Vec<Draft>> {
    let x = site.only_input()?;
    site.require(axis < x.shape.len() && x.shape.len() == site.output.shape.len(), "its axis or its output does not fit its input")?;
    let (outer, length, inner) = split(&x.shape, axis);
    let k = site.output.shape[axis];
    let (which, what) = (if largest { "largest" } else { "smallest" }, if places { "places" } else { "values" });
    let signature = format!("top_k_{which}_{what}_o{outer}l{length}i{inner}_k{k}");
    let comment =
        format!("The {what} of the {k} {which} along the middle axis of x {outer}x{length}x{inner}, in order: a thread an element.");
    let draft = draft(site, &["x"], signature, 1, x.elements(), comment);
    let call = format!("top_k<{outer}, {length}, {inner}, {k}, {largest}, {places}, {}>(x, y);", draft.threads);
    // the elements before its own and those behind it, in two loops: the longest takes all
    let trips = trips(&[counted(length - 1, 4, 4)]);
    Ok(vec![Draft { header: "order.cuh", trips, body: vec![call], ..draft }])
}
