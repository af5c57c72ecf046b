"""Writes an ONNX model of large weights, for benchmarks/peak_memory.sh:

    python3 benchmarks/large_model.py KIND MEGABYTES FILE.onnx

products      matrix products with weights of 16 MiB, each with a bias and a ReLU
external      the same, with the weights in FILE.onnx.data
floats        the same, with the weights as `float_data`
half          the same, in f16
gemm          the same, as Gemm with the weights transposed
transposed    the same, with a Transpose of each weight
constants     the same, with the weights in Constant nodes
one           the same, with one weight
convolutions  3x3 convolutions of 1024 channels, each with a batch normalisation and a ReLU

Needs nothing but Python: it writes the protobuf itself.
"""

import os
import struct
import sys


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


def number(field, n):
    return varint(field << 3) + varint(n)


def header(field, size):
    return varint(field << 3 | 2) + varint(size)


def message(field, data):
    data = data.encode() if isinstance(data, str) else data
    return header(field, len(data)) + data


def value(name, code, shape):
    dims = b"".join(message(1, number(1, d)) for d in shape)
    return message(1, name) + message(2, message(1, number(1, code) + message(2, dims)))


def node(op, inputs, output, attributes=b""):
    names = b"".join(message(1, name) for name in inputs)
    return message(1, names + message(2, output) + message(3, output) + message(4, op) + attributes)


def integers(name, values):
    return message(5, message(1, name) + b"".join(number(8, v) for v in values) + number(20, 7))


kind, megabytes, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
half = kind == "half"
code, size = (10, 2) if half else (1, 4)  # ONNX's element type, bytes of an element
# a mebibyte of numbers near 1
block = bytes(0x3C - i // size % 3 if i % size == size - 1 else i * 37 + 11 & 255 for i in range(1 << 20))

weights, nodes, x = [], [], "x"  # a weight is a name and a shape
if kind == "convolutions":
    side, shape = 1024, [1, 1024, 8, 8]
    each = side * side * 9 * size
elif kind == "one":
    side = int((megabytes * 1e6 / size) ** 0.5) // 256 * 256
    shape, each = [1, side], side * side * size
else:
    side, shape = 2048, [1, 2048]
    each = side * side * size
for i in range(max(1, megabytes * 10**6 // each)):
    if kind == "convolutions":
        weights += [(f"w{i}", [side, side, 3, 3])] + [(f"{p}{i}", [side]) for p in "sbmv"]
        nodes.append(node("Conv", [x, f"w{i}"], f"c{i}", integers("pads", [1, 1, 1, 1])))
        nodes.append(node("BatchNormalization", [f"c{i}"] + [f"{p}{i}" for p in "sbmv"], f"a{i}"))
    else:
        weights += [(f"w{i}", [side, side]), (f"b{i}", [side])]
        if kind == "gemm":
            transposed = message(5, message(1, "transB") + number(3, 1) + number(20, 2))
            nodes.append(node("Gemm", [x, f"w{i}", f"b{i}"], f"a{i}", transposed))
        else:
            if kind == "transposed":
                nodes.append(node("Transpose", [f"w{i}"], f"t{i}", integers("perm", [1, 0])))
            nodes.append(node("MatMul", [x, f"t{i}" if kind == "transposed" else f"w{i}"], f"m{i}"))
            nodes.append(node("Add", [f"m{i}", f"b{i}"], f"a{i}"))
    nodes.append(node("Relu", [f"a{i}"], f"r{i}"))
    x = f"r{i}"


def elements(shape):
    return elements(shape[1:]) * shape[0] if shape else 1


def data(index, n):
    """`n` bytes, which differ from those of every other index: equal weights are one weight."""
    first = struct.pack("<e" if half else "<f", 1 + index / 1024)
    yield first
    n -= size
    while n > 0:
        yield block[:n]
        n -= len(block)


# each part of the graph: bytes, and the index and number of the data bytes that follow
parts, offset = [(message(2, "large"), 0, 0)], 0
for index, (name, dims) in enumerate(weights):
    n = elements(dims) * size
    tensor = b"".join(number(1, d) for d in dims) + number(2, code) + message(8, name)
    if kind == "external":
        entries = {"location": os.path.basename(path) + ".data", "offset": str(offset), "length": str(n)}
        tensor += b"".join(message(13, message(1, k) + message(2, v)) for k, v in entries.items()) + number(14, 1)
        parts.append((message(5, tensor), 0, 0))
    else:
        tensor += header(4 if kind == "floats" else 9, n)
        if kind == "constants":
            attribute = message(1, "value") + number(20, 4) + header(5, len(tensor) + n) + tensor
            fields = message(2, name) + message(3, name) + message(4, "Constant") + header(5, len(attribute) + n) + attribute
            parts.append((header(1, len(fields) + n) + fields, index, n))
        else:
            parts.append((header(5, len(tensor) + n) + tensor, index, n))
    offset += n
parts += [(part, 0, 0) for part in nodes]
parts += [(message(11, value("x", code, shape)) + message(12, value(x, code, shape)), 0, 0)]
with open(path, "wb") as file:
    total = sum(len(part) + n for part, _, n in parts)
    file.write(number(1, 8) + message(8, number(2, 17)) + header(7, total))
    for part, index, n in parts:
        file.write(part)
        if n:
            file.writelines(data(index, n))
if kind == "external":
    with open(path + ".data", "wb") as file:
        for index, (_, dims) in enumerate(weights):
            file.writelines(data(index, elements(dims) * size))
