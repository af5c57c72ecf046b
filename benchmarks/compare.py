"""Batch-1 latency of hiosc against PyTorch on one GPU: the same ONNX file, strict f32 on both sides (no TF32), interleaved round by round.

    compare.py MODEL.onnx --hiosc ./hiosc --costs costs.txt --json out.json

PyTorch runs the model in four ways: eager, eager captured into a CUDA graph, torch.compile in the modes reduce-overhead and max-autotune. Inputs and outputs are on
the GPU (hiosc's `resident`). Each round runs each of them once and then lets hiosc do one round of its own (`hiosc bench --paced`), so that all run at
the same clocks. Times are the host's, from call to synchronisation. Outputs are compared with eager PyTorch before anything is timed.

Needs numpy, torch, onnx and a GPU. Without them it says why PyTorch is not measured, and measures hiosc only.
"""

import argparse
import json
import subprocess
import sys
import time


def modules():
    """torch, onnx and numpy, or the reason why there is nothing to measure."""
    try:
        import numpy
        import onnx
        import torch
    except ImportError as error:
        return None, f"not measured: {error}"
    if not torch.cuda.is_available():
        return None, "not measured: torch sees no GPU"
    return (torch, onnx, numpy), None


def to_torch(torch, onnx, numpy, path):
    """The ONNX model as a torch module, operator by operator, and its input shapes."""
    from onnx import numpy_helper

    functional = torch.nn.functional
    model = onnx.load(path)
    graph = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in inputs}

    def attributes(node):
        return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    def padded(x, pads, value):
        half = len(pads) // 2
        flat = [p for axis in reversed(range(half)) for p in (pads[axis], pads[half + axis])]
        return functional.pad(x, flat, value=value) if any(flat) else x

    def integers(value):
        return [int(v) for v in numpy.asarray(value).reshape(-1)]

    def conv(a, x, w, b=None):
        x = padded(x, a.get("pads", [0, 0, 0, 0]), 0.0)
        return functional.conv2d(x, w, b, a.get("strides", 1), 0, a.get("dilations", 1), a.get("group", 1))

    def max_pool(a, x):
        x = padded(x, a.get("pads", [0, 0, 0, 0]), float("-inf"))
        return functional.max_pool2d(x, a["kernel_shape"], a.get("strides", 1), 0, 1, bool(a.get("ceil_mode", 0)))

    def average_pool(a, x):
        pads, kernel, strides = a.get("pads", [0, 0, 0, 0]), a["kernel_shape"], a.get("strides", 1)
        total = functional.avg_pool2d(padded(x, pads, 0.0), kernel, strides, 0, bool(a.get("ceil_mode", 0)))
        if a.get("count_include_pad", 0) or not any(pads):
            return total
        ones = padded(torch.ones_like(x[:1, :1]), pads, 0.0)
        return total / functional.avg_pool2d(ones, kernel, strides, 0, bool(a.get("ceil_mode", 0)))

    def slices(a, x, starts, ends, axes=None, steps=None):
        starts, ends = integers(starts), integers(ends)
        axes = integers(axes) if axes is not None else range(len(starts))
        steps = integers(steps) if steps is not None else [1] * len(starts)
        index = [slice(None)] * x.dim()
        for start, end, axis, step in zip(starts, ends, axes, steps):
            index[axis] = slice(start, end, step)
        return x[tuple(index)]

    def resize(a, x, _roi=None, scales=None, sizes=None):
        target = integers(sizes)[2:] if sizes is not None else [int(d * s) for d, s in zip(x.shape[2:], numpy.asarray(scales).reshape(-1)[2:])]
        if a.get("mode", b"nearest") != b"nearest":
            raise NotImplementedError("resize other than nearest")
        return functional.interpolate(x, size=target, mode="nearest")

    def gemm(a, x, w, b=None):
        w = w if a.get("transB", 0) else w.t()
        return functional.linear(x, w, b)

    def normalise(a, x, scale, bias, mean, variance):
        return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, a.get("epsilon", 1e-5))

    def clip(a, x, low=None, high=None):
        bound = lambda v, name: a.get(name) if v is None else float(numpy.asarray(v))
        return torch.clamp(x, bound(low, "min"), bound(high, "max"))

    operators = {
        "Conv": conv,
        "MaxPool": max_pool,
        "AveragePool": average_pool,
        "Slice": slices,
        "Resize": resize,
        "Gemm": gemm,
        "BatchNormalization": normalise,
        "Clip": clip,
        "Relu": lambda a, x: functional.relu(x),
        "Sigmoid": lambda a, x: torch.sigmoid(x),
        "Softmax": lambda a, x: torch.softmax(x, a.get("axis", -1)),
        "Add": lambda a, x, y: x + y,
        "Sub": lambda a, x, y: x - y,
        "Mul": lambda a, x, y: x * y,
        "Div": lambda a, x, y: x / y,
        "Concat": lambda a, *xs: torch.cat(xs, a["axis"]),
        "Flatten": lambda a, x: torch.flatten(x, a.get("axis", 1)),
        "GlobalAveragePool": lambda a, x: x.mean((2, 3), keepdim=True),
        "Reshape": lambda a, x, shape: x.reshape([x.shape[i] if d == 0 else d for i, d in enumerate(integers(shape))]),
        "Transpose": lambda a, x: x.permute(a["perm"]),
        "Pad": lambda a, x, pads, value=None: padded(x, integers(pads), 0.0 if value is None else float(numpy.asarray(value))),
        "Gather": lambda a, x, i: torch.select(x, a.get("axis", 0), integers(i)[0]) if numpy.ndim(i) == 0 else x.index_select(a.get("axis", 0), torch.as_tensor(i, device=x.device)),
        "Identity": lambda a, x: x,
        "Dropout": lambda a, x: x,
    }
    # inputs that are parameters, such as axes and sizes, rather than data
    static = {"Slice": {1, 2, 3, 4}, "Resize": {1, 2, 3}, "Reshape": {1}, "Pad": {1, 2}, "Clip": {1, 2}, "Gather": {1}}
    steps = []
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(attributes(node)["value"])
            continue
        if node.op_type not in operators:
            raise NotImplementedError(f"{node.op_type} is not translated to PyTorch")
        steps.append((operators[node.op_type], attributes(node), list(node.input), node.output[0], static.get(node.op_type, set())))

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.slots = {}
            for number, (name, value) in enumerate(constants.items()):
                if value.dtype == numpy.float32:
                    self.register_buffer(f"w{number}", torch.from_numpy(value.copy()))
                    self.slots[name] = f"w{number}"

        def forward(self, *values):
            known = dict(zip(shapes, values))
            for function, a, names, result, plain in steps:
                arguments = []
                for position, name in enumerate(names):
                    if not name:
                        arguments.append(None)
                    elif name in known:
                        arguments.append(known[name])
                    elif position in plain or name not in self.slots:
                        arguments.append(constants[name])
                    else:
                        arguments.append(getattr(self, self.slots[name]))
                known[result] = function(a, *arguments)
            return tuple(known[o.name] for o in graph.output)

    return Network().cuda().eval(), shapes


