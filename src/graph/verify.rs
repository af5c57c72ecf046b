//! The rules of a graph. `import` and every fuse rule must leave a graph that obeys them; a breach is a bug of hiosc.
//!
//! 1. Every id is in range, and views end at a tensor that owns bytes.
//! 2. A tensor whose origin is an operator is an output of that operator, and every output's origin is its operator.
//! 3. Graph inputs have origin `Input`, and every tensor of origin `Input` is a graph input, once.
//! 4. A constant has as many values as its shape says, of its type; a view has as many elements, and the type, of its source; a joined tensor has as many as its
//!    parts together, and their type. Its parts are two or more results of operators, each a part of one joined tensor at most and once, and all but the first begin at
//!    a multiple of 16 bytes. A slice has the type of its source, lies inside it, begins at a multiple of 16 bytes, and is of an input or the result of an operator.
//!    No output of the model is joined or a slice.
//! 5. The graph has no cycle.
//! 6. Each operator has the inputs that its kind documents, and its output's shape follows from them.
//! 7. Operands agree in type, and so does the result, unless the kind says otherwise; an expression is defined on its inputs' types and ends in the output's.
//!
//! The shape rules are written from the operators' definitions, not from the code that lowers them.

mod dense;

use super::{
    Conv, DType, Expr, Graph, MatMul, OpKind, Operator, Origin, PART_ALIGNMENT, Pad, PadMode, Pool, Reduce, ReduceKind, Slice, Tensor,
};
use crate::error::{Error, Result};
use crate::ids::TensorId;

impl Graph {
    /// Checks every rule of this module; a breach is [`Error::Internal`].
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
            check_operator(self, operator).map_err(|e| format!("{op} {} {:?}: {e}", operator.kind, operator.name))?;
        }
        Ok(())
    }

    fn check_ids(&self) -> Result<(), String> {
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
            let fault = match &tensor.origin {
                Origin::Operator(op) if op.index() >= self.operators.len() => Some("comes from an operator that does not exist"),
                Origin::Operator(op) if !self.operator(*op).outputs.contains(&id) => Some("is not among the outputs of its operator"),
                Origin::Input if self.inputs.iter().filter(|&&t| t == id).count() != 1 => {
                    Some("must be listed once among the graph's inputs")
                }
                Origin::Constant(v) if v.len() as u64 != tensor.elements() => Some("has too many or too few values"),
                Origin::Constant(v) if v.dtype() != tensor.dtype => Some("has values of another type"),
                Origin::View(of) if self.tensor(*of).elements() != tensor.elements() => Some("is a view of a tensor of another size"),
                Origin::View(of) if self.tensor(*of).dtype != tensor.dtype => Some("is a view of a tensor of another type"),
                Origin::Joined(parts) => self.fault_of_joined(tensor, parts),
                Origin::Slice { of, begin } => self.fault_of_slice(tensor, self.tensor(*of), *begin),
                _ => None,
            };
            if let Some(fault) = fault {
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
            return Err(format!("{} is a part of two joined tensors, or twice of one", twice[0]));
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
    fn fault_of_slice(&self, tensor: &Tensor, of: &Tensor, begin: u64) -> Option<&'static str> {
        let mut source = of;
        while let Origin::View(next) | Origin::Slice { of: next, .. } = source.origin {
            source = self.tensor(next);
        }
        if !matches!(source.origin, Origin::Input | Origin::Operator(_)) {
            return Some("is a slice of what no operator computes");
        }
        if of.dtype != tensor.dtype {
            return Some("is a slice of a tensor of another type");
        }
        if begin.checked_add(tensor.elements()).is_none_or(|end| end > of.elements()) {
            return Some("is a slice that ends behind its source");
        }
        (!(begin * tensor.dtype.bytes()).is_multiple_of(PART_ALIGNMENT)).then_some("is a slice that begins at an odd place")
    }

    fn fault_of_joined(&self, tensor: &Tensor, parts: &[TensorId]) -> Option<&'static str> {
        if parts.len() < 2 {
            return Some("is joined from less than two tensors");
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
                return Some("has a part that begins at an odd place");
            }
            elements += of.elements();
            bytes += of.bytes();
        }
        (elements != tensor.elements()).then_some("has not as many elements as its parts")
    }
}

