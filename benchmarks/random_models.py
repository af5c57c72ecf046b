"""Writes random valid ONNX models, each with inputs and the outputs ONNX Runtime computes:

    random_models.py [--count 300] [--seed 1] [--out testdata/models/random.zip]

They are for finding wrong results: combinations of operators that no hand-written test has. In the
zip file, `NNN/m.onnx` is a model and `NNN/ref.npz` holds its values: `in:NAME` and `out:NAME`, with
`/` in names replaced by `_`. The same seed, library versions and kind of CPU give the same bytes.

A model grows node by node. Each new node is run alone in ONNX Runtime (optimisation disabled), once
with the values so far and once with values that carry rounding noise at every step; it is dropped
where the two drift apart, where values get too large, or where ONNX Runtime lacks the type. What
jumps (Round, comparisons, ArgMax, ...) reads only values without rounding: inputs, constants, and
what comes from them by moving, selecting or negating elements. At the end the whole model is
checked, run, and run again with its inputs changed by one millionth.

Needs numpy, onnx and onnxruntime. A summary of the operators goes to standard output; with
RANDOM_MODELS_FAILURES=1 in the environment also what ONNX Runtime refused.
"""

import argparse
import collections
import io
import math
import os
import zipfile

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

F16, F32, F64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")
I8, U8, I32, I64 = np.dtype("int8"), np.dtype("uint8"), np.dtype("int32"), np.dtype("int64")
BOOL = np.dtype("bool")
FLOATS, INTS = (F32, F64, F16), (I64, I32, I8, U8)
NUMBERS, ALL = FLOATS + INTS, FLOATS + INTS + (BOOL,)
LARGEST = 2000

# Without rounding: these only move, select, negate or round correctly.
EXACT = set(
    "Abs Neg Relu Clip Max Min Identity Dropout Cast CastLike Transpose Reshape Flatten Squeeze"
    " Tile Unsqueeze Expand Concat Split Slice Gather GatherElements GatherND ScatterElements"
    " ScatterND Scatter Pad DepthToSpace SpaceToDepth Trilu Where MaxPool GlobalMaxPool ReduceMax"
    " ReduceMin Round Floor Ceil Sign TopK ArgMax ArgMin OneHot Range ConstantOfShape EyeLike"
    " Hardmax IsNaN IsInf Shape Size Constant QuantizeLinear".split()
)


class Skip(Exception):
    """This node or block cannot be had here."""


class Value:
    """A tensor: its value, its value with rounding noise, and whether it is free of rounding."""

    def __init__(self, name, val, noisy=None, exact=True, loose=False, const=False, source=False):
        self.name, self.val = name, val
        self.noisy = val if noisy is None else noisy
        self.exact, self.loose, self.const, self.source = exact, loose, const, source
        self.uses = 0
        self.spare = False  # An output of its node that may stay unread.
        self.shape, self.rank, self.dtype, self.size = val.shape, val.ndim, val.dtype, val.size


def onnx_type(dtype):
    return helper.np_dtype_to_tensor_dtype(dtype)


def typed(v):
    return helper.make_tensor_value_info(v.name, onnx_type(v.dtype), v.shape)


def session(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def drift(a, b):
    """How far b is from a, relative to a's largest element."""
    if a.dtype not in FLOATS:
        return 0.0 if np.array_equal(a, b) else 1.0
    a, b = a.astype(F64), b.astype(F64)
    return float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6))


def broadcast(*shapes):
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise Skip from None
    if math.prod(shape) > LARGEST:
        raise Skip
    return shape


