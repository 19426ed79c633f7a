#!/usr/bin/env bash
# OpenVINO does not propagate NaN through a network: Relu turns it into 0, and Clip into the lower bound.
# Expected: NaN is propagated to the output, as in IEEE arithmetic, PyTorch and ONNX Runtime.
# Observed with OpenVINO 2026.4.1 on the CPU in float32, compared with ONNX Runtime 1.32.0 on the same file. Pixels
# marked as missing by NaN become confident classes: mark them outside the graph, or test isnan in its first node.
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
from onnx import TensorProto, helper

print("openvino", openvino.__version__, "onnxruntime", onnxruntime.__version__)
bounds = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in (("low", -1.0), ("high", 1.0))]
image = np.array([0.5, np.nan, -0.5], np.float32)
seen = {}
for operator, inputs in (("Relu", ["x"]), ("Clip", ["x", "low", "high"])):
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
        bounds if operator == "Clip" else [],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "one.onnx")
    session = onnxruntime.InferenceSession("one.onnx", providers=["CPUExecutionProvider"])
    compiled = openvino.compile_model("one.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    seen[operator] = float(session.run(None, {"x": image})[0][1]), float(compiled(image)[0][1])
print("NaN becomes (ONNX Runtime, OpenVINO):", seen)
assert all(np.isnan(first) for first, _ in seen.values())
assert {operator: second for operator, (_, second) in seen.items()} == {"Relu": 0.0, "Clip": -1.0}
PY
