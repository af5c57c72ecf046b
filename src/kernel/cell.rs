//! Recurrent cells: one unit a thread.

use super::Site;
use super::draft::{Draft, Needs, block_size, blocks, numbered};
use crate::Result;
use crate::graph::Cell;

pub(super) fn drafts(site: &Site, cell: Cell) -> Result<Vec<Draft>> {
    site.only_f32()?;
    let hidden = site.output.shape.last().copied().unwrap_or(0);
    let elements = site.output.elements();
    let fits = site.inputs.len() == cell.gates().len()
        && site.inputs.iter().zip(cell.gates()).all(|(input, &gates)| input.elements() == gates as u64 * elements);
    site.require(hidden > 0 && fits, "its inputs are not gates and states of its output")?;
    let (class, words) = match cell {
        Cell::LstmState => ("LstmState", "State of an LSTM from its gates x0 (i, o, f, c) and its last state x1"),
        Cell::LstmOutput => ("LstmOutput", "Output of an LSTM from its gates x0 (i, o, f, c) and its new state x1"),
        Cell::Gru => ("Gru", "State of a GRU from the gates (z, r, h) of its input, x0, and of its last state, x1, and that state, x2"),
    };
    let threads = block_size(elements);
    let arguments = numbered(site.inputs.len()).join(", ");
    Ok(vec![Draft {
        signature: format!("{}_n{elements}h{hidden}", cell.name()),
        candidate: format!("t{threads}"),
        comment: vec![format!("{words}: {hidden} units, {} rows.", elements / hidden as u64)],
        header: "cell.cuh",
        params: site.params(&numbered(site.inputs.len())),
        sync: false,
        threads,
        grid: [blocks(elements, threads), 1, 1],
        static_shared_bytes: 0,
        registers: 32,
        trips: vec![],
        needs: Needs::default(),
        body: vec![format!("cell<{class}, {elements}, {hidden}, {threads}>(y, {arguments});")],
    }])
}