fn check_operator(graph: &Graph, operator: &Operator) -> Result<(), String> {
    let shape = |t: TensorId| graph.tensor(t).shape.as_slice();
    let inputs: Vec<&[usize]> = operator.inputs.iter().map(|&t| shape(t)).collect();
    let [output] = operator.outputs[..] else { return Err("must have one output".into()) };
    let types: Vec<DType> = operator.inputs.iter().map(|&t| graph.tensor(t).dtype).collect();
    check_types(&operator.kind, &types, graph.tensor(output).dtype)?;
    let output = shape(output);
    match &operator.kind {
        OpKind::Conv(conv) => check_conv(conv, &inputs, output),
        OpKind::Pool(pool) => check_pool(pool, &inputs, output),
        OpKind::MatMul(matmul) => check_matmul(matmul, &inputs, output),
        OpKind::Reduce(reduce) => check_reduce(reduce, &inputs, output),
        OpKind::Elementwise(_) => {
            let broadcasts = |s: &[usize]| s.len() == output.len() && s.iter().zip(output).all(|(&a, &b)| a == b || a == 1);
            if !inputs.iter().all(|s| broadcasts(s)) {
                return Err(format!("inputs {inputs:?} do not broadcast to {output:?}"));
            }
            Ok(())
        }
        OpKind::Softmax { axis } | OpKind::LogSoftmax { axis } => match inputs[..] {
            [x] if x == output && *axis < x.len() => Ok(()),
            _ => Err("softmax keeps its one input's shape".into()),
        },
        OpKind::ConvNd(conv) => dense::check_conv_nd(conv, &inputs, output),
        OpKind::PoolNd(pool) => dense::check_pool_nd(&pool.axes, &inputs, output),
        OpKind::PoolIndices(pool) => dense::check_pool_nd(&pool.axes, &inputs, output),
        OpKind::Trilu(_) => dense::check_same(&inputs, output, 2),
        OpKind::Norm(norm) => dense::check_norm(norm, &inputs, output),
        OpKind::Lrn(_) => dense::check_same(&inputs, output, 2),
        OpKind::GridSample(sample) => dense::check_grid_sample(sample, &inputs, output),
        OpKind::Resample(resample) => resample.check(graph, operator, output),
        OpKind::Attention(attention) => dense::check_attention(attention, &inputs, output),
        OpKind::Concat { axis } => {
            let fits = |s: &&[usize]| s.len() == output.len() && (0..s.len()).all(|a| a == *axis || s[a] == output[a]);
            if *axis >= output.len() || !inputs.iter().all(fits) || inputs.iter().map(|s| s[*axis]).sum::<usize>() != output[*axis] {
                return Err(format!("inputs {inputs:?} do not join to {output:?}"));
            }
            Ok(())
        }
        OpKind::Transpose { permutation } => check_transpose(permutation, &inputs, output),
        OpKind::Slice(slice) => check_slice(slice, &inputs, output),
        OpKind::Pad(pad) => check_pad(pad, &inputs, output),
        OpKind::Index(index) => index.check(&inputs, output),
        OpKind::CumSum(sum) => match inputs[..] {
            [x] if x == output && sum.axis < x.len() => Ok(()),
            _ => Err("a running sum keeps its one input's shape".into()),
        },
        OpKind::Cell(cell) => cell.check(&inputs, output),
        OpKind::Reshape => match inputs[..] {
            [x] if x.iter().product::<usize>() == output.iter().product::<usize>() => Ok(()),
            _ => Err("a reshape keeps the number of elements".into()),
        },
    }
}

/// What goes in and out of each kind.
fn check_types(kind: &OpKind, inputs: &[DType], output: DType) -> Result<(), String> {
    let alike = |types: &[DType]| match types.windows(2).find(|pair| pair[0] != pair[1]) {
        Some(pair) => Err(format!("operands of types {} and {}", pair[0].name(), pair[1].name())),
        None => Ok(()),
    };
    // operands and bias agree; the epilogue sees their sum, then the further inputs
    let product = |bias: bool, epilogue: &Expr| {
        let (fixed, rest) = inputs.split_at_checked(2 + usize::from(bias)).ok_or("an operand or the bias is missing")?;
        alike(fixed)?;
        epilogue.dtype(&[&fixed[..1], rest].concat())
    };
    let result = match kind {
        OpKind::Conv(conv) => product(conv.bias, &conv.epilogue)?,
        OpKind::ConvNd(conv) => product(conv.bias, &conv.epilogue)?,
        OpKind::MatMul(matmul) => product(matmul.bias, &matmul.epilogue)?,
        OpKind::Norm(norm) => norm.epilogue.dtype(inputs)?,
        OpKind::Resample(resample) => resample.dtype(inputs)?,
        OpKind::PoolIndices(_) => DType::I64,
        OpKind::Elementwise(e) => e.expr.dtype(inputs)?,
        OpKind::Index(index) => index.dtype(inputs)?,
        OpKind::Reduce(Reduce { kind: ReduceKind::ArgMax { .. } | ReduceKind::ArgMin { .. }, .. }) => DType::I64,
        OpKind::Pad(Pad { mode: PadMode::Constant(value), .. }) if value.dtype() != output => {
            return Err(format!("padding of type {} in a tensor of type {}", value.dtype().name(), output.name()));
        }
        _ => {
            alike(inputs)?;
            inputs.first().copied().unwrap_or(output)
        }
    };
    if result == output { Ok(()) } else { Err(format!("a result of type {} in a tensor of type {}", result.name(), output.name())) }
}

