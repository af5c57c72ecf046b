"""Writes testdata/models/attributes.zip, small models that set each attribute of each operator:

    python3 benchmarks/attribute_models.py [--compare] [--only PREFIX]

Each model has one node (rarely two) of the ONNX domain, and sets one attribute to a value that is
not its default, uses one optional input, or leaves one out. The file holds NAME/m.onnx and
NAME/ref.npz, the latter with an array `in:INPUT` for each run-time input and `out:OUTPUT` for each
output. The expected outputs come from onnxruntime without graph optimisation. A name that ends in
`.ref` says that they come from onnx.reference instead, because onnxruntime has no kernel or
contradicts the specification. `.eq` says that onnxruntime ran a model that is equal by definition.

It is a problem (and exit status 1) if dropping one of the attributes or optional inputs of a model
does not change the result; `same=` names those for which that is so. Needs onnx, onnxruntime and
numpy. Without arguments it writes the file and prints what no model covers. `--compare` also lists
the models for which onnx.reference and onnxruntime disagree. `--only` tries the models whose name
starts so, and writes nothing. Operators about sequences, optionals, strings, random numbers and
training are left out.
"""

import argparse
import io
import os
import re
import zipfile

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnx.reference import ReferenceEvaluator

FILE = os.path.join(os.path.dirname(__file__), "..", "testdata", "models", "attributes.zip")
NEWEST = 28  # the newest opset that onnxruntime reads
T = onnx.TensorProto
LEFT_OUT = """Bernoulli ConcatFromSequence ImageDecoder Multinomial NegativeLogLikelihoodLoss
    NonMaxSuppression Optional OptionalGetElement OptionalHasElement RandomNormal RandomNormalLike
    RandomUniform RandomUniformLike RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty
    SequenceErase SequenceInsert SequenceLength SequenceMap SoftmaxCrossEntropyLoss SplitToSequence
    StringConcat StringNormalizer StringSplit TfIdfVectorizer""".split()


# ---- Input values ----


class K:
    """An input that is a constant of the model."""

    def __init__(self, value, dtype=None):
        if dtype is None and not isinstance(value, np.ndarray):
            dtype = np.float32 if isinstance(value, float) else None
            dtype = np.float32 if np.asarray(value).dtype == np.float64 else dtype or np.int64
        self.value = np.asarray(value, dtype)


class Random:
    """Numbers that each case starts anew, so that a new case leaves the others as they are."""

    generator = np.random.default_rng(1)


def f(*shape, dtype=np.float32):
    return Random.generator.standard_normal(shape).astype(dtype)


def positive(*shape, dtype=np.float32):
    return Random.generator.uniform(0.5, 2, shape).astype(dtype)


def ints(low, high, *shape, dtype=np.int64):
    return Random.generator.integers(low, high, shape, endpoint=True).astype(dtype)


def a(values, dtype=np.float32):
    return np.array(values, dtype)


def ramp(*shape, dtype=np.float32):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


# ---- Models ----


def values_info(name, value):
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(value.dtype), list(value.shape)
    )


def graph(nodes, inputs, outputs, initializers=()):
    """A subgraph; `inputs` and `outputs` are (name, type, shape)."""
    info = [[helper.make_tensor_value_info(*v) for v in side] for side in (inputs, outputs)]
    initializers = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in initializers]
    return helper.make_graph(nodes, "body", *info, initializers)


class Case:
    def __init__(self, op, inputs, attributes, out, opset, then):
        self.op, self.inputs, self.attributes, self.opset = op, inputs, attributes, opset
        self.out, self.then = out, then

    def schema(self):
        return onnx.defs.get_schema(self.op, self.opset)

    def names(self):
        """The names of the inputs and outputs, which are the schema's; empty if left out."""
        schema = self.schema()

        def name(parameters, i):
            parameter = parameters[min(i, len(parameters) - 1)]
            return parameter.name + f"_{i}" * (parameter.option.name == "Variadic")

        first = [name(schema.inputs, i) for i in range(len(self.inputs))]
        ins = [n if v is not None else "" for n, v in zip(first, self.inputs)]
        outs = [name(schema.outputs, i) if used else "" for i, used in enumerate(self.out)]
        return ins, [n if n not in ins else f"{n}_out" for n in outs]

    def model(self, results=None):
        ins, outs = self.names()
        node = helper.make_node(self.op, ins, outs, **self.attributes)
        nodes, outs = [node], [n for n in outs if n]
        if self.then:  # some types only have a name in Python, so another operator follows
            nodes.append(helper.make_node(self.then[0], [outs[0]], ["last"], **self.then[1]))
            outs = ["last"]
        pairs = [(n, v) for n, v in zip(ins, self.inputs) if n]
        constants = [
            onnx.numpy_helper.from_array(v.value, n) for n, v in pairs if isinstance(v, K)
        ]
        inputs = [values_info(n, v) for n, v in pairs if not isinstance(v, K)]
        if not inputs:  # a model without inputs is another subject
            inputs = [values_info("unused", np.zeros(1, np.float32))]
            nodes.append(helper.make_node("Identity", ["unused"], ["unused_out"]))
            outs = outs + ["unused_out"]
        if results is None:
            outputs = [helper.make_empty_tensor_value_info(n) for n in outs]
        else:
            outputs = [values_info(n, v) for n, v in zip(outs, results)]
        return helper.make_model(
            helper.make_graph(nodes, "g", inputs, outputs, constants),
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=8 if self.opset <= 18 else 10,
        )

    def feeds(self):
        ins, _ = self.names()
        pairs = [(n, v) for n, v in zip(ins, self.inputs) if n and not isinstance(v, K)]
        return dict(pairs) or {"unused": np.ones(1, np.float32)}

    def onnxruntime(self):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            self.model().SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return [np.asarray(v) for v in session.run(None, self.feeds())]

    def reference(self):
        """What onnx.reference says, in the types that shape inference says."""
        model = self.model()
        inferred = onnx.shape_inference.infer_shapes(model).graph.output
        types = [helper.tensor_dtype_to_np_dtype(o.type.tensor_type.elem_type) for o in inferred]
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, self.feeds())
        return [np.asarray(v).astype(t) for v, t in zip(results, types)]

    def but(self, **changes):
        copy = Case(self.op, self.inputs, self.attributes, self.out, self.opset, self.then)
        copy.__dict__.update(changes)
        return copy

    def without(self):
        """The case without each of its attributes and optional inputs, by name."""
        for key in self.attributes:
            if key in self.schema().attributes and not self.schema().attributes[key].required:
                rest = {k: v for k, v in self.attributes.items() if k != key}
                yield key, self.but(attributes=rest)
        for i, parameter in enumerate(self.schema().inputs):
            optional = parameter.option.name == "Optional" and i < len(self.inputs)
            if optional and self.inputs[i] is not None:
                rest = list(self.inputs)
                rest[i] = None
                while rest and rest[-1] is None:
                    rest.pop()
                yield parameter.name, self.but(inputs=rest)


def equal(some, others):
    return len(some) == len(others) and all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for x, y in zip(some, others)
    )


def close(x, y):
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    tolerance = 1e-2 if x.dtype == np.float16 else 1e-4
    if x.dtype.kind != "f":
        return np.array_equal(x, y)
    return np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True)


# ---- The collection ----


class Models:
    files = {}  # name: (model, arrays)
    covered = set()  # (operator, attribute or input)
    problems, skipped, disagree = [], [], []
    only = ""
    compare = False


def text(value):
    """An attribute's value as a part of a name."""
    if isinstance(value, (list, tuple)):
        return "_".join(text(v) for v in value) or "none"
    return re.sub(r"[^a-z0-9.]+", "_", str(value).lower().replace("-", "m")).strip("_")


def candidates(op):
    """The opsets to try: the newest, and those just before each change of the operator."""
    schemas = onnx.defs.get_all_schemas_with_history()
    versions = {s.since_version for s in schemas if s.name == op and s.domain == ""}
    return [NEWEST] + [v - 1 for v in sorted(versions, reverse=True) if v > 13]


def case(tag, op, inputs, out=(1,), opset=None, ref=False, same=(), finite=True, then=None,
         eq=None, check=True, **attributes):
    """Adds one model.

    `same` names what may be dropped without a change, `eq` is the expected outputs, `then` is an
    operator that follows, and `check=False` is for where onnx's shape inference is wrong.
    """
    Random.generator = np.random.default_rng(0)
    shown = [f"{k}_{text(v)}".lower() for k, v in attributes.items()
             if k != "hidden_size" and isinstance(v, (int, float, str, list, tuple))]
    name = "_".join([op.lower()] + [tag] * bool(tag) + shown * (not tag.endswith(".")))
    name = name.rstrip(".") + (f"_opset{opset}" if opset else "")
    if not name.startswith(Models.only):
        return
    results, errors, suffix = None, [], ""
    for version in [opset] if opset else candidates(op):
        this = Case(op, list(inputs), attributes, out, version, then)
        try:
            if eq is not None:
                results, suffix = eq, ".eq"
            elif not ref:
                results = this.onnxruntime()
        except Exception as error:  # noqa: BLE001, onnxruntime has many
            errors.append(f"onnxruntime {version}: " + str(error).replace("\n", " ")[:300])
            continue
        break
    if results is None:
        this = Case(op, list(inputs), attributes, out, opset or NEWEST, then)
        try:
            results, suffix = this.reference(), ".ref"
        except Exception as error:  # noqa: BLE001
            errors.append("reference: " + str(error).replace("\n", " ")[:150])
            Models.skipped.append((name, errors))
            return
    run = this.reference if suffix == ".ref" else this.onnxruntime
    name += suffix
    if suffix == ".ref":
        Models.skipped.append((name, errors or ["as asked"]))
    if name in Models.files:
        Models.problems.append(f"{name}: twice")
    for key, other in this.without():
        if key in same or suffix == ".eq":
            continue
        try:
            changed = other.reference() if run == this.reference else other.onnxruntime()
        except Exception:  # noqa: BLE001, it cannot be left out
            continue
        if equal(changed, results):
            Models.problems.append(f"{name}: {key} changes nothing")
    sizes = [v.value.size if isinstance(v, K) else v.size for v in inputs if v is not None]
    if max(sizes + [v.size for v in results]) > 256:
        Models.problems.append(f"{name}: large")
    if finite and not all(np.isfinite(v).all() for v in results if v.dtype.kind == "f"):
        Models.problems.append(f"{name}: not finite")
    if Models.compare and not suffix:
        try:
            other = this.reference()
            bad = [i for i, (x, y) in enumerate(zip(results, other)) if not close(x, y)]
            if bad:
                Models.disagree.append((name, bad, results, other))
        except Exception as error:  # noqa: BLE001
            Models.disagree.append((name, "reference: " + str(error)[:100], None, None))
    model = this.model(results)
    try:
        onnx.checker.check_model(model, full_check=check)
    except Exception as error:  # noqa: BLE001
        Models.problems.append(f"{name}: checker: " + str(error).replace("\n", " ")[:200])
    schema = this.schema()
    for key, value in attributes.items():
        default = schema.attributes[key].default_value if key in schema.attributes else None
        if default is None or not default.type or helper.get_attribute_value(default) != value:
            Models.covered.add((op, key))
    for parameter, value in zip(schema.inputs, inputs):
        if value is not None:
            Models.covered.add((op, "input " + parameter.name))
    arrays = {f"in:{k}": v for k, v in this.feeds().items()}
    arrays |= {f"out:{o.name}": v for o, v in zip(model.graph.output, results)}
    Models.files[name] = (model, {k.replace("/", "_"): v for k, v in arrays.items()})


