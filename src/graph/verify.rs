//! The rules of a graph. `import` and every fuse rule must leave a graph that obeys them; a
//! violation is a bug in hiosc.
//!
//! 1. Every id is in range, and views end at a tensor that owns bytes. Every tensor is smaller than
//!    2^48 bytes, with axes of extent 0 left out, so that sums and products of extents fit their
//!    types.
//! 2. A tensor whose origin is an operator is an output of that operator, and every output's origin
//!    is its operator.
//! 3. Graph inputs have origin `Input`, and every tensor of origin `Input` is a graph input, once.
//! 4. A constant has its tensor's type, and as many values as the shape says. A view has the type
//!    and the number of elements of its source. A joined tensor has the type of its parts, and as
//!    many elements as they have together. The parts are two or more results of operators. Each is
//!    a part of at most one joined tensor, once, and all but the first begin at a multiple of 16
//!    bytes. A slice has the type of its source, lies inside it and begins at a multiple of 16
//!    bytes. Its source is an input or the result of an operator. No output of the model is joined
//!    or a slice.
//! 5. The graph has no cycle.
//! 6. Each operator has the inputs that its kind documents, and its output's shape follows from
//!    them.
//! 7. Operands and result have one type, unless the kind says otherwise. An expression is defined
//!    on the types of its inputs, and its result has the output's type.
//!
//! Rules 6 and 7 of each operator are checked beside its attributes (`op/`). The checks are written
//! from the definition of the operator, not from the code that lowers it.

use super::{Graph, Origin, PART_ALIGNMENT, Tensor};
use crate::error::{Error, Result};
use crate::ids::TensorId;

/// An exclusive limit on the bytes of a tensor, and on the extent of a padded axis.
pub(super) const BYTE_LIMIT: usize = 1 << 48;

impl Graph {
    /// Checks every rule of this module; a violation is [`Error::Internal`].
    pub fn verify(&self) -> Result<()> {
        self.check().map_err(|message| Error::internal("graph", message))
    }

    fn check(&self) -> Result<(), String> {
        self.check_ids()?;
        self.check_origins()?;
        if self.topological_order().is_none() {
            return Err("the graph has a cycle".into());
        }
        for op in self.op_ids() {
            let operator = self.operator(op);
            operator.check(self).map_err(|e| format!("{op} {} {:?}: {e}", operator.kind, operator.name))?;
        }
        Ok(())
    }

    /// Checks what was added after the first `tensors` and `operators`: sizes, views, and the rules
    /// of each operator, but no rule of the whole graph. Its ids must be in range.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn check_added(&self, tensors: usize, operators: usize) -> Result<(), String> {
        for id in self.tensor_ids().skip(tensors) {
            self.check_size(id)?;
            let fault = if self.tensor(id).origin == Origin::Input { None } else { self.fault_of_origin(id) };
            if let Some(fault) = fault {
                return Err(format!("{} {fault}", self.tensor(id)));
            }
        }
        self.op_ids().skip(operators).try_for_each(|op| self.operator(op).check(self))
    }

    fn check_size(&self, id: TensorId) -> Result<(), String> {
        let Tensor { dtype, shape, .. } = self.tensor(id);
        let bytes = shape.iter().try_fold(dtype.bytes(), |bytes, &d| bytes.checked_mul(d.max(1) as u64));
        if bytes.is_some_and(|bytes| bytes < BYTE_LIMIT as u64) {
            Ok(())
        } else {
            Err(format!("{id} has the shape {shape:?}, which is 2^48 bytes or more"))
        }
    }

    fn check_ids(&self) -> Result<(), String> {
        self.tensor_ids().try_for_each(|id| self.check_size(id))?;
        let known = |t: &TensorId| t.index() < self.tensors.len();
        let listed = self.operators.iter().flat_map(|op| op.inputs.iter().chain(&op.outputs)).chain(&self.inputs).chain(&self.outputs);
        if let Some(t) = listed.into_iter().find(|t| !known(t)) {
            return Err(format!("tensor {t} does not exist"));
        }
        for id in self.tensor_ids() {
            if let Origin::Joined(parts) = &self.tensor(id).origin
                && let Some(part) = parts.iter().find(|part| !known(part))
            {
                return Err(format!("{id} is joined from {part}, which does not exist"));
            }
            let mut at = id;
            for _ in 0..=self.tensors.len() {
                match self.tensor(at).origin {
                    Origin::View(of) | Origin::Slice { of, .. } if !known(&of) => {
                        return Err(format!("{at} is a view of {of}, which does not exist"));
                    }
                    Origin::View(of) | Origin::Slice { of, .. } => at = of,
                    _ => break,
                }
            }
            if matches!(self.tensor(at).origin, Origin::View(_) | Origin::Slice { .. }) {
                return Err(format!("{id} is a view of itself"));
            }
        }
        Ok(())
    }

    fn check_origins(&self) -> Result<(), String> {
        for id in self.tensor_ids() {
            let tensor = self.tensor(id);
            if let Some(fault) = self.fault_of_origin(id) {
                return Err(format!("{id} ({tensor}) {fault}"));
            }
        }
        let mut parts: Vec<TensorId> = Vec::new();
        for tensor in &self.tensors {
            if let Origin::Joined(of) = &tensor.origin {
                parts.extend(of);
            }
        }
        parts.sort_unstable();
        if let Some(twice) = parts.windows(2).find(|w| w[0] == w[1]) {
            return Err(format!("{} is a part of two joined tensors, or of one twice", twice[0]));
        }
        if let Some(t) = self.outputs.iter().find(|&&t| matches!(self.tensor(self.root(t)).origin, Origin::Joined(_))) {
            return Err(format!("graph output {t} is joined"));
        }
        let whole = |t: TensorId| self.tensor(self.root(t)).elements() == self.tensor(t).elements();
        if let Some(t) = self.outputs.iter().find(|&&t| !whole(t)) {
            return Err(format!("graph output {t} is a slice"));
        }
        if let Some(t) = self.inputs.iter().find(|&&t| self.tensor(t).origin != Origin::Input) {
            return Err(format!("graph input {t} has another origin"));
        }
        for op in self.op_ids() {
            if self.operator(op).outputs.iter().any(|&t| self.tensor(t).origin != Origin::Operator(op)) {
                return Err(format!("an output of {op} has another origin"));
            }
        }
        Ok(())
    }
}