class Builder:
    def __init__(self, rng):
        self.rng = rng
        self.opset = int(rng.integers(9, 23))
        self.nodes, self.pool, self.consts, self.noisy_ops = [], [], [], 0
        self.style = self.choice(["exporter", "plain", "unnamed", "mixed", "mixed"])
        self.module, self.serial = "layer1", 0
        self.inputs = [self.input(i) for i in range(int(rng.integers(1, 4)))]

    # Random choices.

    def choice(self, of):
        return of[int(self.rng.integers(len(of)))]

    def chance(self, p):
        return bool(self.rng.random() < p)

    def between(self, low, high):
        """An integer from low to high, both included."""
        if low > high:
            raise Skip
        return int(self.rng.integers(low, high + 1))

    def known(self, of):
        """One of those whose second field, the first opset, is not above the model's."""
        return self.choice([o for o in of if o[1] <= self.opset])

    def since(self, opset):
        if self.opset < opset:
            raise Skip

    def axis(self, rank, negative=True):
        if rank == 0:
            raise Skip
        axis = self.between(0, rank - 1)
        return axis - rank if negative and self.opset >= 13 and self.chance(0.4) else axis

    def shape_of(self, rank, largest):
        while True:
            shape = tuple(self.between(1, 9) for _ in range(rank))
            if math.prod(shape) <= largest and (rank == 0 or math.prod(shape) > 5):
                return shape

    # Values.

    def names(self, op, outputs):
        """Names of a node and its outputs."""
        self.serial += 1
        style = self.style
        if style == "mixed":
            style = self.choice(["exporter", "plain", "unnamed"])
        if self.chance(0.1):
            stage = self.between(1, 4)
            self.module = f"layer{stage}/layer{stage}.{self.between(0, 3)}"
        if style == "exporter":
            node = f"/{self.module}/{op.lower()}{self.serial}/{op}"
            return node, [f"{node}_output_{i}" for i in range(outputs)]
        node = f"{op}_{self.serial}" if style == "plain" else ""
        if self.chance(0.3):
            return node, [f"{100 * self.serial + i}" for i in range(outputs)]
        return node, [f"{op.lower()}{self.serial}.{i}" for i in range(outputs)]

    def input(self, i):
        rng = self.rng
        rank = int(rng.choice(6, p=[0.04, 0.1, 0.2, 0.25, 0.31, 0.1]))
        shape = self.shape_of(rank, 260)
        dtype = F32
        if self.chance(0.15 if i == 0 else 0.4):
            dtype = self.choice([F16, F64, I64, I32, I8, U8, BOOL])
        if dtype in FLOATS:
            val = rng.uniform(-2, 2, shape)
        else:
            val = rng.integers(0 if dtype in (U8, BOOL) else -9, 2 if dtype == BOOL else 10, shape)
        name = self.choice(["x", "input.", "in_", "/in/", "data"]) + str(i)
        value = Value(name, np.asarray(val, dtype), loose=dtype == F16, source=True)
        self.pool.append(value)
        return value

    def const(self, array, kind="exact"):
        """A constant, perhaps one that there is already."""
        array = np.asarray(array)
        for c in self.consts:
            if c.kind == kind and c.dtype == array.dtype and c.shape == array.shape:
                same = kind != "exact" or np.array_equal(c.val, array)
                if same and self.chance(0.7):
                    return c
        self.serial += 1
        name = self.choice(["w", "layer.weight", "onnx::Const_", "const/"]) + str(self.serial)
        value = Value(name, array, const=True)
        value.kind, value.node = kind, None
        if self.chance(0.1):
            attrs = {"value": numpy_helper.from_array(array)}
            if self.opset >= 12 and self.chance(0.5):
                form = {(I64, 0): "value_int", (I64, 1): "value_ints"}
                form |= {(F32, 0): "value_float", (F32, 1): "value_floats"}
                if (array.dtype, array.ndim) in form and array.size:
                    attrs = {form[array.dtype, array.ndim]: array.tolist()}
            label = self.names("Constant", 1)[0]
            value.node = helper.make_node("Constant", [], [name], label, **attrs)
            self.nodes.append((value.node, [], [value]))
        self.consts.append(value)
        return value

    def weight(self, shape, dtype=F32, low=-1.0, high=1.0):
        """A random constant."""
        shape = tuple(shape)
        if math.prod(shape) > 400:
            raise Skip
        if dtype == BOOL:
            array = self.rng.integers(0, 2, shape)
        elif dtype in FLOATS:
            array = low + (high - low) * self.rng.integers(0, 65, shape) / 64
        else:
            array = self.rng.integers(1 if low > 0 else 0 if dtype == U8 else -5, 6, shape)
        return self.const(np.asarray(array, dtype), (low, high))

    def ints(self, of, dtype=I64):
        return self.const(np.array(of, dtype))

    def scalar(self, x, dtype=F32):
        return self.const(np.array(x, dtype))

    def node(self, op, inputs, outputs=1, exact=None, **attrs):
        """Adds a node. None is an input left out; `outputs` may be a list of booleans."""
        wanted = [True] * outputs if isinstance(outputs, int) else outputs
        name, outs = self.names(op, len(wanted))
        outs = [o if w else "" for o, w in zip(outs, wanted)]
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        node = helper.make_node(op, [i.name if i else "" for i in inputs], outs, name, **attrs)
        given = list({i.name: i for i in inputs if i}.values())
        feeds = [i for i in given if not i.const]
        graph = helper.make_graph(
            [node],
            "g",
            [typed(i) for i in feeds],
            [helper.make_empty_tensor_value_info(o) for o in outs if o],
            [numpy_helper.from_array(i.val, i.name) for i in given if i.const],
        )
        try:
            model = self.model(graph)
            run = session(model).run
            vals = run(None, {i.name: i.val for i in feeds})
            noisy = {i.name: i.noisy for i in feeds}
            if op not in EXACT and exact is None:
                noisy = {i.name: self.noise(i.noisy, 1e-6) for i in feeds}
            noisies = run(None, noisy)
            for said, val in zip(onnx.shape_inference.infer_shapes(model).graph.output, vals):
                dims = zip(said.type.tensor_type.shape.dim, val.shape)
                if any(d.dim_value != n for d, n in dims if d.HasField("dim_value")):
                    raise ValueError("onnx infers another shape than onnxruntime")
        except Exception as error:
            FAILURES[op, self.opset, str(error)[:160]] += 1
            raise Skip from None
        sure = all(i.exact for i in given)
        loose = any(i.loose for i in given)
        results = []
        for out, val, noisy in zip([o for o in outs if o], vals, noisies):
            val, noisy = np.asarray(val), np.asarray(noisy)
            if val.size == 0 or val.size > LARGEST or val.ndim > 6:
                raise Skip
            loose = loose or val.dtype == F16
            is_exact = sure and (op in EXACT or val.dtype not in FLOATS) if exact is None else exact
            if val.dtype in FLOATS:
                wide = val.astype(F64)
                if not np.isfinite(wide).all() or np.abs(wide).max() > (500 if loose else 1e4):
                    raise Skip
                narrower = op in ("Cast", "CastLike") and given[0].dtype in FLOATS
                narrower = narrower and val.dtype.itemsize < given[0].dtype.itemsize
                if narrower or not is_exact and op not in EXACT:
                    is_exact = False
                    noisy = self.noise(noisy, 5e-4 if val.dtype == F16 else 1e-6)
                if drift(val, noisy) > (0.01 if loose else 1e-4):
                    raise Skip
            elif not np.array_equal(val, noisy):
                raise Skip
            elif val.dtype in (I32, I64) and np.abs(val).max() > 1000000:
                raise Skip
            results.append(Value(out, val, noisy, is_exact, loose))
        if len(results) > 1 and self.chance(0.25):
            self.choice(results).spare = True
        for i in given:
            i.uses += 1
        self.nodes.append((node, given, results))
        self.pool += results
        return results[0] if len(results) == 1 else results

    def noise(self, val, step):
        """The same, with random relative changes of about `step`."""
        if val.dtype not in FLOATS:
            return val
        change = np.random.default_rng(len(self.nodes)).normal(size=val.shape)
        return np.asarray(val.astype(F64) * (1 + step * change), val.dtype)

    def model(self, graph):
        opset = helper.make_opsetid("", self.opset)
        version = max(4, helper.find_min_ir_version_for([opset]))
        return helper.make_model(graph, opset_imports=[opset], ir_version=version)

    def pick(self, kinds=FLOATS, rank=None, exact=False, test=None):
        """A value to read: rather one that nothing reads yet, rather a recent one."""
        low, high = (0, 6) if rank is None else (rank, rank) if isinstance(rank, int) else rank
        found, weights = [], []
        for i, v in enumerate(self.pool):
            if v.dtype in kinds and low <= v.rank <= high and (v.exact or not exact):
                if test is None or test(v):
                    found.append(v)
                    fresh = 0.1 if v.dtype == I64 and v.size < 3 else 6 if v.uses == 0 else 1
                    weights.append(fresh * (2 if i > len(self.pool) - 8 else 1))
        if not found:
            raise Skip
        weights = np.array(weights) / sum(weights)
        return found[int(self.rng.choice(len(found), p=weights))]

    def need(self, rank, kinds=FLOATS, exact=False):
        """A value of this rank, by Reshape or Cast where there is none."""
        if self.chance(0.8):
            try:
                return self.pick(kinds, rank, exact)
            except Skip:
                pass
        source = [F32] if exact else NUMBERS
        v = self.pick(source, exact=exact, test=lambda v: v.size >= (12 if rank > 2 else 4))
        if v.dtype not in kinds:
            v = self.cast(v, F32)
        if v.rank == rank:
            return v
        return self.reshape(v, self.factors(v.size, rank))

    def factors(self, size, rank):
        shape = [1] * rank
        p = 2
        while size > 1:
            while size % p:
                p += 1
            size //= p
            small = sorted(range(rank), key=lambda i: shape[i])[: max(1, rank - 1)]
            shape[self.choice(small)] *= p
        return shape

    def partner(self, v, exact=False, low=-1.0, high=1.0, p=0.5, test=None):
        """A value that broadcasts with v: another one, or a constant."""

        def fits(o):
            if o is v and self.chance(0.7):
                return False
            try:
                broadcast(v.shape, o.shape)
            except Skip:
                return False
            return test is None or test(o)

        if self.chance(p):
            try:
                return self.pick([v.dtype], exact=exact, test=fits)
            except Skip:
                pass
        kind = v.dtype, (low, high)
        shared = [c for c in self.consts if (c.dtype, c.kind) == kind and fits(c)]
        if shared and self.chance(0.5):
            return self.choice(shared)
        shape = [1 if self.chance(0.3) else d for d in v.shape]
        if self.chance(0.4):
            shape = shape[self.between(0, v.rank) :]
        elif self.chance(0.1) and v.size < 200 and v.rank < 5:
            shape = [self.between(1, 3)] + shape
        return self.weight(shape, v.dtype, low, high)

    # Small steps that many blocks need.

    def cast(self, v, dtype):
        return self.node("Cast", [v], to=onnx_type(dtype))

    def reshape(self, v, shape):
        """To this shape, which may contain 0 and -1; sometimes computed, as exporters write it."""
        shape = list(shape)
        kept = [i for i in range(min(v.rank, len(shape))) if v.shape[i] == shape[i]]
        if kept and self.chance(0.3):
            axis = self.choice(kept)
            tall = self.node("Shape", [v])
            index = self.chance(0.5)
            part = self.node("Gather", [tall, self.ints(axis if index else [axis])], axis=0)
            part = self.unsqueeze(part, [0]) if index else part
            rest = [self.ints(s) for s in (shape[:axis], shape[axis + 1 :]) if s]
            parts = [rest[0], part] + rest[1:] if axis else [part] + rest
            return self.node("Reshape", [v, self.node("Concat", parts, axis=0)])
        for i in kept:
            if self.chance(0.2):
                shape[i] = 0
        if shape and self.chance(0.4):
            shape[self.between(0, len(shape) - 1)] = -1
        return self.node("Reshape", [v, self.ints(shape)])

    def unsqueeze(self, v, axes):
        if self.opset < 13:
            return self.node("Unsqueeze", [v], axes=axes)
        return self.node("Unsqueeze", [v, self.ints(axes)])

    def clip(self, v, low, high):
        if self.opset < 11:
            attrs = {k: x for k, x in (("min", low), ("max", high)) if x is not None}
            return self.node("Clip", [v], **attrs)
        bounds = [None if x is None else self.scalar(x, v.dtype) for x in (low, high)]
        return self.node("Clip", [v] + bounds)

    def positive(self, v):
        """Something above zero."""
        way = self.between(0, 3)
        if way == 0:
            return self.node("Add", [self.node("Abs", [v]), self.scalar(0.5, v.dtype)])
        if way == 1:
            return self.node("Add", [self.node("Sigmoid", [v]), self.scalar(0.25, v.dtype)])
        if way == 2:
            return self.clip(v, 0.25, None if self.chance(0.5) else 3.0)
        return self.node("Add", [self.node("Mul", [v, v]), self.scalar(1.0, v.dtype)])

    def within(self, v, limit):
        """The same or something of absolute values up to limit."""
        if np.abs(v.val).max() <= limit:
            return v
        if self.chance(0.5):
            return self.clip(v, -limit, limit)
        return self.node("Mul", [self.node("Tanh", [v]), self.scalar(limit, v.dtype)])

    def reduce(self, op, v, axes, keep):
        attrs = {} if keep and self.chance(0.5) else {"keepdims": int(keep)}
        if axes is None:
            return self.node(op, [v], **attrs)
        if self.opset < (13 if op == "ReduceSum" else 18):
            return self.node(op, [v], axes=axes, **attrs)
        return self.node(op, [v, self.ints(axes)], **attrs)

    def normalise(self, v):
        way = self.between(0, 2)
        top = float(np.abs(v.val.astype(F64)).max())
        if way == 0 and top < 1000:
            return self.node("Tanh", [self.node("Mul", [v, self.scalar(1 / 64, v.dtype)])])
        if way == 1:
            return self.node("Div", [v, self.scalar(2.0 ** math.ceil(math.log2(top)), v.dtype)])
        return self.node("Mul", [v, self.scalar(2.0 ** -math.ceil(math.log2(top) - 1), v.dtype)])

    def bools(self):
        """A bool value: one there is, or a comparison."""
        if self.chance(0.6):
            try:
                return self.pick([BOOL])
            except Skip:
                pass
        return compare(self)

    def distinct(self, v, axis):
        """Refuses values with ties or near ties along the axis."""
        ordered = np.sort(v.val.astype(F64), axis)
        if v.shape[axis] > 1 and np.diff(ordered, axis=axis).min() < 1e-3:
            raise Skip

    # The whole model.

    def undo(self, mark):
        nodes, pool, consts = mark
        for _, given, _ in self.nodes[nodes:]:
            for i in given:
                i.uses -= 1
        del self.nodes[nodes:], self.pool[pool:], self.consts[consts:]

    def attempt(self, block):
        """Runs the block; if it fails, as if it had not."""
        mark = len(self.nodes), len(self.pool), len(self.consts)
        try:
            block(self)
            for v in self.pool[mark[1] :]:
                if v.dtype in FLOATS and v.size > 1 and np.std(v.val.astype(F64)) < 1e-3:
                    raise Skip
                if v.dtype in FLOATS and v.uses == 0 and np.abs(v.val.astype(F64)).max() > 100:
                    self.normalise(v)
            return True
        except Skip:
            self.undo(mark)
            return False

    def sinks(self):
        return [v for v in self.pool if v.uses == 0 and not v.spare]

    def join(self):
        """Makes one of two values that nothing reads."""
        ends = self.sinks()
        a = self.choice([v for v in ends if v.source] or ends)
        b = self.choice([v for v in self.pool if v is not a and (v.uses == 0 or len(ends) == 1)])
        kind = a.dtype if a.dtype in FLOATS else b.dtype if b.dtype in FLOATS else F32
        a, b = (v if v.dtype == kind else self.cast(v, kind) for v in (a, b))
        try:
            broadcast(a.shape, b.shape)
        except Skip:
            if self.chance(0.4) and a.size + b.size < 400:
                parts = [v if v.rank == 1 else self.reshape(v, [v.size]) for v in (a, b)]
                return self.node("Concat", parts, axis=0)
            if a.size > b.size:
                a, b = b, a
            op = self.choice(["Mean", "Mean", "Max", "Min", "L2", "LogSumExp", "SumSquare"])
            a = self.reduce("Reduce" + op, a, None, False)
        return self.node(self.choice(["Add", "Mul", "Sub", "Max", "Sum"]), [a, b])

    def grow(self, target):
        """Nodes until there are about as many as `target`, and the outputs. False: no luck."""
        wanted = self.between(1, 5)
        for _ in range(40 * target):
            extra = max(0, len(self.sinks()) - wanted)
            if len(self.nodes) + 2 * extra >= target:
                break
            self.attempt(self.rng.choice(BLOCKS, p=WEIGHTS))
        for _ in range(60):
            ends = self.sinks()
            if len(ends) > wanted or any(v.source for v in ends):
                self.attempt(Builder.join)
        ends = self.sinks()
        if len(ends) > wanted or any(v.source for v in ends) or not ends:
            return False
        inner = [v for v in self.pool if v.uses and not v.source and v.size <= 300]
        inner = [inner[i] for i in self.rng.permutation(len(inner))[: 5 - len(ends)]]
        self.outputs = ends + inner[: self.between(0, 2)]
        self.outputs = [self.outputs[i] for i in self.rng.permutation(len(self.outputs))]
        total = sum(v.val.nbytes for v in self.outputs + self.inputs)
        return total <= 6000 and abs(len(self.nodes) - target) <= 4 and 10 <= len(self.nodes) <= 60

    def finish(self):
        """The model and its reference values, or None if it does not hold up."""
        read = {i.name for _, given, _ in self.nodes for i in given}
        nodes = [n for n, _, outs in self.nodes if n.op_type != "Constant" or outs[0].name in read]
        graph = helper.make_graph(
            nodes,
            "random",
            [typed(v) for v in self.inputs],
            [typed(v) for v in self.outputs],
            [
                numpy_helper.from_array(c.val, c.name)
                for c in self.consts
                if c.node is None and c.name in read
            ],
        )
        model = self.model(graph)
        model.producer_name = "hiosc random models"
        if not 10 <= len(nodes) <= 60:
            return None
        onnx.checker.check_model(model, full_check=True)
        run = session(model).run
        feeds = {v.name: v.val for v in self.inputs}
        results = run(None, feeds)
        nearby = {}
        for v in self.inputs:
            change = 1 + 1e-6 * self.rng.choice([-1.0, 1.0], v.shape)
            nearby[v.name] = np.asarray(v.val * change, v.dtype) if v.dtype in FLOATS else v.val
        for v, result, other in zip(self.outputs, results, run(None, nearby)):
            result, other = np.asarray(result), np.asarray(other)
            limit = 1e-2 if v.loose else 1e-3
            if drift(result, v.val) > limit or drift(result, other) > limit:
                return None
            if result.dtype in FLOATS and not np.isfinite(result).all():
                return None
        reference = {"in:" + v.name.replace("/", "_"): v.val for v in self.inputs}
        for v, result in zip(self.outputs, results):
            reference["out:" + v.name.replace("/", "_")] = np.asarray(result)
        return model, reference


