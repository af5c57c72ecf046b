"""Writes testdata/models/contrib.zip, small models of ONNX Runtime's operators (com.microsoft):

    contrib_models.py [--out testdata/models/contrib.zip] [--only PREFIX]

Each model has one node, rarely a few, and is named OPERATOR.WHAT. There is the form in which ONNX
Runtime's optimiser, its quantiser or an exporter writes the operator, and a model for each
attribute with a value that is not its default and for each optional input. In the zip file,
`NAME/m.onnx` is the model and `NAME/ref.npz` has its values: `in:INPUT` and `out:OUTPUT`, which
onnxruntime computes on a CPU, with one thread and without graph optimisation. A name that ends in
`.def` says that onnxruntime has no kernel for a CPU, or contradicts its documentation: the values
are those of the operator's definition, by numpy or by an equal model.

It is a problem (and exit status 1) if dropping one of the attributes or optional inputs of a model
does not change the result; `same=` names those for which that is so. `--only` tries the models
whose name starts so, and writes nothing. Left out are operators that generate text, about strings
and for training, quantised and sliding caches of GroupQueryAttention, and forms that onnxruntime
refuses or aborts at (quantised operators without zero points).

Signed weights for unsigned bytes stay between -64 and 64, because some CPUs saturate the sum of two
such products. Needs numpy, onnx and onnxruntime 1.32 or newer.
"""

import argparse
import io
import math
import os
import sys
import tempfile
import zipfile
import zlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as runtime
from onnxruntime.quantization import QuantType, quantize_dynamic

MICROSOFT = "com.microsoft"
OPSET = 17
F32, F16, F64 = np.float32, np.float16, np.float64
I8, U8, I16, U16, I32, I64 = np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64
INT4, UINT4 = (helper.tensor_dtype_to_np_dtype(t) for t in (TensorProto.INT4, TensorProto.UINT4))


# ---- Values ----


class K:
    """An input that is a constant of the model."""

    def __init__(self, value, dtype=None):
        self.value = np.asarray(value, dtype)


class Random:
    """Numbers that start anew after each case, by its name: a new case leaves most others as they are."""

    generator = np.random.default_rng(1)

    @classmethod
    def start(cls, name):
        cls.generator = np.random.default_rng(zlib.crc32(name.encode()))


def f(*shape, dtype=F32, scale=1.0):
    """Sixteenths of `scale`, so that the file stays small."""
    return (np.rint(Random.generator.standard_normal(shape) * 16) / 16 * scale).astype(dtype)


def w(*shape, dtype=F32, scale=0.25):
    return K(f(*shape, dtype=dtype, scale=scale))


def near_one(*shape, dtype=F32):
    return K(Random.generator.integers(16, 48, shape).astype(dtype) / dtype(32))


def ints(low, high, *shape, dtype=U8):
    return Random.generator.integers(low, high, shape, endpoint=True).astype(dtype)


def a(values, dtype=F32):
    return np.array(values, dtype)


def lengths(*values):
    return K(values, I32)


def angles(positions, width, dtype=F32):
    """Tables of cosines and sines for rotary positions, `width` numbers a row."""
    angle = np.outer(np.arange(positions), 10000.0 ** (-np.arange(width) / width))
    return K(np.cos(angle).astype(dtype)), K(np.sin(angle).astype(dtype))


# ---- Models ----


def schemas():
    """ONNX Runtime's operators, with ONNX's SimplifiedLayerNormalization, which is not in ONNX."""
    all_of_them = runtime.get_all_operator_schema()
    return {s.name: s for s in all_of_them if s.domain == MICROSOFT or s.name == "SimplifiedLayerNormalization"}


SCHEMAS = schemas()


