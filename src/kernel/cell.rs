//! Recurrent cells: one thread per unit.

use super::OpContext;
use super::spec::{KernelSpec, Needs, blocks, numbered};
use crate::Result;
use crate::graph::Cell;

pub(super) fn specs(ctx: &OpContext, cell: Cell) -> Result<Vec<KernelSpec>> {
    ctx.only_f32()?;
    let hidden = ctx.output.shape.last().copied().unwrap_or(0);
    let elements = ctx.output.elements();
    let fits = ctx.inputs.len() == cell.gates().len()
        && ctx.inputs.iter().zip(cell.gates()).all(|(input, &gates)| input.elements() == gates as u64 * elements);
    ctx.require(hidden > 0 && fits, "its inputs are not the gates and states of its output")?;
    let (class, words) = match cell {
        Cell::LstmState => ("LstmState", "State of an LSTM from its gates x0 (i, o, f, c) and its previous state x1"),
        Cell::LstmOutput => ("LstmOutput", "Output of an LSTM from its gates x0 (i, o, f, c) and its new state x1"),
        Cell::Gru => ("Gru", "State of a GRU from the gates (z, r, h) of its input x0 and of its previous state x1, and that state x2"),
    };
    let threads = ctx.block_size(elements);
    let arguments = numbered(ctx.inputs.len()).join(", ");
    Ok(vec![KernelSpec {
        signature: format!("{}_n{elements}h{hidden}", cell.name()),
        candidate: format!("t{threads}"),
        comment: vec![format!("{words}: {hidden} units, {} rows.", elements / hidden as u64)],
        header: "cell.cuh",
        params: ctx.params(&numbered(ctx.inputs.len())),
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