/// Inputs behind the fixed ones: a bias of `channels`, then what the epilogue reads, each like the output.
fn check_tail(rest: &[&[usize]], bias: bool, channels: usize, epilogue: &Expr, output: &[usize]) -> Result<(), String> {
    let rest = match (bias, rest) {
        (false, rest) => rest,
        (true, [b, rest @ ..]) if b.iter().product::<usize>() == channels => rest,
        (true, _) => return Err(format!("needs a bias of {channels}")),
    };
    if rest.len() + 1 < epilogue.inputs() || rest.iter().any(|s| *s != output) {
        return Err("the epilogue's further inputs must be there, in the output's shape".into());
    }
    Ok(())
}

fn check_conv(conv: &Conv, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
    let [x, weights, rest @ ..] = inputs else { return Err("needs an input and weights".into()) };
    let (&[n, c, h, w], &[k, cg, r, s]) = (*x, *weights) else { return Err("input and weights must have rank 4".into()) };
    if conv.groups == 0 || cg * conv.groups != c || k % conv.groups != 0 || [r, s] != conv.kernel {
        return Err(format!("weights {k}x{cg}x{r}x{s} do not fit {c} channels in {} groups", conv.groups));
    }
    let extent = |i: usize, size: usize| {
        let padded = size + conv.pads_begin[i] + conv.pads_end[i];
        padded.checked_sub(conv.dilations[i] * (conv.kernel[i] - 1) + 1).map(|room| room / conv.strides[i] + 1)
    };
    if Some(output) != extent(0, h).zip(extent(1, w)).map(|(p, q)| [n, k, p, q]).as_ref().map(|s| &s[..]) {
        return Err(format!("output {output:?} does not follow from input {:?}", [n, c, h, w]));
    }
    check_tail(rest, conv.bias, k, &conv.epilogue, output)
}

fn check_pool(pool: &Pool, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
    let (&[&[n, c, h, w]], &[on, oc, p, q]) = (inputs, output) else { return Err("input and output must have rank 4".into()) };
    let fits = |i: usize, size: usize, windows: usize| {
        let padded = size + pool.pads_begin[i] + pool.pads_end[i];
        let reach = pool.dilations[i] * (pool.kernel[i] - 1) + 1;
        let room = padded.saturating_sub(reach);
        let floor = room / pool.strides[i] + 1;
        windows == floor || windows == room.div_ceil(pool.strides[i]) + 1
    };
    if [on, oc] != [n, c] || !fits(0, h, p) || !fits(1, w, q) {
        return Err(format!("output {output:?} does not follow from input {:?}", inputs[0]));
    }
    Ok(())
}

fn check_matmul(m: &MatMul, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
    let [a, b, rest @ ..] = inputs else { return Err("needs two operands".into()) };
    let reach = |sizes: [usize; 3], strides: [usize; 3]| {
        if sizes.contains(&0) { 0 } else { sizes.iter().zip(strides).map(|(size, stride)| (size - 1) * stride).sum::<usize>() + 1 }
    };
    let holds = |shape: &[usize], sizes, strides| reach(sizes, strides) <= shape.iter().product();
    if !holds(a, [m.batch, m.m, m.k], m.a_strides)
        || !holds(b, [m.batch, m.k, m.n], m.b_strides)
        || !holds(output, [m.batch, m.m, m.n], m.c_strides)
    {
        return Err("strides lead outside an operand".into());
    }
    if m.batch * m.m * m.n != output.iter().product::<usize>() {
        return Err(format!("{}x{}x{} does not fill the output {output:?}", m.batch, m.m, m.n));
    }
    check_tail(rest, m.bias, m.n, &m.epilogue, output)
}

