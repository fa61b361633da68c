"""The model card of a folder: only what its files say.

How it was trained comes from `run.json`, which `memssl pretrain` writes, and from `card.json`; scores from
`results.json`, which `memssl evaluate` writes. What stands in none of them is left out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from memssl_keras.weights.config import RAW_PIXELS, VARIANTS
from memssl_keras.weights.layout import KERAS_MODEL, TRANSFORMERS_WEIGHTS, WEIGHTS
from memssl_keras.zoo.hub import find_folder
from memssl_keras.zoo.memory import HEAD, PICTURES, VECTORS, read_memory
from memssl_keras.zoo.registry import folder_facts

# Entries of card.json, each a text.
FACTS = ("name", "data", "hardware", "license", "limits", "origin", "memory", "whitening")
_ACCURACY = ("knn", "linear", "lowshot")
_DTYPES = {
    "model.onnx": "fp32",
    "model_fp16.onnx": "fp16",
    "model_quantized.onnx": "q8",
    "model_int8.onnx": "int8",
}
_CITATION = """@inproceedings{silva2024learning,
  title     = {Learning from Memory: Non-Parametric Memory Augmented Self-Supervised Learning of Visual Features},
  author    = {Silva, Thalles and Pedrini, Helio and Ram{\\'\\i}rez Rivera, Ad{\\'\\i}n},
  booktitle = {Proceedings of the 41st International Conference on Machine Learning},
  year      = {2024},
  url       = {https://arxiv.org/abs/2407.17486}
}"""


def read_facts(folder) -> dict:
    """Return `card.json` of a folder, or an empty dict where there is none.

    Raises:
        ValueError: it is not JSON, or has another entry than `FACTS`.
    """
    path = Path(folder) / "card.json"
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error
    unknown = [key for key in facts if key not in FACTS] if isinstance(facts, dict) else ["no object"]
    if unknown:
        raise ValueError(
            f"{path}: got {', '.join(unknown)}; expected an object with some of {', '.join(FACTS)}"
        )
    return facts


def model_card(folder, repo_id: str) -> str:
    """Return the text of `README.md`: metadata for the Hub, and the card.

    Args:
        folder: A model's folder.
        repo_id: The repository that its snippets name, or a name or path that `from_pretrained` takes.

    Raises:
        ValueError: a file of the folder is not what it should be.

    Example:
        >>> from memssl_keras.zoo.card import model_card
        >>> from memssl_keras.zoo.registry import resolve
        >>> model_card(resolve("massl_vitn4.cifar10"), "massl_vitn4.cifar10").startswith("---")
        True
    """
    folder = Path(folder)
    facts = read_facts(folder)
    name = facts.get("name") or repo_id.rpartition("/")[2]
    parts = [
        f"# {name}",
        _what(folder, facts),
        _scores(folder),
        _snippets(folder, repo_id),
        _training(folder, facts),
        _files(folder),
        _memory(folder, facts),
        _limits(facts),
        _licence(facts),
        f"## Citation\n\n```bibtex\n{_CITATION}\n```" if _is_massl(folder, facts) else "",
    ]
    return (
        f"---\n{_metadata(folder, facts, name)}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"
    )


def write_card(folder, repo_id: str, **facts) -> None:
    """Write `README.md`, and `card.json` with these facts in place of those that it held; an empty one goes.

    Raises:
        ValueError: as `model_card` does, or a fact that is none of `FACTS`.
    """
    if unknown := [name for name in facts if name not in FACTS]:
        raise ValueError(f"{unknown[0]}={facts[unknown[0]]!r}: expected some of {', '.join(FACTS)}")
    folder = Path(folder)
    known = read_facts(folder) | {name: text for name, text in facts.items() if text is not None}
    known = {name: text for name, text in known.items() if text}
    if known:
        (folder / "card.json").write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(model_card(folder, repo_id), encoding="utf-8")


def _json(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _is_massl(folder, facts):
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
        layers = 2 * sum(inner["blocks"]) + 2  # two in each block, the stem, and a classifier
        return f"A ResNet-{layers} (width {inner['width']})"
    name = inner.get("name", settings["class_name"])
    return f"The Keras model `{name}`"


def _what(folder, facts):
    config, known = _json(folder / "config.json"), folder_facts(folder)
    side = known["image_size"]
    count = f" with {known['parameters'] / 1e6:.1f} M parameters" if known["parameters"] else ""
    text = (
        f"{_architecture(config)}{count} that turns an image of {side} × {side} px into a vector of "
        f"{config['embed_dim']} numbers, for search, comparison and few-shot classification."
    )
    if _is_massl(folder, facts):
        paired = (_json(folder / "run.json") or {}).get("pairs")
        labels = "on pairs of images of one group, which are weak labels," if paired else "without labels"
        text += (
            f" Pretrained {labels} with MaSSL: a student compares its view of an image with random blocks of a "
            "memory of past embeddings, and learns to find the similarities that its momentum (EMA) teacher finds "
            "with another view ([Silva, Pedrini, Ramírez Rivera, ICML 2024](https://arxiv.org/abs/2407.17486))."
        )
    if facts.get("origin"):
        text += f"\n\nConverted from {facts['origin']}: weights, data and licence are those of its authors."
    return text


def _training(folder, facts):
    run = _json(folder / "run.json")
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


def measured_file(folder, name, reference):
    """Which file of the folder was scored under a name of `results.json`; None for a baseline."""
    variant = name.rpartition("@")[2] if "@" in name else None
    if variant in VARIANTS:
        file = f"onnx/{VARIANTS[variant]}"
        return file if (Path(folder) / file).is_file() else None
    return WEIGHTS if name == reference and variant is None else None


def _scores(folder):
    results = _json(folder / "results.json")
    if not results or not results["results"]:
        return ""
    parts = ["## Scores\n\nEach file was measured by itself; what is not listed was not measured."]
    for entry in results["results"]:
        columns = list(dict.fromkeys(score for scores in entry["scores"].values() for score in scores))
        rows = [f"| {' | '.join(['', *columns])} |", "|" + "---|" * (len(columns) + 1)]
        for name, scores in entry["scores"].items():
            file = measured_file(folder, name, results["reference"])
            cells = [f"{scores[column]:.2%}" if column in scores else "" for column in columns]
            rows.append(f"| {' | '.join([f'`{file}`' if file else name, *cells])} |")
        parts.append(f"**{entry['data']}**, {entry['protocol']}:\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _files(folder):
    timm = "architecture" in _json(folder / "config.json")
    about = {
        WEIGHTS: "memssl-keras and timm" if timm else "memssl-keras",
        TRANSFORMERS_WEIGHTS: "transformers from 4.53 on: the same weights under its names",
        KERAS_MODEL: "`keras.saving.load_model`, after `import memssl_keras.encoders.vit`",
        "onnx/model.onnx": "ONNX Runtime, transformers.js, optimum",
        "onnx/model_fp16.onnx": "the same in half precision",
        "onnx/model_quantized.onnx": "the same in 8 bits",
        "onnx/model_int8.onnx": "the same in 8 bits, activations too, calibrated",
        **{f"onnx/{file}": "any uint8 picture in, a unit vector out" for file in RAW_PIXELS.values()},
        VECTORS: "the training memory, for the demo",
        PICTURES: "thumbnails of what is in it",
        HEAD: "projection head: from the feature of any file to the memory's vectors",
        "training/memory.safetensors": "with `training/*`: to continue pretraining, `MaSSL.from_pretrained`",
    }
    rows = [
        f"| `{name}` | {(folder / name).stat().st_size / 1e6:.1f} MB | {words} |"
        for name, words in about.items()
        if (folder / name).is_file()
    ]
    text = "## Files\n\n| file | size | for |\n|---|---|---|\n" + "\n".join(rows)
    if (folder / TRANSFORMERS_WEIGHTS).is_file():
        text += (
            "\n\nTwo weight files, because timm holds query, key and value as one array and transformers as three, "
            "and neither reads the other's names. On images that have to be resized, timm's transform gives the pixels "
            'that the model was trained on, and so does `AutoImageProcessor.from_pretrained(…, backend="pil")` where '
            "the margins that are cut off are even numbers of pixels; at odd ones it cuts a pixel further to the left "
            "or top. Its other backend and transformers.js round differently."
        )
    return text


def _memory(folder, facts):
    memory = read_memory(folder)
    if memory is None:
        return ""
    filled = int((memory.indices >= 0).sum())
    text = (
        f"## Memory\n\nThe training memory comes with the model: {len(memory):,} vectors in the order of its slots, "
        f"{filled:,} of them of training pictures, which come as thumbnails. A step of training compares with it in "
        f"{len(memory) // memory.block_size:,} random blocks of {memory.block_size:,}; the demo shows with what a "
        "picture of yours would be compared. Embedding needs none of it."
    )
    return f"{text}\n\nThe pictures: {facts.get('memory') or memory.credits}"


def _snippets(folder, repo):
    config = _json(folder / "config.json")
    onnx = [name for name in _DTYPES if (folder / "onnx" / name).is_file()]
    parts = []
    if (folder / WEIGHTS).is_file():
        parts.append(
            (
                "Keras",
                "python",
                f"""from memssl_keras import from_pretrained

encoder = from_pretrained("{repo}")
vectors = encoder.embed(["photo.jpg"])  # (1, {config["embed_dim"]}), of unit length""",
            )
        )
    if onnx:
        variant = next(name for name, file in VARIANTS.items() if file == onnx[-1])
        parts.append(
            (
                "ONNX Runtime, without torch",
                "python",
                f"""from memssl_keras import OnnxEncoder

encoder = OnnxEncoder.from_pretrained("{repo}", variant="{variant}")
vectors = encoder.embed(["photo.jpg"])""",
            )
        )
    on_hub = "/" in repo  # the others know no names of this zoo
    if on_hub and (folder / TRANSFORMERS_WEIGHTS).is_file():
        parts.append(
            (
                "transformers",
                "python",
                f"""from PIL import Image
from transformers import AutoImageProcessor, AutoModel

processor = AutoImageProcessor.from_pretrained("{repo}", backend="pil")
model = AutoModel.from_pretrained("{repo}")
inputs = processor(Image.open("photo.jpg").convert("RGB"), return_tensors="pt")
vectors = model(**inputs).pooler_output""",
            )
        )
    if on_hub and (folder / WEIGHTS).is_file() and "architecture" in config:
        parts.append(
            (
                "timm",
                "python",
                f"""import timm
from PIL import Image

model = timm.create_model("hf-hub:{repo}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
vectors = model(transform(Image.open("photo.jpg").convert("RGB"))[None])""",
            )
        )
    if on_hub and onnx and config["model_type"] != "keras":
        parts.append(
            (
                "JavaScript",
                "js",
                f"""import {{ pipeline }} from "@huggingface/transformers";

const embed = await pipeline("image-feature-extraction", "{repo}", {{ dtype: "{_DTYPES[onnx[-1]]}" }});
const vectors = await embed("photo.jpg", {{ pool: true }});""",
            )
        )
    return "## Use\n\n" + "\n\n".join(f"{title}:\n\n```{kind}\n{code}\n```" for title, kind, code in parts)


