"""Puts a head onto a backbone: one .tflite that answers with probabilities instead of features.

The head's layers are appended to the backbone's own graph, tensor by tensor, as the file format holds them
(tensorflow/lite/schema/schema.fbs). So the backbone in the file is the very one that cameras run, to the bit, int8
ranges included; nothing is converted again, no weights need be found again, and no TensorFlow is started.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from appliance.models.head import Array, Head

_ALIGNED_BYTES = 16  # of every buffer within the file, as the schema asks; Python's writer does not do it by itself
_SCORES = "scores"


def graft(backbone: bytes, head: Head) -> bytes:
    """One graph out of two.

    Args:
        backbone: A .tflite with one input and one output, float32 [1, features].
        head: What comes behind it.

    Returns:
        A .tflite with the same input; its output is float32 [1, labels], probabilities in the order of the labels.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(backbone))
    [graph] = model.subgraphs
    [values] = graph.outputs
    for number, (kernel, bias) in enumerate(head.layers):
        hidden = number < len(head.layers) - 1
        name = "hidden" if hidden else "logits"
        inputs = [
            values,
            _constant(model, graph, f"{name}/kernel", kernel.T),  # one row per output
            _constant(model, graph, f"{name}/bias", bias),
        ]
        options = schema.FullyConnectedOptionsT()
        kind = schema.ActivationFunctionType
        options.fusedActivationFunction = kind.RELU if hidden else kind.NONE
        values = _tensor(graph, name, (1, len(bias)))
        kind = schema.BuiltinOptions.FullyConnectedOptions
        _operator(model, graph, schema.BuiltinOperator.FULLY_CONNECTED, inputs, values, kind, options)
    logits, values = values, _tensor(graph, _SCORES, (1, head.label_count))
    softmax, kind = schema.SoftmaxOptionsT(beta=1.0), schema.BuiltinOptions.SoftmaxOptions
    _operator(model, graph, schema.BuiltinOperator.SOFTMAX, [logits], values, kind, softmax)
    graph.outputs = [values]
    for signature in model.signatureDefs or []:
        [output] = signature.outputs
        output.name, output.tensorIndex = _SCORES.encode(), values
    return _packed(model)


def _tensor(graph: Any, name: str, shape: tuple[int, ...], buffer: int = 0) -> int:
    """Add a float32 tensor; its number. Buffer 0 is the empty one: a value that is computed."""
    tensor = schema.TensorT(list(shape), schema.TensorType.FLOAT32, buffer, f"head/{name}".encode(), hasRank=True)
    tensor.quantization = schema.QuantizationParametersT()
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _constant(model: Any, graph: Any, name: str, values: Array) -> int:
    data = np.frombuffer(np.ascontiguousarray(values, "<f4").tobytes(), np.uint8)
    model.buffers.append(schema.BufferT(data))
    return _tensor(graph, name, values.shape, len(model.buffers) - 1)


def _operator(model: Any, graph: Any, code: int, inputs: list[int], output: int, kind: int, options: Any) -> None:
    known = [each.builtinCode for each in model.operatorCodes]
    if code not in known:  # both codes are below 127, so the field for readers of before 2020 can hold them too
        model.operatorCodes.append(schema.OperatorCodeT(code, None, 1, code))
        known.append(code)
    operator = schema.OperatorT(known.index(code), inputs, [output], kind, options)
    graph.operators.append(operator)


class _Buffer(schema.BufferT):  # type: ignore[misc]  # generated code has no types
    """A buffer that is written aligned."""

    def __init__(self, buffer: Any) -> None:
        super().__init__(buffer.data, buffer.offset, buffer.size)

    def Pack(self, builder: Any) -> Any:  # noqa: N802  # generated code's name
        data = None
        if self.data is not None and len(self.data):
            content = np.asarray(self.data, np.uint8).tobytes()
            builder.StartVector(1, len(content), _ALIGNED_BYTES)
            builder.head = builder.Head() - len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def _packed(model: Any) -> bytes:
    model.buffers = [_Buffer(buffer) for buffer in model.buffers]
    builder = schema.flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
