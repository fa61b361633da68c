"""What was taught as one ONNX file: pictures in, the probability of each class out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from memssl_keras.demo.classifiers import TEMPERATURE, Linear
from memssl_keras.files import write_bytes

# Of what the file gives and what the page shows: resizing rounds differently in a graph and in Pillow.
TOLERANCE = 0.005

_LINEAR = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
head (float[batch, {width}] taught_vector) => (float[batch, {classes}] probabilities)
{{
    taught_product = MatMul(taught_vector, taught_weights)
    taught_scores = Add(taught_product, taught_bias)
    probabilities = Softmax<axis=1>(taught_scores)
}}
"""

_NEIGHBOURS = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
head (float[batch, {width}] taught_vector) => (float[batch, {classes}] probabilities)
<int64[1] taught_k = {{{k}}}, int64[1] taught_one = {{1}}, float taught_temperature = {{{temperature}}}>
{{
    taught_similarities = MatMul(taught_vector, taught_examples)
    taught_best, taught_rows = TopK<axis=1>(taught_similarities, taught_k)
    taught_warm = Div(taught_best, taught_temperature)
    taught_shares = Softmax<axis=1>(taught_warm)
    taught_row = Unsqueeze(taught_shares, taught_one)
    taught_votes = Gather<axis=0>(taught_classes, taught_rows)
    taught_counted = MatMul(taught_row, taught_votes)
    probabilities = Squeeze(taught_counted, taught_one)
}}
"""


def write_classifier(path, encoder_file, encoder, classifier, names) -> Path:
    """Write encoder, preprocessing and classifier as one graph, and compare it with what they give here.

    Its input `image` is uint8 `(N, H, W, 3)`, pictures of any size; its output `probabilities` float32 `(N, C)`.
    The names of the classes stand in its metadata under `classes`, as a JSON list.

    Args:
        path: the file to write; it appears only once it is whole and agrees.
        encoder_file: the encoder's ONNX file.
        encoder: an `OnnxEncoder` of the same.
        classifier: what `teach` gave.
        names: of its classes, in order.

    Returns:
        `path` as a `Path`.

    Raises:
        ValueError: the package `onnx` is missing, or the file's probabilities are off by more than .005.
    """
    try:
        import onnx
        from onnx import compose

        from memssl_keras.export.raw_pixels import with_raw_pixels
    except ModuleNotFoundError as error:
        raise ValueError(f"writing ONNX needs {error.name}: pip install 'memssl-keras[demo]'") from None
    whole = with_raw_pixels(onnx.load(encoder_file), encoder.preprocessing)
    opset = next(entry.version for entry in whole.opset_import if entry.domain in ("", "ai.onnx"))
    head = _head(classifier, len(names), encoder.embed_dim, whole.ir_version, opset)
    model = compose.merge_models(whole, head, [("embedding", "taught_vector")], outputs=["probabilities"])
    onnx.helper.set_model_props(model, {"classes": json.dumps(list(names), ensure_ascii=False)})
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    _compare(data, encoder, classifier)
    path = Path(path)
    write_bytes(path, data)
    return path


def _head(classifier, classes, width, ir, opset):
    from onnx import numpy_helper, parser

    if isinstance(classifier, Linear):
        text, more = _LINEAR, {}
        tensors = {"taught_weights": classifier.weights, "taught_bias": classifier.bias}
    else:
        text, more = _NEIGHBOURS, {"k": classifier.k, "temperature": TEMPERATURE}
        tensors = {"taught_examples": classifier.examples.T, "taught_classes": classifier.votes}
    tensors = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in tensors.items()]
    text = text.format(ir=ir, opset=opset, width=width, classes=classes, **more)
    # The parser finds the tensors' names unknown until they are there; they are written in before it checks.
    head = parser.parse_model(text)
    head.graph.initializer.extend(tensors)
    return head


def _compare(data, encoder, classifier):
    import onnxruntime

    coarse = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    pictures = coarse.repeat(16, axis=1).repeat(16, axis=2)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (given,) = session.run(["probabilities"], {"image": pictures})
    expected = classifier.probabilities(encoder.embed(list(pictures)))
    if (off := float(np.abs(given - expected).max())) > TOLERANCE:
        raise ValueError(
            f"the exported classifier is off by {off:.3f} in a probability; at most {TOLERANCE} is expected"
        )