def contestants(torch, network, inputs):
    """(name, function) of each way to run the model; a way that fails is a name and a reason."""
    ways, failed = [("eager", lambda: network(*inputs))], []

    def captured():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                network(*inputs)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            network(*inputs)
        return graph.replay

    def compiled(mode):
        function = torch.compile(network, mode=mode)
        for _ in range(3):
            function(*inputs)
        return lambda: function(*inputs)

    makers = [("CUDA graph", captured)] + [(f"torch.compile {m}", lambda m=m: compiled(m)) for m in ("reduce-overhead", "max-autotune")]
    for name, make in makers:
        try:
            ways.append((name, make()))
        except Exception as error:  # whatever the compiler throws, the others still count
            failed.append((name, str(error).splitlines()[0][:200]))
    return ways, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--hiosc", default="./hiosc")
    parser.add_argument("--costs", required=True)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", required=True)
    parser.add_argument("--virtual", type=int)
    options = parser.parse_args()

    found, reason = modules()
    result = {"model": options.model, "math": "strict f32 on both sides"}
    hiosc_json = options.json + ".hiosc"
    command = [options.hiosc, "bench", options.model, "--costs", options.costs, "--on", "0", "--repeat", str(options.rounds)]
    command += ["--json", hiosc_json, "--paced"] + (["--virtual", str(options.virtual)] if options.virtual else [])
    ways, timings = [], {}
    if found:
        torch, onnx, numpy = found
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        with torch.inference_mode():
            network, shapes = to_torch(torch, onnx, numpy, options.model)
            inputs = [torch.randn(shape, device="cuda") for shape in shapes.values()]
            ways, result["failed"] = contestants(torch, network, inputs)
            result["torch"] = torch.__version__
    else:
        result["torch"] = reason
        print(f"{options.model}: PyTorch {reason}", file=sys.stderr)

    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    warm_up = min(10, options.rounds)
    for round_number in range(warm_up + options.rounds):
        for name, run in ways:
            with torch.inference_mode():
                torch.cuda.synchronize()
                start = time.perf_counter_ns()
                run()
                torch.cuda.synchronize()
                if round_number >= warm_up:
                    timings.setdefault(name, []).append(time.perf_counter_ns() - start)
        process.stdin.write("\n")  # hiosc's turn
        process.stdin.flush()
        line = process.stdout.readline()
        while line and line.strip() != "round":
            line = process.stdout.readline()
        if not line:
            break
    process.stdin.close()
    process.stdout.read()
    if process.wait() != 0:
        sys.exit(f"{options.model}: hiosc failed")
    with open(hiosc_json) as file:
        result["hiosc"] = json.load(file)
    result["pytorch_ns"] = timings
    with open(options.json, "w") as file:
        json.dump(result, file)
    median = lambda values: sorted(values)[len(values) // 2] / 1e3
    for name, values in timings.items():
        print(f"{name:28} {median(values):10.1f} us")
    for series in result["hiosc"]["series"]:
        if "resident" in series["name"]:
            print(f"hiosc {series['name']:22} {series['median_ns'] / 1e3:10.1f} us")


if __name__ == "__main__":
    main()
