"""The names of an icon as the page shows them, as HTML. Every text from outside is escaped."""

from __future__ import annotations

from html import escape

from memssl_keras.demo.cards import breakable, headline
from memssl_keras.demo.naming import Named, Namer, Thing
from memssl_keras.demo.pictures import address

_FURTHER = 8  # drawings that are shown of a thing that is not the likeliest
UNKNOWN = "I do not know this icon"


def show(namer: Namer, named: Named, whole: bool, why: str = "") -> tuple[str, str]:
    """Headline, and the things that a picture may be with their drawings side by side.

    Args:
        namer: a `Namer`.
        named: what it found.
        whole: whether the whole of a large picture was looked at, and not the part in a box.
        why: what may be the reason where the picture is not known.
    """
    gallery = namer.retrieval.gallery
    if not named.things:
        return headline("No icon matches these filters", "Untick one of them to see results."), ""
    first = named.things[0]
    same = namer.same(first, named.best)
    about = f"similarity {named.similarity:.2f} · in {1000 * (named.encoded + named.searched):.0f} ms"
    if named.known is False:
        hint = "Drag a box around one icon of the picture. " if whole else ""
        says = (
            f"{why}{hint}The nearest has similarity {named.similarity:.2f}; below {namer.threshold:.2f}, wrong names "
            "outnumber right ones on the benchmark. These are guesses."
        )
        return headline(UNKNOWN, says), _things(namer, named.things, "")
    taken = escape(gallery.names[named.best])
    said = f"{_copy(namer.icons.ids[named.best])} {_whose(gallery, named.best)} · {about}"
    if not same:
        said += ". The sets that are chosen do not draw it; the nearest things that they draw:"
    if named.known is None:
        said += " (at which similarity names become wrong was not measured for this model)"
    return headline(taken, said), _things(namer, named.things, "The same thing, set by set" if same else "")


def _things(namer, things: list[Thing], first: str) -> str:
    parts = []
    for place, thing in enumerate(things):
        leading = place == 0 and first
        title = escape(first) if leading else f"{escape(thing.name)} <span>{thing.similarity:.2f}</span>"
        rows = thing.rows if leading else thing.rows[:_FURTHER]
        cards = "".join(_card(namer, row) for row in rows)
        between = '<p class="lead">Or one of these?</p>' if first and place == 1 else ""
        parts.append(
            f'{between}<section class="thing"><h3>{title}</h3><div class="cards icons">{cards}</div></section>'
        )
    return "".join(parts)


def _card(namer, row):
    gallery, name = namer.retrieval.gallery, escape(namer.icons.ids[row])
    picture = f'<img src="{address(gallery, row)}" alt="" loading="lazy" decoding="async">'
    said = [gallery.value(row, label) for label in ("Set", "Licence") if label in gallery.columns]
    about, spoken = escape(" · ".join(filter(None, said))), breakable(namer.icons.ids[row])
    return (
        f'<button type="button" class="card" data-copy="{name}" data-icon="{row}" title="Copy {name} ({about})">'
        f'{picture}<span class="name">{spoken}</span><span class="about">{about}</span></button>'
    )


def _copy(name):
    name = escape(name)
    return f'<code>{name}</code> <button type="button" class="copy" data-copy="{name}">Copy</button>'


def _whose(gallery, row):
    return escape(" · ".join(filter(None, (gallery.value(row, label) for label in gallery.columns))))
