"""Protocols by their names."""

from __future__ import annotations

from wildbox.errors import ConfigError
from wildbox.evaluation.open_images import open_images_challenge, open_images_v2
from wildbox.evaluation.protocol import Protocol
from wildbox.evaluation.voc import voc


def protocol_named(
    name: str, *, group_of_weight: float | None = None, verified_only: bool | None = None, iou: float = 0.5
) -> Protocol:
    """The protocol of a name, with the arguments of `evaluate`; for `coco` and `lvis` there is none.

    >>> protocol_named("open-images-v2").group_of_weight
    0.0
    """
    given = {"group_of_weight": group_of_weight, "verified_only": verified_only}
    settings = {key: value for key, value in given.items() if value is not None}
    if name in ("coco", "lvis"):
        raise ConfigError(
            f"protocol {name} is evaluated as a whole: concatenate the detections of all images, and evaluate(found, "
            f'truth, protocol="{name}")'
        )
    if name in ("voc", "voc-11-point"):
        if settings:
            raise ConfigError(
                f"protocol voc ignores group-of boxes and image labels: it takes no {min(settings)}"
            )
        return voc(eleven=name == "voc-11-point", iou=iou)
    makers = {"open-images-challenge": open_images_challenge, "open-images-v2": open_images_v2}
    if name not in makers:
        known = ", ".join([*makers, "voc", "voc-11-point", "coco"])
        raise ConfigError(f"unknown protocol {name!r}; expected {known} or lvis")
    return makers[name](**settings, iou=iou)  # type: ignore[arg-type]
