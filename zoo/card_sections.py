"""The sections of a model card, each from the files of a model's folder; empty where they say nothing of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from memssl_keras.weights.config import RAW_PIXELS, VARIANTS
from memssl_keras.weights.layout import KERAS_MODEL, TRANSFORMERS_WEIGHTS, WEIGHTS
from memssl_keras.zoo.memory import HEAD, PICTURES, VECTORS, read_memory
from memssl_keras.zoo.registry import at_size, folder_facts

_CITATION = """@inproceedings{silva2024learning,
  title     = {Learning from Memory: Non-Parametric Memory Augmented Self-Supervised Learning of Visual Features},
  author    = {Silva, Thalles and Pedrini, Helio and Ram{\\'\\i}rez Rivera, Ad{\\'\\i}n},
  booktitle = {Proceedings of the 41st International Conference on Machine Learning},
  year      = {2024},
  url       = {https://arxiv.org/abs/2407.17486}
}"""


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def is_massl(folder: Path, facts: dict[str, str]) -> bool:
    """Whether the folder says that it was trained with MaSSL: by a run's settings, a memory, or where it is from."""
    files = (folder / "run.json", folder / "training" / "memory.safetensors")
    return any(path.is_file() for path in files) or facts.get("origin", "").startswith("MaSSL")


def _architecture(config):
    """What kind of encoder a `config.json` describes, in words."""
    settings = config["keras_config"]
    if config["model_type"] != "keras":
        return f"A ViT (width {settings['embed_dim']}, {settings['depth']} blocks, patch {settings['patch_size']})"
    inner = settings["config"]
    if settings["class_name"] == "ResNet":
        each = 3 if inner.get("bottleneck") else 2
        layers = each * sum(inner["blocks"]) + 2  # those of each block, the stem, and a classifier
        return f"A ResNet-{layers} (width {inner['width']})"
    name = inner.get("name", settings["class_name"])
    return f"The Keras model `{name}`"


def what(folder: Path, facts: dict[str, str]) -> str:
    """What it is and how it was trained, in a paragraph."""
    config, known = read_json(folder / "config.json"), folder_facts(folder)
    side, millions = known["image_size"], (known["parameters"] or 0) / 1e6
    count = f" with {millions:.{2 if millions < 1 else 1}f} M parameters" if known["parameters"] else ""
    text = (
        f"{_architecture(config)}{count} that turns an image of {side} × {side} px into a vector of "
        f"{config['embed_dim']} numbers, for search, comparison and few-shot classification."
    )
    if is_massl(folder, facts):
        run = read_json(folder / "run.json") or {}
        labels = (
            "on pairs of images of one group, which are weak labels,"
            if run.get("pairs")
            else "without labels"
        )
        teacher = "its momentum (EMA) teacher finds with another view"
        if run.get("teacher"):
            teacher = f"a frozen teacher, `{run['teacher']['name']}`, finds with the whole image"
        text += (
            f" {'Distilled' if run.get('teacher') else 'Pretrained'} {labels} with MaSSL: a student compares its view "
            f"of an image with random blocks of a memory of past embeddings, and learns to find the similarities that "
            f"{teacher} ([Silva, Pedrini, Ramírez Rivera, ICML 2024](https://arxiv.org/abs/2407.17486))."
        )
    if facts.get("origin"):
        text += f"\n\nConverted from {facts['origin']}: weights, data and licence are those of its authors."
    return text


def training(folder: Path, facts: dict[str, str]) -> str:
    """Recipe, data and hardware."""
    run = read_json(folder / "run.json")
    lines = []
    if run:
        steps = run["epochs"] * (run["images"] // run["batch_size"])
        lines += [
            f"recipe `{run['name']}`, seed {run['seed']}",
            f"{run['epochs']} epochs of {run['images']:,} images, {steps:,} steps of {run['batch_size']}",
            f"memory of {run['memory_size']:,} vectors in blocks of {run['block_size']:,}",
        ]
    lines += [f"{key}: {facts[key]}" for key in ("data", "hardware") if facts.get(key)]
    lines += [facts["whitening"]] if facts.get("whitening") else []
    return "## Training\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def measured_file(folder: str | Path, name: str, reference: str) -> str | None:
    """Which file of the folder was scored under a name of `results.json`; None for a baseline or another image size."""
    if at_size(name):
        return None
    variant = name.rpartition("@")[2] if "@" in name else None
    if variant in VARIANTS:
        file = f"onnx/{VARIANTS[variant]}"
        return file if (Path(folder) / file).is_file() else None
    return WEIGHTS if name == reference and variant is None else None


def scores(folder: Path) -> str:
    """What `results.json` holds, as tables."""
    results = read_json(folder / "results.json")
    if not results or not results["results"]:
        return ""
    parts = ["## Scores\n\nEach file was measured by itself; what is not listed was not measured."]
    for entry in results["results"]:
        columns = list(dict.fromkeys(score for found in entry["scores"].values() for score in found))
        rows = [f"| {' | '.join(['', *columns])} |", "|" + "---|" * (len(columns) + 1)]
        for name, found in entry["scores"].items():
            file = measured_file(folder, name, results["reference"])
            cells = [f"{found[column]:.2%}" if column in found else "" for column in columns]
            rows.append(f"| {' | '.join([f'`{file}`' if file else name, *cells])} |")
        parts.append(f"**{entry['data']}**, {entry['protocol']}:\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def files(folder: Path) -> str:
    """The files, their sizes, and what reads them."""
    timm = "architecture" in read_json(folder / "config.json")
    about = {
        WEIGHTS: "memssl-keras and timm" if timm else "memssl-keras",
        TRANSFORMERS_WEIGHTS: "transformers from 4.53 on: the same weights under its names",
        KERAS_MODEL: "`keras.saving.load_model`, after `import memssl_keras.encoders`",
        "onnx/model.onnx": "ONNX Runtime, transformers.js, optimum",
        "onnx/model_fp16.onnx": "the same in half precision",
        "onnx/model_quantized.onnx": "the same in 8 bits",
        "onnx/model_int8.onnx": "the same in 8 bits, activations too, calibrated",
        **{f"onnx/{file}": "any uint8 picture in, a unit vector out" for file in RAW_PIXELS.values()},
        VECTORS: "the training memory, for the demo",
        PICTURES: "thumbnails of the pictures in the memory",
        HEAD: "projection head, which maps features to vectors like those in the memory",
        "training/memory.safetensors": "with `training/*`: continuing pretraining by `MaSSL.from_pretrained`",
    }
    rows = [
        f"| `{name}` | {(folder / name).stat().st_size / 1e6:.1f} MB | {words} |"
        for name, words in about.items()
        if (folder / name).is_file()
    ]
    text = "## Files\n\n| file | size | for |\n|---|---|---|\n" + "\n".join(rows)
    if (folder / TRANSFORMERS_WEIGHTS).is_file():
        text += (
            "\n\nThere are two weight files because timm stores query, key and value as one array and transformers as "
            "three. When an image is resized, timm's transform computes the pixels that the model was trained on. So "
            'does `AutoImageProcessor.from_pretrained(…, backend="pil")` if the margins that it crops are even numbers '
            "of pixels; for odd margins its crop is shifted by one pixel to the left or top. Its other backend and "
            "transformers.js round differently."
        )
    return text


def memory(folder: Path, facts: dict[str, str]) -> str:
    """The training memory, where it is shipped."""
    shipped = read_memory(folder)
    if shipped is None:
        return ""
    filled = int((shipped.indices >= 0).sum())
    text = (
        f"## Memory\n\nThe training memory comes with the model: {len(shipped):,} vectors in the order of its slots, "
        f"{filled:,} of them of training pictures, which come as thumbnails. A training step compares views with "
        f"{len(shipped) // shipped.block_size:,} random blocks of {shipped.block_size:,} vectors; the demo shows the "
        "blocks that a picture of yours would be compared with. Embedding does not need the memory."
    )
    return f"{text}\n\nThe pictures: {facts.get('memory') or shipped.credits}"


def limits(facts: dict[str, str]) -> str:
    """What an embedding does not say."""
    text = (
        "An embedding says what looks alike to the model, which is not always what is alike to a person, and mirrors "
        "what was in its training images. It was not made to recognise people."
    )
    return f"## Limits\n\n{text}" + (f"\n\n{facts['limits']}" if facts.get("limits") else "")


def licence(facts: dict[str, str]) -> str:
    """The licence of the weights."""
    return f"## Licence\n\n{facts['license']}" if facts.get("license") else "## Licence\n\nNot stated."


def citation(folder: Path, facts: dict[str, str]) -> str:
    """The paper, where the encoder was trained by its method."""
    return f"## Citation\n\n```bibtex\n{_CITATION}\n```" if is_massl(folder, facts) else ""