def _limits(facts):
    text = (
        "An embedding says what looks alike to the model, which is not always what is alike to a person, and mirrors "
        "what was in its training images. It was not made to recognise people."
    )
    return f"## Limits\n\n{text}" + (f"\n\n{facts['limits']}" if facts.get("limits") else "")


def _licence(facts):
    return f"## Licence\n\n{facts['license']}" if facts.get("license") else "## Licence\n\nNot stated."


def _metadata(folder, facts, name):
    from huggingface_hub import EvalResult, ModelCardData

    results, found = _json(folder / "results.json") or {"results": []}, []
    for entry in results["results"]:
        for measured, scores in entry["scores"].items():
            file = measured_file(folder, measured, results["reference"])
            if file:
                kind = "accuracy" if entry["task"] in _ACCURACY else _slug(entry["headline"])
                found.append(
                    EvalResult(
                        task_type="image-feature-extraction",
                        dataset_type=_slug(entry["data"]),
                        dataset_name=entry["data"],
                        metric_type=kind,
                        metric_name=f"{entry['task']}, {entry['headline']} ({file})",
                        metric_value=round(100 * scores[entry["headline"]], 2),
                    )
                )
    tags = ["self-supervised-learning", "massl"] if _is_massl(folder, facts) else []
    tags += ["image-embeddings", "memssl-keras", "keras"]
    tags += ["onnx"] * any((folder / "onnx").glob("*.onnx")) + ["transformers.js"] * (
        folder / "onnx/model.onnx"
    ).is_file()
    tags += ["timm"] * ("architecture" in _json(folder / "config.json"))
    data = ModelCardData(
        license=_slug(facts["license"]) if facts.get("license") else None,
        library_name="memssl-keras",
        pipeline_tag="image-feature-extraction",
        tags=tags,
        model_name=name if found else None,
        eval_results=found or None,
    )
    return data.to_yaml() + "\n"


def _slug(text):
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def card(name: str) -> str:
    """Return the card of a model as Markdown, without the Hub's metadata; one on the Hub is fetched.

    Raises:
        UnknownModel, HubError: as `find_folder` does.
        FileNotFoundError: it is a folder without a card.

    Example:
        >>> from memssl_keras.zoo.card import card
        >>> card("massl_vitn4.cifar10").splitlines()[0]
        '# massl_vitn4.cifar10'
    """
    path = find_folder(name, lambda config: [("README.md",)]) / "README.md"
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent}: holds no card; push_to_hub writes one, as README.md")
    text = path.read_text(encoding="utf-8")
    return text.partition("\n---\n")[2].strip() if text.startswith("---\n") else text
