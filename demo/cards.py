"""What the page shows of a gallery, as HTML. Every text from outside is escaped."""

from __future__ import annotations

import base64
import io
from html import escape
from itertools import zip_longest

from PIL import Image

from memssl_keras.images import read_image

from .index import Gallery

_LONGEST_SIDE = 192  # pixels of a thumbnail: sharp on a dense screen at the size of a card

# One listener on the component, which outlives the cards inside it.
ON_CLICK = """
element.addEventListener('click', (event) => {
    const card = event.target.closest('[data-row]');
    if (!card) return;
    document.querySelector('#query')?.scrollIntoView({behavior: 'smooth', block: 'nearest'});
    trigger('click', {row: Number(card.dataset.row)});
});
"""


class Cards:
    """Renders images of a gallery as buttons that carry their row number."""

    def __init__(self, gallery: Gallery):
        self._gallery = gallery
        self._sources = [_data_uri(image) for image in gallery.images]

    def title(self, row: int) -> str:
        """Name and vendor as far as they are known, escaped."""
        return escape(" · ".join(filter(None, (self._name(row), self._gallery.vendors[row]))))

    def small(self, rows) -> str:
        """Pictures only."""
        return _grid("small", [self._card(row) for row in rows])

    def large(self, rows, similarities=()) -> str:
        """Pictures with name, vendor and, where given, similarity."""
        cards = []
        for row, similarity in zip_longest(rows, similarities):
            text = f'<span class="name">{escape(self._name(row))}</span>'
            text += f'<span class="vendor">{escape(self._gallery.vendors[row])}</span>'
            if similarity is not None:
                text += f'<span class="similarity">{similarity:.3f}</span>'
            cards.append(self._card(row, text))
        return _grid("large", cards)

    def _name(self, row: int) -> str:
        return self._gallery.names[row] or f"Image {row}"

    def _card(self, row: int, text: str = "") -> str:
        title = self.title(row)
        picture = f'<img src="{self._sources[row]}" alt="{title}">'
        return (
            f'<button type="button" class="card" data-row="{row}" title="Search with {title}">'
            f"{picture}{text}</button>"
        )


def _grid(kind: str, cards: list[str]) -> str:
    return f'<div class="cards {kind}">{"".join(cards)}</div>'


def _data_uri(data: bytes) -> str:
    picture = Image.fromarray(read_image(data))
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
