"""One run: settings in, a trained checkpoint out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

import torch
from lightning_fabric import Fabric
from torch import Tensor

from wildbox.detectors.dataset import check_files
from wildbox.evaluation import EvaluationResult
from wildbox.training.checkpoint_folder import CheckpointFolder
from wildbox.training.config import RunConfig
from wildbox.training.devices import first_process_first, launch
from wildbox.training.full_disk import full_disk_told
from wildbox.training.log import RunLog
from wildbox.training.one_run import alone_in
from wildbox.training.settings import write_config
from wildbox.training.source import Source, load_source, with_vocabulary_of
from wildbox.training.stopping import Stopped
from wildbox.training.trainer import Trainer
from wildbox.training.validation import Validation

Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called with steps done, all steps, and `loss`, `images_per_second`, `data_wait` (a share), `eta` (seconds)."""


def train(
    config: RunConfig,
    out: str | Path,
    *,
    source: Source | None = None,
    resume: bool = True,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> Path:
    """Train and leave `config.json`, `log.jsonl`, `checkpoint.pt` in `out`; see `docs/training.md` for the rest.

    Where the settings, torchrun or a cluster's scheduler ask for several processes, each of them calls this.

    Args:
        source: the data, where it is already loaded; else read as `config.data` says.
        resume: continue from the checkpoint in `out` where there is one, else start anew and remove what is there.
            With the same settings, seed and number of processes the result is the same to the bit on the CPU.
        progress: called after every step, in the first process.
        stop: asked after every step; where it is true in any process, all save and raise `Stopped`.
    Returns:
        the checkpoint's path.
    Raises:
        ConfigError, InputError: settings or data that are wrong, a checkpoint of another run.
        Stopped: `stop` asked for it.
        WildboxError: no space left, a loss that is not finite, another run in `out`. The checkpoints are kept.
    """
    out = Path(out)
    advice = "resume (and lower schedule.keep_checkpoints): the checkpoints written before are whole"
    with full_disk_told(out, advice=advice), ExitStack() as held:
        out.mkdir(parents=True, exist_ok=True)
        fabric = launch(config)
        torch.set_num_threads(config.threads)
        with first_process_first(fabric):  # it cuts tiles, the others find them
            if fabric.is_global_zero:
                held.enter_context(alone_in(out))
            source = source or load_source(config.data, tiles=out / "tiles")
            check_files(source.annotations, source.folder, max_absent_share=config.data.max_corrupt_share)
            validation = _validation(config, source, out, fabric)
        trainer = Trainer(config, source, fabric)
        folder = CheckpointFolder(out, keep=config.schedule.keep_checkpoints)
        _begin(trainer, folder, validation, resume=resume)
        run = _Run(trainer, folder, validation, progress, stop)
        with RunLog(out, config, step=trainer.step, writes=fabric.is_global_zero) as log:
            run.go(log)
    return folder.newest


def _validation(config: RunConfig, training: Source, out: Path, fabric: Fabric) -> Validation | None:
    if config.validation is None:
        return None
    source = with_vocabulary_of(load_source(config.validation, tiles=out / "tiles-validation"), training)
    check_files(source.annotations, source.folder, max_absent_share=config.validation.max_corrupt_share)
    return Validation(source, out, config, fabric)


def _begin(
    trainer: Trainer, folder: CheckpointFolder, validation: Validation | None, *, resume: bool
) -> None:
    """Restore the newest checkpoint in all processes, or remove what an earlier run left."""
    fabric = trainer.fabric
    with first_process_first(fabric):
        if resume:
            saved = folder.load()
            if saved is not None:
                trainer.restore(saved)
        elif fabric.is_global_zero:
            folder.clear()
            if validation is not None:
                validation.clear()
    if fabric.is_global_zero:
        folder.check_space(trainer.checkpoint_bytes)
        write_config(trainer.config, folder.folder / "config.json")


class _Run:
    """The loop around the steps: what happens between them, and when."""

    def __init__(
        self,
        trainer: Trainer,
        folder: CheckpointFolder,
        validation: Validation | None,
        progress: Progress | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        self.trainer, self.folder, self.validation = trainer, folder, validation
        self.fabric, self.steps = trainer.fabric, trainer.config.schedule.steps
        self.progress = progress if self.fabric.is_global_zero else None
        self.stop = stop

    def go(self, log: RunLog) -> None:
        """Train what is left."""
        began = perf_counter()
        if self._is_due(self.trainer.step) and not self._is_evaluated():
            self._evaluate(log)  # killed between the checkpoint and its evaluation
        while self.trainer.step < self.steps:
            values = self.trainer.train_step()
            step = self.trainer.step
            if step % self.trainer.config.log.every == 0 or step == self.steps:
                log.write(
                    step, self._mean(values) | self._pace() | {"seconds": round(perf_counter() - began, 2)}
                )
            if self.progress is not None:
                loss = sum(float(value) for name, value in values.items() if name.startswith("loss"))
                self.progress(step, self.steps, {"loss": loss, **self._pace()})
            stopping = self._any_stop()
            every = self.trainer.config.schedule.checkpoint_every
            if step % every == 0 or step == self.steps or self._is_due(step) or stopping:
                self._save()
            if self._is_due(step):
                self._evaluate(log)
            if stopping and step < self.steps:
                raise Stopped(step=step, steps=self.steps)

    def _mean(self, values: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Over all processes."""
        if self.fabric.world_size > 1:
            stacked = torch.stack(
                [torch.as_tensor(v, device=self.fabric.device).double() for v in values.values()]
            )
            values = dict(zip(values, self.fabric.all_reduce(stacked, reduce_op="mean"), strict=True))
        return {name: float(value) for name, value in values.items()}

    def _pace(self) -> dict[str, float]:
        return self.trainer.pace.values(steps_left=self.steps - self.trainer.step)

    def _any_stop(self) -> bool:
        if self.stop is None:
            return False
        asked = self.stop()
        if self.fabric.world_size == 1:
            return asked
        flag = torch.tensor(float(asked), device=self.fabric.device)
        return bool(self.fabric.all_reduce(flag, reduce_op="max"))

    def _save(self) -> None:
        checkpoint = self.trainer.checkpoint()
        if self.fabric.is_global_zero:
            self.folder.save(checkpoint)
        self.fabric.barrier()  # no process leaves before it is written

    def _is_due(self, step: int) -> bool:
        return self.validation is not None and self.validation.is_due(step, self.steps)

    def _is_evaluated(self) -> bool:
        """As the first process sees it."""
        done = self.validation is not None and self.validation.is_done(self.trainer.step)
        return bool(self.fabric.broadcast(done))

    def _evaluate(self, log: RunLog) -> None:
        assert self.validation is not None
        step = self.trainer.step

        def leave_if_asked() -> None:
            if self.stop is not None and self.stop():
                raise Stopped(step=step, steps=self.steps)

        results = self.validation.run(self.trainer, alive=leave_if_asked)
        if self.fabric.is_global_zero:
            log.write(step, _numbers(results))
            self.folder.mark_best(
                step, results.get("average", results["model"]).mean_ap, self.validation.measure
            )
            self.validation.write(results, step)


def _numbers(results: Mapping[str, EvaluationResult]) -> dict[str, float]:
    """For the log: the mean, which decides what is best, and the protocol's own numbers."""
    return {
        f"{number}_{name}": value
        for name, result in results.items()
        for number, value in {"mean_ap": result.mean_ap, **result.summary}.items()
    }
