"""Whether an encoder has learnt something, in words that cannot be read the other way."""

from __future__ import annotations

import dataclasses

import numpy as np

from memssl_keras.evaluate.protocols.intervals import paired_bootstrap

UNTRAINED, PIXELS, START, TEACHER = "untrained", "pixels", "start", "teacher"
OUTCOMES = {
    "learnt": "the encoder has learnt: it is better than {others}",
    "less than pixels": "the encoder is better than {untrained}, but NOT than {pixels}: of little use as it is",
    "nothing": "NOTHING LEARNT that this measure shows: the encoder is not better than {untrained}",
    "no better than the start": "NO BETTER than what it started from, {start}: use that, or train longer",
    "worse than the start": "WORSE than what it started from, {start}: use that",
}


@dataclasses.dataclass(frozen=True)
class Reference:
    """What an encoder is compared with.

    Attributes:
        kind: "untrained", "pixels", "start", or "teacher", which is there to be compared with and need not be beaten.
        name: In words.
        hits: Hit or miss of each picture, `(N,)`.
    """

    kind: str
    name: str
    hits: np.ndarray


@dataclasses.dataclass(frozen=True)
class Verdict:
    """An encoder beside what it has to beat, on the same pictures.

    Attributes:
        outcome: A key of `OUTCOMES`.
        measure: What was measured, in words.
        pictures: How many.
        score: Share of hits, 0 … 1.
        references: Each with `kind`, `name`, `score`, `difference` and `interval`, the 95 % interval of the difference
            by the paired bootstrap over pictures.
    """

    outcome: str
    measure: str
    pictures: int
    score: float
    references: list[dict]

    def lines(self) -> list[str]:
        """The verdict, and the figures behind it."""
        names = {one["kind"]: one["name"] for one in self.references}
        others = " and ".join(name for kind, name in names.items() if kind != TEACHER)
        said = [f"verdict: {OUTCOMES[self.outcome].format(others=others, **names)}"]
        said.append(f"  {self.measure}: {self.score:.1%}")
        for one in self.references:
            low, high = one["interval"]
            said.append(
                f"  {one['name']}: {one['score']:.1%} ({100 * one['difference']:+.1f} points for the encoder, 95 % "
                f"interval {100 * low:+.1f} … {100 * high:+.1f})"
            )
        return said

    def to_dict(self) -> dict:
        """As JSON holds it, the sentence under `words`."""
        return {**dataclasses.asdict(self), "words": self.lines()[0].removeprefix("verdict: ")}


def judge(hits: np.ndarray, references: list[Reference], measure: str) -> Verdict:
    """Compare an encoder with its references, picture by picture.

    It counts as better than one where the whole 95 % interval of the difference is above 0.

    Args:
        hits: Hit or miss of each picture, `(N,)`.
        references: Of the kind "untrained" one, and of the others at most one each.
        measure: What was measured, in words.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.evaluate.verdict import Reference, judge
        >>> untrained = Reference("untrained", "the untrained encoder", np.zeros(50, bool))
        >>> judge(np.ones(50, bool), [untrained], "recall@1").outcome
        'learnt'
    """
    found = []
    for one in references:
        difference, low, high = paired_bootstrap(hits, one.hits)
        found.append(
            {
                "kind": one.kind,
                "name": one.name,
                "score": float(np.mean(one.hits)),
                "difference": difference,
                "interval": [low, high],
            }
        )
    return Verdict(_outcome(found), measure, len(hits), float(np.mean(hits)), found)


def _outcome(found):
    beaten = {one["kind"]: one["interval"][0] > 0 for one in found}
    start = next((one for one in found if one["kind"] == START), None)
    if start and start["interval"][1] < 0:
        return "worse than the start"
    if not beaten[UNTRAINED]:
        return "nothing"
    if not beaten.get(START, True):
        return "no better than the start"
    return "learnt" if beaten.get(PIXELS, True) else "less than pixels"
