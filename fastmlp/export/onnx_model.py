"""A trained net as an ONNX model."""
import json

import numpy as np

from ..files import write_atomically
from ..input.scaling import FARTHEST
from .libraries import library

# ------------------------------------------------------------------------------- ONNX

def to_onnx(model, path, *, input_dtype=None):
    """Write the net as an ONNX file: `MLP.to_onnx`."""
    onnx = library("onnx", "onnx")
    from onnx import TensorProto, helper, numpy_helper

    number = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "uint8": TensorProto.UINT8}
    dtype = model.dtype
    if input_dtype is None:
        input_dtype = dtype.name if model.scale == 1 else "uint8"
        if model.scaling is not None and model.scaling.needs_float64:
            input_dtype = "float64"
    if input_dtype not in ("uint8", dtype.name, "float64" if model.scaling is not None else dtype.name):
        more = "" if model.scaling is None else ", or 'float64', as it scales its input"
        raise ValueError(f"input_dtype must be 'uint8' or the net's own {dtype.name!r}{more}, got {input_dtype!r}")
    nodes, constants = [], []

    def constant(name, value, dtype=dtype):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def cast(x, to):
        return node("Cast", x, to=number[np.dtype(to).name])

    def node(op, *inputs, **attributes):
        nodes.append(helper.make_node(op, inputs, [f"{op.lower()}_{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def activate(name, z):
        simple = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "exp": "Exp"}
        if name in simple:
            return node(simple[name], z)
        if name == "leaky_relu":
            return node("LeakyRelu", z, alpha=0.01)
        if name == "softmax":
            return node("Softmax", z, axis=1)
        if name == "silu":
            if dtype == np.float64:                # ONNX Runtime 1.23 fuses z · sigmoid(z), then lacks float64
                return node("Div", z, node("Add", constant(f"one_{z}", 1.0), node("Exp", node("Neg", z))))
            return node("Mul", z, node("Sigmoid", z))
        if name == "gelu":
            half, root = constant(f"half_{z}", 0.5), constant(f"root_{z}", 0.5 ** 0.5)
            inner = node("Mul", z, root)
            if dtype == np.float64:                # runtimes have erf in float32 only
                erf = node("Cast", node("Erf", node("Cast", inner, to=number["float32"])), to=number["float64"])
            else:
                erf = node("Erf", inner)
            return node("Mul", z, node("Add", node("Mul", half, erf), half))
        if name == "sign":
            above = node("GreaterOrEqual", z, constant(f"zero_{z}", 0.0))
            return node("Where", above, constant(f"plus_{z}", 1.0), constant(f"minus_{z}", -1.0))
        return z

    h = "X"
    if model.scaling is None:
        h = cast(h, dtype) if input_dtype == "uint8" else h
    else:                                          # in the precision of the input, at least the net's
        inside = model.scaling
        wide = np.result_type(*({np.dtype(input_dtype), inside.center.dtype, dtype} - {np.dtype(np.uint8)}))
        h = h if input_dtype == wide.name else cast(h, wide)
        one = constant("one", 1.0, wide)
        s = node("Sub", h, constant("center", inside.center, wide))
        s = node("Mul", s, constant("factor", inside.factor, wide))
        s = node("Clip", s, constant("lowest", -FARTHEST, wide), constant("highest", FARTHEST, wide))
        part = node("Div", s, constant("clip", inside.clip, wide))
        h = node("Div", s, node("Sqrt", node("Add", node("Mul", part, part), one)))
        h = h if wide == dtype else cast(h, dtype)
    if model.scale != 1:
        h = node("Mul", h, constant("scale", model.scale))
    _, weights, biases = model.arrays()
    names = (*model.activations, model.output)
    for l, (w, b, name) in enumerate(zip(weights, biases, names, strict=True), 1):
        h = activate(name, node("Add", node("MatMul", h, constant(f"W{l}", w)), constant(f"b{l}", b)))
    outputs = dtype.name
    if model.offset is not None:
        outputs = "float64"
        h = node("Add", h if dtype.name == outputs else cast(h, outputs), constant("offset", model.offset, outputs))
    node("Identity", h)
    nodes[-1].output[0] = "outputs"
    graph = helper.make_graph(
        nodes, "fastmlp", [helper.make_tensor_value_info("X", number[input_dtype], ["rows", model.sizes[0]])],
        [helper.make_tensor_value_info("outputs", number[outputs], ["rows", model.sizes[-1]])], constants)
    proto = helper.make_model(graph, producer_name="fastmlp", opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 8                           # that of operator set 17: runtimes of 2022 on read it
    if model.classes is not None:
        helper.set_model_props(proto, {"classes": json.dumps(model.classes.tolist())})
    onnx.checker.check_model(proto, full_check=True)
    write_atomically(path, proto.SerializeToString())
