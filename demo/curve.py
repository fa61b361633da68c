"""The curve of accuracy over examples, as SVG: Gradio's plot draws itself anew without end where it is opened."""

from __future__ import annotations

import math
from html import escape

COLOURS = {"logistic": "#6366f1", "class mean": "#10b981", "k-NN": "#f59e0b", "chance": "#9ca3af"}
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 300, 46, 14, 12, 40  # of the drawing and around the plot
_STEP = 20  # per cent between two lines of the grid


def draw_curve(records: list[dict]) -> str:
    """Accuracy over the number of examples, a line for each classifier and a broken one for chance, as HTML.

    Args:
        records: as `Lessons.curve` gives them.
    """
    shots = sorted({record["examples per class"] for record in records})
    lines: dict[str, list[float]] = {}
    for record in records:
        lines.setdefault(record["classifier"], []).append(record["accuracy"])
    top = _STEP * math.ceil(max(max(line) for line in lines.values()) / _STEP)

    def place(number, accuracy):
        across = (_WIDTH - _LEFT - _RIGHT) * number / max(len(shots) - 1, 1)
        return f"{_LEFT + across:.1f},{_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * accuracy / top:.1f}"

    parts = []
    for level in range(0, top + 1, _STEP):
        start, end = place(0, level), place(len(shots) - 1, level)
        parts.append(f'<path class="grid" d="M{start} L{end}"/>')
        parts.append(_text(_LEFT - 8, float(start.split(",")[1]) + 4, f"{level} %", "end"))
    for number, shot in enumerate(shots):
        parts.append(
            _text(float(place(number, 0).split(",")[0]), _HEIGHT - _BOTTOM + 17, str(shot), "middle")
        )
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "examples per class", "middle"))
    for name, line in lines.items():
        broken = ' stroke-dasharray="5 5"' if name == "chance" else ""
        points = [place(number, accuracy) for number, accuracy in enumerate(line)]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"{broken}/>'
        )
        for point, shot, accuracy in zip(points, shots, line, strict=True):
            x, y = point.split(",")
            dot = f'<circle cx="{x}" cy="{y}" r="4" fill="{COLOURS[name]}">'
            said = f"{name}, {shot} per class: {accuracy:.1f} %"
            parts.append("" if name == "chance" else f"{dot}<title>{escape(said)}</title></circle>")
    told = [_told(name, line, shots) for name, line in lines.items()]
    legend = "".join(
        f'<li><span style="background:{COLOURS[name]}"></span>{escape(said)}</li>'
        for name, said in zip(lines, told, strict=True)
    )
    return (
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="Accuracy over examples per class. {escape("; ".join(told))}">{"".join(parts)}</svg>'
        f'<ul class="legend">{legend}</ul>'
    )


def _told(name, line, shots):
    if name == "chance":
        return f"chance: {line[0]:.1f} %"
    return f"{name}: {line[0]:.0f} % with {shots[0]}, {line[-1]:.0f} % with {shots[-1]}"


def _text(x, y, text, anchor):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
