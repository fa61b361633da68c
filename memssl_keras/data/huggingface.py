"""What the `datasets` library reads, as images: WebDataset shards, data sets on the Hub by name, and streams."""

from __future__ import annotations

import atexit
import itertools
import os
import pathlib
import re
import shutil
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

from memssl_keras.annotations import PathLike
from memssl_keras.data.columns import Column, content_of, pictures_of, undecoded
from memssl_keras.data.parquet import ImageColumn
from memssl_keras.data.sources import open_source
from memssl_keras.data.splits import files_of

# `name`, `owner/name`, each with `:config`; what ends like a file is meant as one.
_HUB_NAME = re.compile(r"(?P<name>\w[\w.-]*(/\w[\w.-]*)?)(:(?P<config>[\w.-]+))?", re.ASCII)
_FILE_SUFFIXES = (".parquet", ".tar", ".zip", ".gz", ".tgz", ".png", ".jpg", ".jpeg", ".webp")


class Stream:
    """A stream of images, for data that does not fit on the disk: `MaSSL.fit` and `pretrain` take one.

    Every epoch reads the data from its start, with the files in another order and the rows shuffled in a buffer; seed
    and epoch decide both. An epoch ends after `images_per_epoch`; a shorter stream starts again from its beginning. An
    epoch shorter than the data sees only the first files of its order, so the data should be in several files. A run
    that resumes within an epoch reads the epoch's earlier images again, without making views of them, because the
    buffer of a stream cannot be saved.

    Of several processes, each reads its own files if their number is a multiple of the number of processes; otherwise
    each reads every n-th image.

    Args:
        dataset: A `datasets.IterableDataset`, such as `load_dataset(…, streaming=True)` gives.
        images_per_epoch: Number of images in an epoch, `len(stream)`; steps and schedules follow from it.
        column: Name of the image column; by default the only one of type `datasets.Image`.
        shuffle_buffer: Size of the shuffle buffer, in encoded images; 5,000 photos of 100 kB take 0.5 GB.

    Raises:
        ValueError: for another kind of data, a number below 1, or several image columns and no `column`.

    Example:
        >>> import datasets, numpy as np
        >>> from memssl_keras.data.huggingface import Stream
        >>> features = datasets.Features({"image": datasets.Image()})
        >>> data = datasets.Dataset.from_dict({"image": [np.zeros((4, 4, 3), "uint8")] * 3}, features)
        >>> stream = Stream(data.to_iterable_dataset(), images_per_epoch=3)
        >>> len(stream), [index for index, name, image in itertools.islice(stream.read(epoch=0), 5)]
        (3, [0, 1, 2, 3, 4])
    """

    def __init__(
        self,
        dataset: Any,
        images_per_epoch: int | None,
        *,
        column: str | None = None,
        shuffle_buffer: int = 5000,
    ):
        if not is_stream(dataset):
            raise ValueError(f"dataset is a {type(dataset).__name__}: expected a datasets.IterableDataset")
        for name, value in (("images_per_epoch", images_per_epoch), ("shuffle_buffer", shuffle_buffer)):
            if not value or value < 1:
                raise ValueError(f"{name}={value}: expected 1 image or more")
        self.column, self.dataset = undecoded(dataset, column)
        self.images_per_epoch, self.shuffle_buffer = images_per_epoch, shuffle_buffer

    def __len__(self):
        return self.images_per_epoch

    def read(self, epoch: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> Iterator[tuple]:
        """Endlessly the (index, name, encoded image) of one process in one epoch; no index comes twice in an epoch."""
        from datasets.distributed import split_dataset_by_node

        data = self.dataset.shuffle(seed=seed, buffer_size=self.shuffle_buffer)
        if world_size > 1:
            data = split_dataset_by_node(data, rank, world_size)
        index = rank
        for rounds in itertools.count():
            data.set_epoch(epoch + (rounds << 20))
            before = index
            for row in data:
                for value in pictures_of(row[self.column]):
                    where = [part for part in (row.get("__url__"), (value or {}).get("path")) if part]
                    name = "#".join(where) or f"image {index} of epoch {epoch + 1}"
                    yield index, name, _fetched(content_of(value))
                    index += world_size
            if index == before:
                raise ValueError("the stream holds no image, or fewer files than there are processes")


def _fetched(content):
    if (
        isinstance(content, str) and "://" in content
    ):  # an image file of its own, on the Hub or another server
        import fsspec

        with fsspec.open(content, "rb") as file:
            return file.read()
    return content


def is_stream(data: Any) -> bool:
    """Whether that is a `datasets.IterableDataset`."""
    return hasattr(data, "set_epoch") and hasattr(data, "cast_column") and not hasattr(data, "__len__")


def open_data(
    data: PathLike,
    *,
    split: str | None = None,
    column: str | None = None,
    streaming: bool = False,
    images_per_epoch: int | None = None,
    shuffle_buffer: int = 5000,
) -> Any:
    """Open training images from any source; labels are not read.

    Args:
        data: A folder of images, a Parquet file or a folder of them, WebDataset shards (one `.tar` or a folder of
            them), or the name of a data set on the Hub, `name` or `owner/name`, with `:config` where it has several.
        split: Of a folder, its files or its subfolder of that name; on the Hub the split, `train` by default.
        column: The image column, where there are several.
        streaming: Read while training instead of preparing the whole data set on the disk first, as is done
            for shards and for the Hub.
        images_per_epoch: Images of an epoch; needed with `streaming`, and only then.
        shuffle_buffer: See `Stream`.

    Returns:
        An `ImageSource`, a `Column`, or with `streaming` a `Stream`: what `MaSSL.fit` and `pretrain` take.

    Raises:
        ValueError: in one line, where there is no such data, split or column, or it cannot be read.
    """
    if streaming and not images_per_epoch:
        raise ValueError(
            "streaming needs images_per_epoch, on the command line --images-per-epoch: a stream does not tell how many "
            "images it holds, and steps and schedules follow from the number; give that of the data set, or any other"
        )
    if images_per_epoch and not streaming:
        raise ValueError(f"images_per_epoch={images_per_epoch}: expected only with streaming (--streaming)")
    path = pathlib.Path(data)
    named = str(data).removeprefix("hub:")
    if hub := None if path.exists() else _hub_name(named):
        dataset = _load(data, hub["name"], hub["config"], split=split or "train", streaming=streaming)
    elif not streaming:
        return _in_random_order(open_source(data, split=split, column=column))
    elif tars := files_of(path, ".tar", split):
        dataset = _load(data, "webdataset", data_files=[*map(str, tars)], split="train", streaming=True)
    elif files := files_of(path, ".parquet", split):
        dataset = _load(
            data, "parquet", data_files=[*map(str, files)], split="train", streaming=True
        ).reshard()
    else:
        dataset = _of_files(open_source(data, split=split).ids)
    try:
        if streaming:
            return Stream(dataset, images_per_epoch, column=column, shuffle_buffer=shuffle_buffer)
        return Column(dataset, column)
    except ValueError as error:
        raise ValueError(f"data={str(data)!r}: {error}") from None


def _in_random_order(source):
    """The same images, laid out for reading in random order: Parquet that memory does not hold, as Arrow files."""
    if not isinstance(source.items, ImageColumn):
        return source
    column = source.items.column
    if "." in column:
        raise ValueError(
            f"column={column!r}: a field of a struct in Parquet of {source.items.bytes / 1e9:.1f} GB cannot be read in "
            "random order; expected a column of its own, or streaming"
        )
    files = [str(file) for file in source.items.files]
    dataset = _load(files[0], "parquet", data_files=files, split="train", columns=[column])
    return Column(dataset, column)


def _hub_name(data):
    match = _HUB_NAME.fullmatch(str(data))
    return match if match and not str(data).lower().endswith(_FILE_SUFFIXES) else None


def _of_files(paths):
    import datasets

    features = datasets.Features({"image": datasets.Image(decode=False)})
    return datasets.Dataset.from_dict({"image": paths}, features).to_iterable_dataset(min(len(paths), 64))


def _scratch(cache):
    """A folder that is removed at the end, where the cache of data sets cannot be written; None where it can."""
    try:
        pathlib.Path(cache).mkdir(parents=True, exist_ok=True)
        if os.access(cache, os.W_OK):
            return None
        reason = "not writable"
    except OSError as error:
        reason = error.strerror or str(error)
    scratch = tempfile.mkdtemp(prefix="memssl-datasets-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    warnings.warn(
        f"{cache}: data sets are not kept there ({reason}); this one is prepared in {scratch} until the end. "
        "HF_DATASETS_CACHE names another place",
        stacklevel=3,
    )
    return scratch


def _load(data, *arguments, **options):
    import datasets
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # five retries in five lines before the error that says it all
    if not options.get("streaming") and (scratch := _scratch(datasets.config.HF_DATASETS_CACHE)):
        options["cache_dir"] = scratch
    try:
        return datasets.load_dataset(*arguments, **options)
    except (datasets.exceptions.DatasetsError, tarfile.TarError, OSError, ValueError, RuntimeError) as error:
        missing = "" if pathlib.Path(data).exists() else "no such file or folder here, and from the Hub: "
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"data={str(data)!r}: {missing}{reason}") from None
    finally:
        logging.set_verbosity(verbosity)
