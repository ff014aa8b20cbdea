"""Save and resume a run exactly, and carry what a checkpoint needs to predict alone."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wildbox.errors import InputError
from wildbox.formats.files import whole_file
from wildbox.vocabulary import Vocabulary

FORMAT = 2


@dataclass(frozen=True)
class Checkpoint:
    """All of a run's state after `step` steps."""

    step: int
    config: dict[str, Any]
    """`RunConfig.model_dump(mode="json")`."""
    vocabulary: Vocabulary
    relative: bool
    """Whether boxes of the training set were relative to the image (Open Images) or pixels (COCO)."""
    images: int
    boxes: int
    """Of the training set, expanded by the hierarchy."""
    rates: Tensor
    """(C + 1, C + 1) concurrent rates, the background last."""
    model: dict[str, Tensor]
    average: dict[str, Tensor] | None
    """The moving average of the weights, where the run keeps one."""
    optimizer: dict[str, Any]
    random_states: list[dict[str, Tensor]]
    """Of each process's torch generators: "cpu", and "cuda" where it trains on a GPU."""
    data: str = ""
    """Digest of the training set's images, boxes and labels, expanded; "" in old checkpoints."""

    @property
    def weights(self) -> dict[str, Tensor]:
        """What to predict with: the average where there is one, else the model's."""
        return self.model if self.average is None else self.average


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write to a temporary name, then rename: a killed run leaves the one before."""
    content = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    vocabulary = content.pop("vocabulary")
    content |= {
        "format": FORMAT,
        "class_ids": list(vocabulary.ids),
        "class_names": list(vocabulary.names),
    }
    # an open file and not its name: torch hides a full disk behind an assertion of its own
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:
            # where the stream fails, torch fails again over its end, and hides that
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise
        stream.flush()
        os.fsync(stream.fileno())


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint on the CPU; tensors and plain values only, no code. Its checksums are verified.

    Raises:
        InputError: the file is absent, damaged or of another format.
    """
    try:
        damaged = _first_damaged(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError("no such checkpoint", path=path) from error
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise InputError(f"not a readable checkpoint: {error}", path=path) from error
    if damaged is not None:
        raise InputError(f"not a readable checkpoint: wrong checksum of its part {damaged}", path=path)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise InputError(f"not a wildbox checkpoint of format {FORMAT}", path=path)
    vocabulary = Vocabulary(tuple(content.pop("class_ids")), tuple(content.pop("class_names")))
    return Checkpoint(vocabulary=vocabulary, **content)


def _first_damaged(path: str | Path) -> str | None:
    """Name of the first part whose checksum is wrong; torch itself does not look at them."""
    with zipfile.ZipFile(path) as parts:
        return parts.testzip()
