"""Keras encoder → one self-contained ONNX file, compared with the encoder before it is left behind."""

from __future__ import annotations

import logging
import pathlib
import warnings

import numpy as np
import onnx
import onnxruntime
import torch

from memssl_keras.pretrained import replace_file, write_config
from memssl_keras.vit import ViT

OPSET = 18
TOLERANCE = 1e-4


class ParityError(ArithmeticError):
    """The exported graph does not give what the Keras encoder gives."""


class _ChannelsFirst(torch.nn.Module):
    """The encoder with torch's channel order in front: `(B, 3, H, W)` → all tokens, where it has any, and CLS."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixel_values):
        images = pixel_values.permute(0, 2, 3, 1)
        if not isinstance(self.encoder, ViT):
            return (self.encoder(images, training=False),)
        tokens = self.encoder.tokens(images, training=False)
        return tokens, tokens[:, 0]


def _sizes(encoder):
    """Image sizes to trace and to compare at: native, smaller, larger and not square, where the encoder takes them."""
    if isinstance(encoder, ViT):
        native, patch = encoder.image_size, encoder.patch_size
        half = max(native // 2 // patch, 1) * patch
        return [(native, native), (half, half), (native + half, native + half), (native, native + 2 * patch)]
    height, width = encoder.input_shape[1:3]
    if height and width:
        return [(height, width)]
    return [(64, 64), (96, 96), (64, 128)]


def _trace(module, names, sizes):
    batch, height, width = (torch.export.Dim(name, min=1) for name in ("batch", "height", "width"))
    dims = {0: batch} | ({2: height, 3: width} if len(sizes) > 1 else {})
    # Two images: a batch of one would be taken for a constant.
    sample = torch.zeros(2, 3, *sizes[0], device=next(module.parameters()).device)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (sample,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["pixel_values"],
            output_names=names,
            dynamic_shapes=(dims,),
            external_data=False,
            verbose=False,
        )
    return _clean(program.model_proto)


def _clean(model):
    """Strip what the tracer left for debugging; it names files of the machine that traced."""
    model.doc_string = ""
    del model.metadata_props[:]
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        graph.doc_string = ""
        del graph.metadata_props[:]
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]
    return model


def largest_difference(path, encoder, sizes=None, batches=(1, 2, 5)):
    """Largest absolute difference between an ONNX file and its Keras encoder, on random images.

    Every batch size is run at every image size, and all outputs are compared.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    module, rng, worst = _ChannelsFirst(encoder).eval(), np.random.default_rng(0), 0.0
    device = next(module.parameters()).device
    for height, width in sizes or _sizes(encoder):
        for batch in batches:
            pixels = rng.standard_normal((batch, 3, height, width), dtype=np.float32)
            with torch.no_grad():
                expected = module(torch.from_numpy(pixels).to(device))
            for ours, theirs in zip(session.run(None, {"pixel_values": pixels}), expected, strict=True):
                difference = np.abs(ours - theirs.cpu().numpy()).max()
                worst = max(worst, float(difference) if np.isfinite(difference) else np.inf)
    return worst


def export_onnx(encoder, folder, *, tolerance=TOLERANCE, preprocessing=None):
    """Write `folder/onnx/model.onnx` and `folder/config.json`.

    The graph takes `pixel_values` `(N, 3, H, W)` float32 and gives `last_hidden_state` `(N, T, D)` and
    `pooler_output` `(N, D)`; an encoder other than a ViT gives `pooler_output` alone. N, H and W are dynamic. It
    is one file, without external data. Before it is put in place it is run beside the Keras encoder at several
    batch and image sizes.

    Args:
        encoder: A `ViT` or another Keras model that maps `(B, H, W, 3)` to `(B, D)`.
        folder: Where to; made if missing.
        tolerance: Largest absolute difference to the Keras encoder that is let through.
        preprocessing: A `Preprocessing` in place of the encoder's own.

    Returns:
        The largest absolute difference that was seen.

    Raises:
        ParityError: where the difference is above `tolerance`; no file is written.

    Example:
        >>> import tempfile
        >>> from memssl_keras import ViT, export_onnx
        >>> encoder = ViT(embed_dim=48, depth=1, num_heads=3, patch_size=8, image_size=32)
        >>> export_onnx(encoder, tempfile.mkdtemp()) < 1e-4
        True
    """
    names = ["last_hidden_state", "pooler_output"] if isinstance(encoder, ViT) else ["pooler_output"]
    folder, worst = pathlib.Path(folder), None

    def write(path):
        nonlocal worst
        model = _trace(_ChannelsFirst(encoder).eval(), names, _sizes(encoder))
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        worst = largest_difference(path, encoder)
        if not worst <= tolerance:
            raise ParityError(
                f"the ONNX graph differs from the Keras encoder by {worst:.1e}, more than {tolerance=:.0e}; "
                "nothing was written"
            )

    replace_file(folder / "onnx" / "model.onnx", write)
    write_config(encoder, folder, preprocessing)
    return worst
