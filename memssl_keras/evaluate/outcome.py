"""What a task is told, and what it returns."""

import dataclasses

from memssl_keras.evaluate.protocols.lowshot import SHOTS

KS = (10, 20, 100, 200)  # neighbours that vote in k-NN


@dataclasses.dataclass(frozen=True)
class Settings:
    """What can be chosen of the protocols.

    Attributes:
        ks: Neighbours that vote.
        temperature: Of their vote.
        at: Neighbours of recall@k and precision@k.
        shots: Images per class of low-shot, or shares as text.
        draws: Of low-shot.
        clustered: Test images that are clustered, at most.
        corrupted: Test images that are made worse, at most; each is embedded 20 times.
        blocks: Last blocks of a ViT whose CLS tokens are put side by side for the linear classifier by SGD.
        patches: Put the mean patch token of the last block beside them.
        epochs: Of that classifier.
        scales: Of retrieval, as `at_scales` takes them.
        seed: Of everything drawn.
    """

    ks: tuple = KS
    temperature: float = 0.07
    at: tuple = (1, 5, 10)
    shots: tuple = SHOTS
    draws: int = 5
    clustered: int = 10000
    corrupted: int = 1000
    blocks: int = 4
    patches: bool = False
    epochs: int = 100
    scales: tuple = (1,)
    seed: int = 0


@dataclasses.dataclass
class Outcome:
    """What one model got in one task on one set.

    Attributes:
        protocol: In words.
        scores: By name, 0 … 1; changes −1 … 1.
        headline: Name of the score that stands for the others.
        paired: Score name → figure of every test image, or of every draw (`draws`), to compare models by.
        draws: Whether `paired` holds draws, to which Student's interval fits, and not test images.
        notes: In words, what was left out.
        detail: What else goes into `results.json`.
        drawn: What the report's figures are made of.
        summary: Names of the scores for the table of all tasks; the headline alone where there are none.
    """

    protocol: str
    scores: dict
    headline: str
    paired: dict = dataclasses.field(default_factory=dict)
    draws: bool = False
    notes: list = dataclasses.field(default_factory=list)
    detail: dict = dataclasses.field(default_factory=dict)
    drawn: dict = dataclasses.field(default_factory=dict)
    summary: tuple = ()
