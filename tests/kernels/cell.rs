//! The last part of a recurrent step: the gates, and the update of the state.

use hiosc::graph::{Cell, OpKind};

use super::common::case;
use crate::support::harness::{Random, check};

#[test]
fn recurrent_cells() {
    let mut r = Random(13);
    let mut cases = Vec::new();
    for cell in [Cell::LstmState, Cell::LstmOutput, Cell::Gru] {
        for (rows, hidden) in [(1, 64), (3, 5), (1, 1), (7, 129), (2, 1000)] {
            let inputs: Vec<_> = cell.gates().iter().map(|gates| r.tensor(&[rows, gates * hidden])).collect();
            cases.push(case(OpKind::Cell(cell), inputs, &[rows, hidden], |_, _| 2e-6));
        }
    }
    check("recurrent cells", cases);
}
