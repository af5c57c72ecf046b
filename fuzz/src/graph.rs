//! Fuzzes the graph's verifier with damaged graphs: it must not panic. For a graph that it accepts,
//! the text form, the topological order and `fuse` must work.

use arbitrary::Unstructured;

use hiosc::fuse::fuse;
use hiosc::graph::Origin;

use crate::accepted;
use crate::damage::damage;
use crate::generate::{self, ByteTape};

/// The most elements of a tensor in a graph that is fused.
const SMALL: u64 = 1 << 20;

/// Verifies a small graph with up to three faults; if accepted, prints, orders and fuses it.
pub fn graph(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let mut tape = ByteTape(&mut bytes);
    let mut graph = generate::graph(&mut tape, 12);
    for _ in 0..tape.below(4) {
        damage(&mut graph, &mut tape);
    }
    if graph.verify().is_err() {
        return; // `Internal` is the right answer here
    }
    let _ = graph.to_string();
    let _ = (graph.topological_order(), graph.consumers(), graph.dag(), graph.weight_elements());
    // only the last rules of `fuse` make slices and joined tensors: its input never has any
    let fused = graph.tensors.iter().any(|t| matches!(t.origin, Origin::Slice { .. } | Origin::Joined(_)));
    if !fused && graph.tensors.iter().all(|t| t.elements() <= SMALL) {
        let _ = accepted(fuse(graph, &[]));
    }
}
