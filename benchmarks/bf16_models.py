"""Writes small ONNX models of bfloat16, each with inputs and outputs by definition:

    bf16_models.py [--out testdata/models/bf16.zip]

In the zip file, `NAME/m.onnx` is a model and `NAME/ref.npz` holds its values: `in:NAME` and
`out:NAME`; bfloat16 is stored as the package ml_dtypes stores it, two bytes without a type. ONNX
Runtime computes hardly any operator in bfloat16 on a CPU. So each node is run alone in f32, by
onnx's reference implementation, and each result that ONNX declares to be bfloat16 is rounded once.

Needs numpy, onnx and ml_dtypes.
"""

import argparse
import io
import zipfile

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

BF16 = np.dtype(ml_dtypes.bfloat16)
CODE = TensorProto.BFLOAT16
F32 = TensorProto.FLOAT
OPSET = 28


def rounded(value):
    """The nearest bfloat16, as f32."""
    return np.asarray(value, np.float32).astype(BF16).astype(np.float32)


def widen(node):
    """Makes the types that a node names f32, those of its bodies, too."""
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype", "stash_type") and attribute.i == CODE:
            attribute.i = F32
        if attribute.HasField("t") and attribute.t.data_type == CODE:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float32)))
        for inner in attribute.g.node:
            widen(inner)
        for output in attribute.g.output:
            output.type.tensor_type.elem_type = F32


