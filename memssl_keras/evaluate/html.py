"""`report.html`: one file that holds tables and figures and asks for nothing from elsewhere."""

import base64
import html
import pathlib

from memssl_keras.evaluate import figures
from memssl_keras.evaluate.run import results

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2937; max-width: 1180px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { margin-top: 3rem; border-bottom: 1px solid #d1d5db } figure { margin: 1.5rem 0 }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
td, th { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #e5e7eb } th:first-child,
td:first-child { text-align: left } td.best { font-weight: 700 } figcaption, .protocol { color: #6b7280 }
img { max-width: 100%; height: auto } .note { background: #fef3c7; padding: .4rem .8rem; border-radius: .3rem }
"""


def _table(head, rows):
    cells = lambda row, tag: "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row)  # noqa: E731
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _figure(png, caption):
    data, words = base64.b64encode(png).decode(), html.escape(caption)
    return f'<figure><img alt="{words}" src="data:image/png;base64,{data}"><figcaption>{words}</figcaption></figure>'


def _scores(entry):
    names = list(entry["scores"])
    scores = list(entry["scores"][names[0]])
    details = entry["details"]

    def cell(name, score):
        half = details.get(name, {}).get(score)
        more = f" ± {half['interval']:.2%}" if isinstance(half, dict) and "interval" in half else ""
        return f"{entry['scores'][name][score]:.2%}{more}"

    return _table(["", *names], [[score, *(cell(name, score) for name in names)] for score in scores])


def _differences(entry):
    rows = [
        [row["theirs"], row["score"], f"{row['difference']:+.2%}", f"{row['low']:+.2%} … {row['high']:+.2%}"]
        for row in entry["differences"]
    ]
    if not rows:
        return ""
    ours, by = entry["differences"][0]["ours"], entry["differences"][0]["by"]
    head = [f"{ours} less", "score", "difference", f"95 % interval, paired by {by}"]
    return f"<details><summary>Differences</summary>{_table(head, rows)}</details>"


def _drawn(one, reference):
    drawn = {name: outcome.drawn for name, outcome in one.outcomes.items()}
    ours, parts = drawn[reference], []
    if "lowshot" in ours:
        png = figures.low_shot_curves({name: each["lowshot"] for name, each in drawn.items()})
        parts.append(_figure(png, "Accuracy over the number of labelled images; bands are 95 % intervals."))
    if "curve" in ours:
        png = figures.precision_recall({name: each["curve"] for name, each in drawn.items()})
        parts.append(_figure(png, "Precision over recall, mean of all queries."))
        png = figures.neighbour_page(ours["neighbours"])
        words = f"Queries and what {reference} finds first; green is right, red is wrong."
        parts.append(_figure(png, words))
    if "confusion" in ours:
        png = figures.confusion_matrix(ours["confusion"], one.labelled.classes)
        parts.append(_figure(png, f"{reference}: what became of each class, in per cent of its test images."))
    return "".join(parts)


def write_html(path, evaluated, reference):
    """Write the report of what `evaluate` returned.

    Args:
        path: The file to write.
        evaluated: List of `Evaluated`.
        reference: Name of the model that is compared with the others, and whose examples are shown.
    """
    parts, seen = [], set()
    for one, entry in zip(evaluated, results(evaluated, reference)["results"], strict=True):
        if one.data not in seen:
            seen.add(one.data)
            parts.append(f"<h2>{html.escape(entry['data'])}</h2>")
            words = f"Map of the embedding by {reference} (t-SNE): pictures that are alike to it lie close."
            parts.append(_figure(figures.embedding_map(*one.mapped[reference]), words))
        parts.append(f"<h3>{entry['task']}</h3><p class=protocol>{html.escape(entry['protocol'])}</p>")
        parts += [f"<p class=note>{html.escape(note)}</p>" for note in entry["notes"]]
        parts += [_scores(entry), _differences(entry), _drawn(one, reference)]
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Evaluation</title>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<style>{_STYLE}</style><h1>Evaluation of {html.escape(reference)}</h1>{''.join(parts)}</html>\n"
    )
    pathlib.Path(path).write_text(page, encoding="utf-8")
