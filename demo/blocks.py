"""The blocks of the memory as the page shows them, as HTML. Every text from outside is escaped."""

from __future__ import annotations

from html import escape

from .cards import grid, headline
from .pictures import address
from .recall import Block, Recall

TITLE = "What the training memory saw"
MOST = 8  # blocks that are shown

NONE = headline(
    TITLE,
    "This model does not ship its memory, so the pictures that it was compared with cannot be shown. "
    "<code>memssl convert RUN --out FOLDER --memory PICTURES</code> adds the memory of a run to its model.",
)


def introduction(recall: Recall) -> str:
    """What the memory is, for a page without a query."""
    return _head(recall) + (
        '<p class="empty">Find a picture on the map, or bring one: then the nearest of each block stand here.</p>'
    )


def show(recall: Recall, blocks: list[Block]) -> str:
    """The nearest pictures of each block, with similarity and share."""
    sections = "".join(_block(recall, block, number) for number, block in enumerate(blocks[:MOST], 1))
    more = f'<p class="hint">{MOST} of {len(blocks):,} blocks.</p>' if len(blocks) > MOST else ""
    return f'{_head(recall)}<div class="blocks">{sections}</div>{more}{_credits(recall)}'


def title(recall: Recall, slot: int) -> str:
    """What a slot's picture is called, escaped."""
    memory = recall.memory
    if memory.indices[slot] < 0:
        return "Random start"
    name = memory.names[slot] if memory.names else None
    return escape(name) if name else f"Training picture {memory.indices[slot]:,}"


def _head(recall):
    memory = recall.memory
    return headline(
        TITLE,
        f"Its memory holds {len(memory):,} pictures, the last that training showed it. A step of training cuts them at "
        f"random into {recall.blocks:,} blocks of {memory.block_size:,}; in each, teacher and student say how alike a "
        "picture is to every one of them, as shares of 100 %, and the student learns to say what the teacher says.",
    )


def _block(recall, block, number):
    size = recall.memory.block_size
    cards = [
        _card(recall, int(slot), float(similarity), float(share))
        for slot, similarity, share in zip(*block, strict=True)
    ]
    rest = size - len(cards)
    about = f"{_share(float(block.shares.sum()))} for these {len(cards)}"
    about += f", {_share(max(0.0, 1 - float(block.shares.sum())))} for the {rest:,} others" if rest else ""
    return f'<section><h3>Block {number}</h3><p class="hint">{about}</p>{grid("recalled", cards)}</section>'


def _card(recall, slot, similarity, share):
    name = title(recall, slot)
    picture = f'<img src="{address(recall.memory, slot)}" alt="{name}" loading="lazy" decoding="async">'
    if recall.memory.indices[slot] < 0:
        picture = '<span class="nothing">random start</span>'
    return (
        f'<figure class="card" title="{name}">{picture}<span class="similarity">{similarity:.2f}</span>'
        f'<figcaption class="share"><span style="width:{100 * share:.1f}%"></span>{_share(share)}</figcaption></figure>'
    )


def _share(share):
    return "&lt; 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"


def _credits(recall):
    credits = recall.memory.credits
    return f'<p class="hint credits">Pictures: {escape(credits)}</p>' if credits else ""
