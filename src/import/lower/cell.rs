//! Recurrent cells and the GRU. tract keeps each cell, and the whole loop of a GRU, as one
//! operator.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::gru_cell::GruEpilogue;
use tract_onnx::tract_core::ops::gru_seq::GruSeq;
use tract_onnx::tract_core::ops::lstm_cell::LstmEpilogue;
use tract_onnx::tract_core::ops::scan::ScanInfo;

use super::scan::steps_are_few;
use super::{Lowering, Reason};
use crate::graph::{Cell, Expr, MatMul, OpKind, Origin, Slice, Tensor};
use crate::ids::TensorId;

impl Lowering<'_> {
    /// Lowers `node` if it is a recurrent cell or a GRU; returns whether it was.
    pub(super) fn cell(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let inputs = self.inputs(node);
        if let (Some(op), &[gates, state]) = (node.op_as::<LstmEpilogue>(), &inputs[..]) {
            let (gates, state) = (self.rows(gates, 4 * op.hidden), self.rows(state, op.hidden));
            let next = self.add_cell(node, Cell::LstmState, "C", vec![gates, state]);
            let output = self.add_cell(node, Cell::LstmOutput, "H", vec![gates, next]);
            self.provide(node, 0, output)?;
            self.provide(node, 1, next)?;
        } else if let (Some(op), &[of_input, of_state, state]) = (node.op_as::<GruEpilogue>(), &inputs[..]) {
            let inputs = vec![self.rows(of_input, 3 * op.hidden), self.rows(of_state, 3 * op.hidden), self.rows(state, op.hidden)];
            let next = self.add_cell(node, Cell::Gru, "H", inputs);
            self.provide(node, 0, next)?;
        } else if let Some(op) = node.op_as::<GruSeq>() {
            self.gru(node, op, inputs)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// `id` as rows of `width`.
    fn rows(&mut self, id: TensorId, width: usize) -> TensorId {
        let elements: usize = self.graph.tensor(id).shape.iter().product();
        self.reshaped(id, vec![elements / width, width])
    }

    /// Adds the cell `cell`; the last of `inputs` is a state.
    fn add_cell(&mut self, node: &TypedNode, cell: Cell, what: &str, inputs: Vec<TensorId>) -> TensorId {
        let name = format!("{}.{what}", self.operator_name(node));
        let state = self.graph.tensor(inputs[inputs.len() - 1]).clone();
        self.add(name.clone(), OpKind::Cell(cell), inputs, Tensor { name, ..state })
    }

    /// A whole GRU whose reset gate acts after the product. Inputs: `x [batch, steps, in]` and `W`,
    /// or their product with its bias; then `R`, the biases of both sides if it has them, and the
    /// initial state.
    fn gru(&mut self, node: &TypedNode, op: &GruSeq, inputs: Vec<TensorId>) -> Result<(), Reason> {
        let short = || Reason::from("an input of the GRU is missing");
        let mut inputs = inputs.into_iter();
        let mut input = || inputs.next().ok_or_else(short);
        let (mut x, w) = (input()?, if op.projected { None } else { Some(input()?) });
        let (r, b, mut state) = (input()?, if op.has_bias { Some(input()?) } else { None }, input()?);
        let (name, hidden) = (self.operator_name(node), op.hidden);
        let &[batch, steps, _] = &self.graph.tensor(x).shape[..] else { return Err("the input of a GRU needs three axes".into()) };
        steps_are_few(steps, 3)?;
        let [of_input, of_state] = [0, 1].map(|side| b.map(|b| self.biases(&name, b, side, 3 * hidden)));
        if let Some(w) = w {
            x = self.product(&format!("{name}.Xt_WT"), x, w, of_input, vec![batch, steps, 3 * hidden]);
        }
        let chunk = ScanInfo { axis: 1, chunk: op.chunk };
        let sequence = self.in_steps(&name, x, chunk, steps);
        state = self.rows(state, hidden);
        let mut all = Vec::new();
        for step in 0..steps {
            let name = format!("{name}.step-{step}");
            let x = self.chunk(&name, &sequence, step);
            let x = self.rows(x, 3 * hidden);
            let product = self.product(&format!("{name}.Ht_1_RT"), state, r, of_state, vec![batch, 3 * hidden]);
            let output = Tensor { name: format!("{name}.H"), ..self.graph.tensor(state).clone() };
            state = self.add(output.name.clone(), OpKind::Cell(Cell::Gru), vec![x, product, state], output);
            all.push(self.reshaped(state, vec![batch, 1, hidden]));
        }
        self.provide(node, 1, state)?;
        if op.emit_y {
            if op.chunk < 0 {
                all.reverse();
            }
            let all = self.concatenated(&name, all, 1);
            self.provide(node, 0, all)?;
        }
        Ok(())
    }

    /// The biases of one side: 0 is the input's, 1 the state's. `b` has those of side 0, then those
    /// of side 1.
    fn biases(&mut self, name: &str, b: TensorId, side: usize, count: usize) -> TensorId {
        let output = Tensor { name: format!("{name}.bias-{side}"), shape: vec![count], ..self.graph.tensor(b).clone() };
        if let Some(values) = self.graph.constant_f32(b) {
            let values = values[side * count..(side + 1) * count].to_vec();
            return self.graph.add_tensor(Tensor { origin: Origin::Constant(values.into()), ..output });
        }
        let b = self.reshaped(b, vec![2 * count]);
        let slice = Slice { begin: vec![side * count], step: vec![1] };
        self.add(output.name.clone(), OpKind::Slice(slice), vec![b], output)
    }

    /// `x W^T + bias` into a tensor of `shape`; `x` and `W` are read row by row.
    fn product(&mut self, name: &str, x: TensorId, w: TensorId, bias: Option<TensorId>, shape: Vec<usize>) -> TensorId {
        let n = shape[shape.len() - 1];
        let m = shape.iter().product::<usize>() / n;
        let k = self.graph.tensor(w).shape.iter().product::<usize>() / n;
        let product = MatMul {
            batch: 1,
            m,
            n,
            k,
            a_strides: [0, k, 1],
            b_strides: [0, 1, k],
            c_strides: [0, n, 1],
            bias: bias.is_some(),
            epilogue: Expr::identity(),
        };
        let output = Tensor { name: name.to_string(), shape, ..self.graph.tensor(x).clone() };
        self.add(name.to_string(), OpKind::MatMul(product), [x, w].into_iter().chain(bias).collect(), output)
    }
}
