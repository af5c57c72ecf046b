//! Damaged graphs through the graph's verifier: it must find the damage, or bear it, and never
//! panic. What it lets pass has a text form and an order, and fuses.

use arbitrary::Unstructured;

use hiosc::fuse::fuse;
use hiosc::graph::Origin;

use crate::accepted;
use crate::damage::damage;
use crate::generate::{self, Tape};

/// The most elements of a tensor that is worked with; what is larger is only verified.
const SMALL: u64 = 1 << 20;

/// A small graph with up to three faults.
pub fn graph(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let mut tape = Tape(&mut bytes);
    let mut graph = generate::graph(&mut tape, 12);
    for _ in 0..tape.below(4) {
        damage(&mut graph, &mut tape);
    }
    if graph.verify().is_err() {
        return; // here `Internal` is the right answer
    }
    let _ = graph.to_string();
    let _ = (graph.topological_order(), graph.consumers(), graph.dag(), graph.weight_elements());
    // slices and joined tensors are what the last rules of `fuse` make: no graph comes to it with
    // them
    let fused = graph.tensors.iter().any(|t| matches!(t.origin, Origin::Slice { .. } | Origin::Joined(_)));
    if !fused && graph.tensors.iter().all(|t| t.elements() <= SMALL) {
        let _ = accepted(fuse(graph, &[]));
    }
}
