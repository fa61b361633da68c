"""The metadata at the head of a model card, which the Hub reads."""

from __future__ import annotations

import re
from pathlib import Path

from memssl_keras.zoo.card_sections import is_massl, measured_file, read_json

_ACCURACY = ("knn", "linear", "lowshot")


def metadata(folder: Path, facts: dict[str, str], name: str) -> str:
    """YAML between the two lines of dashes: licence, tags and scores in the Hub's words."""
    from huggingface_hub import EvalResult, ModelCardData

    results, found = read_json(folder / "results.json") or {"results": []}, []
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
    data = ModelCardData(
        license=_slug(facts["license"]) if facts.get("license") else None,
        library_name="memssl-keras",
        pipeline_tag="image-feature-extraction",
        tags=_tags(folder, facts),
        model_name=name if found else None,
        eval_results=found or None,
    )
    return data.to_yaml() + "\n"


def _tags(folder, facts):
    tags = ["self-supervised-learning", "massl"] if is_massl(folder, facts) else []
    tags += ["image-embeddings", "memssl-keras", "keras"]
    if any((folder / "onnx").glob("*.onnx")):
        tags.append("onnx")
    if (folder / "onnx" / "model.onnx").is_file():
        tags.append("transformers.js")
    if "architecture" in read_json(folder / "config.json"):
        tags.append("timm")
    return tags


def _slug(text):
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