impl Graph {
    fn fault_of_origin(&self, id: TensorId) -> Option<&'static str> {
        let tensor = self.tensor(id);
        match &tensor.origin {
            Origin::Operator(op) if op.index() >= self.operators.len() => Some("comes from an operator that does not exist"),
            Origin::Operator(op) if !self.operator(*op).outputs.contains(&id) => Some("is not among the outputs of its operator"),
            Origin::Input if self.inputs.iter().filter(|&&t| t == id).count() != 1 => Some("must be listed once among the graph's inputs"),
            Origin::Constant(v) if v.len() as u64 != tensor.elements() => Some("has too many or too few values"),
            Origin::Constant(v) if v.dtype() != tensor.dtype => Some("has values of another type"),
            Origin::View(of) if self.tensor(*of).elements() != tensor.elements() => Some("is a view of a tensor of another size"),
            Origin::View(of) if self.tensor(*of).dtype != tensor.dtype => Some("is a view of a tensor of another type"),
            Origin::Joined(parts) => self.fault_of_joined(tensor, parts),
            Origin::Slice { of, begin } => self.fault_of_slice(tensor, self.tensor(*of), *begin),
            _ => None,
        }
    }

    fn fault_of_slice(&self, tensor: &Tensor, of: &Tensor, begin: u64) -> Option<&'static str> {
        let mut source = of;
        while let Origin::View(next) | Origin::Slice { of: next, .. } = source.origin {
            source = self.tensor(next);
        }
        if !matches!(source.origin, Origin::Input | Origin::Operator(_)) {
            return Some("is a slice of neither an input nor the result of an operator");
        }
        if of.dtype != tensor.dtype {
            return Some("is a slice of a tensor of another type");
        }
        if begin.checked_add(tensor.elements()).is_none_or(|end| end > of.elements()) {
            return Some("is a slice that ends beyond its source");
        }
        (!begin.wrapping_mul(tensor.dtype.bytes()).is_multiple_of(PART_ALIGNMENT))
            .then_some("is a slice that does not begin at a multiple of 16 bytes")
    }

    fn fault_of_joined(&self, tensor: &Tensor, parts: &[TensorId]) -> Option<&'static str> {
        if parts.len() < 2 {
            return Some("is joined from fewer than two tensors");
        }
        let (mut elements, mut bytes) = (0, 0u64);
        for &part in parts {
            let of = self.tensor(part);
            if !matches!(of.origin, Origin::Operator(_)) {
                return Some("has a part that no operator computes");
            }
            if of.dtype != tensor.dtype {
                return Some("has a part of another type");
            }
            if !bytes.is_multiple_of(PART_ALIGNMENT) {
                return Some("has a part that does not begin at a multiple of 16 bytes");
            }
            elements += of.elements();
            bytes += of.bytes();
        }
        (elements != tensor.elements()).then_some("does not have as many elements as its parts")
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use crate::ids::OpId;

    /// The error for input 1x4 -> relu -> output after `f` has changed one thing.
    fn broken_by(f: impl FnOnce(&mut Graph)) -> String {
        let mut g = Graph { name: "g".into(), ..Graph::default() };
        let tensor = |name: &str, origin| Tensor { name: name.into(), dtype: DType::F32, shape: vec![1, 4], origin };
        let x = g.add_tensor(tensor("x", Origin::Input));
        let y = g.add_tensor(tensor("y", Origin::Input));
        g.add_operator(Operator {
            name: "relu".into(),
            kind: OpKind::Elementwise(Elementwise { expr: Expr::identity().then(Unary::Relu) }),
            inputs: vec![x],
            outputs: vec![y],
        });
        g.inputs.push(x);
        g.outputs.push(y);
        g.verify().expect("sound before the change");
        f(&mut g);
        g.verify().expect_err("the change must be found").to_string()
    }

    #[test]
    fn each_rule_is_checked() {
        assert!(broken_by(|g| g.operators[0].inputs[0] = TensorId(9)).contains("does not exist"));
        assert!(broken_by(|g| g.tensors[1].origin = Origin::View(TensorId(1))).contains("view of itself"));
        assert!(broken_by(|g| g.operators[0].outputs.clear()).contains("not among the outputs"));
        assert!(broken_by(|g| g.tensors[0].origin = Origin::Operator(OpId(0))).contains("not among the outputs"));
        assert!(broken_by(|g| g.operators[0].inputs[0] = TensorId(1)).contains("cycle"));
        assert!(broken_by(|g| g.tensors[1].shape = vec![1, 5]).contains("broadcast"));
        assert!(broken_by(|g| g.inputs.clear()).contains("listed once"));
        assert!(broken_by(|g| g.tensors[0].origin = Origin::Constant(vec![0.0; 3].into())).contains("too few values"));
        assert!(broken_by(|g| g.tensors[0].origin = Origin::Constant(Constant::I32([0; 4].into()))).contains("another type"));
        assert!(broken_by(|g| g.tensors[1].dtype = DType::I32).contains("result of type f32 in a tensor of type i32"));
    }

    /// What is wrong with an operator `kind` from `x` to `y`; empty if nothing is.
    fn faults(kind: OpKind, x: &[usize], y: &[usize]) -> String {
        let mut g = Graph::default();
        let tensor =
            |name: &str, shape: &[usize]| Tensor { name: name.into(), dtype: DType::F32, shape: shape.to_vec(), origin: Origin::Input };
        let (x, y) = (g.add_tensor(tensor("x", x)), g.add_tensor(tensor("y", y)));
        g.add_operator(Operator { name: "op".into(), kind, inputs: vec![x], outputs: vec![y] });
        (g.inputs, g.outputs) = (vec![x], vec![y]);
        g.verify().err().map_or(String::new(), |e| e.to_string())
    }

    #[test]
    fn moved_elements_stay_inside() {
        let transpose =
            |permutation: &[usize], y: &[usize]| faults(OpKind::Transpose(Transpose { permutation: permutation.to_vec() }), &[2, 3], y);
        assert_eq!(transpose(&[1, 0], &[3, 2]), "");
        assert!(transpose(&[1, 0], &[2, 3]).contains("do not give"));
        assert!(transpose(&[1, 1], &[3, 3]).contains("do not give"));
        assert!(transpose(&[0], &[2]).contains("do not give"));

        let slice = |begin: usize, step: isize, y: usize| faults(OpKind::Slice(Slice { begin: vec![begin], step: vec![step] }), &[8], &[y]);
        assert_eq!((slice(1, 3, 3), slice(7, -7, 2), slice(0, 9, 1)), Default::default());
        assert!(slice(2, 3, 3).contains("outside"));
        assert!(slice(6, -3, 4).contains("outside"));
        assert!(slice(8, -1, 1).contains("outside"));
        assert!(slice(0, 0, 1).contains("other than 0"));

        let pad = |mode, before: usize, y: usize| faults(OpKind::Pad(Pad { before: vec![before], after: vec![1], mode }), &[4], &[y]);
        assert_eq!((pad(PadMode::Constant(1.0.into()), 9, 14), pad(PadMode::Edge, 9, 14), pad(PadMode::Reflect, 3, 8)), Default::default());
        assert!(pad(PadMode::Reflect, 4, 9).contains("too small"));
        assert!(pad(PadMode::Edge, 1, 5).contains("does not follow"));
    }

    /// Found by `fuzz/fuzz_targets/graph.rs`: numbers that only a bug can cause are refused without
    /// an overflow.
    #[test]
    fn numbers_without_bounds_are_refused() {
        const MOST: usize = usize::MAX;
        assert!(broken_by(|g| g.tensors[0].shape = vec![MOST, 0]).contains("which is 2^48 bytes or more"));
        assert!(broken_by(|g| g.tensors[1].shape = vec![1 << 46]).contains("which is 2^48 bytes or more"));

        let pool = |kernel: usize, stride: usize, dilation: usize, pad: usize| {
            let [kernel, strides, dilations, pads_begin] = [kernel, stride, dilation, pad].map(|n| [n, n]);
            let pool = Pool { kind: PoolKind::Max, kernel, strides, dilations, pads_begin, pads_end: [0, 0] };
            faults(OpKind::Pool(pool), &[1, 1, 4, 4], &[1, 1, 4, 4])
        };
        assert_eq!(pool(1, 1, 1, 0), "");
        for (kernel, stride, dilation, pad) in [(0, 1, 1, 0), (1, 0, 1, 0), (2, 1, MOST, 0), (MOST, 1, 2, 0), (1, 1, 1, MOST)] {
            assert!(pool(kernel, stride, dilation, pad).contains("does not follow"), "{kernel} {stride} {dilation} {pad}");
        }
        let pad = |before: usize| faults(OpKind::Pad(Pad { before: vec![before], after: vec![1], mode: PadMode::Edge }), &[4], &[4]);
        assert!(pad(MOST).contains("does not follow"));

        let product = |batch: usize, stride: usize| {
            let [a_strides, b_strides, c_strides] = [[stride, 1, 1], [0, 1, 1], [1, 1, 1]];
            let matmul = MatMul { batch, m: 1, n: 1, k: 1, a_strides, b_strides, c_strides, bias: false, epilogue: Expr::identity() };
            let mut g = Graph::default();
            let tensor = |name: &str| Tensor { name: name.into(), dtype: DType::F32, shape: vec![2], origin: Origin::Input };
            let [a, b, c] = ["a", "b", "c"].map(|name| g.add_tensor(tensor(name)));
            g.add_operator(Operator { name: "op".into(), kind: OpKind::MatMul(matmul), inputs: vec![a, b], outputs: vec![c] });
            (g.inputs, g.outputs) = (vec![a, b], vec![c]);
            g.verify().err().map_or(String::new(), |e| e.to_string())
        };
        assert_eq!(product(2, 1), "");
        assert!(product(MOST, 1).contains("strides reach outside"));
        assert!(product(2, MOST).contains("strides reach outside"));
    }

    #[test]
    fn tables_of_a_resampling_stay_inside() {
        // x [2, 4] along axis 1 to [2, 3], two taps each
        let faults = |positions: [i32; 6], weighted: bool, outside: Option<f32>, y: &[usize]| {
            let mut g = Graph::default();
            let mut add = |name: &str, dtype, shape: &[usize], origin| {
                g.add_tensor(Tensor { name: name.into(), dtype, shape: shape.to_vec(), origin })
            };
            let x = add("x", DType::F32, &[2, 4], Origin::Input);
            let positions = add("positions", DType::I32, &[3, 2], Origin::Constant(Constant::I32(positions.into())));
            let weights = add("weights", DType::F32, &[3, 2], Origin::Constant(vec![0.5; 6].into()));
            let y = add("y", DType::F32, y, Origin::Input);
            let resample = Resample {
                axes: vec![TappedAxis { axis: 1, taps: 2 }],
                weighted,
                outside: outside.map(Scalar::from),
                epilogue: Expr::identity(),
            };
            g.add_operator(Operator {
                name: "op".into(),
                kind: OpKind::Resample(resample),
                inputs: vec![x, positions, weights],
                outputs: vec![y],
            });
            (g.inputs, g.outputs) = (vec![x], vec![y]);
            g.verify().err().map_or(String::new(), |e| e.to_string())
        };
        assert_eq!(faults([0, 1, 1, 2, 3, 3], true, None, &[2, 3]), "");
        assert_eq!(faults([0, 1, -1, 2, 3, 3], true, Some(1.0), &[2, 3]), "");
        assert!(faults([0, 1, -1, 2, 3, 3], true, None, &[2, 3]).contains("a position outside axis 1"));
        assert!(faults([0, -1, 1, 2, 3, 3], true, Some(1.0), &[2, 3]).contains("a position outside axis 1"));
        assert!(faults([0, 1, 1, 2, 3, 4], true, None, &[2, 3]).contains("a position outside axis 1"));
        assert!(faults([0, 1, 1, 2, 3, 3], true, None, &[2, 5]).contains("must be 5x2"));
        assert!(faults([0, 1, 1, 2, 3, 3], true, None, &[3, 3]).contains("does not follow"));
        assert!(faults([0, 1, 1, 2, 3, 3], false, None, &[2, 3]).contains("axes"));
    }
}
