"""What an evaluation leaves behind: `results.json`, `table.md` and `report.html`."""

from __future__ import annotations

from pathlib import Path

from memssl_keras.evaluate.report.summary import write_markdown
from memssl_keras.evaluate.run import Evaluated
from memssl_keras.files import write_json


def write_report(out: str | Path, results: dict, evaluated: list[Evaluated], reference: str) -> None:
    """Write the three files into a folder, or `results.json` alone under a name that ends in `.json`.

    Args:
        out: The folder or the file; it is made.
        results: What `run.results` gives.
        evaluated: What `run.evaluate` gives.
        reference: Name of the model that the others are compared with.
    """
    out = Path(out)
    file = out if out.suffix == ".json" else out / "results.json"
    write_json(file, results)
    if file != out:
        from memssl_keras.evaluate.report.html import write_html  # with matplotlib

        write_markdown(out / "table.md", results)
        write_html(out / "report.html", evaluated, reference)
