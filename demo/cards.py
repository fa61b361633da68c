"""What the page shows of a gallery, as HTML. Every text from outside is escaped."""

from __future__ import annotations

import re
from html import escape
from itertools import zip_longest

from memssl_keras.demo.pictures import address

# One listener on the component, which outlives the cards inside it; `show` is what to bring into view.
ON_CLICK = """
element.addEventListener('click', (event) => {
    const card = event.target.closest('[data-row]');
    if (!card) return;
    document.querySelector('%s')?.scrollIntoView({behavior: 'smooth', block: 'nearest'});
    trigger('click', {row: Number(card.dataset.row)});
});
"""


class Cards:
    """Renders images of a gallery as buttons that carry their row number."""

    def __init__(self, gallery):
        self._gallery = gallery

    def title(self, row: int) -> str:
        """Name and first column as far as they are known, escaped."""
        return escape(self._gallery.title(row))

    def small(self, rows, act: str = "Search with") -> str:
        """Pictures only; `act` is what a click on one does."""
        return grid("small", [self._card(row, act) for row in rows])

    def large(self, rows, similarities=()) -> str:
        """Pictures with name, first column and, where given, similarity."""
        cards = []
        for row, similarity in zip_longest(rows, similarities):
            text = f'<span class="name">{breakable(self._gallery.names[row])}</span>'
            text += f'<span class="about">{escape(self._gallery.about(row))}</span>'
            if similarity is not None:
                text += f'<span class="similarity">{similarity:.3f}</span>'
            cards.append(self._card(row, "Search with", text))
        return grid("large", cards)

    def _card(self, row: int, act: str, text: str = "") -> str:
        title = self.title(row)
        picture = f'<img src="{address(self._gallery, row)}" alt="{title}" loading="lazy" decoding="async">'
        return f'<button type="button" class="card" data-row="{row}" title="{act} {title}">{picture}{text}</button>'


def breakable(name: str) -> str:
    """A name, escaped, that a narrow card breaks behind underscores and colons and before a file's ending."""
    return re.sub(r"(?<=[_:])(?=.)", "<wbr>", re.sub(r"(?=\.\w{2,4}$)", "<wbr>", escape(name)))


def grid(kind: str, cards: list[str]) -> str:
    """Cards side by side."""
    return f'<div class="cards {kind}">{"".join(cards)}</div>'


def headline(title: str, about: str) -> str:
    """What was found, in a line, and how; both are HTML."""
    return f"<h2>{title}</h2><p>{about}</p>"


def row_of(event, gallery) -> int:
    """The row number that a click on a card carries.

    Raises:
        ValueError: it is none of the gallery's.
    """
    row = getattr(event, "row", None)
    if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < len(gallery):
        raise ValueError(f"row: got {row!r}; expected 0 to {len(gallery) - 1}")
    return row