def sweep(op, inputs, *variants, **common):
    """One case for each of `variants`, which are dictionaries of attributes and options."""
    for variant in variants:
        options = {"tag": "", **common, **variant}
        case(options.pop("tag"), op, options.pop("inputs", inputs), **options)


def uncovered():
    """Attributes and optional inputs, of versions from opset 7 on, that no model sets."""
    schemas = [s for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""]
    wanted = set()
    for s in schemas:
        newer = [o.since_version for o in schemas
                 if o.name == s.name and s.since_version < o.since_version <= 7]
        if newer or s.name in LEFT_OUT or s.deprecated:
            continue
        wanted |= {(s.name, key) for key in s.attributes}
        optional = [p.name for p in s.inputs if p.option.name == "Optional"]
        wanted |= {(s.name, "input " + p) for p in optional}
    return sorted(wanted - Models.covered)


def write():
    os.makedirs(os.path.dirname(FILE), exist_ok=True)
    with zipfile.ZipFile(FILE, "w") as archive:
        for name, (model, arrays) in sorted(Models.files.items()):
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)
            parts = ("m.onnx", model.SerializeToString(deterministic=True)), (
                "ref.npz", buffer.getvalue())
            for part, data in parts:
                info = zipfile.ZipInfo(f"{name}/{part}", (1980, 1, 1, 0, 0, 0))
                info.external_attr = 0o644 << 16
                archive.writestr(info, data, zipfile.ZIP_DEFLATED, 9)


# ---- Recurrent operators ----


def recurrent(op, tag="", d="forward", lens=None, state=False, bias=True, peephole=False, layout=0,
              out=None, opset=22, x_scale=1.0, w=K, **attributes):
    """One case of RNN, GRU or LSTM. With layout=1 the expected outputs are those of layout=0."""
    gates, (t, b, i, h) = {"RNN": 1, "GRU": 3, "LSTM": 4}[op], (4, 2, 3, 2)
    n = 2 if d == "bidirectional" else 1
    x = f(t, b, i) * np.float32(x_scale)
    inputs = [x, w(f(n, gates * h, i)), w(f(n, gates * h, h))]
    inputs += [w(f(n, 2 * gates * h)) if bias else None, lens]
    inputs += [f(n, b, h) if state else None]
    if op == "LSTM":
        inputs += [f(n, b, h) if state else None]
        inputs += [w(f(n, 3 * h)) if peephole else None]
    if state in ("h", "c"):
        inputs[6 if state == "h" else 5] = None
    while inputs[-1] is None:
        inputs.pop()
    out = out or (1,) * (3 if op == "LSTM" else 2)
    attributes |= {"hidden_size": h} | ({} if d == "forward" else {"direction": d})
    if layout:
        run = Case(op, inputs, attributes, out, opset, None).onnxruntime()
        swap = [(2, 0, 1, 3), (1, 0, 2), (1, 0, 2)]
        attributes["eq"] = [v.transpose(swap[k]) for k, v in enumerate(run)]
        attributes["layout"] = 1
        for k in (0, 5, 6):
            if k < len(inputs) and inputs[k] is not None:
                inputs[k] = np.ascontiguousarray(inputs[k].swapaxes(0, 1))
    case(tag, op, inputs, out=out, opset=opset, same=("hidden_size",), **attributes)


ACTIVATIONS = {  # with a value of alpha and beta other than the default
    "Relu": {}, "Tanh": {}, "Sigmoid": {}, "Softsign": {}, "Softplus": {},
    "Affine": {"activation_alpha": 0.6, "activation_beta": 0.25},
    "LeakyRelu": {"activation_alpha": 0.2}, "ThresholdedRelu": {"activation_alpha": 0.3},
    "ScaledTanh": {"activation_alpha": 0.8, "activation_beta": 0.5},
    "HardSigmoid": {"activation_alpha": 0.3, "activation_beta": 0.4},
    "Elu": {"activation_alpha": 0.5},
}


def recurrent_models():
    owns = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
    for op, own in owns.items():
        states = 3 if op == "LSTM" else 2
        part = a([3, 1], np.int32)
        recurrent(op, "plain", bias=False)
        recurrent(op, "bias")
        recurrent(op, "state", state=True)
        recurrent(op, "weights_at_run_time", state=True, w=lambda v: v)
        for d in "reverse", "bidirectional":
            recurrent(op, "state", d=d, state=True)
            recurrent(op, "lens", d=d, lens=K(part))
        recurrent(op, "lens_constant", lens=K(part))
        recurrent(op, "lens_at_run_time", lens=part)
        # what the last state is without a step is not specified, so only Y is an output
        recurrent(op, "lens_zero", lens=K(a([4, 0], np.int32)), state=True, out=(1,))
        recurrent(op, "lens_at_run_time_state", d="bidirectional", lens=part, state=True)
        for kept in range(1, 2**states - 1):
            bits = tuple(kept >> k & 1 for k in range(states))
            recurrent(op, "outputs_" + "".join(map(str, bits)), out=bits)
        for d in "forward", "bidirectional":
            recurrent(op, "layout_1", layout=1, state=True, d=d)
        recurrent(op, "layout_1_lens", layout=1, lens=K(part))
        recurrent(op, clip=0.4)
        recurrent(op, "clip_lens", clip=0.4, lens=K(part), d="bidirectional")
        recurrent(op, "old", opset=7)
        for number, (name, extra) in enumerate(ACTIVATIONS.items()):
            # the first activation is the gates', the last is that of the state
            places = sorted({0, len(own) - 1})
            for place in places if op == "GRU" else [places[number % len(places)]]:
                chosen = own[:place] + [name] + own[place + 1 :]
                if op == "LSTM" and place:
                    chosen = [own[0], name, name]
                if chosen == own:
                    continue
                times = chosen.count(name)
                values = {k: [v] * times for k, v in extra.items()}
                recurrent(op, activations=chosen, x_scale=0.7, **values)
                if op == "RNN" and name in ("LeakyRelu", "HardSigmoid", "Elu"):
                    recurrent(op, activations=chosen, x_scale=1.5)  # their default values
        both = own + ["Relu"] + own[1:]
        recurrent(op, d="bidirectional", activations=both)
        mixed = (["HardSigmoid"] + ["ScaledTanh"] * (len(own) - 1)) * 2
        values = [round(0.3 + 0.1 * k, 1) for k in range(len(mixed))]
        recurrent(op, "mixed.", d="bidirectional", activations=mixed, activation_alpha=values,
            activation_beta=values[::-1])
    for options in {}, {"bias": False}, {"state": True}, {"d": "bidirectional"}, {"lens": K(part)}:
        tag = "_".join(options)
        recurrent("GRU", tag, linear_before_reset=1, **options)
        recurrent("LSTM", f"peephole_{tag}", peephole=True, **options)
        recurrent("LSTM", tag, input_forget=1, **options)
    # onnxruntime's RNN has another default of alpha than the operator ThresholdedRelu, which is 1
    x, w, r = f(4, 2, 3), K(f(1, 2, 3)), K(f(1, 2, 2))
    chosen = {"activations": ["ThresholdedRelu"], "hidden_size": 2}
    wanted = Case("RNN", [x, w, r], chosen | {"activation_alpha": [1.0]}, (1, 1), 22, None)
    case("", "RNN", [x, w, r], out=(1, 1), opset=22, eq=wanted.onnxruntime(), **chosen)
    recurrent("GRU", linear_before_reset=1, clip=0.4)
    recurrent("LSTM", "peephole", peephole=True, input_forget=1)
    recurrent("LSTM", "peephole", peephole=True, clip=0.4)
    recurrent("LSTM", "only_h", state="h")
    recurrent("LSTM", "only_c", state="c")


# ---- Attention and its relatives ----


def attention(tag, mask=None, past=None, lens=None, out=(1,), opset=24, q=3, kv=3,
              heads=(2, 2), b=2, e=4, v=4, flat=False, **attributes):
    """One case of Attention, of `q` queries and `kv` keys, with `flat` for inputs of rank 3."""

    def heads_of(n, length, size):
        value = f(b, n, length, size)
        return value.transpose(0, 2, 1, 3).reshape(b, length, n * size) if flat else value

    ins = [heads_of(heads[0], q, e), heads_of(heads[1], kv, e), heads_of(heads[1], kv, v), mask]
    ins += [f(b, heads[1], past, e), f(b, heads[1], past, v)] if past else [None, None]
    ins += [lens]
    while ins[-1] is None:
        ins.pop()
    if flat:
        attributes |= {"q_num_heads": heads[0], "kv_num_heads": heads[1]}
    case(tag, "Attention", ins, out=out, opset=opset, **attributes)