def info(name, value):
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def run(model, feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def equal(left, right):
    return len(left) == len(right) and all(np.array_equal(one, other) for one, other in zip(left, right))


def close(left, right):
    def pair(one, other):
        return one.shape == other.shape and np.allclose(one, other, rtol=1e-3)

    return len(left) == len(right) and all(map(pair, left, right))


class Model:
    """A graph, its inputs and its outputs."""

    def __init__(self, nodes, constants, inputs, outputs, opset=OPSET, domains=(MICROSOFT,)):
        self.nodes, self.constants, self.inputs, self.outputs = nodes, constants, inputs, outputs
        self.opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in domains]

    def proto(self, results=None):
        names = [helper.make_empty_tensor_value_info(name) for name in self.outputs]
        for value in names:
            if value.name in ("qk", "output_qk"):  # onnxruntime does not infer its type
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        outputs = names if results is None else [info(n, v) for n, v in zip(self.outputs, results)]
        graph = helper.make_graph(
            self.nodes,
            "g",
            [info(n, v) for n, v in self.inputs.items()],
            outputs,
            [numpy_helper.from_array(v, n) for n, v in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=self.opsets, ir_version=10)


class Case:
    """One node; `wants` says which of its outputs it has, `shown` which are outputs of the model."""

    def __init__(self, name, inputs, wants=(1,), shown=None, same="", by=None, checked=True, **attributes):
        self.name, self.inputs, self.attributes, self.checked = name, inputs, attributes, checked
        self.wants, self.shown, self.same, self.by = wants, shown or wants, same.split(), by
        self.operator = name.split(".")[0]
        CASES.append(self)
        Random.start(name)

    def schema(self):
        return SCHEMAS[self.operator]

    def model(self, without=None):
        schema = self.schema()
        nodes, constants, feeds = [], {}, {}

        def name(parameters, i):
            parameter = parameters[min(i, len(parameters) - 1)].name
            return parameter if i < len(parameters) and not variadic else f"{parameter}_{i}"

        variadic = any(str(p.option).endswith("Variadic") for p in schema.inputs)
        ins = []
        for i, value in enumerate(self.inputs):
            given = value is not None and i != without
            ins.append(name(schema.inputs, i) if given else "")
            if given:
                (constants if isinstance(value, K) else feeds)[ins[-1]] = value.value if isinstance(value, K) else value
        while not ins[-1]:
            ins.pop()
        variadic = False
        outs = [name(schema.outputs, i) for i in range(len(self.wants))]
        outs = [f"{n}_out" if n in ins else n for n in outs]
        shown = [n for n, wanted in zip(outs, self.shown) if wanted]
        outs = [n if wanted else "" for n, wanted in zip(outs, self.wants)]
        attributes = {n: v for n, v in self.attributes.items() if n != without}
        nodes.append(helper.make_node(self.operator, ins, outs, name="node", domain=schema.domain, **attributes))
        return Model(nodes, constants, feeds, shown)

    def results(self):
        model = self.model()
        if self.by is not None:
            return [np.asarray(value) for value in self.by()]
        return run(model.proto(), model.inputs)

    def problems(self):
        """What does not change the result although it should."""
        if self.by is not None or not self.checked:
            return
        schema, results = self.schema(), self.results()
        optional = [n for n in self.attributes if not schema.attributes[n].required]
        parameters = schema.inputs
        for i, value in enumerate(self.inputs):
            if self.operator in ("QLinearLeakyRelu", "QLinearSigmoid"):  # onnxruntime aborts without
                break
            if i < len(parameters) and value is not None and str(parameters[i].option).endswith("Optional"):
                optional.append(i)
        for what in optional:
            label = what if isinstance(what, str) else parameters[what].name
            try:
                model = self.model(what)
                changed = not close(run(model.proto(), model.inputs), results)
            except Exception:  # onnxruntime wants it
                changed = True
            if changed == (label in self.same):
                yield f"{self.name}: dropping {label} {'changes' if changed else 'does not change'} the result"


class Graph:
    """A model of several nodes."""

    def __init__(self, name, build):
        self.name, self.build = name, build
        CASES.append(self)
        self.made = None

    def model(self):
        if self.made is None:
            Random.start(self.name)
            self.made = self.build()
        return self.made

    def results(self):
        model = self.model()
        return run(model.proto(), model.inputs)

    def problems(self):
        return ()


CASES = []


# ---- Activations and norms ----


def activations():
    Case("BiasGelu.usual", [f(2, 3, 8), w(8)])
    Case("BiasGelu.bias_of_run_time", [f(3, 8, scale=4), f(8)])
    Case("FastGelu.usual", [f(2, 3, 8), w(8)])
    Case("FastGelu.no_bias", [f(2, 3, 8, scale=4)])
    Case("FastGelu.f16", [f(2, 3, 8, dtype=F16), w(8, dtype=F16)])
    Case("Gelu.usual", [f(2, 3, 8, scale=4)])
    Case("Gelu.f16", [f(2, 3, 8, scale=4, dtype=F16)])
    Case("QuickGelu.usual", [f(2, 3, 8, scale=4)])
    Case("QuickGelu.alpha", [f(2, 3, 8)], alpha=0.6)


def norms():
    op = "SimplifiedLayerNormalization"
    Case(f"{op}.usual", [f(2, 3, 8), near_one(8)], axis=-1, epsilon=1e-6, same="axis epsilon")
    Case(f"{op}.axis_negative", [f(2, 3, 8), near_one(3, 8)], axis=-2)
    Case(f"{op}.epsilon", [f(2, 3, 8), near_one(8)], epsilon=0.5)
    Case(f"{op}.stash_type", [f(2, 3, 8), near_one(8)], stash_type=1, same="stash_type")
    Case(f"{op}.inv_std_var", [f(2, 3, 8), near_one(8)], wants=(1, 1))
    Case(f"{op}.f16", [f(2, 3, 8, dtype=F16), near_one(8, dtype=F16)])

    op = "SkipLayerNormalization"
    x, skip = f(2, 3, 8), f(2, 3, 8)
    gamma, beta, bias = near_one(8), w(8), w(8)
    Case(f"{op}.usual", [x, skip, gamma, beta, bias])
    Case(f"{op}.bias_without_beta", [x, skip, gamma, None, bias])
    Case(f"{op}.epsilon", [x, skip, gamma, beta], epsilon=0.1)
    Case(f"{op}.skip_of_one_batch", [x, f(1, 3, 8), gamma, beta], wants=(1, 0, 0, 1))
    Case(f"{op}.two_axes", [f(5, 8), f(5, 8), gamma, beta])
    half = [f(2, 3, 8, dtype=F16), f(2, 3, 8, dtype=F16), near_one(8, dtype=F16), w(8, dtype=F16), w(8, dtype=F16)]
    Case(f"{op}.f16", half, epsilon=1e-2, wants=(1, 0, 0, 1))

    op = "SkipSimplifiedLayerNormalization"
    x, skip, gamma, bias = f(2, 3, 8), f(2, 3, 8), near_one(8), w(8)
    Case(f"{op}.usual", [x, skip, gamma], wants=(1, 0, 0, 1), epsilon=1e-5, same="epsilon")
    Case(f"{op}.bias", [x, skip, gamma, bias], wants=(1, 0, 0, 1))
    Case(f"{op}.epsilon", [x, skip, gamma], epsilon=0.1)
    Case(f"{op}.skip_of_one_batch", [x, f(1, 3, 8), gamma])
    half = [f(2, 3, 8, dtype=F16), f(2, 3, 8, dtype=F16), near_one(8, dtype=F16)]
    Case(f"{op}.f16", half, wants=(1, 0, 0, 1), epsilon=1e-2)


def embeddings():
    op = "EmbedLayerNormalization"

    def inputs(dtype=F32):
        tables = [w(10, 8, dtype=dtype), w(8, 8, dtype=dtype), w(2, 8, dtype=dtype)]
        return [ints(0, 9, 2, 5, dtype=I32), ints(0, 1, 2, 5, dtype=I32)] + tables + [near_one(8, dtype=dtype), w(8, dtype=dtype)]

    mask = a([[1, 1, 1, 1, 0], [0, 1, 0, 1, 0]], I32)
    Case(f"{op}.usual", inputs() + [mask], wants=(1, 1), epsilon=1e-5)
    Case(f"{op}.one_output", inputs(), mask_index_type=0)
    Case(f"{op}.epsilon", inputs(), epsilon=0.1, wants=(1, 1))
    without = inputs()
    without[1] = without[4] = None
    Case(f"{op}.no_segments", without, wants=(1, 1))
    Case(f"{op}.embedding_sum", inputs() + [mask], wants=(1, 1, 1))
    Case(f"{op}.position_ids", inputs() + [None, ints(0, 7, 2, 5, dtype=I32)], wants=(1, 1))
    Case(f"{op}.position_ids_of_one_batch", inputs() + [None, a([[2, 3, 4, 5, 6]], I32)], wants=(1, 1))
    Case(f"{op}.mask_index_type_one", inputs() + [mask], wants=(1, 1), mask_index_type=1, same="mask_index_type")


# ---- Products and convolutions ----


def products():
    op = "FusedMatMul"
    Case(f"{op}.usual", [f(1, 3, 4, 8), f(1, 3, 5, 8)], alpha=0.125, transB=1)
    Case(f"{op}.broadcast", [f(2, 1, 4, 8), f(3, 5, 8)], transB=1)
    Case(f"{op}.batch_a", [f(4, 2, 2, 6), f(2, 2, 6, 3)], transBatchA=1)
    Case(f"{op}.batch_b", [f(2, 2, 4, 6), f(6, 2, 2, 3)], transBatchB=1)
    Case(f"{op}.batch_and_rows_a", [f(6, 2, 2, 4), f(2, 2, 6, 3)], transBatchA=1, transA=1)
    Case(f"{op}.vector_b_transposed", [f(2, 4, 8), f(8)], transB=1, same="transB")
    turned, vector = f(2, 8, 4), f(8)
    Case(f"{op}.vector_b.def", [turned, vector], transA=1, by=lambda: [turned.swapaxes(1, 2) @ vector])
    Case(f"{op}.f64", [f(4, 8, dtype=F64), f(5, 8, dtype=F64)], alpha=0.3, transB=1)
    Case("TransposeMatMul.usual", [f(2, 4, 8), f(2, 5, 8)], alpha=0.5, transB=1)
    leaky = {"activation": "LeakyRelu", "activation_alpha": 0.3}
    Case("FusedGemm.attributes", [f(8, 4), w(8, 5), w(5)], alpha=0.5, beta=2.0, transA=1, **leaky)

    op = "FusedConv"
    x, weight, b = f(1, 2, 6, 6), w(3, 2, 3, 3), w(3)
    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    Case(f"{op}.usual", [x, weight, b], activation="Relu", same="kernel_shape", **window)
    Case(f"{op}.sum_without_bias", [x, weight, None, f(1, 3, 6, 6)], same="kernel_shape", **window)
    Case(f"{op}.sigmoid", [x, weight, b], activation="Sigmoid")
    Case(f"{op}.leaky_relu", [x, weight, b], activation="LeakyRelu", activation_params=[0.3])
    Case(f"{op}.clip", [x, weight, b], activation="Clip", activation_params=[0.0, 0.5])
    Case(f"{op}.hard_sigmoid", [x, weight, b], activation="HardSigmoid", activation_params=[0.1, 0.4])
    window = {"strides": [2, 1], "dilations": [1, 2], "pads": [1, 2, 0, 1]}
    Case(f"{op}.window", [x, weight, b], activation="Relu", **window)
    Case(f"{op}.auto_pad", [x, weight, b], activation="Relu", auto_pad="SAME_LOWER", strides=[2, 2])
    Case(f"{op}.group", [f(2, 4, 6, 6), w(4, 1, 3, 3), w(4)], activation="Relu", group=4)


def packed(k, n, block, bits, dtype=F32):
    blocks = -(-k // block)
    return [K(ints(0, 255, n, blocks, block * bits // 8)), K(Random.generator.integers(8, 32, (n, blocks)).astype(dtype) / dtype(1024))]


def products_with_packed_weights():
    op = "MatMulNBits"
    size = {"K": 32, "N": 6, "block_size": 16}
    for bits in (4, 8, 2):
        Case(f"{op}.bits_{bits}", [f(3, 32)] + packed(32, 6, 16, bits), bits=bits, same="bits" * (bits == 4), **size)
    odd = {"K": 40, "N": 5, "block_size": 16, "bits": 4, "same": "bits"}  # three blocks, the last one short
    Case(f"{op}.zero_points_of_odd_blocks", [f(3, 40)] + packed(40, 5, 16, 4) + [K(ints(0, 255, 5, 2))], **odd)
    points = K(Random.generator.integers(48, 72, (6, 2)).astype(F32) / 8)
    Case(f"{op}.zero_points_in_f32", [f(3, 32)] + packed(32, 6, 16, 4) + [points], bits=4, same="bits", **size)
    Case(f"{op}.bias", [f(3, 32)] + packed(32, 6, 16, 4) + [None, None, w(6)], bits=4, same="bits", **size)
    Case(f"{op}.zero_points_of_bits_8", [f(3, 32)] + packed(32, 6, 16, 8) + [K(ints(0, 255, 6, 2))], bits=8, **size)
    Case(f"{op}.accuracy_level", [f(3, 32)] + packed(32, 6, 16, 4), accuracy_level=1, same="accuracy_level", **size)
    order = K(np.arange(32) % 2, I32)
    Case(f"{op}.g_idx", [f(3, 32)] + packed(32, 6, 16, 4) + [None, order], bits=4, same="bits", **size)
    weights, scales = packed(32, 6, 16, 4)
    Case(f"{op}.scales_in_one_axis", [f(3, 32), weights, K(scales.value.flatten())], **size)
    Case(f"{op}.shorter_than_a_block", [f(3, 8)] + packed(8, 6, 16, 4), **{**size, "K": 8})
    run_time = [value.value for value in packed(32, 6, 16, 4)]
    Case(f"{op}.weights_of_run_time", [f(3, 32)] + run_time, bits=4, same="bits", **size)
    half = [f(3, 32, dtype=F16)] + packed(32, 6, 16, 4, F16)
    Case(f"{op}.f16_zero_points", half + [K(ints(0, 255, 6, 1))], bits=4, same="bits", **size)

    half = [f(3, 64), K(ints(0, 255, 64 * 6 // 2)), K(a([0.1, 0.2, 0.3, 0.1, 0.2, 0.3]))]
    Case("MatMulBnb4.usual", half, K=64, N=6, block_size=64, quant_type=1)
    data = [K(ints(0, 255, 10, 16)), ints(0, 9, 2, 3, dtype=I64), near_one(10, 2)]
    blocks = {"block_size": 16, "gather_axis": 0, "quantize_axis": 1, "bits": 4}
    Case("GatherBlockQuantized.usual", data + [K(ints(0, 255, 10, 1))], same="gather_axis quantize_axis bits", **blocks)


# ---- Quantised operators ----


def scale(value):
    return K(value, F32)


def conversions():
    op = "QuantizeLinear"
    x = np.concatenate([f(20, scale=2), a([0.5, 1.5, 2.5, -0.5, 1e6, -1e6])])
    for name, dtype, zero in (("u8", U8, 100), ("i8", I8, -3), ("i16", I16, -300), ("u16", U16, 30000)):
        Case(f"{op}.{name}", [x, scale(1.0 if name == "u8" else 0.01), K(zero, dtype)])
    Case(f"{op}.no_zero_point", [np.abs(x), scale(0.02)])
    Case(f"{op}.axis_negative", [f(2, 3, 4), scale([0.01, 0.02, 0.05, 0.1]), K([0, 10, 20, 30], U16)], axis=-1)
    Case(f"{op}.run_time", [f(3, 4), a(0.02), a(90, U8)])

    op = "DequantizeLinear"
    x = ints(-100, 100, 3, 4, dtype=I8)
    Case(f"{op}.i8", [x, scale(0.02), K(-3, I8)])
    Case(f"{op}.i16", [ints(-30000, 30000, 3, 4, dtype=I16), scale(0.02), K(-300, I16)])
    Case(f"{op}.u16", [ints(0, 65535, 3, 4, dtype=U16), scale(0.02), K(30000, U16)])
    Case(f"{op}.axis_zero", [ints(0, 65535, 3, 4, dtype=U16), scale([0.01, 0.02, 0.05]), K([0, 100, 200], U16)], axis=0)
    Case(f"{op}.i32", [ints(-100000, 100000, 3, 4, dtype=I32), scale(0.001)])
    Case(f"{op}.u4", [K(ints(0, 15, 3, 4).astype(UINT4)), np.asarray(f(1)[0]), K(7, UINT4)])
    Case(f"{op}.no_zero_point", [x, scale(0.02)])
    Case(f"{op}.run_time", [x, a(0.02), a(3, I8)])


def products_of_integers():
    op = "MatMulIntegerToFloat"
    u8, i8 = ints(0, 255, 3, 8), ints(-60, 60, 8, 5, dtype=I8)
    column = [K(Random.generator.integers(10, 50, 5).astype(F32) / 1000), K(ints(-5, 5, 5, dtype=I8))]
    Case(f"{op}.usual", [u8, K(i8), scale(0.02), column[0], K(100, U8), column[1], w(5)])
    half = [u8, K(i8), K(0.02, F16), K(0.03, F16), K(100, U8), K(4, I8), w(5, dtype=F16)]
    Case(f"{op}.f16", half)
    Case(f"{op}.u8_u8", [u8, K(ints(0, 255, 8, 5)), a(0.02), scale(0.03), a(110, U8), K(128, U8)])
    Case(f"{op}.i8_i8", [ints(-60, 60, 3, 8, dtype=I8), K(i8), scale(0.02), scale(0.03), K(5, I8), K(-4, I8)])
    Case(f"{op}.batches", [ints(0, 255, 2, 3, 8), K(i8), scale([0.02]), column[0], K([100], U8), column[1]])
    Case(f"{op}.batches_of_b", [ints(0, 255, 2, 3, 8), ints(-60, 60, 2, 8, 5, dtype=I8), scale(0.02), scale(0.03), K(100, U8)])

    op = "DynamicQuantizeMatMul"
    Case(f"{op}.usual", [f(2, 3, 8), K(i8), scale(0.03), K(4, I8), w(5)])
    Case(f"{op}.no_zero_point", [f(3, 8), K(i8), scale(0.03)])
    Case(f"{op}.columns", [f(3, 8), K(i8)] + column)
    Case(f"{op}.vector", [f(8), K(i8), scale(0.03), K(4, I8)])
    Case(f"{op}.weights_of_run_time", [f(3, 8), i8, a(0.03), a(4, I8)])

    op = "QGemm"
    integer = [u8, scale(0.02), K(100, U8), K(i8), scale(0.03), K(4, I8)]
    Case(f"{op}.usual", integer + [K(ints(-500, 500, 5, dtype=I32)), scale(0.2), K(120, U8)])
    Case(f"{op}.to_float", integer)
    turned = [u8, scale(0.02), K(100, U8), K(i8.T.copy()), column[0], column[1]]
    Case(f"{op}.trans_b", turned + [None, scale(0.2), K(120, U8)], transB=1, alpha=0.5)
    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "same": "kernel_shape"}
    weight = [K(ints(-60, 60, 4, 3, 3, 3, dtype=I8)), scale(0.02), K(0, I8), scale(0.3), K(120, U8), K(ints(-500, 500, 4, dtype=I32))]
    Case("QLinearConv.usual", [ints(0, 255, 1, 3, 5, 5), scale(0.02), K(110, U8)] + weight, **window)


def quantised():
    u8, i8 = ints(0, 255, 2, 3, 8), ints(-128, 127, 2, 3, 8, dtype=I8)
    for op in ("QLinearAdd", "QLinearMul"):
        y = 0.053 if op == "QLinearAdd" else 0.037
        x, last = [u8, scale(0.021), K(110, U8)], [scale(y), K(120, U8)]
        Case(f"{op}.usual", x + [ints(0, 255, 2, 3, 8), scale(0.033), K(130, U8)] + last)
        signed = [i8, scale(0.021), K(-5, I8), ints(-128, 127, 2, 3, 8, dtype=I8), scale(0.033), K(7, I8)]
        Case(f"{op}.i8", signed + [scale(y), K(-10, I8)])
        Case(f"{op}.broadcast", x + [K(ints(0, 255, 8)), scale(0.033), K(130, U8)] + last)
        Case(f"{op}.run_time", [u8, a(0.021), a(110, U8), ints(0, 255, 2, 3, 8), a(0.033), a(130, U8), a(y), a(120, U8)])

    op = "QLinearAveragePool"
    image, last = [ints(0, 255, 1, 2, 6, 6), scale(0.021), K(110, U8)], [scale(0.0153), K(120, U8)]
    x = image + last
    kernel = {"kernel_shape": [3, 2]}
    Case(f"{op}.usual", x, strides=[2, 2], **kernel)
    Case(f"{op}.pads", x, pads=[1, 0, 1, 1], **kernel)
    Case(f"{op}.count_include_pad", x, pads=[1, 0, 1, 1], count_include_pad=1, **kernel)
    Case(f"{op}.ceil_mode", x, ceil_mode=1, strides=[2, 3], **kernel)
    both = {"ceil_mode": 1, "count_include_pad": 1}  # padding is counted beyond `pads` too
    Case(f"{op}.ceil_mode_and_count_include_pad", x, strides=[2, 3], pads=[1, 0, 1, 1], **both, **kernel)
    Case(f"{op}.same_upper", x, auto_pad="SAME_UPPER", strides=[2, 2], **kernel)
    Case(f"{op}.channels_last", [ints(0, 255, 1, 6, 6, 2)] + x[1:], channels_last=1, **kernel)
    Case(f"{op}.i8", [ints(-128, 127, 1, 2, 6, 6, dtype=I8), scale(0.021), K(-5, I8), scale(0.0153), K(9, I8)], **kernel)

    op = "QLinearGlobalAveragePool"
    Case(f"{op}.usual", x)
    Case(f"{op}.channels_last", x, channels_last=1)
    Case(f"{op}.i8", [ints(-128, 127, 1, 2, 5, 5, dtype=I8), scale(0.021), K(-5, I8), scale(0.005), K(9, I8)])

    op = "QLinearLeakyRelu"
    x = [u8, scale(0.021), K(110, U8), scale(0.0153), K(60, U8)]  # no result is halfway between two integers
    signed = [i8, scale(0.021), K(-5, I8), scale(0.0153), K(9, I8)]
    Case(f"{op}.usual", x)
    Case(f"{op}.alpha", x, alpha=0.3)
    Case(f"{op}.i8", signed, alpha=0.1)

    op = "QLinearSigmoid"
    Case(f"{op}.usual", [u8, scale(0.04), K(110, U8), scale(1 / 256), K(0, U8)])
    Case(f"{op}.i8", [i8, scale(0.04), K(-5, I8), scale(1 / 256), K(-128, I8)])

    op = "QLinearSoftmax"
    x = [u8, scale(0.04), K(110, U8), scale(1 / 256), K(0, U8)]
    Case(f"{op}.usual", x, axis=-1, opset=13, same="axis x_zero_point")
    Case(f"{op}.axis", x, axis=1, opset=13, same="x_zero_point")  # a zero point shifts all numbers
    Case(f"{op}.opset_11", x, axis=1, opset=11, same="x_zero_point")
    Case(f"{op}.opset_11_last_axis", x, axis=2, opset=11, same="x_zero_point axis")
    Case(f"{op}.no_zero_point", [u8, scale(0.04), None, scale(1 / 256), K(0, U8)], axis=-1, opset=13, same="axis")

    op = "QLinearConcat"
    parts = [u8, scale(0.021), K(110, U8), ints(0, 255, 2, 2, 8), scale(0.033), K(130, U8)]
    Case(f"{op}.usual", [scale(0.037), K(120, U8)] + parts, axis=1)
    three = parts + [K(ints(0, 255, 2, 1, 8)), scale(0.01), K(3, U8)]
    Case(f"{op}.three", [scale(0.037), K(120, U8)] + three, axis=-2)
    signed = [i8, scale(0.021), K(-5, I8), ints(-128, 127, 2, 3, 1, dtype=I8), scale(0.033), K(9, I8)]
    Case(f"{op}.i8", [scale(0.04), K(2, I8)] + signed, axis=-1)

    choice = ints(0, 1, 2, 3, 8, dtype=bool)
    parts = [u8, scale(0.021), K(110, U8), ints(0, 255, 2, 3, 8), scale(0.033), K(130, U8), scale(0.037), K(120, U8)]
    Case("QLinearWhere.usual", [choice] + parts)
    data = [ints(0, 255, 2, 3, 8), scale(0.021), K(110, U8), scale(0.013), K(120, U8)]
    mean = (data[0].astype(F64) - 110).mean(axis=2) * 0.021
    mean = np.rint(mean / 0.013 + 120).clip(0, 255).astype(U8)
    Case("QLinearReduceMean.usual.def", data, axes=[2], keepdims=0, by=lambda: [mean])
    Case("NhwcMaxPool.usual", [ints(0, 255, 1, 6, 6, 3)], kernel_shape=[2, 2], strides=[2, 2])

    sizes = [(10, 8), (8, 8), (2, 8), (8,), (8,)]
    words, positions, segments, gamma, beta = (K(ints(0, 255, *size)) for size in sizes)
    ids = [ints(0, 9, 2, 5, dtype=I32), ints(0, 1, 2, 5, dtype=I32)]
    tables = [words, positions, segments, gamma, beta, a([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], I32)]
    Case("QEmbedLayerNormalization.usual", ids + tables + [scale(0.021)] * 5 + [K(120, U8)] * 5, wants=(1, 1))


# ---- Attention ----


def projected_attention():
    op = "Attention"
    x, b = f(2, 4, 8), w(24)
    weight = w(8, 24)
    base = [x, weight, b]
    heads = {"num_heads": 2}
    past = f(2, 2, 2, 3, 4)
    keys = a([[1, 1, 1, 1], [1, 1, 0, 0]], I32)
    all_keys = a([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]], I32)
    Case(f"{op}.bert", base + [keys], **heads)
    Case(f"{op}.bert_lengths", base + [a([4, 2], I32)], **heads)
    Case(f"{op}.bert_begins", base + [a([4, 4, 0, 2], I32)], **heads)
    Case(f"{op}.no_bias", [x, weight, None, keys], **heads)
    Case(f"{op}.weights_of_run_time", [x, f(8, 24, scale=0.25), f(24)], **heads)
    Case(f"{op}.mask_of_one_key", base + [a([[1], [1]], I32)], same="mask_index", **heads)
    Case(f"{op}.mask_of_other_numbers", base + [a([[1, 2, 1, 1], [1, -1, 0, 2]], I32)], **heads)
    Case(f"{op}.mask_of_three_axes", base + [np.tril(np.ones((2, 4, 4), I32))], **heads)
    Case(f"{op}.mask_filter_value", base + [keys], mask_filter_value=-1.0, **heads)
    Case(f"{op}.scale", base, scale=0.2, **heads)
    gpt = {"wants": (1, 1), "unidirectional": 1, "num_heads": 2}
    Case(f"{op}.gpt2_prompt", base + [None, np.zeros((2, 2, 2, 0, 4), F32)], same="past", **gpt)
    Case(f"{op}.gpt2_steps_mask", base + [all_keys, past], **gpt)
    Case(f"{op}.present_without_past", base, wants=(1, 1), **heads)
    Case(f"{op}.qkv_hidden_sizes_differ", [x, w(8, 20), w(20), keys], qkv_hidden_sizes=[8, 8, 4], **heads)
    Case(f"{op}.attention_bias_of_one_batch", base + [keys, None, f(1, 2, 4, 4)], **heads)

    op = "QAttention"
    integer = [ints(0, 255, 2, 4, 8), K(ints(-60, 60, 8, 24, dtype=I8)), w(24), scale(0.01), scale(0.01)]
    Case(f"{op}.usual", integer + [a([4, 2], I32), K(120, U8), K(0, I8)], same="weight_zero_point", **heads)
    Case(f"{op}.past", integer + [None, K(120, U8), K(3, I8), f(2, 2, 2, 3, 4)], unidirectional=1, wants=(1, 1), **heads)


def separate(q, k, v):
    """What computes the attention of two heads without anything else."""
    node = helper.make_node("MultiHeadAttention", ["q", "k", "v"], ["y"], domain=MICROSOFT, num_heads=2)
    model = Model([node], {}, {"q": q, "k": k, "v": v}, ["y"])
    return lambda: run(model.proto(), model.inputs)


def multi_head_attention():
    op = "MultiHeadAttention"
    heads = {"num_heads": 2}
    q, k, v, b = f(2, 4, 8), f(2, 4, 8), f(2, 4, 8), w(24)
    base = [q, k, v]
    cross = [q, f(2, 6, 8), f(2, 6, 8)]
    past = [f(2, 2, 3, 4), f(2, 2, 3, 4)]
    keys = a([[1, 1, 1, 1], [1, 1, 0, 0]], I32)
    all_keys = a([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]], I32)
    Case(f"{op}.usual", base + [b], **heads)
    Case(f"{op}.mask", base + [b, keys], **heads)
    Case(f"{op}.mask_of_lengths", base + [None, a([4, 2], I32)], **heads)
    Case(f"{op}.mask_of_offsets", base + [None, a([4, 2, 0, 4, 8, 0, 4, 6], I32)], **heads)
    Case(f"{op}.mask_of_other_numbers", base + [None, a([[1, 2, 1, 1], [1, -1, 0, 2]], I32)], **heads)
    Case(f"{op}.mask_of_three_axes", base + [None, np.tril(np.ones((2, 4, 4), I32))], **heads)
    Case(f"{op}.mask_filter_value", base + [None, keys], mask_filter_value=-1.0, **heads)
    Case(f"{op}.scale", base, scale=0.2, **heads)
    Case(f"{op}.unidirectional", base, unidirectional=1, **heads)
    Case(f"{op}.cross_bias", cross + [b], **heads)
    Case(f"{op}.cross_unidirectional", cross, unidirectional=1, **heads)
    cached = [q, f(2, 2, 6, 4), f(2, 2, 6, 4)]
    Case(f"{op}.cross_cached", cached, **heads)
    Case(f"{op}.cross_cached_bias", cached + [b], **heads)
    Case(f"{op}.attention_bias", base + [b, keys, f(1, 2, 4, 4)], **heads)
    Case(f"{op}.width_of_values", [q, k, f(2, 4, 12), w(28)], **heads)
    three = {"wants": (1, 1, 1), "num_heads": 2}
    Case(f"{op}.past_unidirectional", base + [b, None, None] + past, unidirectional=1, **three)
    step = [f(2, 1, 8), f(2, 1, 8), f(2, 1, 8)]
    Case(f"{op}.step_mask", step + [b, a([[0, 1, 1, 1], [1, 1, 1, 1]], I32), None] + past, **three)
    together, pair = f(2, 4, 2, 3, 4), f(2, 6, 2, 2, 4)
    parts = [together[:, :, :, i].reshape(2, 4, 8) for i in range(3)]
    Case(f"{op}.packed.def", [together], by=separate(*parts), **heads)
    parts = [q] + [pair[:, :, :, i].reshape(2, 6, 8) for i in range(2)]
    Case(f"{op}.packed_kv.def", [q, pair], by=separate(*parts), **heads)
    Case(f"{op}.qk", base, wants=(1, 0, 0, 1), **heads)
    buffers = [f(2, 2, 6, 4), f(2, 2, 6, 4), K([3], I32)]
    Case(f"{op}.past_sequence_length", step + [None, None, None] + buffers, shown=(1,), wants=(1, 1, 1), num_heads=2)

    op = "DecoderMaskedMultiHeadAttention"
    decoder = {"shown": (1,), "wants": (1, 1, 1), "num_heads": 2, "past_present_share_buffer": 1}
    Case(f"{op}.usual", step + [None, None] + buffers, **decoder)

    op = "PackedMultiHeadAttention"
    tokens = [f(6, 8), f(6, 8), f(6, 8)]
    rows = [value.reshape(2, 3, 8) for value in tokens]
    offsets = [K([[0, 1, 2], [3, 4, 5]], I32), K([0, 3, 6], I32)]
    Case(f"{op}.usual.def", tokens + [None] + offsets, by=lambda: [separate(*rows)()[0].reshape(6, 8)], num_heads=2)


def whole(inputs, heads, kv_heads, results=3):
    """The first results of a GroupQueryAttention of all tokens, without anything else."""
    count = inputs["q"].shape[1]
    ins = [name if name in inputs else "" for name in "qkv"] + ["", "", "lengths", "total"]
    outs = ["y", "keys", "values"]
    attributes = {"num_heads": heads, "kv_num_heads": kv_heads}
    node = helper.make_node("GroupQueryAttention", ins, outs, domain=MICROSOFT, **attributes)
    model = Model([node], {"lengths": a([count - 1], I32), "total": a(count, I32)}, inputs, outs[:results])
    return run(model.proto(), model.inputs)


def group_query_attention():
    op = "GroupQueryAttention"
    heads = {"num_heads": 4, "kv_num_heads": 2}
    table = angles(8, 8)

    def base(batch=1, rows=3, past=0, dtype=F32, packed=True, cache=True, kv=2, total=None, depth=16):
        """The first seven inputs: 4 query heads and `kv` others."""
        if packed:
            values = [f(batch, rows, depth * (4 + 2 * kv), dtype=dtype), None, None]
        else:
            values = [f(batch, rows, width, dtype=dtype) for width in (4 * depth, depth * kv, depth * kv)]
        values += [f(batch, kv, past, depth, dtype=dtype) for _ in range(2)] if cache else [None, None]
        total = total or past + rows
        return values + [lengths(*[total - 1] * batch), K(total, I32)]

    def case(name, inputs, shown=(1, 1, 1), **attributes):
        same = attributes.pop("same", "")
        Case(f"{op}.{name}", inputs, wants=(1, 1, 1), shown=shown, same=same, **{**heads, **attributes})

    rotary = {"do_rotary": 1}
    case("prompt", base() + list(table), **rotary)
    case("step", base(rows=1, past=4) + list(table), **rotary)
    case("step_batch", base(batch=2, rows=1, past=4) + list(table), **rotary)
    case("separate_step", base(rows=1, past=4, packed=False) + list(table), **rotary)
    case("no_cache", base(cache=False) + list(table), **rotary)
    case("chunk", base(rows=3, past=4) + list(table), **rotary)
    case("rotary_interleaved", base() + list(table), rotary_interleaved=1, **rotary)
    case("rotary_of_a_part", base(rows=1, past=2, depth=32) + list(angles(8, 8)), **rotary)
    case("scale", base(), scale=0.2)
    case("softcap", base() + list(table), softcap=1.5, **rotary)
    case("local_window_size_chunk", base(rows=3, past=4) + list(table), local_window_size=3, **rotary)
    case("one_kv_head", base(kv=1) + list(table), kv_num_heads=1, **rotary)
    case("causal", base(), causal=0)
    case("smooth_softmax", base(), smooth_softmax=1)
    none = [None] * 2
    case("head_sink", base() + none + [None, None, w(4, scale=1.0)])
    case("position_ids_step", base(rows=1, past=4) + list(table) + [a([[4]], I64)], same="position_ids", **rotary)
    case("attention_bias", base() + none + [None, f(1, 1, 3, 3)])
    Case(f"{op}.qk_output", base(), wants=(1, 1, 1, 1), qk_output=1, **heads)
    case("f16_step", base(rows=1, past=4, dtype=F16) + list(angles(8, 8, F16)), **rotary)
    # buffers of which only the beginning is filled, as with past_present_share_buffer
    case("buffer_step", base(rows=1, past=6, total=4) + list(table), shown=(1, 0, 0), **rotary)
    uneven = base(batch=2, rows=1, past=4)
    uneven[5] = lengths(4, 2)
    case("uneven_step", uneven + list(table), shown=(1, 0, 0), **rotary)

    def normed(value, weight):
        heads = value.reshape(1, 3, -1, 16).astype(F64)
        return (heads / np.sqrt((heads**2).mean(-1, keepdims=True) + 1e-6) * weight.value).reshape(value.shape).astype(F32)

    plain, weights = base(packed=False, cache=False), [near_one(16), near_one(16)]
    before = {n: v for n, v in zip("qkv", [normed(plain[0], weights[0]), normed(plain[1], weights[1]), plain[2]])}
    case("norm_weights.def", plain + none + [None] * 5 + weights, by=lambda: whole(before, 4, 2))

    def from_mask(constant, rows, past):
        """The lengths come from the attention mask, as ONNX Runtime GenAI's model builder writes it."""
        attention = [f(1, rows, 128), f(1, 2, past, 16), f(1, 2, past, 16), *(t.value for t in table)]
        mask = np.ones((1, past + rows), I64)
        nodes = [
            helper.make_node("ReduceSum", ["attention_mask", "axis"], ["sum"], name="sum", keepdims=0),
            helper.make_node("Sub", ["sum", "one"], ["less"], name="less"),
            helper.make_node("Cast", ["less"], ["seqlens_k"], name="seqlens", to=TensorProto.INT32),
            helper.make_node("Shape", ["attention_mask"], ["shape"], name="shape"),
            helper.make_node("Gather", ["shape", "index"], ["extent"], name="extent", axis=0),
            helper.make_node("Cast", ["extent"], ["total"], name="total", to=TensorProto.INT32),
            helper.make_node(
                op,
                ["qkv", "", "", "past_key", "past_value", "seqlens_k", "total", "cos", "sin"],
                ["y", "present_key", "present_value"],
                name="attention",
                domain=MICROSOFT,
                do_rotary=1,
                **heads,
            ),
        ]
        constants = {"axis": a([1], I64), "one": a([1], I64), "index": a(1, I64), "cos": attention[3], "sin": attention[4]}
        inputs = dict(zip(["qkv", "past_key", "past_value"], attention))
        (constants if constant else inputs)["attention_mask"] = mask
        return Model(nodes, constants, inputs, ["y", "present_key", "present_value"])

    Graph(f"{op}.constant_mask_step", lambda: from_mask(True, 1, 4))
    Graph(f"{op}.mask_of_run_time", lambda: from_mask(False, 1, 4))

    # one block that all see, so that it is equal to attention without blocks
    qkv = [f(1, 4, 64), None, None]
    buffers = [np.zeros((1, 1, 16, 16), F32), np.zeros((1, 1, 16, 16), F32)]
    blocks = [K([[0, 1]], I32), K([[0]], I32), K(4, I32), lengths(4)]
    query = {"q": qkv[0]}
    sparse = {"num_heads": 2, "kv_num_heads": 1, "sparse_block_size": 16, "wants": (1, 1, 1), "shown": (1,)}
    Case("SparseAttention.usual.def", qkv + buffers + blocks, by=lambda: whole(query, 2, 1, 1), **sparse)


def rotary_embedding():
    op = "RotaryEmbedding"
    positions = a([[0, 1, 2, 3], [3, 7, 5, 0]], I64)
    tables = list(angles(8, 4))
    Case(f"{op}.usual", [f(2, 4, 16), positions] + tables)
    Case(f"{op}.offset", [f(2, 4, 16), a([3], I64)] + tables)
    Case(f"{op}.interleaved", [f(2, 4, 16), positions] + tables, interleaved=1)
    Case(f"{op}.four_axes", [f(2, 3, 4, 8), positions] + tables)
    part = {"num_heads": 2, "rotary_embedding_dim": 4}
    Case(f"{op}.part", [f(2, 4, 16), positions] + list(angles(8, 2)), **part)
    Case(f"{op}.f16", [f(2, 4, 16, dtype=F16), positions] + list(angles(8, 4, F16)))


# ---- Recurrent networks ----


def quantised_lstm(
    direction="forward", batch=1, kind=QuantType.QInt8, columns=False, initial=False, uneven=False, peepholes=False, **attributes
):
    """An LSTM of ONNX that ONNX Runtime's quantiser turns into a DynamicQuantizeLSTM."""
    steps, size, hidden, directions = 4, 5, 4, 2 if direction == "bidirectional" else 1
    values = {"W": f(directions, 4 * hidden, size, scale=0.5), "R": f(directions, 4 * hidden, hidden, scale=0.5)}
    values["B"] = f(directions, 8 * hidden, scale=0.5)
    values["sequence_lens"] = ints(1, steps, batch, dtype=I32) if uneven else None
    for name in ("initial_h", "initial_c"):
        values[name] = f(directions, batch, hidden, scale=0.5) if initial else None
    values["P"] = f(directions, 3 * hidden, scale=0.5) if peepholes else None
    values = {n: v for n, v in values.items() if v is not None}
    order = ["W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    ins = ["X"] + [n if n in values else "" for n in order]
    while not ins[-1]:
        ins.pop()
    x = f(steps, batch, size)
    node = helper.make_node("LSTM", ins, ["Y", "Y_h", "Y_c"], name="lstm", hidden_size=hidden, direction=direction, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [info("X", x)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("Y", "Y_h", "Y_c")],
        [numpy_helper.from_array(v, n) for n, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("float.onnx", "quantised.onnx")]
        onnx.save(model, paths[0])
        narrow = kind == QuantType.QInt8
        quantize_dynamic(*paths, weight_type=kind, per_channel=columns, reduce_range=narrow, op_types_to_quantize=["LSTM"])
        graph = onnx.load(paths[1]).graph
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    return Model(list(graph.node), constants, {"X": x}, ["Y", "Y_h", "Y_c"], opset=14)


def recurrent():
    def case(name, **options):
        Graph(f"DynamicQuantizeLSTM.{name}", lambda: quantised_lstm(**options))

    case("forward")
    case("reverse", direction="reverse")
    case("bidirectional", direction="bidirectional", batch=2)
    case("initial_states", initial=True, batch=2)
    case("u8", kind=QuantType.QUInt8)
    case("columns", columns=True)
    case("clip", clip=0.3)
    case("sequence_lens", uneven=True, batch=3)
    case("sequence_lens_bidirectional", uneven=True, batch=3, direction="bidirectional")
    case("peepholes", peepholes=True)
    case("input_forget", input_forget=1)
    case("activations", activations=["HardSigmoid", "Tanh", "Softsign"], activation_alpha=[0.3], activation_beta=[0.4])


# ---- Operators of which there is one form each ----


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def others():
    Case("Inverse.usual", [f(2, 4, 4) + 3 * np.eye(4, dtype=F32)])
    Case("Trilu.usual", [f(2, 4, 5), K(1, I64)], upper=0)
    Case("Unique.usual", [a([3, 1, 3, 2, 1])], wants=(1, 1, 1))
    Case("GridSample.usual", [f(1, 2, 4, 4), f(1, 3, 3, 2)], align_corners=1)
    boxes = [a([[0.1, 0.1, 0.8, 0.9], [0, 0, 1, 1]]), K([0, 1], I32), K([3, 3], I32)]
    Case("CropAndResize.usual", [f(2, 2, 6, 6)] + boxes)
    Case("Pad.usual", [f(2, 3), K([0, 1, 1, 0], I64), K(1.5, F32)], mode="constant", same="mode")
    Case("ExpandDims.usual", [f(2, 3), K(1, I32)])
    mask = K(np.ones((1, 2, 4, 4)), I32)
    Case("MaxpoolWithMask.usual", [f(1, 2, 4, 4), mask], kernel_shape=[2, 2], strides=[2, 2])
    experts = [f(3, 8), f(3, 3), w(3, 8, 8), w(3, 8), w(3, 8, 8), w(3, 8)]
    Case("MoE.usual", experts, k=2, activation_type="silu", normalize_routing_weights=1)
    experts = [f(3, 8), f(3, 2), K(ints(0, 255, 2, 16, 4)), near_one(2, 16), None, K(ints(0, 255, 2, 8, 8)), near_one(2, 8)]
    Case("QMoE.usual", experts, k=1, activation_type="silu", expert_weight_bits=4, checked=False)
    Case("CausalConvWithState.usual", [f(1, 4, 6), w(4, 1, 3), w(4), f(1, 4, 2)], wants=(1, 1), activation="silu")
    linear = [f(1, 3, 8), f(1, 3, 8), f(1, 3, 8), f(1, 2, 4, 4)]
    Case("LinearAttention.usual", linear, wants=(1, 1), q_num_heads=2, kv_num_heads=2, update_rule="linear")

    x, b = f(2, 3, 8), f(8)
    left, right = np.split((x + b).astype(F64), 2, axis=2)
    Case("BiasSplitGelu.usual.def", [x, K(b)], by=lambda: [(left * gelu(right)).astype(F32)])
    image, gamma, beta = f(2, 2, 2, 8), near_one(8), w(8)
    grouped = image.reshape(2, 4, 2, 4).astype(F64)
    centred = grouped - grouped.mean(axis=(1, 3), keepdims=True)
    y = (centred / np.sqrt((centred**2).mean(axis=(1, 3), keepdims=True) + 1e-5)).reshape(image.shape)
    y = y * gamma.value + beta.value
    y = (y / (1 + np.exp(-y))).astype(F32)
    Case("GroupNorm.usual.def", [image, gamma, beta], groups=2, activation=1, channels_last=1, by=lambda: [y])
    signal = f(2, 3, 8)
    spectrum = np.fft.rfft(signal)
    pairs = np.stack([spectrum.real, spectrum.imag], -1).astype(F32)
    sides = {"onesided": 1, "normalized": 0, "signal_ndim": 1}
    Case("Rfft.usual.def", [signal], by=lambda: [pairs], **sides)
    Case("Irfft.usual.def", [pairs], by=lambda: [signal], **sides)


GROUPS = [
    activations, norms, embeddings, products, products_with_packed_weights, conversions, products_of_integers, quantised,
    projected_attention, multi_head_attention, group_query_attention, rotary_embedding, recurrent, others,
]  # fmt: skip


def write(archive, case):
    model, results = case.model(), case.results()
    proto = model.proto(results)
    if not equal(results, case.results()):
        raise ValueError("two runs give different results")
    if any(np.isnan(value.astype(F64)).any() for value in results):
        raise ValueError("a result is not a number")
    arrays = {f"in:{n}": v for n, v in model.inputs.items()} | {f"out:{n}": v for n, v in zip(model.outputs, results)}
    values = io.BytesIO()
    np.savez(values, **arrays)
    for file, content in (("m.onnx", proto.SerializeToString()), ("ref.npz", values.getvalue())):
        entry = zipfile.ZipInfo(f"{case.name}/{file}", (1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, content, compresslevel=9)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="testdata/models/contrib.zip")
    parser.add_argument("--only", metavar="PREFIX")
    arguments = parser.parse_args()
    for build in GROUPS:
        build()
    names = [case.name for case in CASES]
    problems = [f"{name}: the name is taken" for name in set(names) if names.count(name) > 1]
    chosen = [case for case in CASES if case.name.startswith(arguments.only or "")]
    with zipfile.ZipFile(io.BytesIO() if arguments.only else arguments.out, "w") as archive:
        for case in chosen:
            try:
                write(archive, case)
                problems += case.problems()
            except Exception as error:
                problems.append(f"{case.name}: {error}")
    print("\n".join(problems + [f"{len(chosen)} models, {len(problems)} problems"]))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
