"""State dicts in files that torch saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wildbox.errors import InputError


def read_content(path: str | Path) -> dict[str, Any]:
    """What a file holds, on the CPU; tensors and plain values only, no code.

    Raises:
        InputError: the file is absent or damaged, or holds no dict.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError("no such file of weights", path=path) from error
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise InputError(
            f"not readable as weights: {type(error).__name__} from torch.load", path=path
        ) from error
    if not isinstance(content, dict):
        raise InputError("expected a state dict of tensors", path=path)
    return content


def state_of(content: dict[str, Any], *, path: str | Path) -> dict[str, Tensor]:
    """The state dict that `content` is, or that stands in it under "average", "model" or "state_dict".

    Raises:
        InputError: something else than tensors.
    """
    for key in ("average", "model", "state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
    if not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError("expected a state dict of tensors", path=path)
    return content
