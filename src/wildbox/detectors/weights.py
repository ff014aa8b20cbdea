"""A detector's weights from a file or from torchvision's hub: what fits is kept, the class head starts anew.

Letters: C foreground classes, K = C + 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
from torchvision.ops import FrozenBatchNorm2d

from wildbox.detectors.detector import Detector
from wildbox.detectors.weight_files import read_content, state_of
from wildbox.errors import InputError
from wildbox.vocabulary import Vocabulary

DetectorWeights = Path | Literal["coco"]
"""A file, or torchvision's Faster R-CNN with ResNet-50, trained on COCO."""

CLASS_HEAD = ("logits.", "cls_score.", "bbox_pred.")
"""Parts of the second stage that know the classes, here and in torchvision."""
SHOWN = 4


@dataclass(frozen=True)
class LoadReport:
    """Which tensors of a detector came from a file; the names are the detector's own, those of `unused` the file's."""

    source: str
    kept: tuple[str, ...]
    """Taken from the file."""
    renewed: tuple[str, ...]
    """Left as they were initialised: not in the file, of another shape there, or the class head."""
    unused: tuple[str, ...]
    """In the file only, or not taken."""
    note: str = ""
    """On the classes."""

    def __str__(self) -> str:
        parts = [f"{self.source}: {len(self.kept)} tensors kept"]
        for what, names in (("new", self.renewed), ("not used", self.unused)):
            if names:
                more = ", ..." if len(names) > SHOWN else ""
                parts.append(f"{len(names)} {what} ({', '.join(names[:SHOWN])}{more})")
        return "; ".join([*parts, self.note] if self.note else parts)


def load_weights(
    model: Detector, source: DetectorWeights, *, vocabulary: Vocabulary | None = None
) -> LoadReport:
    """Load what fits of another detector's weights, in place.

    torchvision's and our own state dicts are understood, and our checkpoints; what a single second stage learned
    is given to every stage of a cascade. The class head is taken from a checkpoint of ours with the very class
    list `vocabulary`, else it is left as it is initialised. The rule's own tensors (concurrent rates) stay.

    Returns:
        what was kept, renewed and not used.
    Raises:
        InputError: the file does not open, holds something else, or nothing of the backbone.
    """
    if source == "coco":
        content = dict(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.get_state_dict(progress=False))
        name = "coco"
    else:
        content, name = read_content(source), str(source)
    head, note = _compare_classes(content, vocabulary)
    state = state_of(content, path=name)
    own = model.state_dict()
    renamed: dict[str, Tensor] = {}
    taken: dict[str, list[str]] = {}
    for key, tensor in state.items():
        places = list(_places(key, own)) if head or not _of_class_head(key, tensor) else []
        taken[key] = [place for place in places if place not in own or own[place].shape == tensor.shape]
        renamed |= dict.fromkeys(taken[key], tensor)
    result = model.load_state_dict(renamed, strict=False)  # which also knows names of torchvision's past
    missing, unexpected = set(result.missing_keys), set(result.unexpected_keys)
    # a counter, which torch makes up where it is absent
    kept = tuple(key for key in own if key not in missing and not key.endswith("num_batches_tracked"))
    if not any(key.startswith("backbone.") for key in kept):
        raise InputError("holds nothing of this detector's backbone", path=name)
    unused = tuple(key for key, places in taken.items() if not set(places) - unexpected)
    if source == "coco" or Path(name).name.startswith("fasterrcnn_resnet50_fpn_coco-"):
        _without_eps(model.backbone)
    return LoadReport(name, kept, tuple(result.missing_keys), unused, note)


def _places(key: str, own: Iterable[str]) -> list[str]:
    """Names in a detector that a tensor of the file is for."""
    if key.startswith("roi_heads.rule."):
        return []
    stages = {".".join(name.split(".")[:3]) for name in own if name.startswith("roi_heads.stages.")}
    for single, part in (("roi_heads.box_head.", "head."), ("roi_heads.box_predictor.", "predictor.")):
        first_stage = f"roi_heads.stages.0.{part}"
        if stages and key.startswith(single):
            return [f"{stage}.{part}{key.removeprefix(single)}" for stage in sorted(stages)]
        if not stages and key.startswith(first_stage):
            return [single + key.removeprefix(first_stage)]
    return [key]


def _of_class_head(key: str, tensor: Tensor) -> bool:
    knows = any(part in key for part in CLASS_HEAD) or (".deltas." in key and len(tensor) != 4)
    return key.startswith("roi_heads.") and knows


def _compare_classes(content: dict[str, Any], vocabulary: Vocabulary | None) -> tuple[bool, str]:
    """Whether the class head can be taken, and what to say where it cannot."""
    ids = content.get("class_ids")
    if ids is None or vocabulary is None:
        return False, ""
    theirs = Vocabulary(tuple(ids), tuple(content.get("class_names") or ids))
    if told := theirs.contradiction(vocabulary):
        return False, f"the class head is new: {told} now"
    if theirs.ids == vocabulary.ids:
        return True, ""
    shared = len(set(ids) & set(vocabulary.ids))
    return False, f"the class head is new: {len(ids)} classes there, {len(vocabulary)} now, {shared} shared"


def _without_eps(backbone: nn.Module) -> None:
    """torchvision trained its first COCO weights before frozen batch normalisation had an eps, and sets it to 0."""
    for module in backbone.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0
