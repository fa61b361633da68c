"""How a model is used, in the libraries that read its folder: the snippets of its card."""

from __future__ import annotations

import json
from pathlib import Path

from memssl_keras.weights.config import VARIANTS
from memssl_keras.weights.layout import TRANSFORMERS_WEIGHTS, WEIGHTS

# ONNX file → what transformers.js calls its precision.
_DTYPES = {
    "model.onnx": "fp32",
    "model_fp16.onnx": "fp16",
    "model_quantized.onnx": "q8",
    "model_int8.onnx": "int8",
}

_KERAS = """from memssl_keras import from_pretrained

encoder = from_pretrained("{repo}")
vectors = encoder.embed(["photo.jpg"])  # (1, {width}), of unit length"""

_ONNX = """from memssl_keras import OnnxEncoder

encoder = OnnxEncoder.from_pretrained("{repo}", variant="{variant}")
vectors = encoder.embed(["photo.jpg"])"""

_TRANSFORMERS = """from PIL import Image
from transformers import AutoImageProcessor, AutoModel

processor = AutoImageProcessor.from_pretrained("{repo}", backend="pil")
model = AutoModel.from_pretrained("{repo}")
inputs = processor(Image.open("photo.jpg").convert("RGB"), return_tensors="pt")
vectors = model(**inputs).pooler_output"""

_TIMM = """import timm
from PIL import Image

model = timm.create_model("hf-hub:{repo}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
vectors = model(transform(Image.open("photo.jpg").convert("RGB"))[None])"""

_JAVASCRIPT = """import {{ pipeline }} from "@huggingface/transformers";

const embed = await pipeline("image-feature-extraction", "{repo}", {{ dtype: "{dtype}" }});
const vectors = await embed("photo.jpg", {{ pool: true }});"""


def snippets(folder: str | Path, repo: str) -> str:
    """The section "Use" of a card: a snippet for each library that reads what is in the folder.

    Args:
        folder: A model's folder.
        repo: What the snippets call it; libraries of others know repositories on the Hub alone, `OWNER/NAME`.
    """
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    keras, transformers = (folder / WEIGHTS).is_file(), (folder / TRANSFORMERS_WEIGHTS).is_file()
    on_hub = "/" in repo
    names = {"repo": repo, "width": config["embed_dim"]}
    onnx = [file for file in _DTYPES if (folder / "onnx" / file).is_file()]
    if onnx:
        names["variant"] = next(name for name, file in VARIANTS.items() if file == onnx[-1])
        names["dtype"] = _DTYPES[onnx[-1]]
    found = (
        ("Keras", "python", _KERAS, keras),
        ("ONNX Runtime, without torch", "python", _ONNX, onnx),
        ("transformers", "python", _TRANSFORMERS, on_hub and transformers),
        ("timm", "python", _TIMM, on_hub and keras and "architecture" in config),
        ("JavaScript", "js", _JAVASCRIPT, on_hub and onnx and config["model_type"] != "keras"),
    )
    return "## Use\n\n" + "\n\n".join(
        f"{title}:\n\n```{language}\n{code.format(**names)}\n```"
        for title, language, code, fits in found
        if fits
    )