def attention_models():
    some = a([[1, 1, 0], [0, 1, 1], [1, 0, 1]], bool)
    row = a([[1, 1, 0], [0, 0, 0], [1, 0, 1]], bool)
    low = np.where(row, np.float32(0.3), np.float32(-np.inf))
    cached = (1, 1, 1)
    for opset in 23, 24:
        o = {"opset": opset}
        attention("plain", **o)
        attention("", is_causal=1, **o)
        attention("past", past=2, out=cached, is_causal=1, **o)
        attention("mask_bool", mask=some, **o)
        attention("mask_float", mask=f(3, 3), **o)
        attention("mask", softcap=0.8, mask=f(3, 3), **o)
        for mode in range(4):
            more = {"qk_matmul_output_mode": mode, "out": (1, 0, 0, 1), **o}
            attention("mask", mask=f(3, 3), softcap=0.9, same=("qk_matmul_output_mode",), **more)
        attention("flat_gqa", flat=True, heads=(4, 2), v=3, **o)
        attention("row_masked_bool", mask=row, **o)
        attention("row_masked_float", mask=low, **o)
    diagonal = np.eye(3, dtype=bool)
    attention("more_keys", is_causal=1, q=2, kv=5)
    attention("more_queries", is_causal=1, q=5, kv=2)
    attention("past", past=2, out=cached)
    attention("past_one_query", past=3, q=1, kv=1, out=cached, is_causal=1, same=("is_causal",))
    attention("past_mask", past=2, out=cached, is_causal=1, mask=f(3, 5))
    attention("mask_bool_constant", mask=K(some))
    attention("mask_bool_4d", mask=ints(0, 1, 2, 1, 3, 3, dtype=bool) | diagonal)
    attention("mask_float_4d", mask=f(2, 2, 3, 3))
    attention("mask_float_3d", mask=f(2, 3, 3))
    attention("mask_causal", mask=f(1, 1, 3, 3), is_causal=1)
    attention("mask_bool_causal", mask=some | diagonal, is_causal=1)
    attention("", scale=0.7)
    attention("", softcap=0.8)
    attention("", softcap=0.8, is_causal=1)
    attention("past", qk_matmul_output_mode=3, out=(1, 1, 1, 1), past=2, is_causal=1)
    attention("flat", flat=True)
    attention("flat_past", flat=True, heads=(4, 2), past=2, out=cached, is_causal=1)
    attention("flat_mask_qk", flat=True, mask=f(3, 3), out=(1, 0, 0, 1))
    attention("gqa", heads=(4, 2))
    attention("mqa", heads=(4, 1), q=2, kv=5, v=3)
    attention("", softmax_precision=T.DOUBLE, same=("softmax_precision",))
    attention("mask_short", mask=f(3, 2))
    attention("mask_short_bool", mask=some[:, :2] | a([[1, 0]] * 3, bool))
    attention("past_mask_short", past=2, mask=f(3, 3), out=cached)
    attention("lens", lens=a([2, 3], np.int64))
    attention("lens_constant", lens=K([2, 3]))
    attention("lens", lens=a([4, 6], np.int64), q=2, kv=6, is_causal=1)
    attention("lens_long", lens=a([4, 6], np.int64), q=2, kv=6)
    attention("lens_short", lens=a([1, 3], np.int64), q=3, kv=6, is_causal=1)
    attention("lens_mask_short", lens=a([2, 4], np.int64), q=3, kv=6, mask=f(3, 4))
    attention("row_masked_mode", mask=row, qk_matmul_output_mode=3, out=(1, 0, 0, 1))
    attention("", opset=25, left_window_size=1, q=5, kv=5)
    attention("", opset=25, right_window_size=1, q=5, kv=5)
    attention("past", opset=25, left_window_size=2, is_causal=1, past=2, out=cached, q=4, kv=4)
    attention("", opset=25, left_window_size=1, right_window_size=0, q=5, kv=5)

    x4, x3, cos = f(2, 4, 3, 6), f(2, 3, 24), (f(8, 3), f(8, 3))
    where = ints(0, 7, 2, 3)
    rope = [x4, *map(K, cos), where]
    sweep("RotaryEmbedding", rope, {}, {"interleaved": 1},
        {"tag": "constant_positions", "inputs": [*rope[:3], K(where)]},
        {"tag": "flat", "inputs": [x3, *rope[1:]], "num_heads": 4},
        {"tag": "flat", "inputs": [x3, *rope[1:]], "num_heads": 4, "interleaved": 1},
        {"tag": "no_positions", "inputs": [x4, K(f(2, 3, 3)), K(f(2, 3, 3))]},
        {"inputs": [x4, K(f(8, 2)), K(f(8, 2)), where], "rotary_embedding_dim": 4},
        {"inputs": [x4, f(8, 2), f(8, 2), where], "rotary_embedding_dim": 4, "interleaved": 1})
    cache, update = f(2, 2, 5, 3), f(2, 2, 2, 3)
    sweep("TensorScatter", [cache, update, a([1, 3], np.int64)], {},
        {"tag": "constant_indices", "inputs": [cache, update, K([1, 3])]},
        {"tag": "no_indices", "inputs": [cache, update]},
        {"inputs": [cache, update, a([4, 3], np.int64)], "mode": "circular"},
        {"inputs": [f(2, 5, 2, 3), f(2, 2, 2, 3), a([1, 3], np.int64)], "axis": 1},
        {"inputs": [f(2, 4, 5), f(2, 4, 2), K([4, 2])], "axis": -1, "mode": "circular"},
        {"tag": "f16",
            "inputs": [cache.astype(np.float16), update.astype(np.float16), a([1, 3], np.int64)]})
    x, w = f(2, 3, 5), K(f(3, 1, 3))
    sweep("CausalConvWithState", [x, w, K(f(3)), f(2, 3, 2)], {},
        {"tag": "plain", "inputs": [x, w]}, {"tag": "bias", "inputs": [x, w, K(f(3))]},
        {"activation": "silu"}, {"activation": "swish"}, opset=27, out=(1, 1))
    q, k, v = f(2, 3, 8), f(2, 3, 4), f(2, 3, 6)
    decay, beta, past = -positive(2, 3, 2), positive(2, 3, 2) / 2, f(2, 2, 2, 3)
    for rule, more in ("linear", [past]), ("gated", [past, decay]), ("delta", [past, None, beta]), (
            "gated_delta", [past, decay, beta]):
        case("", "LinearAttention", [q, k, v, *more], out=(1, 1), opset=27, update_rule=rule,
            q_num_heads=4, kv_num_heads=2, same=("update_rule",))
    more = {"opset": 27, "out": (1, 1), "q_num_heads": 4, "kv_num_heads": 2}
    full = [q, k, v, past, decay, beta]
    case("", "LinearAttention", full, scale=0.3, **more)
    case("no_past", "LinearAttention", [q, k, v, None, decay, beta], **more)
    case("key_decay", "LinearAttention", [q, k, v, past, -positive(2, 3, 4), beta], **more)
    case("", "LinearAttention", full, chunk_size=2, same=("chunk_size",), **more)


# ---- Convolution and pooling ----


def convolution_models():
    x, w, b = f(1, 4, 6, 5), K(f(2, 4, 3, 3)), K(f(2))
    sweep("Conv", [x, w], {"tag": "plain"}, {"tag": "bias", "inputs": [x, w, b]},
        {"tag": "weights_at_run_time", "inputs": [x, w.value, b.value]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"auto_pad": "VALID", "same": ("auto_pad",)},
        {"auto_pad": "SAME_LOWER", "inputs": [x, K(f(2, 4, 2, 2))]},
        {"auto_pad": "SAME_UPPER", "inputs": [x, K(f(2, 4, 2, 2))]}, {"dilations": [2, 1]},
        {"dilations": [1, 2], "pads": [0, 1, 2, 3]}, {"strides": [1, 2]}, {"pads": [1, 0, 0, 2]},
        {"kernel_shape": [3, 3], "same": ("kernel_shape",)},
        {"group": 2, "inputs": [x, K(f(2, 2, 3, 3)), b]},
        {"group": 4, "inputs": [x, K(f(8, 1, 3, 3))]},
        {"tag": "1d", "inputs": [f(2, 3, 7), K(f(2, 3, 3)), b], "strides": [2], "pads": [1, 2],
            "dilations": [2]},
        {"tag": "3d", "inputs": [f(1, 1, 3, 4, 4), K(f(2, 1, 2, 3, 2))], "strides": [1, 2, 1],
            "pads": [0, 1, 0, 1, 0, 1]},
        {"tag": "f64",
            "inputs": [f(1, 2, 4, 4, dtype=np.float64), K(f(1, 2, 3, 3, dtype=np.float64))]},
        {"tag": "f16",
            "inputs": [f(1, 2, 4, 4, dtype=np.float16), K(f(1, 2, 3, 3, dtype=np.float16))],
            "pads": [1, 1, 1, 1]})
    x, w, b = f(1, 4, 3, 4), K(f(4, 2, 3, 3)), K(f(2))
    sweep("ConvTranspose", [x, w], {"tag": "plain"}, {"tag": "bias", "inputs": [x, w, b]},
        {"tag": "weights_at_run_time", "inputs": [x, w.value]}, {"strides": [2, 3]},
        {"pads": [1, 0, 2, 1]}, {"dilations": [2, 1]}, {"dilations": [1, 3], "strides": [2, 2]},
        {"output_padding": [1, 0], "strides": [2, 2]},
        {"output_padding": [1, 2], "strides": [2, 3], "pads": [1, 1, 1, 1]},
        {"group": 2, "inputs": [x, K(f(4, 1, 3, 3)), b]},
        {"group": 4, "inputs": [x, K(f(4, 1, 3, 3))], "strides": [2, 2]},
        {"kernel_shape": [3, 3], "same": ("kernel_shape",)},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID", "strides": [2, 2], "same": ("auto_pad",)},
        {"output_shape": [6, 8], "strides": [2, 2]}, {"output_shape": [5, 11], "strides": [2, 3]},
        {"output_shape": [7, 9], "strides": [2, 2], "output_padding": [1, 1]},
        {"output_shape": [6, 8], "strides": [2, 2], "auto_pad": "SAME_UPPER",
            "same": ("output_shape",)},
        {"output_shape": [5, 8], "strides": [2, 2], "auto_pad": "SAME_LOWER",
            "same": ("auto_pad",)},
        {"tag": "1d", "inputs": [f(1, 2, 4), K(f(2, 3, 3))], "strides": [2], "pads": [1, 0]},
        {"tag": "3d", "inputs": [f(1, 1, 2, 3, 2), K(f(1, 2, 2, 2, 2))], "strides": [1, 2, 2]},
        {"tag": "plain", "opset": 7})
    x, w = ints(0, 255, 1, 2, 5, 5, dtype=np.uint8), K(ints(-9, 9, 2, 2, 3, 3, dtype=np.int8))
    z, zw = K(a(7, np.uint8)), K(a(2, np.int8))
    point = [x, w, z, zw]
    sweep("ConvInteger", [x, w, z], {}, {"tag": "no_zero_points", "inputs": [x, w]},
        {"tag": "weight_zero_point", "inputs": point},
        {"tag": "u8",
            "inputs": [x, K(ints(0, 9, 2, 2, 3, 3, dtype=np.uint8)), z, K(a(2, np.uint8))]},
        {"auto_pad": "SAME_LOWER"}, {"dilations": [2, 1]}, {"strides": [2, 1]},
        {"pads": [1, 0, 2, 1]}, {"kernel_shape": [3, 3], "same": ("kernel_shape",)},
        {"group": 2, "inputs": [x, K(ints(-9, 9, 2, 1, 3, 3, dtype=np.int8)), z]})
    scale = [K(0.05), z, w, K(0.1), K(a(0, np.int8)), K(0.8), K(a(100, np.uint8))]
    per = [K(0.05), z, w, K(a([0.1, 0.3])), K(a([0, 0], np.int8)), K(0.8), K(a(100, np.uint8))]
    grouped = [scale[0], z, K(ints(-9, 9, 2, 1, 3, 3, dtype=np.int8)), *scale[3:]]
    sweep("QLinearConv", [x, *scale], {}, {"tag": "per_channel", "inputs": [x, *per]},
        {"tag": "bias", "inputs": [x, *scale, K(a([900, -700], np.int32))]},
        {"auto_pad": "SAME_UPPER"}, {"dilations": [2, 1]}, {"strides": [2, 1]},
        {"pads": [1, 0, 2, 1]}, {"kernel_shape": [3, 3], "same": ("kernel_shape",)},
        {"group": 2, "inputs": [x, *grouped]})
    x, w, off = f(1, 2, 4, 4), K(f(2, 2, 2, 2)), f(1, 8, 3, 3)
    mask = positive(1, 4, 3, 3)
    sweep("DeformConv", [x, w, off], {}, {"tag": "bias_mask", "inputs": [x, w, off, K(f(2)), mask]},
        {"kernel_shape": [2, 2], "same": ("kernel_shape",)},
        {"strides": [2, 2], "inputs": [x, w, f(1, 8, 2, 2)]},
        {"dilations": [2, 2], "inputs": [x, w, f(1, 8, 2, 2)]},
        {"pads": [1, 0, 0, 1], "inputs": [x, w, f(1, 8, 4, 4)]},
        {"group": 2, "inputs": [x, K(f(2, 1, 2, 2)), off]},
        {"offset_group": 2, "inputs": [x, w, f(1, 16, 3, 3)]})


