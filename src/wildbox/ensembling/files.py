"""Models as their files: detections, and per-class logs that say where each is good. Letters: M models, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wildbox.annotations import Floats
from wildbox.detections import Detections
from wildbox.ensembling.pooling import on_same_images
from wildbox.ensembling.weights import class_weights
from wildbox.errors import ConfigError, InputError
from wildbox.evaluation import EvaluationResult
from wildbox.formats.detection_rows import ids_in
from wildbox.formats.storage import detection_files, read_detections
from wildbox.vocabulary import Vocabulary


def read_models(
    detections: Sequence[str | Path],
    *,
    logs: Sequence[str | Path] = (),
    vocabulary: Vocabulary | None = None,
) -> tuple[list[Detections], Floats | None]:
    """Detections of M models on the images of all of them, and weights (M, C) by their logs.

    Args:
        logs: none, or the log of each model in the same order; an AP is the weight of its model for its class.
        vocabulary: the classes; default: those of the first log, else all that occur in the detections, by id.
    Returns:
        The models, see `on_same_images`, and the weights, see `class_weights`; none without logs.
    Raises:
        ConfigError: another number of logs than of models.
        InputError: with file and line, what `read_detections` and `EvaluationResult.read` refuse; logs of other
            classes, or of another truth than the first; relative coordinates beside pixels.

    >>> import tempfile
    >>> from wildbox.formats.storage import write_detections
    >>> file, cat = Path(tempfile.mkdtemp()) / "found.csv", Vocabulary(("cat",))
    >>> write_detections(Detections(cat, ("a",), image=[0], boxes=[[0, 0, 1, 1]], label=[0], score=[1]), file)
    >>> [model.vocabulary.ids for model in read_models([file, file])[0]]
    [('cat',), ('cat',)]
    """
    weights = None
    if logs:
        if len(logs) != len(detections):
            raise ConfigError(
                f"{len(detections)} files of detections but {len(logs)} logs; give each model its log, in the "
                "same order (on the command line: --logs A --logs B)"
            )
        results = [EvaluationResult.read(log) for log in logs]
        vocabulary = results[0].vocabulary if vocabulary is None else vocabulary
        weights = _weights(logs, results, vocabulary)
    if vocabulary is None:
        vocabulary = classes_that_occur(detections)
    models = [read_detections(path, vocabulary=vocabulary) for path in detections]
    _check_units(detections, models)
    return on_same_images(models, names=[str(path) for path in detections]), weights


def classes_that_occur(detections: Sequence[str | Path]) -> Vocabulary:
    """The classes of files of detections, by id; errors are those of `read_detections`."""
    files = [file for path in detections for file in detection_files(path)]
    return Vocabulary(tuple(sorted({id_ for file in files for id_ in ids_in(file, "LabelName")})))


def _check_units(paths: Sequence[str | Path], models: Sequence[Detections]) -> None:
    """`InputError` where some models have all coordinates about within 0 and 1, and others do not."""
    extents = [float(np.abs(model.boxes).max()) if len(model) else None for model in models]
    pixels = [path for path, extent in zip(paths, extents, strict=True) if extent is not None and extent > 2]
    for path, extent in zip(paths, extents, strict=True):
        if pixels and extent is not None and extent <= 2:
            raise InputError(
                f"coordinates are within 0 and 1, but those of {pixels[0]} are pixels", path=path
            )


def _weights(
    logs: Sequence[str | Path], results: Sequence[EvaluationResult], vocabulary: Vocabulary
) -> Floats:
    rows, boxes = [], []
    for log, result in zip(logs, results, strict=True):
        odd = sorted(set(result.vocabulary.ids) ^ set(vocabulary.ids))
        if odd:
            what = f"{len(odd)} classes are only here or not here, such as {odd[0]!r}"
            raise InputError(f"a log of other classes: {what}", path=log)
        place = [result.vocabulary.index(id_) for id_ in vocabulary.ids]
        rows.append(result.ap[place])
        boxes.append(result.truth_boxes[place].tolist())
        if boxes[-1] != boxes[0]:
            raise InputError(f"the log of another truth than {logs[0]}: its truth_boxes differ", path=log)
    return class_weights(rows)
