"""Average precision on the validation set while a run trains, by all its processes together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader, Subset

from wildbox.detections import Detections
from wildbox.detectors.dataset import DetectionDataset, Sample, collate
from wildbox.detectors.faster_rcnn import Detector
from wildbox.detectors.inference import predict
from wildbox.evaluation import EvaluationResult, evaluate
from wildbox.training.config import EvaluationConfig
from wildbox.training.source import Source
from wildbox.training.trainer import Trainer, gathered


class Validation:
    """The validation set of a run, and how its models fare on it.

    Leaves the per-class log of each evaluation as `evaluations/step-00000400.csv`, that of the averaged weights
    beside it with `-average`.

    Args:
        source: with the vocabulary of the training set.
        folder: of the run.
    """

    def __init__(self, source: Source, folder: Path, config: EvaluationConfig, fabric: Fabric) -> None:
        self.source, self.folder, self.config, self.fabric = source, folder / "evaluations", config, fabric

    def is_due(self, step: int, steps: int) -> bool:
        """Every so many steps, and after the last."""
        return step > 0 and (step % self.config.every == 0 or step == steps)

    def is_done(self, step: int) -> bool:
        """Whether the log of this step's evaluation is there."""
        return self._log(step).exists()

    def run(self, trainer: Trainer, *, alive: Callable[[], None]) -> dict[str, EvaluationResult]:
        """Evaluate the present weights, and the averaged ones where there are any.

        Args:
            alive: called between batches; may raise to leave.
        Returns:
            in the first process name of the weights (`model`, `average`) -> result; in the others nothing.
        """
        models = {"model": trainer.model}
        if trainer.average is not None:
            models["average"] = trainer.average.module
        results = {}
        for name, model in models.items():
            found = self._predict(model, alive)
            if found is not None:
                results[name] = self._evaluate(found)
        trainer.training_mode()
        return results

    def write(self, results: Mapping[str, EvaluationResult], step: int) -> None:
        """The logs; that of the model itself last: where it is, all is done."""
        for name, result in sorted(results.items()):
            result.write(self._log(step, "" if name == "model" else f"-{name}"))

    def clear(self) -> None:
        """Remove the logs of an earlier run."""
        for path in self.folder.glob("step-*.csv"):
            path.unlink()

    def _log(self, step: int, name: str = "") -> Path:
        return self.folder / f"step-{step:08}{name}.csv"

    def _predict(self, model: Detector, alive: Callable[[], None]) -> Detections | None:
        """The detections of all processes, in the first of them."""
        table, rank, world = self.source.annotations, self.fabric.global_rank, self.fabric.world_size
        dataset = DetectionDataset(table, self.source.folder, objects=None)
        mine = range(rank, len(dataset), world)
        loader: DataLoader[Sample] = DataLoader(
            Subset(dataset, mine),
            batch_size=self.config.batch_size,
            collate_fn=collate,
            generator=torch.Generator(),  # the loader must not draw from the stream that training uses
        )
        scorings = {"own": model.roi_heads.rule.scores}
        found = predict(model, loader, table, scorings=scorings, progress=lambda _: alive())["own"]
        columns = (found.image, found.boxes, found.label, found.score)
        parts = gathered(columns, self.fabric)
        if not self.fabric.is_global_zero:
            return None
        image, boxes, label, score = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Detections(table.vocabulary, table.image_ids, image, boxes, label, score)

    def _evaluate(self, found: Detections) -> EvaluationResult:
        return evaluate(
            found,
            self.source.annotations,
            protocol=self.config.protocol,
            hierarchy=self.source.hierarchy,
        )