class Model:
    """A model with its values, which grows node by node. Values of bfloat16 are kept as f32."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.inputs, self.weights, self.outputs = [], [], [], []
        self.values, self.narrow = {}, set()

    def _value(self, name, value):
        value = np.asarray(value)
        if value.dtype == BF16:
            self.narrow.add(name)
            value = value.astype(np.float32)
        self.values[name] = value

    def input(self, name, value):
        value = np.asarray(value)
        self.inputs.append((name, value))
        self._value(name, value)
        return name

    def normal(self, name, *shape, dtype=BF16, scale=1.0):
        return self.input(name, (self.random.standard_normal(shape) * scale).astype(dtype))

    def weight(self, name, value, raw=True):
        value = np.asarray(value)
        if raw:
            tensor = numpy_helper.from_array(value, name)
        else:  # bit patterns in int32_data, as older exporters write them
            tensor = helper.make_tensor(name, CODE, value.shape, value.astype(np.float32).flatten())
        self.weights.append(tensor)
        self._value(name, value)
        return name

    def normal_weight(self, name, *shape, scale=1.0, raw=True):
        return self.weight(name, (self.random.standard_normal(shape) * scale).astype(BF16), raw)

    def ints(self, name, values):
        return self.weight(name, np.array(values, np.int64))

    def node(self, operator, inputs, outputs, narrow=None, **attributes):
        """`narrow`: which outputs are bfloat16; by default those that are floating-point."""
        node = helper.make_node(operator, inputs, outputs, name=f"{operator}_{len(self.nodes)}", **attributes)
        self.nodes.append(node)
        wide = onnx.NodeProto()
        wide.CopyFrom(node)
        widen(wide)
        outer = [name for attribute in node.attribute for inner in attribute.g.node for name in inner.input]
        given = [name for name in dict.fromkeys([*inputs, *outer]) if name in self.values]
        kind = lambda name: helper.np_dtype_to_tensor_dtype(self.values[name].dtype)
        graph = helper.make_graph(
            [wide],
            "node",
            [helper.make_tensor_value_info(name, kind(name), None) for name in given],
            [helper.make_tensor_value_info(name, F32, None) for name in outputs if name],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=13)
        results = ReferenceEvaluator(model).run(None, {name: self.values[name] for name in given})
        for position, (name, result) in enumerate(zip([name for name in outputs if name], results)):
            result = np.asarray(result)
            if result.dtype == np.float32 and (narrow is None or narrow[position]):
                result = rounded(result)
                self.narrow.add(name)
            self.values[name] = result

    def output(self, *names):
        self.outputs += names

    def write(self, archive, name):
        def info(value_name, value):
            kind = CODE if value_name in self.narrow else helper.np_dtype_to_tensor_dtype(value.dtype)
            return helper.make_tensor_value_info(value_name, kind, value.shape)

        graph = helper.make_graph(
            self.nodes,
            name,
            [info(n, v) for n, v in self.inputs],
            [info(n, self.values[n]) for n in self.outputs],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=13)
        onnx.checker.check_model(model, full_check=True)
        stored = lambda n: self.values[n].astype(BF16) if n in self.narrow else self.values[n]
        arrays = {f"in:{n}": v for n, v in self.inputs} | {f"out:{n}": stored(n) for n in self.outputs}
        values = io.BytesIO()
        np.savez(values, **arrays)
        for file, content in (("m.onnx", model.SerializeToString()), ("ref.npz", values.getvalue())):
            entry = zipfile.ZipInfo(f"{name}/{file}", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)


def mlp(m):
    m.normal("x", 16, 64)
    m.node("MatMul", ["x", m.normal_weight("w", 64, 128, scale=0.1)], ["a"])
    m.node("Add", ["a", m.normal_weight("b", 128)], ["c"])
    m.node("Gelu", ["c"], ["d"])
    m.node("MatMul", ["d", m.normal_weight("v", 128, 64, scale=0.1, raw=False)], ["e"])
    m.node("Add", ["e", "x"], ["f"])
    m.node("LayerNormalization", ["f", m.normal_weight("g", 64), m.normal_weight("h", 64)], ["y"], axis=-1)
    m.output("y", "f")


def convolutions(m):
    m.normal("x", 1, 3, 12, 12)
    m.node("Conv", ["x", m.normal_weight("w", 8, 3, 3, 3, scale=0.3), m.normal_weight("b", 8)], ["a"], pads=[1, 1, 1, 1])
    m.node("Relu", ["a"], ["c"])
    m.node("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2])
    m.node("Conv", ["d", m.normal_weight("v", 8, 1, 3, 3)], ["e"], group=8)
    m.node("GlobalAveragePool", ["e"], ["f"])
    m.node("Flatten", ["f"], ["g"])
    m.node("Gemm", ["g", m.normal_weight("u", 5, 8), m.normal_weight("t", 5)], ["h"], transB=1)
    m.node("Softmax", ["h"], ["y"])
    m.output("y", "d")


def embedding(m):
    m.input("i", np.array([3, 0, 7, 7, 1], np.int64))
    m.node("Gather", [m.normal_weight("t", 8, 32), "i"], ["a"])
    m.node("Transpose", ["a"], ["b"], perm=[1, 0])
    m.node("MatMul", ["t", "b"], ["c"])
    m.node("Softmax", ["c"], ["y"], axis=0)
    m.output("y", "a")


def attention(m):
    for name in "qkv":
        m.normal(name, 1, 2, 5, 8)
    m.node("Attention", ["q", "k", "v"], ["y"], is_causal=1)
    m.output("y")


def attention_in_parts(m):
    m.normal("x", 6, 16)
    for name in "qkv":
        m.node("MatMul", ["x", m.normal_weight(f"w{name}", 16, 16, scale=0.3)], [name])
        m.node("Reshape", [name, m.ints(f"shape{name}", [6, 2, 8])], [f"{name}3"])
    m.node("Transpose", ["q3"], ["qt"], perm=[1, 0, 2])
    m.node("Transpose", ["k3"], ["kt"], perm=[1, 2, 0])
    m.node("Transpose", ["v3"], ["vt"], perm=[1, 0, 2])
    m.node("MatMul", ["qt", "kt"], ["s"])
    m.node("Mul", ["s", m.weight("scale", np.array(0.353515625, BF16))], ["t"])
    m.node("Softmax", ["t"], ["p"], axis=-1)
    m.node("MatMul", ["p", "vt"], ["o"])
    m.node("Transpose", ["o"], ["ot"], perm=[1, 0, 2])
    m.node("Reshape", ["ot", m.ints("flat", [6, 16])], ["y"])
    m.output("y")


def rms_norm_in_parts(m):
    m.normal("x", 4, 32)
    m.node("Cast", ["x"], ["a"], narrow=[False], to=F32)
    m.node("Mul", ["a", "a"], ["b"], narrow=[False])
    m.node("ReduceMean", ["b", m.ints("axes", [-1])], ["c"], narrow=[False], keepdims=1)
    m.node("Add", ["c", m.weight("e", np.array(1e-6, np.float32))], ["d"], narrow=[False])
    m.node("Sqrt", ["d"], ["f"], narrow=[False])
    m.node("Div", ["a", "f"], ["g"], narrow=[False])
    m.node("Cast", ["g"], ["h"], to=CODE)
    m.node("Mul", [m.normal_weight("w", 32), "h"], ["y"])
    m.output("y")


def mixed_types(m):
    m.normal("x", 4, 6, dtype=np.float32)
    m.node("Cast", ["x"], ["a"], to=CODE)
    m.node("Mul", ["a", m.normal_weight("s", 6)], ["b"])
    m.node("Cast", ["b"], ["c"], narrow=[False], to=F32)
    m.node("Add", ["c", "x"], ["y"], narrow=[False])
    m.node("ReduceSum", ["b", m.ints("axes", [1])], ["z"], keepdims=1)
    m.node("Concat", ["b", "b"], ["k"], axis=1)
    m.node("Cast", ["b"], ["h"], narrow=[False], to=TensorProto.FLOAT16)
    m.node("ArgMax", ["b"], ["i"], axis=1)
    m.node("Less", ["b", "a"], ["l"])
    m.node("Cast", ["l"], ["n"], to=CODE)
    m.output("y", "z", "k", "h", "i", "l", "n")


def passed_on(m):
    m.normal("x", 4, 6)
    m.node("Identity", ["x"], ["y"])
    m.node("Reshape", ["x", m.ints("shape", [6, 4])], ["z"])
    m.node("Constant", [], ["c"], value=numpy_helper.from_array(np.array([1.5, -2], BF16)))
    m.input("u", np.array([1, -2], np.int64))
    m.output("y", "z", "c", "x", "u")


def choices(m):
    m.normal("x", 3, 8)
    m.normal("z", 3, 8)
    m.node("Greater", ["x", "z"], ["g"])
    m.node("Where", ["g", "x", "z"], ["w"])
    m.node("Clip", ["w", m.weight("low", np.array(-1, BF16)), m.weight("high", np.array(1.5, BF16))], ["c"])
    m.node("TopK", ["c", m.ints("k", [3])], ["t", "i"])
    m.node("Max", ["x", "z"], ["m"])
    m.output("w", "c", "t", "i", "m")


def shapes(m):
    m.normal("x", 2, 3, 4)
    m.node("Pad", ["x", m.ints("pads", [0, 1, 0, 0, 0, 2]), m.weight("fill", np.array(0.5, BF16))], ["p"])
    m.node("Split", ["p", m.ints("parts", [1, 3])], ["a", "b"], axis=1)
    m.node("Squeeze", ["a", m.ints("one", [1])], ["s"])
    m.node("Expand", ["s", m.ints("wide", [3, 2, 6])], ["e"])
    m.node("Slice", ["b", m.ints("begin", [1]), m.ints("end", [3]), m.ints("axis", [2])], ["l"])
    m.node("Tile", ["l", m.ints("times", [1, 2, 1])], ["t"])
    m.node("Trilu", ["t"], ["u"])
    m.node("DepthToSpace", [m.normal_weight("d", 1, 4, 2, 2)], ["f"], blocksize=2)
    m.output("e", "t", "u", "f")


def gathers(m):
    m.normal("x", 4, 5)
    m.input("i", np.array([[2], [0], [3]], np.int64))
    m.normal("u", 3, 5)
    m.node("GatherND", ["x", "i"], ["g"])
    m.node("ScatterND", ["x", "i", "u"], ["s"])
    m.node("ScatterElements", ["x", m.ints("e", [[0, 1, 2, 3, 0]]), m.normal_weight("v", 1, 5)], ["t"])
    m.node("OneHot", ["i", m.weight("depth", np.array(4, np.int64)), m.weight("values", np.array([0.25, 3], BF16))], ["o"])
    m.output("g", "s", "t", "o")


def reductions(m):
    m.normal("x", 3, 40)
    for operator in ("ReduceMax", "ReduceMean", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare", "ReduceProd"):
        m.node(operator, ["x", m.ints(f"axes{operator}", [1])], [operator], keepdims=0)
        m.output(operator)
    m.node("CumSum", ["x", m.weight("axis", np.array(1, np.int64))], ["c"])
    m.node("LpNormalization", ["x"], ["n"])
    m.node("LogSoftmax", ["x"], ["l"], axis=-1)
    m.output("c", "n", "l")


def norms(m):
    m.normal("x", 2, 4, 5, 5)
    per = lambda name: m.normal_weight(name, 4)
    m.node("InstanceNormalization", ["x", per("a"), per("b")], ["i"])
    m.node("GroupNormalization", ["x", per("c"), per("d")], ["g"], num_groups=2)
    mean, variance = per("e"), m.weight("f", np.array([0.5, 1, 2, 4], BF16))
    m.node("BatchNormalization", ["x", per("h"), per("j"), mean, variance], ["n"])
    m.node("RMSNormalization", ["x", m.normal_weight("k", 5)], ["r"])
    m.node("LayerNormalization", ["x", m.normal_weight("l", 5), ""], ["y", "mean", "inv"], narrow=[True, False, False])
    m.output("i", "g", "n", "r", "y", "mean", "inv")


def recurrent(m):
    m.normal("x", 3, 2, 4)
    w, r = m.normal_weight("w", 1, 15, 4, scale=0.4), m.normal_weight("r", 1, 15, 5, scale=0.4)
    m.node("GRU", ["x", w, r, m.normal_weight("b", 1, 30)], ["y", "h"], hidden_size=5, linear_before_reset=1)
    m.output("y", "h")


def quantised(m):
    m.normal("x", 4, 8)
    scale, zero = m.weight("s", np.array(0.0625, BF16)), m.weight("z", np.array(3, np.int8))
    m.node("QuantizeLinear", ["x", scale, zero], ["q"])
    m.node("DequantizeLinear", ["q", scale, zero], ["y"])
    m.output("q", "y")


def made(m):
    m.input("like", np.array([1], BF16))
    m.normal("x", 3, dtype=np.float32)
    m.node("CastLike", ["x", "like"], ["a"])
    m.node("Mul", ["a", "like"], ["y"])
    fill = numpy_helper.from_array(np.array([0.75], BF16))
    m.node("ConstantOfShape", [m.ints("shape", [2, 3])], ["c"], value=fill)
    m.node("Add", ["c", "y"], ["z"])
    first, last, step = (m.weight(n, np.array(v, BF16)) for n, v in (("f", 1), ("l", 4), ("t", 0.5)))
    m.node("Range", [first, last, step], ["r"])
    m.node("Einsum", ["z", "y"], ["e"], equation="ij,j->i")
    m.output("y", "z", "r", "e")


def bodies(m):
    # both branches call a value t, of which one is f32; and their nodes have no names
    m.normal("x", 2, 5)
    m.input("c", np.array(True))
    result = lambda name: helper.make_tensor_value_info(name, CODE, [2, 5])
    then = [helper.make_node("Neg", ["x"], ["t"]), helper.make_node("Abs", ["t"], ["a"])]
    other = [helper.make_node("Cast", ["x"], ["t"], to=F32), helper.make_node("Cast", ["t"], ["b"], to=CODE)]
    branches = {
        "then_branch": helper.make_graph(then, "then", [], [result("a")]),
        "else_branch": helper.make_graph(other, "else", [], [result("b")]),
    }
    m.node("If", ["c"], ["d"], **branches)
    m.node("Mul", ["d", "x"], ["y"])
    scale = m.normal_weight("g", 5)
    m.node("LayerNormalization", ["y", scale], ["z", "mean", "inv"], stash_type=CODE)
    m.output("y", "z", "mean", "inv")


def large_numbers(m):
    # beyond the range of f16, and halfway between two neighbours
    m.input("x", np.array([3e38, -1e30, 1.0, 1e-38, np.inf, 0], BF16))
    m.node("Mul", ["x", m.weight("one", np.array(1.0078125, BF16))], ["y"])
    m.node("Abs", ["x"], ["a"])
    m.node("Sqrt", ["a"], ["s"])
    m.node("Neg", ["x"], ["n"])
    m.output("y", "s", "n")


def upsampled(m):
    m.normal("x", 1, 2, 4, 4)
    sizes = m.weight("sizes", np.array([1, 1, 2, 2], np.float32))
    m.node("Resize", ["x", "", sizes], ["a"], mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")
    m.node("ConvTranspose", ["x", m.normal_weight("w", 2, 3, 2, 2)], ["b"], strides=[2, 2])
    m.node("AveragePool", ["x"], ["c"], kernel_shape=[2, 2])
    m.output("a", "b", "c")


MODELS = [
    mlp, convolutions, embedding, attention, attention_in_parts, rms_norm_in_parts, mixed_types, passed_on, choices, shapes,
    gathers, reductions, norms, recurrent, quantised, made, large_numbers, upsampled, bodies,
]  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="testdata/models/bf16.zip")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.out, "w") as archive:
        for seed, build in enumerate(MODELS):
            model = Model(seed)
            build(model)
            model.write(archive, build.__name__)
    print(f"{len(MODELS)} models")


if __name__ == "__main__":
    main()