BLOCKS, WEIGHTS = [], []
FAILURES = collections.Counter()


def block(weight):
    def register(function):
        BLOCKS.append(function)
        WEIGHTS.append(weight)
        return function

    return register


@block(7)
def unary(b):
    op, _ = b.known(
        [("Tanh", 9), ("Sigmoid", 9), ("Erf", 9), ("Softplus", 9), ("Softsign", 9), ("Sin", 9)]
        + [("Cos", 9), ("Atan", 9), ("Asinh", 9), ("HardSwish", 14), ("Exp", 9), ("Mish", 18)]
        + [("Relu", 9), ("Abs", 9), ("Neg", 9), ("Identity", 9), ("Mish", 18), ("Softsign", 9)]
    )
    v = b.pick()
    b.node(op, [b.within(v, 4.0) if op == "Exp" else v])


@block(4)
def unary_with_attributes(b):
    alpha = b.between(1, 20) / 16
    op, _, attrs = b.known(
        [("Elu", 9, {"alpha": alpha}), ("Selu", 9, {}), ("Celu", 12, {"alpha": alpha})]
        + [("Selu", 9, {"alpha": 1 + alpha, "gamma": alpha}), ("LeakyRelu", 9, {"alpha": 0.2})]
        + [("HardSigmoid", 9, {"alpha": alpha / 4, "beta": 0.5}), ("LeakyRelu", 9, {})]
        + [("Gelu", 20, {}), ("Gelu", 20, {"approximate": "tanh"})]
        + [("Celu", 12, {})]
        + [("Shrink", 9, {"lambd": alpha / 4, "bias": alpha / 4}), ("Elu", 9, {})]
    )
    b.node(op, [b.pick([F32] if op == "Celu" else FLOATS)], **attrs)


@block(3)
def unary_limited(b):
    """Operators that are defined or well-behaved on part of the numbers only."""
    op = b.choice("Sqrt Log Reciprocal Asin Acos Atanh Acosh Sinh Cosh Tan".split())
    v = b.pick()
    if op in ("Sqrt", "Log", "Reciprocal"):
        v = b.positive(v)
    elif op in ("Asin", "Acos", "Atanh"):
        v = b.within(v, 0.875)
    elif op == "Acosh":
        v = b.node("Add", [b.positive(v), b.scalar(1.0, v.dtype)])
    else:
        v = b.within(v, 1.0 if op == "Tan" else 3.0)
    b.node(op, [v])


@block(3)
def jumps(b):
    """Operators with jumps: of values without rounding."""
    op, _ = b.known(
        [("Round", 11), ("Floor", 9), ("Ceil", 9), ("Sign", 9), ("ThresholdedRelu", 10)]
    )
    v = b.pick(exact=True)
    attrs = {"alpha": b.choice([0.3, 0.7])} if op == "ThresholdedRelu" else {}
    if op != "Sign" and op != "ThresholdedRelu" and b.chance(0.5):
        v = b.node("Mul", [v, b.scalar(4.0, v.dtype)], exact=True)
    b.node(op, [v], **attrs)


@block(4)
def clip_relu(b):
    v = b.pick(NUMBERS if b.opset >= 14 else FLOATS)
    if b.chance(0.3):
        b.node("Relu", [v])
    elif v.dtype in FLOATS:
        low, high = b.choice([(-0.5, 1.5), (0.0, 6.0), (None, 0.75), (-1.0, None), (0.0, 1.0)])
        b.clip(v, low, high)
    else:
        b.clip(v, b.choice([None, 1]), 5)


@block(10)
def binary(b):
    v = b.pick()
    op = b.choice("Add Add Sub Mul Mul Div Max Min Pow PRelu Sum Mean".split())
    if op == "PRelu":
        shape = [1 if b.chance(0.4) else d for d in v.shape]
        return b.node(op, [v, b.weight(shape[b.between(0, v.rank) :], v.dtype)])
    if op == "Div" and b.chance(0.5):
        return b.node(op, [v, b.positive(b.partner(v))])
    if op == "Pow":
        if b.chance(0.5):
            kind = I32 if b.opset >= 12 and b.chance(0.3) else v.dtype
            return b.node(op, [b.within(v, 3.0), b.scalar(b.choice([2, 3]), kind)])
        return b.node(op, [b.positive(b.within(v, 2.0)), b.partner(v, p=0, low=-1.5, high=2)])
    parts = [v] + [b.partner(v, low=0.5, high=2.0, p=0 if op == "Div" else 0.7)]
    if op in ("Max", "Min", "Sum", "Mean"):
        for _ in range(b.between(0, 2)):
            parts.append(b.partner(v))
            broadcast(*[p.shape for p in parts])
    b.node(op, [parts[i] for i in b.rng.permutation(len(parts))] if op != "Div" else parts)


