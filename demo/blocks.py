"""The blocks of the memory as the page shows them, as HTML. Every text from outside is escaped."""

from __future__ import annotations

from html import escape

from memssl_keras.demo.cards import grid, headline
from memssl_keras.demo.pictures import address
from memssl_keras.demo.recall import Block, Recall

TITLE = "What the training memory saw"
MOST = 8  # blocks that are shown

WAITING = (
    '<p class="empty">Find a picture on the map, or bring one: then the nearest of each block stand here.</p>'
)


def about(recall: Recall) -> str:
    """What the memory is, and what a step of training does with it."""
    memory, filled = recall.memory, int((recall.memory.indices >= 0).sum())
    return headline(
        TITLE,
        f"The last {filled:,} pictures of training are its memory. Each step cuts it at random into "
        f"{recall.blocks:,} blocks of {memory.block_size:,}; in every block, the teacher shares out 100 % among the "
        "pictures by how alike they are to the one it sees, and the student learns to share out as it does.",
    )


def show(recall: Recall, found: list[Block]) -> str:
    """The nearest pictures of each block, with similarity and share."""
    largest = max(float(block.shares[0]) for block in found[:MOST])  # the one that fills its bar
    sections = "".join(_block(recall, block, number, largest) for number, block in enumerate(found[:MOST], 1))
    notes = [f"The first {MOST} of {len(found):,} blocks."] if len(found) > MOST else []
    notes.append(
        "In the corner of a picture is its cosine similarity, behind the projection head; below it its share, by a "
        f"softmax at the teacher’s temperature, {recall.memory.temperature:.3g}."
    )
    if recall.memory.credits:
        notes.append(f"Pictures in memory: {escape(recall.memory.credits)}")
    return f'<div class="blocks">{sections}</div><p class="hint notes">{"<br>".join(notes)}</p>'


def title(recall: Recall, slot: int) -> str:
    """What a slot's picture is called, escaped."""
    memory = recall.memory
    if memory.indices[slot] < 0:
        return "Random start"
    name = memory.names[slot] if memory.names else None
    return escape(name) if name else f"Training picture {memory.indices[slot]:,}"


def _block(recall, block, number, largest):
    cards = [
        _card(recall, int(slot), float(similarity), float(share), largest)
        for slot, similarity, share in zip(*block, strict=True)
    ]
    size = recall.memory.block_size
    held = f"These {len(cards)} of {size:,} hold {_share(float(block.shares.sum()))}"
    return f'<section><h3>Block {number}</h3><p class="hint">{held}</p>{grid("recalled", cards)}</section>'


def _card(recall, slot, similarity, share, largest):
    name = title(recall, slot)
    picture = f'<img src="{address(recall.memory, slot)}" alt="{name}" loading="lazy" decoding="async">'
    if recall.memory.indices[slot] < 0:
        picture = '<span class="nothing">random start</span>'
    bar = f'<span style="width:{100 * share / largest:.1f}%"></span>'
    return (
        f'<figure class="card" title="{name}">{picture}<span class="similarity">{_minus(similarity)}</span>'
        f'<figcaption class="share">{bar}{_share(share)}</figcaption></figure>'
    )


def _share(share):
    return "&lt; 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"


def _minus(number):
    return f"{number:.2f}".replace("-", "−")