fn check_reduce(reduce: &Reduce, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
    let [x] = inputs else { return Err("needs one input".into()) };
    let expected: Vec<usize> = x.iter().enumerate().map(|(axis, &d)| if reduce.axes.contains(&axis) { 1 } else { d }).collect();
    if expected != output || reduce.axes.windows(2).any(|w| w[0] >= w[1]) || reduce.axes.iter().any(|&a| a >= x.len()) {
        return Err(format!("axes {:?} of {x:?} do not give {output:?}", reduce.axes));
    }
    Ok(())
}

fn check_transpose(permutation: &[usize], inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
    let &[x] = inputs else { return Err("needs one input".into()) };
    let mut sorted = permutation.to_vec();
    sorted.sort_unstable();
    let fits = sorted.iter().copied().eq(0..x.len()) && permutation.iter().map(|&axis| x[axis]).eq(output.iter().copied());
    if fits { Ok(()) } else { Err(format!("axes {permutation:?} of {x:?} do not give {output:?}")) }
}

fn check_slice(slice: &Slice, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
    let &[x] = inputs else { return Err("needs one input".into()) };
    if [x.len(), slice.begin.len(), slice.step.len()] != [output.len(); 3] || slice.step.contains(&0) {
        return Err("needs a beginning and a step other than 0 for each axis".into());
    }
    let inside = |axis: usize| {
        let last = slice.begin[axis] as i128 + slice.step[axis] as i128 * (output[axis] as i128 - 1);
        let extent = x[axis] as i128;
        output[axis] == 0 || ((slice.begin[axis] as i128) < extent && (0..extent).contains(&last))
    };
    if (0..x.len()).all(inside) { Ok(()) } else { Err(format!("reads outside {x:?} for {output:?}")) }
}

fn check_pad(pad: &Pad, inputs: &[&[usize]], output: &[usize]) -> Result<(), String> {
    let &[x] = inputs else { return Err("needs one input".into()) };
    if [x.len(), pad.before.len(), pad.after.len()] != [output.len(); 3] {
        return Err("needs a padding before and after for each axis".into());
    }
    if (0..x.len()).any(|a| pad.before[a] + x[a] + pad.after[a] != output[a]) {
        return Err(format!("output {output:?} does not follow from input {x:?}"));
    }
    let too_long = |a: usize| match pad.mode {
        PadMode::Constant(_) => false,
        PadMode::Reflect => pad.before[a].max(pad.after[a]) >= x[a].max(1),
        PadMode::Edge => x[a] == 0,
    };
    if (0..x.len()).any(too_long) { Err(format!("{x:?} is too small for such a padding")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use crate::ids::OpId;

    /// input 1x4 -> relu -> output, with one thing changed by `f`.
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
    fn what_moves_elements_stays_inside() {
        let transpose = |permutation: &[usize], y: &[usize]| faults(OpKind::Transpose { permutation: permutation.to_vec() }, &[2, 3], y);
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

    #[test]
    fn tables_of_a_resampling_stay_inside() {
        // x [2, 4] along axis 1 to [2, 3], two taps each
        let faults = |places: [i32; 6], weighted: bool, outside: Option<f32>, y: &[usize]| {
            let mut g = Graph::default();
            let mut add = |name: &str, dtype, shape: &[usize], origin| {
                g.add_tensor(Tensor { name: name.into(), dtype, shape: shape.to_vec(), origin })
            };
            let x = add("x", DType::F32, &[2, 4], Origin::Input);
            let places = add("places", DType::I32, &[3, 2], Origin::Constant(Constant::I32(places.into())));
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
                inputs: vec![x, places, weights],
                outputs: vec![y],
            });
            (g.inputs, g.outputs) = (vec![x], vec![y]);
            g.verify().err().map_or(String::new(), |e| e.to_string())
        };
        assert_eq!(faults([0, 1, 1, 2, 3, 3], true, None, &[2, 3]), "");
        assert_eq!(faults([0, 1, -1, 2, 3, 3], true, Some(1.0), &[2, 3]), "");
        assert!(faults([0, 1, -1, 2, 3, 3], true, None, &[2, 3]).contains("a place outside axis 1"));
        assert!(faults([0, -1, 1, 2, 3, 3], true, Some(1.0), &[2, 3]).contains("a place outside axis 1"));
        assert!(faults([0, 1, 1, 2, 3, 4], true, None, &[2, 3]).contains("a place outside axis 1"));
        assert!(faults([0, 1, 1, 2, 3, 3], true, None, &[2, 5]).contains("must be 5x2"));
        assert!(faults([0, 1, 1, 2, 3, 3], true, None, &[3, 3]).contains("does not follow"));
        assert!(faults([0, 1, 1, 2, 3, 3], false, None, &[2, 3]).contains("axes"));
    }
}