@block(3)
def integers(b):
    v = b.pick(INTS)
    op = b.choice("Add Sub Mul Max Min Div Mod Neg Abs Sign".split())
    if op in ("Neg", "Abs", "Sign"):
        return b.node(op, [v])
    if op == "Mod":
        b.since(10)
        return b.node(op, [v, b.partner(v, low=1, p=0)], fmod=b.between(0, 1))
    if op == "Div":
        return b.node(op, [v, b.partner(v, low=1, p=0)])
    w = b.partner(v)
    numpy_op = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}.get(op)
    if numpy_op:
        wide = numpy_op(v.val.astype(I64), w.val.astype(I64))
        if not np.array_equal(wide, wide.astype(v.dtype)):
            raise Skip
    b.node(op, [v, w])


@block(2)
def bits(b):
    b.since(11)
    try:
        v = b.pick([U8] if b.opset < 18 else INTS)
    except Skip:
        v = b.cast(b.bools(), U8)
    if b.opset >= 18 and (v.dtype != U8 or b.chance(0.6)):
        op = b.choice(["BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"])
        return b.node(op, [v] if op == "BitwiseNot" else [v, b.partner(v)])
    b.node("BitShift", [v, b.partner(v, p=0)], direction=b.choice(["LEFT", "RIGHT"]))


@block(2)
def recent(b):
    """Operators that only newer opsets have."""
    b.since(14)
    found = [("HardSwish", 14), ("Mish", 18), ("Mish", 18), ("Gelu", 20), ("Gelu", 20)]
    b.node(b.known(found)[0], [b.pick()])


@block(1)
def float_mod(b):
    b.since(10)
    v = b.pick(exact=True)
    b.node("Mod", [v, b.partner(v, p=0, low=0.7, high=1.9)], fmod=1)


@block(2)
def compare(b):
    op, _ = b.known(
        [("Greater", 9), ("Less", 9), ("Equal", 11), ("GreaterOrEqual", 12), ("LessOrEqual", 12)]
    )
    v = b.pick((I32, I64) if op == "Equal" and b.chance(0.7) else NUMBERS, exact=True)
    return b.node(op, [v, b.partner(v, exact=True)])


@block(2)
def logic(b):
    v = b.bools()
    op = b.choice(["And", "Or", "Xor", "Not"])
    b.node(op, [v] if op == "Not" else [v, b.partner(v)])


@block(1)
def is_what(b):
    op = b.choice(["IsNaN", "IsInf"])
    b.since(10)
    v = b.pick()
    made = b.node(op, [v])
    if b.chance(0.6):
        b.node("Where", [made, b.scalar(0.5, v.dtype), v])


@block(4)
def where(b):
    v = b.pick(ALL if b.chance(0.3) else FLOATS)
    if b.chance(0.4):
        condition = b.partner(Value("", np.zeros(v.shape, BOOL)), p=0.5)
    else:
        condition = b.bools()
    other = b.partner(v)
    broadcast(v.shape, other.shape, condition.shape)
    b.node("Where", [condition] + b.choice([[v, other], [other, v]]))


@block(7)
def matmul(b):
    v = b.pick(FLOATS if b.chance(0.9) else (I32, I64), rank=(1, 5))
    k, wide = v.shape[-1], b.between(1, 8)
    right = b.chance(0.65) or v.rank == 1
    if b.chance(0.25):
        side = 0 if v.rank == 1 else -2
        test = lambda o: o is not v and o.rank > 0 and o.shape[max(-o.rank, -2)] == k  # noqa: E731
        w = b.pick([v.dtype], rank=(1, 5), test=test)
        broadcast(v.shape[:-2], w.shape[:-2])
        made = b.node("MatMul", [v, w])
    else:
        if not right:
            k = v.shape[-2]
        form = b.between(0, 5)
        batch = [1 if b.chance(0.4) else d for d in v.shape[:-2]]
        batch = batch[b.between(0, max(0, v.rank - 2)) :]
        batch = [] if form < 3 or v.rank == 5 and b.chance(0.5) else batch or [b.between(1, 3)]
        side = 2.0 ** -round(math.log2(k) / 2)
        shape = [k] if form == 0 else batch + ([k, wide] if right else [wide, k])
        w = b.weight(shape, v.dtype, -2 * side, 2 * side)
        made = b.node("MatMul", [v, w] if right else [w, v])
    if made.dtype in FLOATS and made.rank and b.chance(0.5):
        made = b.node("Add", [made, b.weight(made.shape[-1:], made.dtype)])
        if b.chance(0.5):
            b.node("Relu", [made])


@block(3)
def gemm(b):
    v = b.need(2)
    trans_a, trans_b = b.between(0, 1), b.between(0, 1)
    m, k = v.shape[::-1] if trans_a else v.shape
    n = b.between(1, 8)
    inputs = [v, b.weight((n, k) if trans_b else (k, n), v.dtype)]
    if b.opset < 11 or b.chance(0.8):
        inputs.append(b.weight(b.choice([(n,), (1, n), (m, 1), (m, n), (1,), ()]), v.dtype))
    attrs = {"alpha": b.choice([0.5, 1.0, -0.25]), "beta": b.choice([0.5, 1.0])}
    attrs = {k: a for k, a in attrs.items() if b.chance(0.5)}
    flags = {k: a for k, a in (("transA", trans_a), ("transB", trans_b)) if a or b.chance(0.3)}
    b.node("Gemm", inputs, **attrs, **flags)


@block(3)
def einsum(b):
    b.since(12)
    equation = b.choice(
        "ij,jk->ik bij,bjk->bik bhid,bhjd->bhij ij->ji ij->i i,j->ij ij,ij-> bij,bkj->bik ij,j->i"
        " bij->bj ijk,kl->ijl ij,kj bhwc,hkc->bhwk ijk->kij ab,bc,cd->ad ...ij,jk->...ik".split()
    )
    terms = equation.split("->")[0].split(",")
    v = b.need(len(terms[0].replace("...", "b")))
    size = dict(zip(terms[0].replace("...", "e"), v.shape))
    inputs = [v]
    for term in terms[1:]:
        shape = [size.setdefault(c, b.between(1, 5)) for c in term]
        try:
            other = b.pick([v.dtype], test=lambda o: list(o.shape) == shape and o is not v)
        except Skip:
            other = b.weight(shape, v.dtype, -0.5, 0.5)
        inputs.append(other)
    b.node("Einsum", inputs, equation=equation)


def window(b, extents, pools=False):
    """Attributes of a kernel over these extents, and the kernel."""
    kernel, dilations, attrs = [], [], {}
    dilated = b.chance(0.25) and not pools
    for d in extents:
        k = b.between(1, min(3 if len(extents) < 3 else 2, d))
        kernel.append(k)
        dilations.append(b.between(1, 2) if dilated and (k - 1) * 2 < d else 1)
    strides = [b.between(1, 2) if b.chance(0.5) else 1 for _ in extents]
    way = b.between(0, 5)
    if way == 0 and max(dilations) == 1:
        attrs["auto_pad"] = b.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])
    elif way < 4:
        pads = [b.between(0, min(1, k - 1)) for k in kernel]
        ends = pads if b.chance(0.7) else [b.between(0, min(1, k - 1)) for k in kernel]
        attrs["pads"] = pads + ends
    if any(s > 1 for s in strides) or b.chance(0.3):
        attrs["strides"] = strides
    if any(d > 1 for d in dilations):
        attrs["dilations"] = dilations
    return kernel, attrs


