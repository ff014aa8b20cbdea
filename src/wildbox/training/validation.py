"""Average precision on the validation set while a run trains, by all its processes together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from lightning_fabric import Fabric

from wildbox.detections import Detections, concatenate_detections
from wildbox.detectors.detector import Detector
from wildbox.detectors.inference import predict
from wildbox.detectors.loading import images_in_order
from wildbox.errors import ConfigError
from wildbox.evaluation import CocoTruth, EvaluationResult, evaluate, protocol_named, read_coco_truth
from wildbox.evaluation.streaming import StreamingEvaluator
from wildbox.training.config import RunConfig
from wildbox.training.evaluation import gather_evaluator
from wildbox.training.source import Source
from wildbox.training.trainer import Trainer, gathered


class Validation:
    """The validation set of a run, and how its models fare on it.

    Each process predicts every so-manieth image. Leaves the per-class log of each evaluation as
    `evaluations/step-00000400.csv`, that of the averaged weights beside it with `-average`.

    Args:
        source: with the vocabulary of the training set.
        folder: of the run.
    Raises:
        ConfigError: for COCO and LVIS, where the file has other classes than the training set.
    """

    def __init__(self, source: Source, folder: Path, config: RunConfig, fabric: Fabric) -> None:
        self.source, self.folder = source, folder / "evaluations"
        self.settings, self.fabric = config.evaluation, fabric
        assert config.validation is not None
        self._workers, self._corrupt_share = config.schedule.workers, config.validation.max_corrupt_share
        images = len(source.annotations.image_ids)
        self._mine = source.annotations.select(range(fabric.global_rank, images, fabric.world_size))
        self._coco: CocoTruth | None = None
        if self.settings.protocol in ("coco", "lvis") and fabric.is_global_zero:
            self._coco = read_coco_truth(config.validation.boxes)
            if self._coco.vocabulary.ids != source.annotations.vocabulary.ids:
                raise ConfigError(
                    f"{config.validation.boxes}: evaluation.protocol {self.settings.protocol} needs the categories of "
                    "the training file, in the same order"
                )

    @property
    def measure(self) -> str:
        """By what and on what models are measured: what differs in it does not compare."""
        truth = self.source.annotations
        return f"{self.settings.protocol}, {len(truth.image_ids)} images, {len(truth)} boxes"

    def is_due(self, step: int, steps: int) -> bool:
        """Every so many steps, and after the last."""
        return step > 0 and (step % self.settings.every == 0 or step == steps)

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
        models: dict[str, Detector] = {"model": trainer.model}
        if trainer.average is not None:
            models["average"] = cast(Detector, trainer.average.module)
        results = {name: self._result(self._predict(model, alive)) for name, model in models.items()}
        trainer.training_mode()
        return {name: result for name, result in results.items() if result is not None}

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

    def _predict(self, model: Detector, alive: Callable[[], None]) -> Detections:
        """On the images of this process."""
        loader = images_in_order(
            self._mine,
            self.source.folder,
            batch_size=self.settings.batch_size,
            workers=self._workers,
            max_corrupt_share=self._corrupt_share,
        )
        scorings = {"own": model.roi_heads.rule.scores}
        return predict(model, loader, self._mine, scorings=scorings, progress=lambda _: alive())["own"]

    def _result(self, found: Detections) -> EvaluationResult | None:
        """Of the detections of all processes, in the first of them."""
        protocol = self.settings.protocol
        if protocol not in ("coco", "lvis"):
            evaluator = StreamingEvaluator(protocol_named(protocol), self.source.hierarchy)
            evaluator.update(found, self._mine)
            evaluator = gather_evaluator(evaluator)
            return evaluator.compute() if self.fabric.is_global_zero else None
        parts = gathered(found, self.fabric)
        return (
            None
            if self._coco is None
            else evaluate(concatenate_detections(parts), self._coco, protocol=protocol)
        )
