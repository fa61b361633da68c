"""Whether a run learns, measured at its start, as it goes and at its end; and the encoder of its best epoch."""

from __future__ import annotations

import functools
import json
import math
import pathlib
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.evaluate.embedders import pixels
from memssl_keras.evaluate.measures import LabelledKNN, ViewRetrieval
from memssl_keras.evaluate.protocols.features import extract
from memssl_keras.evaluate.verdict import PIXELS, START, TEACHER, UNTRAINED, Reference, Verdict, judge
from memssl_keras.files import write_json
from memssl_keras.training import distributed
from memssl_keras.weights.folder import write_encoder

if TYPE_CHECKING:
    from memssl_keras.encoders import Encoder
    from memssl_keras.evaluate.embedders import Embedder

VERDICT, BEST = "verdict.json", "best"


class Judge(keras.callbacks.Callback):
    """Measures the teacher's encoder and what it has to beat; ends the run with a verdict in words.

    The score stands among the epoch's metrics under the measure's name (NaN where it was not measured). The folder
    gets `verdict.json`, and `best/`, the encoder of the epoch with the highest score, beside that of the last one. The
    best of many scores is a little flattered: it was chosen by the same pictures.

    Several processes share the work of embedding.

    Args:
        measure: A `LabelledKNN` or a `ViewRetrieval`.
        untrained: The run's architecture with weights as they are drawn.
        start: The encoder that the run started from, if any.
        start_name: What it is called.
        teacher: The frozen encoder that is distilled, if any.
        folder: Folder of the run; None writes nothing.
        every: Epochs between two measurements; the last epoch is always measured.
        say: Called with each line that a person should read.

    Attributes:
        verdict: After training, a `Verdict`.

    Raises:
        ValueError: for `every` below 1.
    """

    def __init__(
        self,
        measure: LabelledKNN | ViewRetrieval,
        untrained: Encoder,
        *,
        start: Encoder | None = None,
        start_name: str = "start",
        teacher: Embedder | None = None,
        folder: PathLike | None = None,
        every: int = 1,
        say: Callable = print,
    ):
        super().__init__()
        if every < 1:
            raise ValueError(f"every={every}: expected 1 epoch or more")
        self.measure, self.every = measure, every
        self.say = say if distributed.is_main() else lambda line: None
        self.folder = pathlib.Path(folder) if folder and distributed.is_main() else None
        side = measure.pixels
        self.rivals: list[tuple[str, str, Callable]] = [(UNTRAINED, "the untrained encoder", untrained.embed)]
        if start is not None:
            self.rivals.append((START, start_name, start.embed))
        if teacher is not None:
            self.rivals.append((TEACHER, f"the teacher, {teacher.name}", teacher.embed))
        embed_pixels = functools.partial(pixels, size=side, centred=True)
        self.rivals.append((PIXELS, f"plain pixels (mean-centred, {side} px)", embed_pixels))
        self.references: list[Reference] = []
        self.hits: np.ndarray | None = None
        self.verdict: Verdict | None = None

    def _hits(self, embed):
        return self.measure.hits(
            lambda images: distributed.interleaved(lambda part: extract(embed, part), images)
        )

    def on_train_begin(self, logs: Any = None) -> None:
        # An encoder that gives all pictures the same vector hits nothing, and an error in the measure comes first.
        self.references = [Reference(kind, name, self._hits(embed)) for kind, name, embed in self.rivals]
        scores = [f"{one.name} {np.mean(one.hits):.1%}" for one in self.references]
        self.say(f"at the start, {self.measure.words}: {', '.join(scores)}")
        self.hits, self.best = None, self._best_so_far()

    def _best_so_far(self):
        path = self.folder and self.folder / BEST / "score.json"
        if path and self.model.step == 0:  # of an older run
            shutil.rmtree(path.parent, ignore_errors=True)
        best = json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else None
        # Scores of two measures do not compare: a run may be resumed with labels, or without.
        return best if best and best.get("measure") == self.measure.words else None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        last = epoch + 1 == self.params["epochs"]
        self.hits = self._hits(self.model.encoder.embed) if last or (epoch + 1) % self.every == 0 else None
        score = math.nan if self.hits is None else float(np.mean(self.hits))
        if logs is not None:
            logs[self.measure.name] = score
        if self.hits is not None and (self.best is None or score > self.best["score"]):
            self.best = {"epoch": epoch + 1, "score": score, "measure": self.measure.words}
            if self.folder:
                write_encoder(self.model.encoder, self.folder / BEST)
                write_json(self.folder / BEST / "score.json", self.best)

    def on_train_end(self, logs: Any = None) -> None:
        if self.hits is None:  # all epochs were done before
            self.hits = self._hits(self.model.encoder.embed)
        verdict = self.verdict = judge(self.hits, self.references, self.measure.words)
        for line in verdict.lines():
            self.say(line)
        best = self.best if self.best and self.best["score"] > verdict.score else None
        if best:
            kept = f", kept in {self.folder / BEST}" if self.folder else ""
            self.say(f"  best epoch {best['epoch']}: {best['score']:.1%}{kept}")
        if self.folder:
            write_json(self.folder / VERDICT, {**verdict.to_dict(), "best": self.best})