def conv_of(b, v, outputs=None, kernel=None, attrs=None):
    """A convolution of v."""
    if kernel is None:
        kernel, attrs = window(b, v.shape[2:])
    channels = v.shape[1]
    groups = b.choice([1, 1, channels] + [g for g in range(1, channels + 1) if channels % g == 0])
    outputs = outputs or groups * b.between(1, 1 + 5 // groups)
    if outputs % groups:
        groups = 1
    per = channels // groups
    side = 2.0 ** -round(math.log2(per * math.prod(kernel)) / 2)
    inputs = [v, b.weight([outputs, per] + kernel, v.dtype, -2 * side, 2 * side)]
    if b.chance(0.6):
        inputs.append(b.weight([outputs], v.dtype))
    if groups > 1 or b.chance(0.3):
        attrs = attrs | {"group": groups}
    if b.chance(0.6):
        attrs = attrs | {"kernel_shape": kernel}
    return b.node("Conv", inputs, **attrs)


def image(b, kinds=FLOATS):
    return b.need(int(b.rng.choice([3, 4, 5], p=[0.25, 0.6, 0.15])), kinds)


@block(6)
def conv(b):
    made = conv_of(b, image(b))
    if b.chance(0.4):
        b.node(b.choice(["Relu", "Sigmoid", "LeakyRelu"]), [made])


@block(2)
def conv_transpose(b):
    v = image(b)
    channels = v.shape[1]
    groups = b.choice([1, 1] + [g for g in range(1, channels + 1) if channels % g == 0])
    rank = v.rank - 2
    kernel = [b.between(1, 3) for _ in range(rank)]
    strides = [b.between(1, 2) for _ in range(rank)]
    per = b.between(1, 3)
    inputs = [v, b.weight([channels, per] + kernel, v.dtype, -0.75, 0.75)]
    if b.chance(0.5):
        inputs.append(b.weight([per * groups], v.dtype))
    attrs = {"strides": strides, "group": groups, "kernel_shape": kernel}
    if b.chance(0.4):
        attrs["pads"] = [b.between(0, k // 2) for k in kernel] * 2
    if b.chance(0.3):
        attrs["output_padding"] = [b.between(0, s - 1) for s in strides]
    b.node("ConvTranspose", inputs, **attrs)


@block(5)
def pools(b):
    op = b.choice(["MaxPool", "MaxPool", "MaxPool", "AveragePool", "AveragePool"] * 3 + ["LpPool"])
    v = image(b, ALL if op == "MaxPool" and b.opset >= 12 else FLOATS)
    kernel, attrs = window(b, v.shape[2:], pools=True)
    if op != "LpPool" and b.opset >= 10 and "auto_pad" not in attrs and b.chance(0.2):
        attrs["ceil_mode"] = 1
    if op == "AveragePool" and "ceil_mode" not in attrs and b.chance(0.4):
        attrs["count_include_pad"] = 1
    if op == "LpPool":
        attrs["p"] = b.between(1, 3)
    if op == "MaxPool" and b.chance(0.15) and v.exact:
        return b.node(op, [v], 2, kernel_shape=kernel, **attrs)
    b.node(op, [v], kernel_shape=kernel, **attrs)


@block(2)
def global_pools(b):
    op = b.choice(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "GlobalAveragePool"])
    b.node(op, [image(b)], **({"p": b.between(1, 3)} if op == "GlobalLpPool" else {}))


@block(4)
def norms(b):
    op, _ = b.known(
        [("BatchNormalization", 9), ("BatchNormalization", 9), ("InstanceNormalization", 9)]
        + [("LRN", 9), ("MeanVarianceNormalization", 9), ("LpNormalization", 9)]
        + [("GroupNormalization", 21)] * 6
    )
    if op == "LpNormalization":
        v = b.pick(rank=(1, 5), test=lambda v: v.shape[-1] > 1)
        return b.node(op, [v], axis=b.axis(v.rank), p=b.between(1, 2))
    v = b.need(4, [F32]) if op in ("LRN", "MeanVarianceNormalization") else image(b)
    channels = v.shape[1]
    scale = b.weight([channels], v.dtype, 0.5, 2.0)
    bias = b.weight([channels], v.dtype)
    epsilon = {"epsilon": b.choice([1e-5, 1e-3, 0.01])} if b.chance(0.6) else {}
    if op == "BatchNormalization":
        mean, variance = b.weight([channels], v.dtype), b.weight([channels], v.dtype, 0.5, 2.0)
        b.node(op, [v, scale, bias, mean, variance], **epsilon)
    elif op == "InstanceNormalization":
        b.node(op, [v, scale, bias], **epsilon)
    elif op == "GroupNormalization":
        groups = b.choice([g for g in range(1, channels + 1) if channels % g == 0])
        b.node(op, [v, scale, bias], num_groups=groups, **epsilon)
    elif op == "LRN":
        b.node(op, [v], size=b.choice([1, 3, 5]), alpha=b.choice([0.0001, 0.5]), bias=1.5)
    else:
        b.node(op, [v], **({"axes": [0, 2, 3]} if b.chance(0.4) else {"axes": [2, 3]}))


@block(3)
def layer_norm(b):
    """LayerNormalization, as one node or written out."""
    v = b.pick(rank=(2, 5), test=lambda v: v.shape[-1] > 2)
    if b.opset >= 17 and b.chance(0.6):
        axis = b.axis(v.rank)
        shape = v.shape[axis:]
        inputs = [v, b.weight(shape, v.dtype, 0.5, 2.0)]
        inputs += [b.weight(shape, v.dtype)] if b.chance(0.6) else []
        attrs = {"epsilon": 0.001} if b.chance(0.4) else {}
        return b.node("LayerNormalization", inputs, axis=axis, **attrs)
    centred = b.node("Sub", [v, b.reduce("ReduceMean", v, [v.rank - 1], True)])
    if b.chance(0.5):
        square = b.node("Pow", [centred, b.scalar(2.0, v.dtype)])
    else:
        square = b.node("Mul", [centred, centred])
    variance = b.reduce("ReduceMean", square, [v.rank - 1], True)
    deviation = b.node("Sqrt", [b.node("Add", [variance, b.scalar(0.001, v.dtype)])])
    made = b.node("Div", [centred, deviation])
    made = b.node("Mul", [made, b.weight(v.shape[-1:], v.dtype, 0.5, 2.0)])
    b.node("Add", [made, b.weight(v.shape[-1:], v.dtype)])


@block(3)
def softmax(b):
    op = b.choice(["Softmax", "Softmax", "LogSoftmax", "LogSoftmax", "Hardmax"])
    v = b.pick(rank=(1, 5), exact=op == "Hardmax", test=lambda v: v.size > 1)
    axis = b.axis(v.rank)
    if op == "Hardmax":
        flat = Value("", v.val.reshape(math.prod(v.shape[:axis]), -1))
        b.distinct(*(v, axis) if b.opset >= 13 else (flat, 1))
    b.node(op, [v], **({} if b.chance(0.2) and op != "Hardmax" else {"axis": axis}))


@block(6)
def reductions(b):
    op = "Reduce" + b.choice("Sum Mean Max Min Prod L1 L2 LogSum LogSumExp SumSquare".split())
    kinds = (F32, F64, F16, I32, I64) if op in ("ReduceSum", "ReduceMax", "ReduceMin") else FLOATS
    v = b.pick(kinds, rank=(1, 5))
    if op == "ReduceLogSum":
        v = b.positive(v)
    some = [i for i in range(v.rank) if b.chance(0.4)] or [b.between(0, v.rank - 1)]
    if b.opset >= 11 and b.chance(0.3):
        some = [i - v.rank for i in some]
    axes = None if b.chance(0.1) else some
    if op == "ReduceProd" and math.prod(v.shape[a] for a in some) > 12:
        raise Skip
    b.reduce(op, v, axes, b.chance(0.6))


@block(2)
def arg_max(b):
    v = b.pick(rank=(1, 5), exact=True)
    axis = b.axis(v.rank)
    b.distinct(v, axis)
    attrs = {"select_last_index": 1} if b.opset >= 12 and b.chance(0.2) else {}
    op = b.choice(["ArgMax", "ArgMin"])
    b.node(op, [v], axis=axis, keepdims=b.between(0, 1), **attrs)


@block(2)
def top_k(b):
    v = b.pick(rank=(1, 5), exact=True, test=lambda v: v.size > 1)
    axis = b.axis(v.rank)
    b.distinct(v, axis)
    k = b.between(1, v.shape[axis])
    if b.opset < 10:
        return b.node("TopK", [v], 2, axis=axis, k=k)
    attrs = {"largest": b.between(0, 1)} if b.opset >= 11 else {}
    b.node("TopK", [v, b.ints([k])], 2, axis=axis, **attrs)


@block(2)
def cum_sum(b):
    b.since(11)
    v = b.pick((F32, F64, F32, I32, I64), rank=(1, 5))
    axis = b.scalar(b.axis(v.rank), b.choice([I32, I64]))
    b.node("CumSum", [v, axis], exclusive=b.between(0, 1), reverse=b.between(0, 1))


@block(4)
def reshapes(b):
    v = b.pick(ALL)
    b.reshape(v, b.factors(v.size, b.between(1, 5)))


@block(2)
def flatten(b):
    v = b.pick(ALL, rank=(1, 5))
    b.node("Flatten", [v], **({} if b.chance(0.3) else {"axis": b.between(0, v.rank)}))


@block(4)
def transpose(b):
    v = b.pick(ALL, rank=(2, 5))
    order = [int(i) for i in b.rng.permutation(v.rank)]
    b.node("Transpose", [v], **({} if b.chance(0.15) else {"perm": order}))


@block(2)
def squeeze(b):
    v = b.pick(ALL, rank=(1, 5), test=lambda v: 1 in v.shape)
    ones = [i for i, d in enumerate(v.shape) if d == 1]
    some = [i for i in ones if b.chance(0.6)] or ones[:1]
    if b.opset >= 11 and b.chance(0.3):
        some = [i - v.rank for i in some]
    if b.chance(0.15):
        b.node("Squeeze", [v])
    elif b.opset < 13:
        b.node("Squeeze", [v], axes=some)
    else:
        b.node("Squeeze", [v, b.ints(some)])


@block(2)
def unsqueeze(b):
    v = b.pick(ALL, rank=(0, 3))
    rank = v.rank + b.between(1, 2)
    axes = sorted(int(a) for a in b.rng.permutation(rank)[: rank - v.rank])
    b.unsqueeze(v, [a - rank for a in axes] if b.opset >= 11 and b.chance(0.3) else axes)


@block(2)
def expand(b):
    v = b.pick(ALL, rank=(0, 4), test=lambda v: v.size < 200)
    shape = [b.between(2, 4) if d == 1 and b.chance(0.7) else d for d in v.shape]
    shape = [1 if b.chance(0.2) else d for d in shape]
    if b.chance(0.4) or not shape:
        shape = [b.between(1, 3)] + shape
    broadcast(shape, v.shape)
    b.node("Expand", [v, b.ints(shape)])


@block(2)
def expand_like(b):
    """To the shape of another value."""
    v = b.pick(ALL, rank=(1, 4), test=lambda v: v.size < 500)
    w = b.partner(v, p=0)
    if broadcast(v.shape, w.shape) != v.shape:
        raise Skip
    large = b.node("Expand", [w, b.node("Shape", [v])])
    b.node("Add" if v.dtype in FLOATS else "Equal", [large, v])


@block(2)
def tile(b):
    v = b.pick(ALL, rank=(1, 4), test=lambda v: v.size < 200)
    b.node("Tile", [v, b.ints([b.between(1, 3) if b.chance(0.5) else 1 for _ in v.shape])])


@block(5)
def concat(b):
    v = b.pick(ALL, rank=(1, 5), test=lambda v: v.size < 700)
    axis = b.axis(v.rank)
    place = axis % v.rank

    def fits(o):
        return all(i == place or d == e for i, (d, e) in enumerate(zip(o.shape, v.shape)))

    parts = [v]
    for _ in range(b.between(1, 3)):
        if b.chance(0.3):
            shape = list(v.shape)
            shape[place] = b.between(1, 3)
            parts.append(b.weight(shape, v.dtype))
        else:
            parts.append(b.pick([v.dtype], rank=v.rank, test=fits))
    b.node("Concat", [parts[i] for i in b.rng.permutation(len(parts))], axis=axis)


@block(3)
def split(b):
    v = b.pick(ALL, rank=(1, 5), test=lambda v: max(v.shape) > 1)
    axis = max(range(v.rank), key=lambda i: (v.shape[i] > 1, b.rng.random()))
    d = v.shape[axis]
    parts = b.between(2, min(3, d))
    cuts = sorted(int(c) for c in b.rng.permutation(d - 1)[: parts - 1] + 1)
    sizes = [e - s for s, e in zip([0] + cuts, cuts + [d])]
    if d % parts == 0 and b.chance(0.5):
        attrs = {"num_outputs": parts} if b.opset >= 18 else {}
        outs = b.node("Split", [v], parts, axis=axis, **attrs)
    elif b.opset < 13:
        outs = b.node("Split", [v], parts, axis=axis, split=sizes)
    else:
        outs = b.node("Split", [v, b.ints(sizes)], parts, axis=axis)
    if v.dtype in FLOATS and outs[0].shape == outs[1].shape and b.chance(0.6):
        b.node("Mul", [outs[0], b.node("Sigmoid", [outs[1]])])


@block(5)
def slice_(b):
    v = b.pick(ALL, rank=(1, 5))
    axes = [i for i in range(v.rank) if b.chance(0.5)] or [v.rank - 1]
    starts, ends, steps = [], [], []
    for a in axes:
        d = v.shape[a]
        step = b.choice([1, 1, 2, -1, -2]) if b.opset >= 10 else 1
        start = b.between(0, max(0, (d - 1) // 2))
        end = b.choice([b.between(start + 1, d), d, 2**63 - 1, 1000])
        if b.chance(0.3) and end <= d and d - end > 0:
            end -= d
        if step < 0:
            start = b.choice([-1, d - 1, d + 3])
            end = b.choice([-(2**63), -d - 1, 0 if d > 1 else -d - 1])
        starts, ends, steps = starts + [start], ends + [end], steps + [step]
    if b.opset < 10:
        return b.node("Slice", [v], axes=axes, starts=starts, ends=ends)
    if b.opset >= 11 and b.chance(0.3):
        axes = [a - v.rank for a in axes]
    last = all(s == 1 for s in steps) and b.chance(0.5)
    index = I32 if max(abs(e) for e in ends) < 2**31 and b.chance(0.2) else I64
    inputs = [v] + [b.ints(x, index) for x in (starts, ends, axes)]
    b.node("Slice", inputs if last else inputs + [b.ints(steps, index)])


@block(4)
def gather(b):
    """Gather, GatherElements and GatherND, with constant indices."""
    v = b.pick(ALL, rank=(1, 5))
    axis = b.axis(v.rank)
    d = v.shape[axis]
    low, kind = (-d if b.opset >= 11 and b.chance(0.3) else 0), b.choice([I64, I64, I32])
    op = b.choice(["Gather", "Gather", "GatherElements", "GatherND"])
    if op == "Gather":
        shape = b.choice([(), (2,), (1,), (3, 2)])
        b.node(op, [v, b.const(b.rng.integers(low, d, shape).astype(kind))], axis=axis)
    elif op == "GatherElements":
        b.since(11)
        shape = [b.between(1, 4) if i == axis % v.rank else d for i, d in enumerate(v.shape)]
        if math.prod(shape) > 120:
            raise Skip
        b.node(op, [v, b.const(b.rng.integers(low, d, shape).astype(kind))], axis=axis)
    else:
        b.since(11)
        batch = b.between(0, 1) if b.opset >= 12 and v.rank > 1 else 0
        depth = b.between(1, v.rank - batch)
        lead = list(v.shape[:batch]) + [b.between(1, 4)]
        index = [b.rng.integers(0, v.shape[batch + j], lead) for j in range(depth)]
        attrs = {"batch_dims": batch} if batch else {}
        b.node(op, [v, b.const(np.stack(index, -1).astype(I64))], **attrs)


@block(3)
def scatter(b):
    v = b.pick(ALL, rank=(1, 4))
    axis = b.axis(v.rank)
    place, d = axis % v.rank, v.shape[axis]
    attrs, unsure = {}, {}
    first = {"add": 16, "mul": 16, "max": 18, "min": 18}
    if v.dtype in FLOATS and b.chance(0.4):
        attrs["reduction"] = b.choice(list(first))
        b.since(first[attrs["reduction"]])
        unsure = {} if attrs["reduction"] in ("max", "min") else {"exact": False}
    if b.chance(0.5):
        many = b.between(1, d)
        shape = [many if i == place else b.between(1, e) for i, e in enumerate(v.shape)]
        if math.prod(shape) > 120:
            raise Skip
        full = shape[:place] + [d] + shape[place + 1 :]
        order = np.argsort(b.rng.random(full), place)
        index = b.const(np.take(order, np.arange(many), place).astype(I64))
        op = "ScatterElements" if b.opset >= 11 else "Scatter"
        b.node(op, [v, index, b.weight(shape, v.dtype)], axis=axis, **attrs, **unsure)
    else:
        b.since(11)
        depth = b.between(1, v.rank)
        cells = math.prod(v.shape[:depth])
        flat = b.rng.permutation(cells)[: b.between(1, min(cells, 4))]
        index = np.stack(np.unravel_index(flat, v.shape[:depth]), -1).astype(I64)
        updates = b.weight([len(flat)] + list(v.shape[depth:]), v.dtype)
        b.node("ScatterND", [v, b.const(index), updates], **attrs, **unsure)


@block(4)
def pad(b):
    v = b.pick(ALL if b.opset >= 13 else (F32, F64), rank=(1, 5))
    mode = b.choice(["constant", "constant", "reflect", "edge"])
    pads = [b.between(0, 2) if b.chance(0.4) else 0 for _ in range(2 * v.rank)]
    if mode == "reflect":
        pads = [min(p, v.shape[i % v.rank] - 1) for i, p in enumerate(pads)]
    if mode == "constant" and b.chance(0.2):
        pads = [-1 if v.shape[i % v.rank] > 3 and b.chance(0.5) else p for i, p in enumerate(pads)]
    mode_attr = {} if mode == "constant" and b.chance(0.5) else {"mode": mode}
    if b.opset < 11:
        return b.node("Pad", [v], pads=pads, value=0.5, **mode_attr)
    value = b.scalar(1, v.dtype) if mode == "constant" and b.chance(0.5) else None
    if b.opset >= 18 and b.chance(0.3):
        axis = b.axis(v.rank)
        pads = [pads[axis % v.rank], pads[axis % v.rank + v.rank]]
        return b.node("Pad", [v, b.ints(pads), value, b.ints([axis])], **mode_attr)
    b.node("Pad", [v, b.ints(pads), value], **mode_attr)


@block(3)
def depth_space(b):
    if b.chance(0.5):
        v = b.pick(FLOATS, rank=4, test=lambda v: v.shape[1] % 4 == 0)
        attrs = {"mode": b.choice(["DCR", "CRD"])} if b.opset >= 11 else {}
        return b.node("DepthToSpace", [v], blocksize=2, **attrs)
    v = b.need(4)
    if v.shape[2] % 2 or v.shape[3] % 2:
        v = b.pick(FLOATS, rank=4, test=lambda v: v.shape[2] % 2 == 0 and v.shape[3] % 2 == 0)
    b.node("SpaceToDepth", [v], blocksize=2)


@block(3)
def resize(b):
    v = b.need(4 if b.chance(0.7) else 3, [F32])
    if v.size > 300:
        raise Skip
    linear = b.chance(0.5)
    attrs = {"mode": "linear" if linear else "nearest"}
    # Nearest: no positions that rounding noise could move to the next element.
    factors = [2.0, 2.0, 1.0, 3.0, 0.5, 1.5] if linear else [2.0, 2.0, 1.0, 4.0, 0.5]
    scales = [1.0, 1.0] + [b.choice(factors) for _ in v.shape[2:]]
    scales = [1.0 if int(s * d) < 1 else s for s, d in zip(scales, v.shape)]
    whole = all(s * d == int(s * d) for s, d in zip(scales, v.shape))
    factors = b.const(np.array(scales, F32))
    if b.opset == 9:
        return b.node("Upsample", [v, b.const(np.array([max(1, s) for s in scales], F32))], **attrs)
    if b.opset == 10:
        return b.node("Resize", [v, factors], **attrs)
    # The length that the other two ask for is disputed where the scale does not give a whole one.
    modes = ["half_pixel", "asymmetric"] + ["pytorch_half_pixel", "align_corners"] * whole
    attrs["coordinate_transformation_mode"] = b.choice(modes)
    if not linear:
        rounding = ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]
        attrs["nearest_mode"] = b.choice(rounding)
        if attrs["coordinate_transformation_mode"] == "align_corners":
            attrs["coordinate_transformation_mode"] = "asymmetric"
    roi = b.const(np.zeros(0, F32)) if b.opset < 13 else None
    if b.chance(0.4) and (linear or whole):
        sizes = [int(s * d) for s, d in zip(scales, v.shape)]
        nothing = b.const(np.zeros(0, F32)) if b.opset < 13 else None
        return b.node("Resize", [v, roi, nothing, b.ints(sizes)], **attrs)
    b.node("Resize", [v, roi, factors], **attrs)


@block(2)
def one_hot(b):
    v = b.pick((I64, I32, F32), rank=(0, 3), exact=True, test=lambda v: v.size < 100)
    if v.dtype == F32:
        v = b.node("Floor", [v])
    depth = b.between(2, 5)
    depth = depth if b.opset >= 11 and b.chance(0.5) else [depth]
    kind = b.choice([F32, I64]) if v.dtype == I64 else F32
    depth = b.ints(depth, v.dtype)
    values = b.const(np.array([0, 1] if b.chance(0.6) else [-1, 2], kind))
    b.node("OneHot", [v, depth, values], axis=b.choice([-1, 0, v.rank]))


@block(2)
def trilu(b):
    b.since(14)
    v = b.pick((F32, F64, I64, BOOL), rank=(2, 5))
    inputs = [v] + ([b.scalar(b.between(-2, 2), I64)] if b.chance(0.6) else [])
    b.node("Trilu", inputs, **({"upper": b.between(0, 1)} if b.chance(0.7) else {}))


@block(2)
def positions(b):
    """Range of a constant or computed length, used as positions."""
    b.since(11)
    v = b.pick(rank=(1, 5))
    n = v.shape[-1]
    if b.chance(0.5):
        limit = b.node("Gather", [b.node("Shape", [v]), b.scalar(v.rank - 1, I64)], axis=0)
        steps = b.node("Range", [b.scalar(0, I64), limit, b.scalar(1, I64)])
        steps = b.cast(steps, v.dtype)
    else:
        start = b.between(-2, 2)
        ends = [b.scalar(x, F32) for x in (start, start + n / 2, 0.5)]
        steps = b.node("Range", ends)
        steps = b.cast(steps, v.dtype) if v.dtype != F32 else steps
    steps = b.node("Mul", [steps, b.scalar(0.25, v.dtype)])
    b.node(b.choice(["Add", "Mul"]), [v, b.node("Sin", [steps]) if b.chance(0.5) else steps])


@block(2)
def filled(b):
    """ConstantOfShape, of the shape of a value; EyeLike; Size."""
    v = b.pick(rank=(1, 4))
    way = b.between(0, 3)
    if way == 0:
        v = b.need(2)
        eye = b.node("EyeLike", [v], **({"k": 1} if b.chance(0.3) else {}))
        return b.node("Add", [v, eye])
    if way == 1:
        size = b.cast(b.node("Size", [v]), v.dtype)
        return b.node("Div", [b.reduce("ReduceSum", v, None, False), size])
    value = numpy_helper.from_array(np.array([b.choice([0.5, 1.0, -2.0])], v.dtype))
    shape = b.node("Shape", [v]) if b.chance(0.6) else b.ints([1] * (v.rank - 1) + [v.shape[-1]])
    full = constant_of_shape(b, shape, value)
    b.node(b.choice(["Add", "Mul", "Max"]), [v, full])


def constant_of_shape(b, shape, value):
    """One value everywhere: not in the pool, where it would be refused as too flat."""
    made = b.node("ConstantOfShape", [shape], value=value)
    b.pool.remove(made)
    return made


@block(2)
def dropout(b):
    v = b.pick()
    if b.opset < 12:
        return b.node("Dropout", [v], ratio=0.5)
    inputs = [v, b.scalar(0.5, F32)] + ([b.scalar(False, BOOL)] if b.chance(0.5) else [])
    b.node("Dropout", inputs if b.chance(0.7) else [v])


@block(1)
def identity(b):
    b.node("Identity", [b.pick(ALL)])


@block(6)
def casts(b):
    v = b.pick(ALL)
    if v.dtype in FLOATS:
        kinds = [F32, F64, F16] + ([BOOL, I32, I64, I8, U8] if v.exact else [])
    else:
        kinds = [F32, F32, F32, F64, F16, I64, I32, BOOL]
    kind = b.choice([k for k in kinds if k != v.dtype])
    if kind == I8 and np.abs(v.val).max() > 100 or kind == U8 and v.dtype in FLOATS:
        v = b.node("Abs", [v])
    if kind in (I8, U8) and np.abs(v.val.astype(F64)).max() > 100:
        raise Skip
    if kind == F16 and np.abs(v.val.astype(F64)).max() > 100:
        raise Skip
    if b.opset >= 15 and b.chance(0.1):
        return b.node("CastLike", [v, b.scalar(1, kind)])
    b.cast(v, kind)


@block(2)
def back_to_f32(b):
    """So that most values stay f32."""
    v = b.cast(b.pick([F16, F64, I64, I32, I8, U8, BOOL], test=lambda v: v.size > 1), F32)
    if v.exact and np.abs(v.val).max() > 4:
        b.node("Mul", [v, b.scalar(0.125)], exact=True)


@block(4)
def quantize(b):
    """QuantizeLinear, mostly with what follows it."""
    b.since(10)
    v = b.pick([F32], exact=True)
    kind = b.choice([I8, U8])
    channels = v.rank and b.opset >= 13 and b.chance(0.4)
    axis = b.axis(v.rank) if channels else 0
    shape = [v.shape[axis]] if channels else []
    scale = b.const(np.asarray(b.rng.uniform(0.011, 0.053, shape), F32))
    zero = b.const(np.asarray(b.rng.integers(*((-9, 9) if kind == I8 else (90, 150)), shape), kind))
    attrs = {"axis": axis} if channels else {}
    made = b.node("QuantizeLinear", [v, scale, zero], **attrs)
    if b.chance(0.75):
        made = b.node("DequantizeLinear", [made, scale, zero], **attrs)
        if b.chance(0.3):
            b.node("QuantizeLinear", [made, scale, zero], exact=True, **attrs)


@block(1)
def dequantize(b):
    b.since(10)
    v = b.pick([I8, U8, I32])
    zero = None if v.dtype == I32 or b.chance(0.5) else b.scalar(b.between(0, 9), v.dtype)
    b.node("DequantizeLinear", [v, b.scalar(b.choice([0.037, 0.0625])), zero])


@block(2)
def dynamic_quantize(b):
    """DynamicQuantizeLinear, and the product that exporters write after it."""
    b.since(11)
    v = b.pick([F32], exact=True, test=lambda v: v.size > 3)
    made, scale, zero = b.node("DynamicQuantizeLinear", [v], 3)
    b.pool[-1].exact = True
    if v.rank < 2 or b.chance(0.4):
        return b.node("Mul", [b.node("Sub", [b.cast(made, F32), b.cast(zero, F32)]), scale])
    w = b.weight([v.shape[-1], b.between(1, 6)], b.choice([I8, U8]))
    zero_w = b.scalar(1, w.dtype) if b.chance(0.5) else None
    product = b.node("MatMulInteger", [made, w, zero, zero_w])
    b.node("Mul", [b.cast(product, F32), b.node("Mul", [scale, b.scalar(0.125)])])


@block(2)
def integer_products(b):
    """MatMulInteger and ConvInteger."""
    b.since(10)
    conv = b.chance(0.5)
    try:
        v = b.pick([U8] if conv else [I8, U8], rank=4 if conv else (2, 4), exact=True)
    except Skip:
        v = b.need(4 if conv else 2, [F32], exact=True)
        v = b.node("QuantizeLinear", [v, b.scalar(0.037), b.scalar(101, U8)])
    kind = b.choice([I8, U8]) if v.dtype == U8 and not conv else v.dtype
    zeros = [b.scalar(b.between(0, 101), v.dtype), b.scalar(1, kind)][: b.between(0, 2)]
    if conv:
        kernel, attrs = window(b, v.shape[2:])
        w = b.weight([b.between(1, 4), v.shape[1]] + kernel, kind)
    else:
        w, attrs = b.weight([v.shape[-1], b.between(1, 6)], kind), {}
    made = b.node("ConvInteger" if conv else "MatMulInteger", [v, w] + zeros, **attrs)
    b.node("Mul", [b.cast(made, F32), b.scalar(2.0**-10)])


@block(4)
def recurrent(b):
    v = b.need(3, [F32])
    steps, batch, width = v.shape
    if steps > 6 or width > 8:
        raise Skip
    op = b.choice(["RNN", "GRU", "LSTM"])
    gates, hidden = {"RNN": 1, "GRU": 3, "LSTM": 4}[op], b.between(1, 4)
    direction = b.choice(["forward", "reverse", "bidirectional"])
    ways = 2 if direction == "bidirectional" else 1
    inputs = [
        v,
        b.weight([ways, gates * hidden, width], F32, -0.75, 0.75),
        b.weight([ways, gates * hidden, hidden], F32, -0.75, 0.75),
        b.weight([ways, 2 * gates * hidden]) if b.chance(0.7) else None,
        b.ints([b.choice([steps, max(1, steps - 1)])] * batch, I32) if b.chance(0.15) else None,
        b.weight([ways, batch, hidden]) if b.chance(0.4) else None,
    ]
    outputs = 2
    if op == "LSTM":
        inputs.append(b.weight([ways, batch, hidden]) if b.chance(0.4) else None)
        inputs.append(b.weight([ways, 3 * hidden]) if b.chance(0.2) else None)
        outputs = 3
    attrs = {"hidden_size": hidden}
    if direction != "forward" or b.chance(0.3):
        attrs["direction"] = direction
    if op == "GRU" and b.chance(0.5):
        attrs["linear_before_reset"] = 1
    if b.chance(0.15):
        extra = {"RNN": ["Relu"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Relu"]}
        attrs["activations"] = extra[op] * ways
    wanted = [b.chance(0.6) for _ in range(outputs)]
    wanted[b.between(0, outputs - 1)] = True
    while not wanted[-1]:
        wanted.pop()
    made = b.node(op, inputs, wanted, **attrs)
    if wanted[0] and b.chance(0.5):
        made = made if isinstance(made, Value) else made[0]
        made = b.node("Transpose", [made], perm=[0, 2, 1, 3])
        b.reshape(made, [steps, batch, ways * hidden])


@block(3)
def attention(b):
    """Attention written out, of one head or two."""
    v = b.need(3)
    n, s, d = v.shape
    if s < 2 or s > 9 or d > 10:
        raise Skip
    heads, width = b.between(1, 2), b.between(1, 4)
    total = heads * width
    parts = []
    for _ in range(3):
        part = b.node("MatMul", [v, b.weight([d, total], v.dtype, -0.75, 0.75)])
        if b.chance(0.4):
            part = b.node("Add", [part, b.weight([total], v.dtype)])
        if heads > 1:
            part = b.reshape(part, [n, s, heads, width])
            part = b.node("Transpose", [part], perm=[0, 2, 1, 3])
        parts.append(part)
    order = [0, 1, 3, 2] if heads > 1 else [0, 2, 1]
    scores = b.node("MatMul", [parts[0], b.node("Transpose", [parts[1]], perm=order)])
    if b.chance(0.5):
        scores = b.node("Div", [scores, b.scalar(math.sqrt(width), v.dtype)])
    else:
        scores = b.node("Mul", [scores, b.scalar(width**-0.5, v.dtype)])
    way = b.between(0, 2)
    if way == 0:
        mask = np.where(np.tri(s), 0, -10).astype(v.dtype)
        scores = b.node("Add", [scores, b.const(mask)])
    elif way == 1:
        mask = b.const(np.tri(s).astype(BOOL))
        scores = b.node("Where", [mask, scores, b.scalar(-10.0, v.dtype)])
    made = b.node("MatMul", [b.node("Softmax", [scores], axis=scores.rank - 1), parts[2]])
    if heads > 1:
        made = b.reshape(b.node("Transpose", [made], perm=[0, 2, 1, 3]), [n, s, total])
    made = b.node("MatMul", [made, b.weight([total, d], v.dtype)])
    b.node("Add", [v, made])


@block(2)
def residual(b):
    v = b.need(4)
    c = v.shape[1]
    attrs = {"pads": [1, 1, 1, 1]}
    made = conv_of(b, v, b.between(1, 4), [3, 3], attrs)
    if b.chance(0.6):
        shape = [made.shape[1]]
        bounds = [(0.5, 2.0), (-1.0, 1.0), (-1.0, 1.0), (0.5, 2.0)]
        factors = [b.weight(shape, v.dtype, *x) for x in bounds]
        made = b.node("BatchNormalization", [made] + factors)
    made = b.node(b.choice(["Relu", "Relu", "LeakyRelu", "Elu"]), [made])
    made = conv_of(b, made, c, *b.choice([([3, 3], attrs), ([1, 1], {})]))
    b.node("Relu", [b.node("Add", b.choice([[v, made], [made, v]]))])


@block(2)
def squeeze_excitation(b):
    v = b.need(4)
    c, small = v.shape[1], b.between(1, 3)
    if b.chance(0.6):
        mean = b.node("GlobalAveragePool", [v])
    else:
        mean = b.reduce("ReduceMean", v, [2, 3], True)
    if b.chance(0.5):
        made = b.node("Relu", [conv_of(b, mean, small, [1, 1], {})])
        gate = b.node(b.choice(["Sigmoid", "HardSigmoid"]), [conv_of(b, made, c, [1, 1], {})])
    else:
        flat = b.node("Flatten", [mean])
        one = [flat, b.weight([c, small], v.dtype), b.weight([small], v.dtype)]
        made = b.node("Relu", [b.node("Gemm", one)])
        two = [made, b.weight([c, small], v.dtype), b.weight([c], v.dtype)]
        gate = b.node("Sigmoid", [b.node("Gemm", two, transB=1)])
        gate = b.reshape(gate, [v.shape[0], c, 1, 1])
    b.node("Mul", [v, gate])


@block(2)
def gates(b):
    """Activations written out."""
    v = b.pick()
    way = b.between(0, 3)
    if way == 0:
        return b.node("Mul", [v, b.node("Sigmoid", [v])])
    if way == 1:
        erf = b.node("Erf", [b.node("Div", [v, b.scalar(math.sqrt(2), v.dtype)])])
        made = b.node("Mul", [v, b.node("Add", [erf, b.scalar(1.0, v.dtype)])])
        return b.node("Mul", [made, b.scalar(0.5, v.dtype)])
    if way == 2:
        made = b.clip(b.node("Add", [v, b.scalar(3.0, v.dtype)]), 0.0, 6.0)
        return b.node("Mul", [v, b.node("Div", [made, b.scalar(6.0, v.dtype)])])
    b.node("Mul", [v, b.node("Tanh", [b.node("Softplus", [v])])])


def generate(seed, number, target):
    for tries in range(1000):
        b = Builder(np.random.default_rng([seed, number, tries]))
        if b.grow(target):
            made = b.finish()
            if made:
                return made
    raise SystemExit(f"no model {number}")


def write(file, name, data):
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    info.create_system = 3
    file.writestr(info, data, compresslevel=9)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", default="testdata/models/random.zip")
    args = parser.parse_args()
    total = sum(WEIGHTS)
    WEIGHTS[:] = [w / total for w in WEIGHTS]
    targets = np.random.default_rng(args.seed).integers(11, 60, args.count)
    counts, kinds, sizes = collections.Counter(), collections.Counter(), []
    os.makedirs(os.path.dirname(args.out) or ".", exist_ok=True)
    with zipfile.ZipFile(args.out, "w") as file:
        for number, target in enumerate(targets):
            model, reference = generate(args.seed, number, int(target))
            values = io.BytesIO()
            np.savez(values, **reference)
            write(file, f"{number:03}/m.onnx", model.SerializeToString())
            write(file, f"{number:03}/ref.npz", values.getvalue())
            counts.update(n.op_type for n in model.graph.node)
            kinds.update(f"{k.split(':')[0]} {v.dtype}" for k, v in reference.items())
            sizes.append(len(model.graph.node))
    print(f"{args.count} models, {min(sizes)} to {max(sizes)} nodes, {sum(sizes)} in all;")
    print(f"{os.path.getsize(args.out)} bytes; {dict(kinds)}")
    print(f"{len(counts)} operators:", ", ".join(f"{k} {n}" for k, n in counts.most_common()))
    if os.environ.get("RANDOM_MODELS_FAILURES"):
        for (op, opset, error), n in FAILURES.most_common():
            print(n, op, opset, error.replace("\n", " "))


if __name__ == "__main__":
    main()
