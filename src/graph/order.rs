//! The fixed topological order by which every pass breaks ties: Kahn's algorithm, which always
//! takes the ready operator of lowest id.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Graph;
use crate::ids::OpId;

impl Graph {
    /// All operators, each after those it depends on; of the ready ones, the lowest id comes first.
    /// `None` if the graph has a cycle.
    pub fn topological_order(&self) -> Option<Vec<OpId>> {
        let dag = self.dag();
        let mut waiting: Vec<usize> = dag.node_indices().map(|n| dag.edges_directed(n, petgraph::Incoming).count()).collect();
        let mut ready: BinaryHeap<Reverse<OpId>> = self.op_ids().filter(|op| waiting[op.index()] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(self.operators.len());
        while let Some(Reverse(op)) = ready.pop() {
            order.push(op);
            for next in dag.neighbors(petgraph::graph::NodeIndex::new(op.index())) {
                waiting[next.index()] -= 1;
                if waiting[next.index()] == 0 {
                    ready.push(Reverse(OpId::new(next.index())));
                }
            }
        }
        (order.len() == self.operators.len()).then_some(order)
    }
}
