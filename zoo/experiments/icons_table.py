"""The files that `icons.sh` wrote as one `results.json` for the model's folder, and as a table.

    python zoo/experiments/icons_table.py SCORES NAME results.json table.md

Models other than NAME are entered without `@VARIANT`, so that the card takes them for what they are: something beside
it.
"""

import json
import pathlib
import sys

FILES = (
    "lucide-tabler",
    *(f"screen-{size}" for size in (16, 20, 24, 32, 48)),
    "emoji",
    "lowshot",
    "sketches",
)


def renamed(value, name):
    """A scored model's name: NAME@VARIANT for what is in the folder of that name, others without an at sign."""
    model, _, variant = pathlib.PurePath(value).name.partition("@")
    if model == name or not variant:
        return f"{model}@{variant}" if variant else value
    return f"{model}, {variant}"


def merged(folder, name):
    """All entries of the files that are there, with the models' names as `renamed` has them."""
    entries = []
    for file in FILES:
        path = folder / f"{file}.json"
        if not path.exists():
            continue
        for entry in json.loads(path.read_text(encoding="utf-8"))["results"]:
            entry["scores"] = {renamed(key, name): scores for key, scores in entry["scores"].items()}
            entry["details"] = {renamed(key, name): detail for key, detail in entry["details"].items()}
            for row in entry["differences"]:
                row |= {key: renamed(row[key], name) for key in ("ours", "theirs")}
            entries.append(entry)
    return {"format_version": 2, "reference": f"{name}@fp32", "results": entries}


def table(results):
    """A Markdown table of the main scores."""
    names = list(results["results"][0]["scores"])
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for entry in results["results"]:
        lowshot = [key for key in entry["scores"][names[0]] if key.endswith("each, class mean")]
        for key in lowshot or [
            key for key in ("recall@1", "recall@5", "mAP") if key in entry["scores"][names[0]]
        ]:
            cells = [f"{entry['scores'][model][key]:.1%}".replace("%", " %") for model in names]
            lines.append(f"| {entry['data']}, {entry['task']}: {key} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(scores, name, results_file, table_file):
    results = merged(pathlib.Path(scores), name)
    pathlib.Path(results_file).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    pathlib.Path(table_file).write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