def pooling_models():
    x, k = f(1, 2, 5, 6), {"kernel_shape": [2, 3]}
    both = (1, 1)
    shared = [{}, {"strides": [2, 1]}, {"pads": [1, 0, 0, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID", "strides": [2, 2], "same": ("auto_pad",)},
        {"ceil_mode": 1, "strides": [2, 2]},
        {"ceil_mode": 1, "strides": [3, 3], "pads": [1, 1, 1, 1]},
        {"ceil_mode": 1, "strides": [2, 2], "kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
        {"dilations": [2, 2]}, {"dilations": [1, 2], "ceil_mode": 1, "strides": [3, 2]}]
    sweep("MaxPool", [x], *[{**k, **s} for s in shared])
    sweep("MaxPool", [x],
        *[{**k, **s} for s in ({}, {"storage_order": 1}, {"strides": [2, 2], "pads": [1, 1, 0, 1]},
            {"dilations": [2, 1], "storage_order": 1}, {"ceil_mode": 1, "strides": [2, 2]})],
        out=both, tag="indices")
    case("indices_batch", "MaxPool", [f(2, 2, 3, 3)], out=both, kernel_shape=[2, 2])
    case("indices_1d", "MaxPool", [f(2, 2, 7)], out=both, kernel_shape=[3], strides=[2],
        pads=[1, 1])
    case("indices_3d", "MaxPool", [f(1, 2, 3, 3, 4)], out=both, kernel_shape=[2, 2, 2],
        storage_order=1)
    case("u8", "MaxPool", [ints(0, 255, 1, 2, 4, 4, dtype=np.uint8)], kernel_shape=[2, 2],
        pads=[1, 1, 0, 0])
    case("i8", "MaxPool", [ints(-128, 127, 1, 2, 4, 4, dtype=np.int8)], kernel_shape=[2, 2],
        pads=[1, 1, 0, 0])
    case("f64", "MaxPool", [f(1, 2, 4, 4, dtype=np.float64)], kernel_shape=[2, 2], strides=[2, 2])
    case("f16", "MaxPool", [f(1, 2, 4, 4, dtype=np.float16)], kernel_shape=[2, 2], strides=[2, 2])
    case("plain", "MaxPool", [x], opset=7, **k)
    sweep("AveragePool", [x], *[{**k, **s} for s in shared])
    sweep("AveragePool", [x],
        *[{**k, **s, "count_include_pad": 1} for s in ({"pads": [1, 0, 0, 2]},
            {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
            {"dilations": [2, 2], "pads": [1, 1, 1, 1]},
            {"ceil_mode": 1, "strides": [3, 3], "pads": [1, 1, 1, 1]},
            {"ceil_mode": 1, "strides": [2, 2], "kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})])
    case("1d", "AveragePool", [f(1, 2, 7)], kernel_shape=[3], strides=[2], ceil_mode=1, pads=[1, 0])
    case("plain", "AveragePool", [x], opset=7, **k)
    sweep("LpPool", [x], *[{**k, **s} for s in shared[::2]], {"p": 1, **k}, {"p": 3, **k},
        {"p": 1, "pads": [1, 0, 0, 2], **k})
    case("plain", "LpPool", [x], opset=7, p=3, **k)
    sweep("GlobalLpPool", [x], {}, {"p": 1}, {"p": 3})
    sweep("LRN", [f(1, 5, 2, 2)], {"size": 3}, {"size": 3, "alpha": 0.5},
        {"size": 3, "alpha": 0.5, "beta": 0.4}, {"size": 3, "bias": 2.0}, {"size": 7, "alpha": 0.5})
    rois = K(a([[0, 0, 0, 3, 3], [0, 1, 2, 5, 4]]))
    case("", "MaxRoiPool", [x, rois], pooled_shape=[2, 2])
    case("", "MaxRoiPool", [x, rois], pooled_shape=[2, 2], spatial_scale=0.5)
    boxes, which = K(a([[0.3, 0.2, 3.1, 2.9], [1, 0.5, 4.7, 4.1]])), K([0, 0])
    sweep("RoiAlign", [x, boxes, which], {},
        {"coordinate_transformation_mode": "output_half_pixel"}, {"mode": "max"},
        {"sampling_ratio": 2}, {"sampling_ratio": 3, "mode": "max"}, {"spatial_scale": 0.5},
        {"output_height": 3}, {"output_width": 2},
        {"tag": "at_run_time", "inputs": [x, boxes.value, which.value], "output_width": 2})
    pooled = [positive(1, 1, 2, 2), K(a([[[[0, 3], [8, 11]]]], np.int64))]
    k = {"kernel_shape": [2, 2], "strides": [2, 2]}
    case("", "MaxUnpool", pooled, **k)
    case("indices_at_run_time", "MaxUnpool", [pooled[0], pooled[1].value], **k)
    case("", "MaxUnpool", [pooled[0], K(a([[[[0, 2], [6, 8]]]], np.int64))], kernel_shape=[2, 2])
    case("", "MaxUnpool", [positive(1, 1, 2, 2), K(a([[[[0, 1], [3, 5]]]], np.int64))],
        pads=[0, 1, 1, 0], **k)
    # an output shape of the size that follows: what it means for the indices is disputed
    case("output_shape", "MaxUnpool", [*pooled, K([1, 1, 4, 4])], same=("output_shape", "strides"),
        **k)
    cols = f(1, 8, 9)
    sweep("Col2Im", [cols, K([4, 4]), K([2, 2])], {},
        {"dilations": [2, 1], "inputs": [f(1, 8, 6), K([4, 4]), K([2, 2])]},
        {"strides": [2, 2], "inputs": [f(1, 8, 4), K([4, 4]), K([2, 2])]},
        {"pads": [0, 1, 1, 0], "inputs": [f(1, 8, 16), K([4, 4]), K([2, 2])]})


# ---- Quantisation and casts ----


def quantization_models():
    x = f(3, 4) * np.float32(3)
    s, per = K(0.07), K(a([0.05, 0.1, 0.02]))
    u8 = np.uint8
    for dtype, zero in (u8, 120), (np.int8, -5), (np.uint16, 30000), (np.int16, -300):
        case("zero_point_" + dtype.__name__, "QuantizeLinear", [x, s, K(a(zero, dtype))])
    sweep("QuantizeLinear", [x, s], {},
        {"tag": "scale_at_run_time", "inputs": [x, a(0.07), a(120, u8)]},
        {"axis": 0, "inputs": [x, per]},
        {"tag": "zero_points", "axis": 0, "inputs": [x, per, K(a([3, 99, 200], u8))]},
        {"axis": -2, "inputs": [x, per.value, a([3, 99, 200], u8)]},
        {"tag": "default_axis",
            "inputs": [x, K(a([0.05, 0.1, 0.02, 0.3])), K(a([9, 99, 100, 0], u8))]},
        {"tag": "ties", "inputs": [a([0.5, 1.5, 2.5, -0.5, 3.5]), K(1.0), K(a(10, u8))]},
        {"tag": "i32", "inputs": [ints(-300, 300, 3, 4, dtype=np.int32), K(2.0), K(a(10, u8))]},
        {"tag": "f16", "inputs": [x.astype(np.float16), K(a(0.07, np.float16)), K(a(10, u8))]})
    for to in T.INT8, T.UINT16, T.INT16:
        case("", "QuantizeLinear", [x, s], output_dtype=to)
    cast = ("Cast", {"to": T.FLOAT})
    for to in T.INT4, T.UINT4, T.FLOAT8E4M3FN, T.FLOAT8E5M2:
        case("", "QuantizeLinear", [x, K(0.1)], output_dtype=to, then=cast)
    for to in T.FLOAT8E4M3FN, T.FLOAT8E5M2FNUZ:
        case("", "QuantizeLinear", [x, K(0.00001)], output_dtype=to, saturate=0, then=cast,
            finite=False)
    blocks = K(positive(3, 2) / 10)
    sweep("QuantizeLinear", [x, blocks], {"axis": 1},
        {"axis": -1, "inputs": [x, blocks, K(ints(0, 200, 3, 2, dtype=u8))]},
        {"axis": 0, "inputs": [f(4, 3), K(positive(2, 3))], "same": ("axis",)},
        {"tag": "ragged", "axis": 1, "inputs": [f(3, 3), blocks]}, block_size=2, same=("axis",))
    case("", "QuantizeLinear", [x.astype(np.float16), K(a(0.07, np.float16))], precision=T.FLOAT,
        same=("precision",))
    case("plain", "QuantizeLinear", [x, s, K(a(9, np.int8))], opset=10)
    case("", "QuantizeLinear", [x, per, K(a([9, 2, 3], np.int8))], opset=13, axis=0)
    case("", "QuantizeLinear", [x, per, K(a([9, 2, 3], np.int8))], opset=19, axis=0)
    q = ints(0, 255, 3, 4, dtype=u8)
    for dtype, zero in (u8, 120), (np.int8, -5), (np.uint16, 30000), (np.int16, -300):
        q2 = ints(0, 255, 3, 4).astype(dtype)
        case("zero_point_" + dtype.__name__, "DequantizeLinear", [q2, s, K(a(zero, dtype))])
    case("i32", "DequantizeLinear", [ints(-900, 900, 3, 4, dtype=np.int32), s])
    sweep("DequantizeLinear", [q, s], {},
        {"tag": "scale_at_run_time", "inputs": [q, a(0.07), a(120, u8)]},
        {"axis": 0, "inputs": [q, per]},
        {"axis": -2, "inputs": [q, per.value, a([3, 99, 200], u8)]},
        {"tag": "default_axis",
            "inputs": [q, K(a([0.05, 0.1, 0.02, 0.3])), K(a([9, 99, 100, 0], u8))]},
        {"tag": "f16_scale", "inputs": [q, K(a(0.07, np.float16)), K(a(9, u8))]},
        {"output_dtype": T.FLOAT16, "inputs": [q, s]},
        {"output_dtype": T.FLOAT, "inputs": [q, K(a(0.07, np.float16))]})
    small = {"int4": (-8, 7), "uint4": (0, 15), "float8_e4m3fn": (-9, 9), "float8_e5m2": (-9, 9)}
    for name, (low, high) in small.items():
        values = ints(low, high, 3, 4).astype(getattr(ml_dtypes, name))
        zero = [K(a([1, 2, 3]).astype(values.dtype))] * ("int" in name)
        case(name, "DequantizeLinear", [K(values), per, *zero], axis=0)
    sweep("DequantizeLinear", [q, blocks], {"axis": 1},
        {"axis": -1, "inputs": [q, blocks, K(ints(0, 200, 3, 2, dtype=u8))]},
        {"axis": 0, "inputs": [ints(0, 255, 4, 3, dtype=u8), positive(2, 3)]},
        {"tag": "ragged", "axis": 1, "inputs": [ints(0, 255, 3, 3, dtype=u8), blocks]},
        {"tag": "int4", "axis": 1, "inputs": [K(ints(-8, 7, 3, 4).astype(ml_dtypes.int4)), blocks]},
        block_size=2, same=("axis",))
    case("plain", "DequantizeLinear", [q, s, K(a(9, u8))], opset=10)
    case("", "DequantizeLinear", [q, per, K(a([9, 2, 3], u8))], opset=13, axis=0)
    case("", "DynamicQuantizeLinear", [x], out=(1, 1, 1))
    case("positive", "DynamicQuantizeLinear", [positive(3, 4)], out=(1, 1, 1))
    m, n = ints(0, 255, 3, 4, dtype=u8), K(ints(-128, 127, 4, 2, dtype=np.int8))
    z = a(9, u8)
    sweep("MatMulInteger", [m, n], {"tag": "plain"}, {"tag": "a_zero", "inputs": [m, n, K(z)]},
        {"tag": "both_zero", "inputs": [m, n, K(z), K(a(-3, np.int8))]},
        {"tag": "at_run_time", "inputs": [m, n.value, z]},
        {"tag": "b_zero_per_column", "inputs": [m, n, K(z), K(a([-3, 8], np.int8))]}, )
    out = [K(0.9), K(a(120, u8))]
    case("", "QLinearMatMul", [m, K(0.05), K(z), n, K(0.1), K(a(2, np.int8)), *out])
    case("per_column", "QLinearMatMul",
        [m, K(0.05), K(z), n, K(a([0.1, 0.02])), K(a([2, 3], np.int8)), *out])
    case("at_run_time", "QLinearMatMul",
        [m, a(0.05), z, n.value, a(0.1), a(2, np.int8), a(0.9), a(120, u8)])
    x = a([0, -0.0, 0.5, 1.5, -1.5, 2.7, -2.7, 100, 3e-8, -127.9, 6.1e-5, 65504])
    for to in "FLOAT16 DOUBLE INT8 INT16 INT32 INT64 UINT32 UINT64 BOOL".split():
        fits = x[:7] if "INT" in to else x  # what does not fit is undefined
        case("", "Cast", [np.abs(fits) if "UINT" in to else fits], to=T.DataType.Value(to))
    for kind in np.float16, np.float64, np.int64, np.int32, np.uint8, bool:
        case("from_" + np.dtype(kind).name, "Cast", [ints(0, 3, 5, dtype=kind)], to=T.FLOAT)
    case("wrap", "Cast", [a([200, -200, 300, 70000], np.int32)], to=T.INT8)
    case("wrap", "Cast", [a([200, -200, 2**40 + 5], np.int64)], to=T.INT32)
    case("overflow", "Cast", [a([1e5, -1e6, 65519, 65520])], to=T.FLOAT16, finite=False)
    case("bfloat16", "Cast", [f(8)], to=T.BFLOAT16, then=cast)
    big = a([0.3, -7.7, 1e9, -1e9, 449, 470, 60000, 1e-9])
    for to in "FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ".split():
        case("", "Cast", [big], to=T.DataType.Value(to), then=cast)
        case("", "Cast", [big], to=T.DataType.Value(to), saturate=0, then=cast, finite=False)
    case("int4", "Cast", [ints(-8, 7, 8, dtype=np.float32)], to=T.INT4, then=cast)
    case("uint4", "Cast", [ints(0, 15, 8, dtype=u8)], to=T.UINT4, then=cast)
    x3 = positive(8) * np.float32(3)
    for mode in "down", "nearest":
        case("", "Cast", [x3], to=T.FLOAT8E8M0, round_mode=mode, then=cast)
        to, like = T.FLOAT8E8M0, K(a([1]).astype(ml_dtypes.float8_e8m0fnu))
        wanted = Case("Cast", [x3], {"to": to, "round_mode": mode}, (1,), 28, cast).onnxruntime()
        case("", "CastLike", [x3, like], round_mode=mode, then=cast, opset=28, eq=wanted)
    case("i32", "CastLike", [a([1.5, -2.5, 3]), K(a([1], np.int32))])
    case("at_run_time", "CastLike", [a([1.5, -2.5, 3]), a([1], np.float16)])
    case("", "CastLike", [big, K(a([1]).astype(ml_dtypes.float8_e4m3fn))], saturate=0, then=cast,
        finite=False)
    case("", "BitCast", [f(3, 4)], to=T.INT32)
    case("", "BitCast", [ints(0, 2**62, 3)], to=T.DOUBLE)


# ---- Shapes, indices and selections ----


def resize_models():
    x = f(1, 1, 4, 5)
    up, down, none = K([1.0, 1.0, 1.7, 2.3]), K([1.0, 1.0, 0.6, 0.7]), K(np.zeros(0, np.float32))
    even_up, even_down = K([1.0, 1.0, 1.75, 2.2]), K([1.0, 1.0, 0.5, 0.6])
    ways = "half_pixel half_pixel_symmetric pytorch_half_pixel align_corners asymmetric".split()
    for mode in "nearest", "linear", "cubic":
        for way in ways:
            options = {"mode": mode, "coordinate_transformation_mode": way}
            options["same"] = tuple(options)
            # whether a fraction that scales[] leaves counts as resized length is disputed
            exact = way == "align_corners"
            case("up", "Resize", [x, None, even_up if exact else up], **options)
            case("down", "Resize", [x, None, even_down if exact else down], **options)
        case("sizes", "Resize", [x, None, None, K([1, 1, 7, 3])], mode=mode, same=("mode",))
        case("one", "Resize", [x, None, None, K([1, 1, 1, 1])], mode=mode,
            same=("mode", "coordinate_transformation_mode"),
            coordinate_transformation_mode="pytorch_half_pixel")
    whole = K([1.0, 1.0, 2.0, 2.0])
    for near in "round_prefer_floor", "round_prefer_ceil", "floor", "ceil":
        half = K([1.0, 1.0, 0.5, 0.5])
        for way, tag, scales in ("half_pixel", "half", half), ("asymmetric", "up", up):
            options = {"nearest_mode": near, "coordinate_transformation_mode": way}
            case(tag, "Resize", [x, None, scales], same=tuple(options), **options)
        case("double", "Resize", [x, None, whole], nearest_mode=near, same=("nearest_mode",))
    cubic = {"mode": "cubic"}
    sweep("Resize", [x, None, up], {"cubic_coeff_a": -0.5}, {"exclude_outside": 1},
        {"cubic_coeff_a": -0.3, "exclude_outside": 1}, **cubic)
    for mode in "linear", "cubic":
        case("down", "Resize", [x, None, down], mode=mode, antialias=1)
        case("up", "Resize", [x, None, up], mode=mode, antialias=1, same=("antialias",))
        case("sizes", "Resize", [x, None, None, K([1, 1, 2, 3])], mode=mode, antialias=1)
    case("down", "Resize", [x, None, down], mode="cubic", antialias=1, cubic_coeff_a=-0.5)
    case("down", "Resize", [x, None, down], mode="cubic", antialias=1, exclude_outside=1,
        same=("exclude_outside",))
    case("down", "Resize", [x, None, down], mode="linear", antialias=1, exclude_outside=1,
        same=("exclude_outside",))
    roi = K(a([0, 0, 0.2, 0.1, 1, 1, 0.7, 1.3]))
    crop = {"coordinate_transformation_mode": "tf_crop_and_resize"}
    for mode in "nearest", "linear", "cubic":
        case("", "Resize", [x, roi, None, K([1, 1, 3, 6])], mode=mode, same=("mode",), **crop)
        case("", "Resize", [x, roi, None, K([1, 1, 3, 6])], mode=mode, same=("mode",),
            extrapolation_value=9.5, **crop)
    case("scales", "Resize", [x, roi, even_up], mode="linear", **crop)
    pair = a([1.7, 2.3])
    sweep("Resize", [x, None, K(pair)], {"axes": [2, 3]}, {"axes": [-2, -1]}, {"axes": [3, 2]},
        {"tag": "sizes", "inputs": [x, None, None, K([7, 9])], "axes": [3, 2]}, mode="linear")
    case("", "Resize", [x, K(a([0.2, 0.1, 0.7, 1.3])), None, K([3, 6])], axes=[2, 3], mode="linear",
        **crop)
    for policy in "not_larger", "not_smaller":
        for tag, sizes in ("up", [8, 7]), ("down", [3, 2]), ("mixed", [2, 9]):
            case(tag, "Resize", [x, None, None, K(sizes)], axes=[2, 3],
                keep_aspect_ratio_policy=policy, mode="linear")
    case("all_axes", "Resize", [x, None, None, K([1, 1, 4, 8])],
        keep_aspect_ratio_policy="not_smaller", same=("keep_aspect_ratio_policy",))
    case("batch_channel", "Resize", [f(2, 2, 3), None, K([2.0, 1.5, 1.0])], mode="linear")
    case("1d", "Resize", [f(1, 1, 6), None, K([1.0, 1.0, 1.6])], mode="linear")
    case("3d", "Resize", [f(1, 1, 2, 3, 4), None, K([1.0, 1.0, 1.6, 2.0, 0.5])], mode="linear")
    case("u8", "Resize", [ints(0, 255, 1, 1, 3, 3, dtype=np.uint8), None, K([1.0, 1.0, 2.0, 2.0])])
    for mode in "nearest", "linear", "cubic":
        case("up", "Resize", [x, none, up], opset=11, mode=mode, same=("mode",))
        case("sizes", "Resize", [x, none, none, K([1, 1, 7, 3])], opset=11, mode=mode,
            same=("mode",))
    case("sizes", "Resize", [x, None, None, K([1, 1, 7, 3])], opset=13, mode="linear")
    half = {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "opset": 11}
    case("", "Resize", [x, none, up], same=("coordinate_transformation_mode",), **half)
    for op, opset in ("Resize", 10), ("Upsample", 9), ("Upsample", 7):
        for mode in "nearest", "linear":
            values = {"mode": mode, "opset": opset, "same": ("mode",)}
            scales = [1.0, 1.0, 1.7, 2.3]
            if opset == 7:
                case("", op, [x], scales=scales, **values)
            else:
                case("", op, [x, K(scales)], **values)
    case("down", "Resize", [x, down], opset=10)


def shape_models():
    x = f(3, 4)
    pads = K([1, 2, 0, 3])
    for mode in "constant", "edge", "reflect", "wrap":
        same = ("mode",) * (mode == "constant")
        case("", "Pad", [x, pads], mode=mode, same=same)
        case("axes", "Pad", [f(2, 3, 4), K([1, 2]), None, K([-2])], mode=mode, same=same)
    case("negative", "Pad", [x, K([-1, 1, 1, -2])])
    case("wrap_more_than_once", "Pad", [f(2, 3), K([0, 4, 1, 7])], mode="wrap")
    case("value", "Pad", [x, pads, K(2.5)])
    case("value_axes", "Pad", [x, K([1, 2, 3, 0]), K(2.5), K([1, 0])])
    case("value_at_run_time", "Pad", [x, pads, a(2.5)])
    case("i64", "Pad", [ints(0, 9, 2, 3), pads, K(7)])
    case("bool", "Pad", [ints(0, 1, 2, 3, dtype=bool), pads, K(a(True, bool))])
    for mode in "edge", "reflect":
        case("", "Pad", [x], opset=7, pads=[1, 2, 0, 3], mode=mode)
        case("", "Pad", [x, pads], opset=11, mode=mode)
    case("", "Pad", [x], opset=7, pads=[1, 2, 0, 3], value=2.5)
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max

    def cut(tag, starts, ends, axes=None, steps=None, x=f(4, 5, 3), **options):
        parts = [starts, ends, axes, steps]
        while parts[-1] is None:
            parts.pop()
        case(tag, "Slice", [x] + [None if p is None else K(p) for p in parts], **options)

    cut("plain", [1, 0, 1], [3, 5, 2])
    cut("few", [1], [3])
    cut("int_max", [1, 2], [high, 2**31 - 1])
    cut("negative", [-3, -4], [-1, high], [1, 0])
    cut("axes", [1, 0], [2, 3], [2, 0])
    cut("negative_axes", [1, 0], [2, 3], [-1, -3])
    cut("steps", [0, 1], [4, 5], [1, 0], [2, 2])
    cut("reverse", [-1], [low], [1], [-1])
    cut("reverse_int32_min", [2**31 - 1], [-(2**31)], [1], [-1], same=("axes",))
    cut("reverse_step", [4], [0], [1], [-2])
    cut("huge_step", [1], [5], [1], [high])
    cut("huge_negative_step", [-1], [low], [1], [low + 1])
    cut("starts_beyond", [-99, 0], [99, 99], [1, 2], [2, 2])
    cut("empty", [3], [1], [1])
    cut("i32", a([1], np.int32), a([3], np.int32), a([1], np.int32), a([2], np.int32))
    cut("i64_data", [1], [3], [1], x=ramp(2, 4, dtype=np.int64))
    cut("old", [1, 0], [2, 3], [-1, 0], [1, 2], opset=11)
    for axes in {}, {"axes": [2, 0]}:
        case("", "Slice", [f(4, 5, 3)], opset=7, starts=[1, -3], ends=[2**31 - 1, -1], **axes)
    x = f(2, 6, 3)
    sweep("Split", [x], {"num_outputs": 2, "axis": 1, "out": (1, 1)},
        {"num_outputs": 3, "axis": -2, "out": (1, 1, 1)}, {"num_outputs": 2, "out": (1, 1)},
        {"tag": "ragged", "num_outputs": 4, "axis": 1, "out": (1,) * 4})
    case("ragged_three", "Split", [f(7, 2)], num_outputs=3, out=(1, 1, 1))
    case("sizes", "Split", [x, K([1, 5])], axis=1, out=(1, 1))
    case("sizes_zero", "Split", [x, K([0, 4, 2])], axis=1, out=(1, 1, 1))
    case("equal", "Split", [x], opset=13, axis=1, out=(1, 1))
    case("", "Split", [x], opset=11, axis=-2, split=[1, 5], out=(1, 1))
    case("", "Split", [x], opset=7, axis=1, split=[1, 5], out=(1, 1))
    y = f(1, 3, 1, 2)
    for opset in 7, 11:
        sweep("Squeeze", [y], {"tag": "all"}, {"axes": [2]}, opset=opset)
        case("", "Unsqueeze", [x], opset=opset, axes=[0, 4])
    case("all", "Squeeze", [y])
    case("axes", "Squeeze", [y, K([0])])
    case("negative", "Squeeze", [y, K([-2])])
    case("axes", "Unsqueeze", [x, K([3, 0])])
    case("negative", "Unsqueeze", [x, K([-1, 1])])
    case("", "Squeeze", [y], opset=11, axes=[-2])
    case("", "Unsqueeze", [x], opset=11, axes=[-1, 1])
    sweep("Flatten", [f(2, 3, 2, 2)], {}, {"axis": 0}, {"axis": 3}, {"axis": -1}, {"axis": 4})
    sweep("Transpose", [x], {}, {"perm": [1, 0, 2]}, {"perm": [2, 0, 1]})
    sweep("Concat", [x, f(2, 6, 1)], {"axis": 2}, {"axis": -1},
        {"tag": "one", "inputs": [x], "axis": 1},
        {"tag": "bool", "inputs": [ints(0, 1, 2, dtype=bool)] * 2, "axis": 0})
    case("zero", "Reshape", [x, K([0, -1])])
    case("", "Reshape", [np.zeros((0, 3), np.float32), K([3, 0])], allowzero=1, same=("allowzero",))
    case("plain", "Reshape", [x, K([4, 9])], opset=7)
    case("broadcast", "Expand", [f(3, 1), K([2, 1, 4])])
    case("", "Tile", [f(2, 3), K([2, 3])])
    for start, end in (1, None), (None, 2), (-2, None), (1, -1), (None, -1), (-99, 99), (2, 1):
        bounds = {k: v for k, v in (("start", start), ("end", end)) if v is not None}
        same = tuple(bounds) if start == -99 else ()
        case("", "Shape", [f(2, 3, 4)], same=same, **bounds)
    case("plain", "Shape", [f(2, 3, 4)], opset=13)
    case("", "Size", [f(2, 3, 4)])
    x = f(1, 8, 2, 3)
    for opset in 11, None:
        sweep("DepthToSpace", [x], {"blocksize": 2}, {"blocksize": 2, "mode": "CRD"}, opset=opset)
    y = f(1, 2, 4, 6)
    sweep("SpaceToDepth", [y], {"blocksize": 2}, {"blocksize": 2, "mode": "CRD"})
    case("", "SpaceToDepth", [y], opset=7, blocksize=2)
    x = f(4, 5)
    sweep("CenterCropPad", [x, K([2, 7])], {}, {"tag": "odd", "inputs": [x, K([7, 2])]},
        {"axes": [1], "inputs": [x, K([3])]}, {"axes": [-1, 0], "inputs": [x, K([8, 3])]})
    x, n = f(4, 3, 2), K([1, 4, 2])
    for t, b, lens in (1, 0, [1, 2, 3, 3]), (0, 1, [1, 4, 2]):
        case("", "ReverseSequence", [x, K(lens)], time_axis=t, batch_axis=b,
            same=("time_axis", "batch_axis"))
    case("", "ReverseSequence", [x, n])
    case("at_run_time", "ReverseSequence", [x, n.value])
    sweep("Trilu", [f(2, 4, 3)], {}, {"upper": 0},
        *[{"tag": f"k_{text(k)}".replace("k_m", "k_minus_"), "inputs": [f(2, 4, 3), K(k)],
            "upper": u, "same": ("upper",)} for k in (1, -1, -9) for u in (0, 1)],
        {"tag": "k_at_run_time", "inputs": [f(4, 3), a(1, np.int64)]},
        {"tag": "i64", "inputs": [ints(1, 9, 3, 3)], "upper": 0})
    square = ints(0, 9, 3, 4, dtype=np.int32)
    sweep("EyeLike", [square], {}, {"k": 1}, {"k": -2}, {"dtype": T.FLOAT},
        {"dtype": T.BOOL, "k": 1}, {"tag": "f64", "inputs": [f(3, 3, dtype=np.float64)]})
    sweep("ConstantOfShape", [K([2, 3])], {},
            *[{"tag": f"{kind}",
                "value": helper.make_tensor("v", getattr(T, kind.upper()), [1], [v])} for kind,
            v in (("float", 2.5), ("int64", -3), ("bool", 1), ("float16", 0.5), ("uint8", 9))])
    case("empty", "ConstantOfShape", [K(np.zeros(0, np.int64))])
    sparse = helper.make_sparse_tensor(helper.make_tensor("v", T.FLOAT, [2], [1.5, -2]),
        helper.make_tensor("i", T.INT64, [2], [1, 5]), [2, 3])
    sweep("Constant", [],
        {"tag": "value", "value": helper.make_tensor("v", T.FLOAT, [2, 2], [1, 2, 3, 4])},
        {"value_float": 2.5}, {"value_floats": [1.5, -2.0]}, {"value_int": -3},
        {"value_ints": [4, 5]},
        {"tag": "sparse_value", "sparse_value": sparse,
            "eq": [a([[0, 1.5, 0], [0, 0, -2]]), np.ones(1, np.float32)], "opset": 25})
    for kind in np.float32, np.int64, np.int32, np.float64:
        case(np.dtype(kind).name, "Range", [K(a(v, kind)) for v in (2, 11, 3)])
    case("negative", "Range", [K(a(v)) for v in (1, -1, -0.3)])
    case("", "Range", [K(a(v, np.float16)) for v in (2000, 2010, 1)], stash_type=10,
        same=("stash_type",))


def index_models():
    x, i = f(4, 3), ints(-4, 3, 2, 2)
    sweep("Gather", [x, i], {}, {"axis": 1, "inputs": [x, K([[2, -1]])]},
        {"axis": -1, "inputs": [x, K([2, 0])]}, {"tag": "i32", "inputs": [x, i.astype(np.int32)]},
        {"tag": "scalar", "inputs": [x, K(-1)], "axis": 1},
        {"tag": "u8", "inputs": [ints(0, 255, 4, 3, dtype=np.uint8), K([3, 1])]})
    sweep("GatherElements", [x, ints(-3, 2, 2, 3)], {},
        {"axis": 1, "inputs": [x, ints(-3, 2, 4, 2)]},
        {"axis": -1, "inputs": [x, K(ints(0, 2, 3, 2))]})
    x = f(2, 3, 4)
    sweep("GatherND", [x, ints(-2, 1, 3, 2)], {},
        {"batch_dims": 1, "inputs": [x, ints(0, 2, 2, 2)]},
        {"tag": "rows", "batch_dims": 1, "inputs": [x, ints(0, 2, 2, 2, 1)]},
        {"batch_dims": 2, "inputs": [x, K(ints(0, 3, 2, 3, 1))]},
        {"tag": "old", "inputs": [x, ints(0, 1, 3, 2)], "opset": 11})
    x, i, u = f(4, 3), a([[1, -1, 1], [1, 0, 1]], np.int64), f(2, 3)
    unique = a([[1, -1, 0], [0, 1, 2]], np.int64)
    sweep("ScatterElements", [x, unique, u], {}, {"axis": 1, "inputs": [x, unique, u]},
        {"axis": -1, "inputs": [x, K(unique), u]},
        *[{"reduction": r, "inputs": [x, i, u]} for r in ("add", "mul", "max", "min")],
        {"reduction": "add", "axis": 1, "inputs": [x, i, u]},
        {"tag": "i64", "reduction": "max", "inputs": [ints(0, 9, 4, 3), i, ints(0, 9, 2, 3)]})
    case("", "ScatterElements", [x, unique, u], opset=11, axis=1)
    case("", "ScatterElements", [x, i, u], opset=16, reduction="add")
    case("", "Scatter", [x, unique, u], opset=9, axis=1)
    x, i, u = f(3, 4), a([[1], [-1], [1]], np.int64), f(3, 4)
    sweep("ScatterND", [x, a([[2], [0]], np.int64), f(2, 4)], {},
        {"tag": "points", "inputs": [x, K([[0, 1], [2, -1]]), f(2)]},
        *[{"reduction": r, "inputs": [x, i, u]} for r in ("add", "mul", "max", "min")],
        {"tag": "i64", "reduction": "add", "inputs": [ints(0, 9, 3, 4), i, ints(0, 9, 3, 4)]})
    values = K([-1.0, 3.0])
    sweep("OneHot", [a([0, 2, -1, 7], np.int64), K(4), values], {}, {"axis": 0}, {"axis": -2},
        {"tag": "at_run_time", "inputs": [a([0, 2], np.int64), K(4), a([2, 5], np.int32)]},
        {"tag": "float_indices", "inputs": [a([0, 2, 3]), K(4.0), values]},
        {"tag": "depth_1d", "inputs": [a([[0, 2]], np.int64), K([4]), values], "axis": 1})
    x = f(3, 5)
    for op in "ArgMax", "ArgMin":
        ties = ints(0, 2, 3, 5).astype(np.float32)
        sweep(op, [x], {}, {"axis": 1}, {"axis": -1}, {"keepdims": 0}, {"axis": 1, "keepdims": 0},
            {"tag": "ties", "inputs": [ties], "axis": 1, "select_last_index": 1},
            {"tag": "ties", "inputs": [ties], "axis": 1},
            {"tag": "ties", "inputs": [ties], "select_last_index": 1, "keepdims": 0},
            {"tag": "i32", "inputs": [ints(0, 9, 3, 5, dtype=np.int32)], "axis": 1})
        case("", op, [x], opset=11, axis=-1)
    k = K([2])
    sweep("TopK", [x, k], {}, {"axis": 0}, {"largest": 0}, {"largest": 0, "axis": 0},
        {"sorted": 0, "same": ("sorted",), "inputs": [x, K([1])]},
        {"tag": "ties", "inputs": [ints(0, 2, 3, 5).astype(np.float32), K([3])]},
        {"tag": "ties", "largest": 0, "inputs": [ints(0, 2, 3, 5).astype(np.float32), K([3])]},
        {"tag": "i64", "inputs": [ints(0, 99, 3, 5), k]},
        {"tag": "i32", "inputs": [ints(0, 99, 3, 5, dtype=np.int32), k]},
        {"tag": "plain", "opset": 10}, out=(1, 1))
    case("", "TopK", [x], opset=7, k=2, axis=0, out=(1, 1))
    sweep("Compress", [f(3, 2), K(a([1, 0, 1], bool))], {}, {"axis": 0},
        {"axis": -1, "inputs": [f(3, 2), K(a([0, 1], bool))]})
    case("", "NonZero", [K(a([[1, 0, 2], [0, 0, 3]]))])
    many = K(a([[3, 1], [3, 1], [0, 2], [3, 1], [0, 1]]))
    sweep("Unique", [many], {}, {"axis": 0}, {"axis": 1}, {"sorted": 0}, {"axis": 0, "sorted": 0},
        out=(1,) * 4)


# ---- Reductions, normalisations and activations ----


def reduction_models():
    ops = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()
    for op in ops:
        x = positive(2, 3, 4) if op == "LogSum" else f(2, 3, 4)
        op = "Reduce" + op
        empty = K(np.zeros(0, np.int64))
        case("", op, [x], keepdims=0)
        case("axes", op, [x, K([-1, 0])])
        case("axes", op, [x, K([1])], keepdims=0)
        case("no_axes", op, [x], noop_with_empty_axes=1)
        case("empty_axes", op, [x, empty], noop_with_empty_axes=1, same=("axes",))
        case("", op, [x], opset=11, axes=[1, -1], keepdims=0)
    case("empty_axes", "ReduceSum", [f(2, 3), empty], same=("axes",))
    case("", "ReduceSum", [f(2, 3)], opset=7, axes=[1])
    for op in "Max", "Min", "Sum", "Prod", "Mean", "SumSquare":
        case("i64", "Reduce" + op, [ints(-4, 4, 2, 3), K([1])])
        case("i32", "Reduce" + op, [ints(-4, 4, 2, 3, dtype=np.int32), K([1])])
    for op in "Max", "Min":
        case("bool", "Reduce" + op, [a([[0, 1], [0, 0], [1, 1]], bool), K([1])])
        case("u8", "Reduce" + op, [ints(0, 255, 2, 3, dtype=np.uint8), K([1])])
    case("f64", "ReduceSum", [f(2, 3, dtype=np.float64), K([1])])
    case("f16", "ReduceMean", [f(2, 3, dtype=np.float16), K([1])])
    case("large", "ReduceLogSumExp", [a([[300, 299, -5], [-300, -301, -299]]), K([1])])
    x = f(3, 4)
    for op in "CumSum", "CumProd":
        zero = K(a(0, np.int32))
        sweep(op, [x, zero], {}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1},
            {"tag": "axis_1", "inputs": [x, K(1)], "reverse": 1},
            {"tag": "axis_negative", "inputs": [x, K(-1)], "exclusive": 1},
            {"tag": "axis_at_run_time", "inputs": [x, a(1, np.int64)]},
            {"tag": "i64", "inputs": [ints(-3, 3, 3, 4), K(1)]})


def normalization_models():
    x = f(2, 4, 3)
    s, b = K(positive(4)), K(f(4))
    m, v = K(f(4)), K(positive(4))
    bn = [x, s, b, m, v]
    sweep("BatchNormalization", bn, {}, {"epsilon": 0.1}, {"momentum": 0.5, "same": ("momentum",)},
        {"training_mode": 1, "out": (1, 1, 1)},
        {"training_mode": 1, "momentum": 0.5, "out": (1, 1, 1)},
        {"tag": "old", "epsilon": 0.1, "opset": 9},
        {"tag": "run_time", "inputs": [x, *(p.value for p in bn[1:])]},
        {"tag": "2d", "inputs": [f(3, 4), *bn[1:]]})
    full = [K(positive(4, 3)), K(f(4, 3)), K(f(4, 3)), K(positive(4, 3))]
    case("", "BatchNormalization", [x, *full], opset=7, spatial=0)
    sweep("InstanceNormalization", [x, s, b], {}, {"epsilon": 0.1})
    x4 = f(2, 4, 2, 3)
    sweep("GroupNormalization", [x4, s, b], {"num_groups": 2}, {"num_groups": 4},
        {"num_groups": 1, "epsilon": 0.1},
        {"num_groups": 2, "stash_type": T.DOUBLE, "same": ("stash_type",)}, )
    small = [x4.astype(np.float16), *(K(p.value.astype(np.float16)) for p in (s, b))]
    case("f16", "GroupNormalization", small, num_groups=2, stash_type=T.FLOAT16,
        same=("stash_type",))
    every = (1, 1, 1)
    s1, s2 = K(positive(3)), K(positive(4, 3))
    sweep("LayerNormalization", [x, s1], {}, {"epsilon": 0.1}, {"axis": 1, "inputs": [x, s2]},
        {"axis": -2, "inputs": [x, s2, K(f(4, 3))]},
        {"axis": 2, "inputs": [x, s1], "same": ("axis",)},
        {"axis": 0, "inputs": [x, K(positive(2, 4, 3))]},
        {"tag": "bias", "inputs": [x, s1, K(f(3))]}, {"tag": "mean", "out": (1, 1)},
        {"tag": "all", "out": every}, {"tag": "all", "axis": 1, "inputs": [x, s2], "out": every},
        {"tag": "inverse", "out": (1, 0, 1)}, {"tag": "broadcast", "axis": 1, "inputs": [x, s1]},
        {"stash_type": T.DOUBLE, "same": ("stash_type",)})
    h = f(2, 3, dtype=np.float16) * np.float16(30)
    for kind in T.FLOAT, T.FLOAT16:
        case("f16", "LayerNormalization", [h, K(a([1, 2, 3], np.float16))], stash_type=kind,
            same=("stash_type",))
    sweep("RMSNormalization", [x, s1], {}, {"epsilon": 0.1}, {"axis": 1, "inputs": [x, s2]},
        {"axis": -2, "inputs": [x, s2]}, {"tag": "scale_at_run_time", "inputs": [x, s1.value]},
        {"stash_type": T.DOUBLE, "same": ("stash_type",)},
        {"tag": "f16", "inputs": [h, K(a([1, 2, 3], np.float16))]})
    sweep("MeanVarianceNormalization", [x4], {"check": False}, {"axes": [1]},
        {"axes": [0, 1, 2, 3]}, {"axes": [-1, -2]})
    sweep("LpNormalization", [x], {}, {"p": 1}, {"axis": 1}, {"axis": 0, "p": 1})
    case("zeros", "LpNormalization", [a([[0, 0], [3, 4]])], finite=False)
    for op in "Softmax", "LogSoftmax", "Hardmax":
        for opset in 11, None:
            sweep(op, [x], {}, {"axis": 0}, {"axis": -2 if opset else 1}, opset=opset,
                same=("axis",) * bool(opset))
        case("large", op, [a([[1000, 999, -1000], [-1e4, -1e4, 0]])])
    case("ties", "Hardmax", [a([[1, 2, 2], [3, 3, 1]])])


def activation_models():
    x = f(3, 4) * np.float32(1.5)
    for op, attributes in {
        "Celu": {"alpha": 0.4}, "Elu": {"alpha": 0.4}, "Selu": {"alpha": 0.7, "gamma": 2.5},
        "HardSigmoid": {"alpha": 0.4, "beta": 0.3}, "ThresholdedRelu": {"alpha": 0.3},
        "LeakyRelu": {"alpha": 0.3}, "Swish": {"alpha": 0.4}, "Shrink": {"bias": 0.3, "lambd": 0.9},
    }.items():
        case("", op, [x])
        for k, v in attributes.items():
            case("", op, [x], **{k: v})
        if len(attributes) > 1:
            case("", op, [x], **attributes)
    for op in "Elu", "Selu", "HardSigmoid", "LeakyRelu":
        case("negative", op, [x], alpha=-0.3)
        case("old", op, [x], opset=7, alpha=0.3)
    case("i64", "Shrink", [ints(-5, 5, 8)], lambd=2.0, bias=1.0)
    case("f16", "LeakyRelu", [f(5, dtype=np.float16)], alpha=0.3)
    sweep("Gelu", [x], {}, {"approximate": "tanh"})
    sweep("SwiGLU", [x, f(3, 4)], {}, {"alpha": 0.4})
    for op in "HardSwish", "Mish", "Softplus", "Softsign":
        case("", op, [x])
    case("channel", "PRelu", [f(2, 3, 4), K(f(3, 1))])
    case("at_run_time", "PRelu", [x, f(4)])
    lo, hi = K(-0.5), K(0.9)
    sweep("Clip", [x, lo, hi], {}, {"tag": "min", "inputs": [x, lo]},
        {"tag": "max", "inputs": [x, None, hi]}, {"tag": "none", "inputs": [x]},
        {"tag": "at_run_time", "inputs": [x, a(-0.5), a(0.9)]},
        {"tag": "i64", "inputs": [ints(-9, 9, 8), K(-3), K(4)]},
        {"tag": "u8", "inputs": [ints(0, 255, 8, dtype=np.uint8), None, K(a(99, np.uint8))]},
        {"tag": "crossed", "inputs": [x, hi, lo]},
        {"tag": "i32", "inputs": [ints(-9, 9, 8, dtype=np.int32), K(a(-3, np.int32))]})
    for bounds in {"min": -0.5}, {"max": 0.9}, {"min": -0.5, "max": 0.9}, {}:
        case("" if bounds else "none", "Clip", [x], opset=7, **bounds)
    case("", "Dropout", [x], opset=7, ratio=0.7, same=("ratio",))
    case("", "Dropout", [x], opset=10, ratio=0.7, same=("ratio",))
    keep = ("ratio", "training_mode", "seed")
    case("", "Dropout", [x], out=(1, 1))
    case("ratio", "Dropout", [x, K(0.7)], out=(1, 1), same=keep)
    case("", "Dropout", [x, K(0.7), K(a(False, bool))], seed=3, out=(1, 1), same=keep)
    case("training_ratio_0", "Dropout", [x, K(0.0), K(a(True, bool))], out=(1, 1), same=keep)
    inf = a([1, np.inf, -np.inf, np.nan, 0])
    sweep("IsInf", [inf], {}, {"detect_negative": 0}, {"detect_positive": 0},
        {"detect_negative": 0, "detect_positive": 0},
        {"tag": "f64", "inputs": [inf.astype(np.float64)], "detect_positive": 0},
        {"tag": "f16", "inputs": [inf.astype(np.float16)], "detect_positive": 0})
    case("ties", "Round", [a([0.5, 1.5, 2.5, -0.5, -1.5, 2.4, -2.6])])


# ---- Arithmetic, signals and control flow ----


def arithmetic_models():
    for kind in np.uint8, np.uint32, np.uint64:
        n = np.iinfo(kind).bits
        values = a([1, 3, 170, 255, 129, 77], kind)
        for d in "LEFT", "RIGHT":
            tag = np.dtype(kind).name
            case(tag, "BitShift", [values, a([0, 1, 2, 7, n - 1, 3], kind)], direction=d)
            case(tag + "_too_far", "BitShift", [values, K(a([n, n + 1, 99, 200, n, 64], kind))],
                direction=d)
    for d in "LEFT", "RIGHT":
        case("i32", "BitShift", [a([-5, 7, -2147483648, 1], np.int32), a([1, 2, 31, 31], np.int32)],
            direction=d)
    p, q = a([7, -7, 7, -7, 6, 0], np.int64), a([3, 3, -3, -3, 3, 5], np.int64)
    for kind in np.int64, np.int32, np.int8:
        tag = np.dtype(kind).name
        sweep("Mod", [p.astype(kind), q.astype(kind)], {"tag": tag}, {"tag": tag, "fmod": 1})
    case("uint8", "Mod", [a([200, 7], np.uint8), a([130, 3], np.uint8)])
    real = [a([7.5, -7.5, 7.5, -7.5, 0.3, -6]), a([2, 2, -2, -2, 5, 3])]
    for kind in np.float32, np.float64, np.float16:
        case(np.dtype(kind).name, "Mod", [v.astype(kind) for v in real], fmod=1)
        case(np.dtype(kind).name, "Mod", [v.astype(kind) for v in real], opset=28)
    m, n, c = f(3, 4), K(f(4, 2)), K(f(2))
    sweep("Gemm", [m, n], {}, {"alpha": 0.5}, {"tag": "beta", "beta": 0.5, "same": ("beta",)},
        {"transA": 1, "inputs": [f(4, 3), n]}, {"transB": 1, "inputs": [m, K(f(2, 4))]},
        {"transA": 1, "transB": 1, "alpha": 2.0, "inputs": [f(4, 3), K(f(2, 4))]},
        {"tag": "square", "transA": 1, "inputs": [f(3, 3), K(f(3, 3))]},
        {"tag": "square", "transB": 1, "inputs": [f(3, 3), K(f(3, 3))]},
        {"tag": "old", "inputs": [m, n, c], "beta": 0.3, "opset": 7})
    shapes = {"scalar": (), "one": (1,), "row": (2,), "column": (3, 1), "row_2d": (1, 2),
        "full": (3, 2)}
    for tag, shape in shapes.items():
        case("c_" + tag, "Gemm", [m, n, K(f(*shape))], beta=0.3)
    case("c_at_run_time", "Gemm", [m, n, f(3, 1)], beta=-2.0)
    case("", "Gemm", [m, n, c], beta=0.0, same=("C",))
    case("", "Gemm", [m, n, c], alpha=0.0)
    case("i32", "Gemm", [ints(-3, 3, 2, 3, dtype=np.int32), ints(-3, 3, 3, 2, dtype=np.int32)])
    case("f64", "Gemm",
        [f(2, 3, dtype=np.float64), K(f(3, 2, dtype=np.float64)), K(f(2, dtype=np.float64))],
        alpha=0.5)
    t, u, v = f(2, 3, 4), f(2, 4, 3), f(3, 3)
    for tag, equation, inputs in (
        ("batch_matmul", "bij,bjk->bik", [t, u]), ("transpose", "ij->ji", [m]),
        ("implicit", "ij,jk", [m, f(4, 2)]), ("implicit_order", "ba", [m]),
        ("sum", "bij->", [t]), ("diagonal", "ii->i", [v]), ("trace", "ii", [v]),
        ("outer", "i,j->ij", [f(3), f(4)]), ("ellipsis", "...ij,...jk->...ik", [t, u]),
        ("three", "ij,jk,kl->il", [m, f(4, 2), f(2, 3)]),
        ("spaces", " i j , j k -> k i ", [m, f(4, 2)]), ("broadcast", "ij,j->i", [m, f(4)]),
        ("elementwise", "ij,ij->ij", [m, f(3, 4)]), ("capitals", "aB,Bc->ca", [m, f(4, 2)]),
        ("reduce_one", "bij,bkj->ik", [t, f(2, 2, 4)]),
    ):
        case(tag + ".", "Einsum", inputs, equation=equation)
    for op in "Max", "Min", "Sum", "Mean":
        case("one", op, [m])
        case("three", op, [m, f(4), f(3, 1)])
    case("i64", "Max", [ints(-9, 9, 5), ints(-9, 9, 5)])
    case("i32_exponent", "Pow", [m, a([2, 3, 0, 1], np.int32)])
    case("i64_base", "Pow", [ints(-3, 3, 4), ints(0, 3, 4)])
    d = f(2, 3, 3)
    case("", "Det", [d])
    case("2d", "Det", [f(2, 2)])


def signal_models():
    x = f(1, 6, 1)
    spectrum = f(1, 4, 2)
    sweep("DFT", [x], {}, {"inverse": 1}, {"onesided": 1},
        {"tag": "complex", "inputs": [f(1, 6, 2)]},
        {"tag": "complex", "inputs": [f(1, 6, 2)], "inverse": 1},
        {"tag": "longer", "inputs": [x, K(8)]}, {"tag": "shorter", "inputs": [x, K(5)]},
        {"tag": "longer", "inputs": [x, K(7)], "onesided": 1},
        {"tag": "axis_1", "inputs": [f(1, 3, 4, 1), None, K(1)]},
        {"tag": "axis_negative", "inputs": [f(1, 3, 4, 1), K(4), K(-3)], "onesided": 1},
        {"tag": "inverse_onesided", "inputs": [spectrum, K(6)], "inverse": 1, "onesided": 1,
            "same": ("dft_length",)})
    sweep("DFT", [f(1, 3, 4, 1)], {}, {"axis": 2}, {"axis": -2, "onesided": 1},
        {"axis": 2, "inverse": 1, "tag": "length", "inputs": [f(1, 3, 4, 2), K(5)]}, opset=17)
    y, w = f(1, 16, 1), K(positive(8))
    sweep("STFT", [y, K(4), w, K(8)], {"same": ("frame_length",), "check": False},
        {"onesided": 0, "same": ("frame_length",)},
        {"tag": "no_window", "inputs": [y, K(3), None, K(8)], "check": False},
        {"tag": "no_length", "inputs": [y, K(3), w], "check": False},
        {"tag": "complex", "onesided": 0, "inputs": [f(1, 16, 2), K(4), w]},
        {"tag": "window_at_run_time", "inputs": [y, K(4), w.value, K(8)], "same": ("frame_length",),
            "check": False})
    for op in "BlackmanWindow", "HammingWindow", "HannWindow":
        sweep(op, [K(7)], {}, {"periodic": 0}, {"output_datatype": T.DOUBLE},
            {"tag": "even", "inputs": [K(8)]})
    mel = [K(4), K(16), K(8000), K(100.0), K(3000.0)]
    sweep("MelWeightMatrix", mel, {}, {"output_datatype": T.DOUBLE})
    x = f(1, 2, 3, 4)
    g = Random.generator.uniform(-1.4, 1.4, (1, 3, 2, 2)).astype(np.float32)
    for align in 0, 1:
        for mode in "linear", "nearest", "cubic":
            for padding in "zeros", "border", "reflection":
                case("", "GridSample", [x, g], mode=mode, padding_mode=padding, align_corners=align,
                    same=("mode", "padding_mode", "align_corners"))
    for mode in "bilinear", "bicubic":
        case("", "GridSample", [x, g], mode=mode, opset=16, same=("mode",))
    deep = [f(1, 1, 2, 3, 3),
        Random.generator.uniform(-1.2, 1.2, (1, 2, 2, 2, 3)).astype(np.float32)]
    case("3d", "GridSample", deep)
    case("3d", "GridSample", deep, mode="nearest", padding_mode="border", align_corners=1,
        same=("padding_mode",))
    theta = f(2, 2, 3)
    for align in 0, 1:
        case("2d", "AffineGrid", [theta, K([2, 1, 3, 4])], align_corners=align,
            same=("align_corners",) * (not align))
        case("3d", "AffineGrid", [f(1, 3, 4), K([1, 1, 2, 3, 2])], align_corners=align,
            same=("align_corners",) * (not align))


def flow_models():
    node = helper.make_node
    shape = ("y", T.FLOAT, [3])
    branches = {
        "then_branch": graph([node("Add", ["c", "c"], ["y"])], [], [shape], [("c", a([1, 2, 3]))]),
        "else_branch": graph([node("Neg", ["c"], ["y"])], [], [shape], [("c", a([4, 5, 6]))]),
    }
    for value in True, False:
        case(f"constant_{value}".lower(), "If", [K(a(value, bool))], **branches)
        case(f"at_run_time_{value}".lower(), "If", [a(value, bool)], **branches)
    steps = [("i", T.INT64, []), ("go", T.BOOL, []), ("s", T.FLOAT, [3])]
    results = [("go_out", T.BOOL, []), ("s_out", T.FLOAT, [3]), ("row", T.FLOAT, [3])]
    body = [node("Add", ["s", "s"], ["s_out"]), node("Identity", ["go"], ["go_out"]),
        node("Neg", ["s"], ["row"])]
    body = graph(body, steps, results)
    never = ("M", "cond")  # without them it might not end
    true = K(a(True, bool))
    case("count", "Loop", [K(3), true, f(3)], out=(1, 1), body=body, same=never)
    case("no_condition", "Loop", [K(3), None, f(3)], out=(1, 1), body=body, same=never)
    case("final_only", "Loop", [K(4), None, f(3)], out=(1, 0), body=body, same=never)
    stop = [node("Add", ["s", "s"], ["s_out"]), node("ReduceMax", ["s_out"], ["m"], keepdims=0),
        node("Constant", [], ["c"], value_float=9.0), node("Less", ["m", "c"], ["go_out"])]
    case("while", "Loop", [None, true, positive(3)], out=(1,), same=never,
        body=graph(stop, steps, results[:2]))
    body = graph([node("Add", ["s", "x"], ["s_out"]), node("Mul", ["s", "x"], ["row"])],
        [("s", T.FLOAT, [2]), ("x", T.FLOAT, [2])],
        [("s_out", T.FLOAT, [2]), ("row", T.FLOAT, [2])])
    scan = {"body": body, "num_scan_inputs": 1, "out": (1, 1)}
    wide = [f(2), f(2, 4)]
    sweep("Scan", [f(2), f(4, 2)], {}, {"scan_input_directions": [1]},
        {"scan_output_directions": [1]}, {"scan_input_axes": [1], "inputs": wide},
        {"scan_output_axes": [1]},
        {"scan_input_axes": [-1], "scan_output_axes": [-1], "inputs": wide},
        {"scan_input_directions": [1], "scan_output_directions": [1]}, **scan)
    batch = {"body": body, "num_scan_inputs": 1, "out": (1, 1), "opset": 8}
    inputs = [None, f(2, 2), f(2, 3, 2)]
    sweep("Scan", inputs, {}, {"directions": [1]},
        {"tag": "lens", "inputs": [K([2, 3]), *inputs[1:]]}, **batch)


GROUPS = (recurrent_models, attention_models, convolution_models, pooling_models,
    quantization_models, resize_models, shape_models, index_models, reduction_models,
    normalization_models, activation_models, arithmetic_models, signal_models, flow_models)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    Models.compare, Models.only = arguments.compare, arguments.only
    for group in GROUPS:
        Random.generator = np.random.default_rng(0)
        group()
    for name, errors in Models.skipped:
        print("no onnxruntime:" if name.endswith(".ref") else "left out:", name)
        for error in errors:
            print("    " + error)
    for name, bad, results, other in Models.disagree:
        print("disagree:", name, bad)
        for i in bad if results else []:
            print("    onnxruntime", results[i].dtype, results[i].shape, results[i].ravel()[:24])
            print("    reference  ", other[i].dtype, other[i].shape, other[i].ravel()[:24])
    for problem in Models.problems:
        print("problem:", problem)
    if not arguments.only:
        write()
        for op, key in uncovered():
            print("not covered:", op, key)
        print(os.path.getsize(FILE), "bytes")
    suffixes = {end: sum(n.endswith(end) for n in Models.files) for end in (".ref", ".eq")}
    print(len(Models.files), "models, of these", suffixes)
    return 1 if Models.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
