#!/usr/bin/env bash
# Integer arithmetic in a graph: OpenVINO saturates 8 bits and wraps 16, while ONNX Runtime wraps both.
# Expected: integers wrap in both engines, as in PyTorch and NumPy, or each engine treats all widths alike.
# Observed with OpenVINO 2026.4.1 on the CPU, compared with ONNX Runtime 1.32.0 on the same file: 10 - 20 in uint8 is 0
# and 246, 100 + 100 in int8 is 127 and -56; in uint16 both give 65526. A network that subtracts bands or dates before
# converting them to float gives different maps in the two engines, for 8-bit images only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$folder"
environment/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import helper

print("openvino", openvino.__version__, "onnxruntime", onnxruntime.__version__)


def computed(operator: str, dtype: str, first: int, second: int) -> tuple[int, int]:
    """Return what ONNX Runtime and OpenVINO make of two numbers of a dtype."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    values = [helper.make_tensor_value_info(name, kind, [3]) for name in "abc"]
    graph = helper.make_graph([helper.make_node(operator, ["a", "b"], ["c"])], "one", values[:2], values[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "one.onnx")
    bands = {"a": np.full(3, first, dtype), "b": np.full(3, second, dtype)}
    session = onnxruntime.InferenceSession("one.onnx", providers=["CPUExecutionProvider"])
    compiled = openvino.compile_model("one.onnx", "CPU")
    return int(session.run(None, bands)[0][0]), int(compiled(bands)[0][0])


expected = {
    ("Sub", "uint8", 10, 20): (246, 0),
    ("Add", "uint8", 200, 100): (44, 255),
    ("Add", "int8", 100, 100): (-56, 127),
    ("Sub", "uint16", 10, 20): (65526, 65526),
    ("Add", "int16", 32767, 1): (-32768, -32768),
}
found = {case: computed(*case) for case in expected}
for case, results in found.items():
    print(*case, "is in ONNX Runtime and OpenVINO", results)
assert found == expected
PY
