"""Save and resume a run exactly, and carry what a checkpoint needs to predict alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wildbox.errors import InputError
from wildbox.formats.files import whole_file
from wildbox.vocabulary import Vocabulary

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """All of a run's state after `step` steps."""

    step: int
    config: dict[str, Any]
    """`RunConfig.model_dump(mode="json")`."""
    vocabulary: Vocabulary
    relative: bool
    """Whether boxes of the training set were relative to the image (Open Images) or pixels (COCO)."""
    rates: Tensor
    """(C + 1, C + 1) concurrent rates, the background last."""
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    random_state: Tensor
    """Of torch's CPU generator."""


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write to a temporary name, then rename: a killed run leaves the one before."""
    content = {
        "format": FORMAT,
        "step": checkpoint.step,
        "config": checkpoint.config,
        "class_ids": list(checkpoint.vocabulary.ids),
        "class_names": list(checkpoint.vocabulary.names),
        "relative": checkpoint.relative,
        "rates": checkpoint.rates,
        "model": checkpoint.model,
        "optimizer": checkpoint.optimizer,
        "random_state": checkpoint.random_state,
    }
    with whole_file(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint on the CPU; tensors and plain values only, no code.

    Raises:
        InputError: the file is absent, damaged or of another format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError("no such checkpoint", path=path) from error
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise InputError(f"not a readable checkpoint: {error}", path=path) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"not a wildbox checkpoint of format {FORMAT}", path=path)
    return Checkpoint(
        step=content["step"],
        config=content["config"],
        vocabulary=Vocabulary(tuple(content["class_ids"]), tuple(content["class_names"])),
        relative=content["relative"],
        rates=content["rates"],
        model=content["model"],
        optimizer=content["optimizer"],
        random_state=content["random_state"],
    )
