"""Writes testdata/onnx_schemas.txt, the list of the ONNX operators that tests compare hiosc with:

    python3 benchmarks/onnx_schemas.py

Each version of each operator of the domains "" and "ai.onnx.ml" that the installed `onnx` package
knows, with its attributes (name, type, default or `required`), inputs and outputs. Fields are
separated by one space each. Needs the Python package `onnx`; run it again after an upgrade.
"""

import json
import os

import numpy
import onnx

FILE = os.path.join(os.path.dirname(__file__), "..", "testdata", "onnx_schemas.txt")
DOMAINS = ("", "ai.onnx.ml")


def json_like(value):
    """A default as JSON without spaces, floats in the shortest form that gives the same f32."""
    if isinstance(value, bytes):
        return json.dumps(value.decode())
    if isinstance(value, float):
        return str(numpy.float32(value))
    if isinstance(value, int):
        return str(value)
    if isinstance(value, onnx.TensorProto):
        return json_like(onnx.numpy_helper.to_array(value).tolist())
    return "[" + ",".join(json_like(v) for v in value) + "]"


def block(schema):
    """The lines of one version of one operator."""
    name = f"{schema.domain}.{schema.name}" if schema.domain else schema.name
    yield f"{name} {schema.since_version}" + " deprecated" * schema.deprecated
    for key, attribute in sorted(schema.attributes.items()):
        line = f"  attribute {key} {attribute.type.name}"
        if attribute.required:
            line += " required"
        elif attribute.default_value.type:
            line += " " + json_like(onnx.helper.get_attribute_value(attribute.default_value))
        yield line
    for kind, parameters in ("input", schema.inputs), ("output", schema.outputs):
        for parameter in parameters:
            option = parameter.option.name.lower()
            yield f"  {kind} {parameter.name}" + ("" if option == "single" else f" {option}")


def main():
    schemas = [s for s in onnx.defs.get_all_schemas_with_history() if s.domain in DOMAINS]
    schemas.sort(key=lambda s: (s.domain, s.name, s.since_version))
    lines = [f"# The operators of onnx {onnx.__version__}, by benchmarks/onnx_schemas.py."]
    for schema in schemas:
        lines += block(schema)
    with open(FILE, "w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
