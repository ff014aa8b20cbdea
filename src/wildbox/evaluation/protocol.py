"""A protocol in two steps: match one set of images, then make numbers of all matches. Letters: C classes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from wildbox.annotations import Annotations, Bools
from wildbox.detections import Detections
from wildbox.errors import ConfigError, InputWarning
from wildbox.evaluation.average_precision import Area, area_under, average_precisions, best_f1
from wildbox.evaluation.curves import curves
from wildbox.evaluation.matches import Matches, kept
from wildbox.evaluation.matching import (
    FALSE,
    GROUP,
    IGNORED,
    NO_AREA,
    TRUE,
    UNVERIFIED,
    Outcomes,
    match,
)
from wildbox.evaluation.result import EvaluationResult


@dataclass(frozen=True)
class Protocol:
    """How boxes are matched and what is made of it: Open Images' two protocols and Pascal VOC.

    Raises:
        ConfigError: a weight that is negative or not finite, iou outside (0, 1].
    """

    name: str
    absorbing: bool
    """Whether group-of boxes absorb detections (Open Images) or are difficult objects (VOC); see `match`."""
    group_of_weight: float = 0.0
    """What a found group-of box is worth, and its part in the truth."""
    verified_only: bool = False
    """Whether detections are ignored where nobody looked for their class; see `match`."""
    limit: int | None = None
    """Detections of one class in one image that are looked at."""
    iou: float = 0.5
    area: Area = area_under

    def __post_init__(self) -> None:
        if not 0 <= self.group_of_weight < math.inf:
            raise ConfigError(f"group_of_weight {self.group_of_weight} is not a finite number from 0 on")
        if not 0 < self.iou <= 1:
            raise ConfigError(f"iou {self.iou} is outside (0, 1]")

    def match(self, detections: Detections, truth: Annotations) -> Matches:
        """Match the detections of some images with all their truth.

        Raises, Warns: as `on_same_images`.
        """
        detections, truth = self.on_same_images(detections, truth)
        outcome, tied = self.outcomes(detections, truth)
        return self.kept(detections, truth, outcome, tied)

    def on_same_images(self, detections: Detections, truth: Annotations) -> tuple[Detections, Annotations]:
        """Both tables on the images of both.

        Raises:
            InputError: another vocabulary; for VOC, an image that the truth does not know.
        Warns:
            InputWarning: for Open Images, detections on images that the truth does not know: as in the reference,
                nothing is there, and nothing verified.
        """
        unknown = self.unknown_images(detections, truth)
        if unknown:
            self.tell_unknown(unknown, len(detections))
            truth = with_images(truth, unknown)
        return detections.aligned(truth), truth

    def unknown_images(self, detections: Detections, truth: Annotations) -> dict[str, int]:
        """Images that the truth does not know, with their detections; none where these are an error."""
        if not self.absorbing or detections.image_ids == truth.image_ids:
            return {}
        known, counts = set(truth.image_ids), np.diff(detections.offsets).tolist()
        found = zip(detections.image_ids, counts, strict=True)
        return {id_: count for id_, count in found if count and id_ not in known}

    def tell_unknown(self, unknown: Mapping[str, int], found: int) -> None:
        """Warn of the images that `unknown_images` gives.

        Args:
            found: detections, all together.
        """
        fate = "they are ignored" if self.verified_only else "they are false positives"
        message = (
            f"{sum(unknown.values()):,} of {found:,} detections are on {len(unknown):,} images that the "
            f"truth does not know ({_some(list(unknown))}); {fate}"
        )
        warnings.warn(message, InputWarning, stacklevel=5)

    def outcomes(self, detections: Detections, truth: Annotations) -> tuple[Outcomes, Bools]:
        """`match` by this protocol, of tables on the same images."""
        return match(
            detections,
            truth,
            absorbing=self.absorbing,
            iou=self.iou,
            verified_only=self.verified_only,
            limit=self.limit,
        )

    def kept(self, detections: Detections, truth: Annotations, outcome: Outcomes, tied: Bools) -> Matches:
        """What `outcomes` gives, kept small."""
        return kept(
            detections,
            truth,
            outcome,
            tied,
            protocol=self.name,
            group_of_weight=self.group_of_weight,
            verified_only=self.verified_only,
            iou=self.iou,
        )

    def result(self, matches: Matches, *, has_image_labels: bool = True) -> EvaluationResult:
        """Numbers of all matches.

        Args:
            has_image_labels: of the truth; only for a warning.
        Warns:
            InputWarning: detections without area; a truth without any image label where they matter.
        """
        counts = matches.outcomes_by_class()
        self._tell(counts.sum(axis=0), has_image_labels=has_image_labels)
        curve = curves(matches)
        f1, threshold = best_f1(curve)
        true = counts[:, TRUE] + counts[:, GROUP]
        ordinary, groups = matches.truth_by_class.T
        return EvaluationResult(
            matches.vocabulary,
            average_precisions(curve, area=self.area),
            ordinary + groups if matches.group_of_weight else ordinary,
            true + counts[:, FALSE],
            self.name,
            columns={
                "true_positives": true,
                "false_positives": counts[:, FALSE],
                "ignored": counts[:, IGNORED:].sum(axis=1),
                "best_f1": f1,
                "threshold": threshold,
            },
            curves=curve,
            matches=matches,
        )

    def _tell(self, counts: np.ndarray[tuple[int], np.dtype[np.int64]], *, has_image_labels: bool) -> None:
        found = int(counts.sum())
        if counts[NO_AREA]:
            message = f"{counts[NO_AREA]:,} of {found:,} detections have no area or are turned around; they are dropped"
            warnings.warn(message, InputWarning, stacklevel=4)
        if counts[UNVERIFIED] and not has_image_labels:
            message = (
                f"the truth has no image labels: {counts[UNVERIFIED]:,} of {found:,} detections are ignored, being of "
                "a class that has no box in their image"
            )
            warnings.warn(message, InputWarning, stacklevel=4)


def with_images(truth: Annotations, ids: Iterable[str]) -> Annotations:
    """The truth with further images, in which nothing is."""
    image_ids = (*truth.image_ids, *ids)
    sizes = np.vstack([truth.sizes, np.ones((len(image_ids) - len(truth.sizes), 2))])
    return replace(truth, image_ids=image_ids, sizes=sizes, file_names=())


def _some(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:3])) + (" ..." if len(ids) > 3 else "")
