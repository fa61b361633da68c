"""`report.html`: one file that holds tables and figures and asks for nothing from elsewhere."""

from __future__ import annotations

import base64
import html
from typing import Any

from memssl_keras.annotations import PathLike
from memssl_keras.evaluate.report import figures
from memssl_keras.evaluate.report.summary import summary_rows
from memssl_keras.evaluate.run import results
from memssl_keras.files import write_bytes

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2937; max-width: 1180px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { margin-top: 3rem; border-bottom: 1px solid #d1d5db } figure { margin: 1.5rem 0 }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
td, th { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #e5e7eb } th:first-child,
td:first-child, .all :is(td, th):nth-child(-n + 3) { text-align: left } td.best { font-weight: 700 }
th { vertical-align: bottom } .all :is(td, th):nth-child(-n + 3) { white-space: nowrap }
td { font-variant-numeric: tabular-nums } tbody tr:hover { background: #f3f4f6 } h3 { margin-top: 2.2rem }
 figcaption, .protocol { color: #6b7280 }
img { max-width: 100%; height: auto } .note { background: #fef3c7; padding: .4rem .8rem; border-radius: .3rem }
"""


class _Best(str):
    """A cell that stands out."""


def _table(head, rows, kind=""):
    def cells(row, tag):
        best = [" class=best" if isinstance(cell, _Best) else "" for cell in row]
        texts = [html.escape(str(cell)) for cell in row]
        return "".join(f"<{tag}{mark}>{text}</{tag}>" for mark, text in zip(best, texts, strict=True))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table class='{kind}'><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _figures(values, words):
    """Cells of a row, the best of several marked."""
    best = max(values) if len(set(values)) > 1 else None
    return [_Best(text) if value == best else text for value, text in zip(values, words, strict=True)]


def _summary(found):
    models, rows = summary_rows(found)
    lines, before = [], None
    for data, task, score, scores in rows:
        values = [scores[name] for name in models]
        where = [data, task] if (data, task) != before else ["", ""]
        if before and data == before[0]:
            where[0] = ""
        before = data, task
        lines.append([*where, score, *_figures(values, [f"{value:.1%}" for value in values])])
    return _table(["data", "task", "score", *models], lines, "all")


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

    rows = []
    for score in scores:
        values = [entry["scores"][name][score] for name in names]
        rows.append([score, *_figures(values, [cell(name, score) for name in names])])
    return _table(["", *names], rows)


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
    if "places" in ours:
        png = figures.found_within({name: each["places"] for name, each in drawn.items()})
        parts.append(_figure(png, "Share of queries with a positive among the first k."))
    if "neighbours" in ours:
        png = figures.neighbour_page(ours["neighbours"])
        words = f"Queries and what {reference} finds first; green is right, red is wrong."
        parts.append(_figure(png, words))
    if "confusion" in ours:
        png = figures.confusion_matrix(ours["confusion"], one.labelled.classes)
        count = len(one.labelled.classes)
        which = (
            "each class"
            if count <= figures.CONFUSED
            else f"the {figures.CONFUSED} of {count} classes confused most"
        )
        parts.append(_figure(png, f"{reference}: what became of {which}, in per cent of their test images."))
    return "".join(parts)


def write_html(path: PathLike, evaluated: Any, reference: str) -> None:
    """Write the report of what `evaluate` returned.

    Args:
        path: The file to write.
        evaluated: List of `Evaluated`.
        reference: Name of the model that is compared with the others, and whose examples are shown.
    """
    found, parts, seen = results(evaluated, reference), [], set()
    if len(evaluated) > 1:
        parts.append(f"<h2>All together</h2>{_summary(found)}")
    for one, entry in zip(evaluated, found["results"], strict=True):
        if one.data not in seen:
            seen.add(one.data)
            parts.append(f"<h2>{html.escape(entry['data'])}</h2>")
            words = f"Map of the embedding by {reference} (t-SNE, moved onto a grid): what is alike to it lies close."
            if len(one.mapped[reference][0]) > 3:
                parts.append(_figure(figures.embedding_map(*one.mapped[reference]), words))
        parts.append(
            f"<h3>{html.escape(entry['task'])}</h3><p class=protocol>{html.escape(entry['protocol'])}</p>"
        )
        parts += [f"<p class=note>{html.escape(note)}</p>" for note in entry["notes"]]
        parts += [_scores(entry), _differences(entry), _drawn(one, reference)]
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Evaluation</title>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<style>{_STYLE}</style><h1>Evaluation of {html.escape(reference)}</h1>{''.join(parts)}</html>\n"
    )
    write_bytes(path, page.encode())
