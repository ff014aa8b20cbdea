"""How much each model counts for each class. Letters: M models, C classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from wildbox.annotations import Floats
from wildbox.errors import ConfigError, InputError


def class_weights(ap: ArrayLike) -> Floats:
    """Weights (M, C) from average precisions (M, C): a model counts for a class as much as its AP there.

    Where no model has an AP (NaN: no truth of the class), and where all have 0, nothing is known: all weigh 1.
    The APs should come from data on which the ensemble is not judged afterwards.

    Raises:
        InputError: not a table, an AP outside [0, 1], or NaN for some of the models only, which then were not
            evaluated on the same truth.

    >>> class_weights([[0.5, 0.0, np.nan], [0.25, 0.0, np.nan]]).tolist()
    [[0.5, 1.0, 1.0], [0.25, 1.0, 1.0]]
    """
    given = np.array(ap, np.float64)
    if given.ndim != 2:
        raise InputError(f"average precisions of shape {given.shape}, expected (models, classes)")
    unknown = np.isnan(given)
    if not (unknown | ((given >= 0) & (given <= 1))).all():
        raise InputError("an average precision is outside [0, 1]")
    partly = np.flatnonzero(unknown.any(axis=0) & ~unknown.all(axis=0))
    if len(partly):
        raise InputError(
            f"{len(partly)} classes have an average precision of some models only, the first at index "
            f"{partly[0]}: evaluate all models on the same truth"
        )
    given[:, ~(given > 0).any(axis=0)] = 1.0
    return given


def relative_weights(weights: ArrayLike | None, *, models: int, classes: int) -> Floats:
    """Weights (M, C), in each class the largest being 1; 0 throughout where no model has any.

    Args:
        weights: none (all models count the same), (M,) or (M, C); from 0 on.
    Raises:
        ConfigError: another shape, a negative or infinite weight, NaN.
    """
    given = np.ones(models) if weights is None else np.array(weights, np.float64)
    if given.shape not in ((models,), (models, classes)):
        raise ConfigError(
            f"weights of shape {given.shape} for {models} models and {classes} classes; "
            f"expected ({models},) or ({models}, {classes})"
        )
    if not (np.isfinite(given) & (given >= 0)).all():
        raise ConfigError("a weight is negative or not finite")
    table = np.broadcast_to(given.reshape(models, -1), (models, classes))
    largest = table.max(axis=0, initial=0.0)
    relative: Floats = np.divide(table, largest, out=np.zeros((models, classes)), where=largest > 0)
    return relative
