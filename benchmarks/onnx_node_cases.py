"""Writes the node cases of the installed onnx package as files:

    onnx_node_cases.py FOLDER

Since version 1.18, the package holds them as a program only. FOLDER gets a folder `node`, with
`test_x/model.onnx` and `test_x/test_data_set_*/{input,output}_*.pb` for each case, as the packages
before had them. A case whose data cannot be written (a value without a type in protobuf) has its
model alone, and is named.

Needs onnx and ml_dtypes.
"""

import pathlib
import sys
import warnings

from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_node_model_tests


def serialised(value, info):
    """A value as protobuf, of the kind that `info` declares."""
    if isinstance(value, TensorProto):
        return value.SerializeToString()
    kinds = {"map_type": numpy_helper.from_dict, "sequence_type": numpy_helper.from_list, "optional_type": numpy_helper.from_optional}
    convert = next((convert for kind, convert in kinds.items() if info.type.HasField(kind)), numpy_helper.from_array)
    return convert(value, info.name).SerializeToString()


def main():
    warnings.filterwarnings("ignore")
    out = pathlib.Path(sys.argv[1]) / "node"
    cases = load_node_model_tests()
    for case in cases:
        folder = out / case.name
        folder.mkdir(parents=True, exist_ok=True)
        model = case.model() if callable(case.model) else case.model
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        try:
            for i, data in enumerate(case.data_sets() if callable(case.data_sets) else case.data_sets):
                data_set = folder / f"test_data_set_{i}"
                data_set.mkdir(exist_ok=True)
                for side, values, infos in zip(("input", "output"), data, (model.graph.input, model.graph.output)):
                    for j, (value, info) in enumerate(zip(values, infos)):
                        (data_set / f"{side}_{j}.pb").write_bytes(serialised(value, info))
        except Exception as error:  # whatever the package raises
            print(f"{case.name}: {error}")
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
