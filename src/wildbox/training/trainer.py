"""The mutable state of a run, and one step of it: weights, optimizer, random streams."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from wildbox.annotations import Annotations
from wildbox.detectors.loading import Batch
from wildbox.errors import ConfigError, InputError, InputWarning, WildboxError
from wildbox.labels.concurrency import concurrent_rates, count_concurrency
from wildbox.labels.counts import count_classes
from wildbox.training.batches import training_batches
from wildbox.training.checkpoint import Checkpoint
from wildbox.training.config import DataConfig, ModelConfig, RunConfig
from wildbox.training.model import build_dataset, build_model
from wildbox.training.optimization import averaged_weights, build_optimizer, freeze, learning_rate_share
from wildbox.training.pace import Pace
from wildbox.training.source import Source

WITHOUT_INFLUENCE = {"schedule.checkpoint_every", "schedule.keep_checkpoints", "schedule.workers"}
"""Settings that may differ when a run is resumed."""
OF_THE_DATA = ("tile_size", "tile_overlap", "group_of", "augment")
"""Settings of the data that the weights depend on; its files may lie elsewhere."""
IN_THE_LAST_DIGITS = {
    *("schedule.accumulate", "schedule.precision", "schedule.channels_last", "schedule.compile"),
    "threads",
}
"""Those that may, but then the run does not continue to the bit."""


def training_rates(expanded: Annotations, source: Source, config: ModelConfig) -> Tensor:
    """Concurrent rates (C + 1, C + 1) of the expanded truth, the background last."""
    rates = concurrent_rates(
        count_concurrency(expanded),
        vocabulary=expanded.vocabulary,
        hierarchy=source.hierarchy,
        min_ratio=config.rate_threshold,
        bound=config.rate_bound,
    ).sharpened(config.rate_gamma)
    return torch.from_numpy(rates.with_background()).float()


def learned_boxes(expanded: Annotations, config: DataConfig) -> Annotations:
    """The boxes that are trained on: all, or those that are no groups.

    Raises:
        InputError: there is none.
    """
    learned = expanded if config.group_of == "train" else expanded.keep(~expanded.is_group_of)
    if not len(learned):
        raise InputError("no box to learn from on any image that is left", path=config.boxes)
    return learned


class Trainer:
    """A run in one of its processes.

    Args:
        source: the training set.
        fabric: launched.
    """

    def __init__(self, config: RunConfig, source: Source, fabric: Fabric) -> None:
        self.config, self.fabric = config, fabric
        self.truth, self.relative = source.expanded, source.relative
        self.learned = learned_boxes(self.truth, config.data)
        self.rates = training_rates(self.learned, source, config.model)
        schedule = config.schedule
        torch.manual_seed(config.seed)
        images = count_classes(self.learned).images / len(self.learned.image_ids)
        self.model = build_model(
            config.model,
            classes=len(self.truth.vocabulary),
            rates=self.rates,
            frequencies=torch.from_numpy(images),
            vocabulary=self.truth.vocabulary,
        )
        self._frozen_norms = freeze(self.model, schedule.freeze)
        self.model.to(fabric.device)
        if schedule.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.average = averaged_weights(self.model, schedule.average) if schedule.average else None
        if schedule.compile:
            self.model.backbone.compile()
        self.network, self.optimizer = fabric.setup(self.model, build_optimizer(self.model, schedule))
        if fabric.global_rank > 0:  # the weights are the same everywhere, what is drawn from here on is not
            torch.manual_seed(_seed_of(config.seed, fabric.global_rank))
        self.step = 0
        self.pace = Pace(images=schedule.batch_size)
        self.dataset = build_dataset(config, self.truth, source.folder)
        self._batches: Iterator[Batch] | None = None

    def train_step(self) -> dict[str, Tensor | float]:
        """One step of the optimizer.

        Returns:
            the losses of this process (tensors, on its device), `learning_rate` and `gradient_norm`.
        Raises:
            WildboxError: the gradient is not finite, or a GPU is out of memory.
        """
        with self.pace.step():
            try:
                return self._step()
            except RuntimeError as error:
                if "out of memory" not in str(error):
                    raise
                raise self._out_of_memory(error) from error

    def _step(self) -> dict[str, Tensor | float]:
        schedule = self.config.schedule
        rate = schedule.learning_rate * learning_rate_share(self.step, schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        summed: dict[str, Tensor] = {}
        for part in range(schedule.accumulate):
            with self.pace.waiting():
                batch = self._next_batch()
            together = part == schedule.accumulate - 1 or self.fabric.world_size == 1
            with self.fabric.no_backward_sync(self.network, enabled=not together):
                try:
                    losses = self.network(*self.fabric.to_device(batch))
                except InputError as error:  # the rule's: labels are checked before, so logits
                    raise WildboxError(f"step {self.step}: {error}; try a lower learning_rate") from error
                if schedule.accumulate > 1:
                    losses = {name: loss / schedule.accumulate for name, loss in losses.items()}
                self.fabric.backward(torch.stack(list(losses.values())).sum())
            for name, loss in losses.items():
                summed[name] = summed[name] + loss.detach() if part else loss.detach()
        norm = self.fabric.clip_gradients(
            self.network,
            self.optimizer,
            max_norm=schedule.clip_norm or float("inf"),
            error_if_nonfinite=False,
        )
        assert norm is not None
        # the norm is the same in all processes, so that they all end here
        if not torch.isfinite(norm + torch.stack(list(summed.values())).sum()):
            shown = {name: loss.item() for name, loss in summed.items()}
            raise WildboxError(f"step {self.step}: the loss is {shown}; try a lower learning_rate")
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1
        return {**summed, "learning_rate": rate, "gradient_norm": norm}

    def _next_batch(self) -> Batch:
        if self._batches is None:
            self.training_mode()
            self._batches = training_batches(
                self.dataset,
                self.learned,
                self.config,
                step=self.step,
                rank=self.fabric.global_rank,
                world_size=self.fabric.world_size,
                pin_memory=self.fabric.device.type == "cuda",
            )
        return next(self._batches)

    def training_mode(self) -> None:
        """Train, but for what is frozen."""
        self.model.train()
        for norm in self._frozen_norms:
            norm.eval()

    def _out_of_memory(self, error: RuntimeError) -> ConfigError:
        schedule, world = self.config.schedule, self.fabric.world_size
        at_once = schedule.batch_size // (world * schedule.accumulate)
        hints = [f"model.image_size below {self.config.model.image_size}"]
        if at_once > 1:
            hints.insert(0, f"schedule.accumulate = {schedule.accumulate * _least_factor(at_once)}")
        if schedule.precision == "32":
            hints.insert(-1, 'schedule.precision = "bf16-mixed"')
        return ConfigError(
            f"step {self.step}: out of memory with {at_once} images of {self.config.model.image_size} pixels at once "
            f"(schedule.batch_size {schedule.batch_size}, {world} processes, schedule.accumulate "
            f"{schedule.accumulate}); set {', or '.join(hints)}, and resume from the last checkpoint. "
            f"torch says: {str(error).splitlines()[0]}"
        )

    @property
    def checkpoint_bytes(self) -> int:
        """About what a checkpoint takes: the weights, what the optimizer keeps of each, and the average."""
        copies = 1 + (2 if self.config.schedule.optimizer == "adamw" else 1) + (self.average is not None)
        weights: int = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return copies * weights

    def checkpoint(self) -> Checkpoint:
        """The whole state; to be called in all processes at once."""
        for module in (self.model, self.average):
            if module is not None:
                _share_buffers(module, self.fabric)
        return Checkpoint(
            step=self.step,
            config=self.config.model_dump(mode="json"),
            vocabulary=self.truth.vocabulary,
            relative=self.relative,
            images=len(self.truth.image_ids),
            boxes=len(self.truth),
            rates=self.rates,
            model=self.model.state_dict(),
            average=None if self.average is None else self.average.module.state_dict(),
            optimizer=self.optimizer.state_dict(),
            random_states=gathered(_random_state(self.fabric.device), self.fabric),
            data=self._data,
        )

    def restore(self, saved: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            ConfigError: it is of other classes, another number of images or boxes, or other settings.
        Warns:
            InputWarning: settings or a number of processes that change the last digits.
        """
        self._check_same_data(saved)
        self._check_same_settings(RunConfig.model_validate(saved.config))
        self.model.load_state_dict(saved.model)
        if self.average is not None and saved.average is not None:
            self.average.module.load_state_dict(saved.average)
            self.average.n_averaged.fill_(saved.step)
        self.optimizer.load_state_dict(saved.optimizer)
        self.step = saved.step
        self._batches = None
        rank, world = self.fabric.global_rank, self.fabric.world_size
        if len(saved.random_states) != world:
            self._tell(
                f"step {saved.step} was trained by {len(saved.random_states)} processes, now {world}: "
                "the run continues, but not to the bit"
            )
        if rank < len(saved.random_states):
            _set_random_state(saved.random_states[rank], self.fabric.device)
        else:
            torch.manual_seed(_seed_of(self.config.seed, rank, self.step))

    def _check_same_data(self, saved: Checkpoint) -> None:
        if saved.vocabulary != self.truth.vocabulary:
            raise ConfigError(
                f"the checkpoint was trained on {len(saved.vocabulary)} classes, and the data now has "
                f"{len(self.truth.vocabulary)}, not the same in the same order; choose another output folder"
            )
        now = (len(self.truth.image_ids), len(self.truth))
        if (saved.images, saved.boxes) != now:
            raise ConfigError(
                f"the checkpoint was trained on {saved.images:,} images with {saved.boxes:,} boxes, and the data now "
                f"has {now[0]:,} with {now[1]:,}; choose another output folder"
            )
        if saved.data and saved.data != self._data:
            raise ConfigError(
                "the checkpoint was trained on other boxes, labels or images, as many as now; choose another output "
                "folder"
            )

    @cached_property
    def _data(self) -> str:
        """Digest of all of the training set that weights depend on, but for the images' pixels."""
        table = self.truth
        digest = hashlib.blake2b("\n".join(table.image_ids).encode(), digest_size=16)
        for column in (table.offsets, table.boxes, table.label, table.is_group_of, table.sizes):
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()

    def _check_same_settings(self, before: RunConfig) -> None:
        changed = {
            key: f"{key} was {old}, now {new}"
            for (key, old), (_, new) in zip(_of_influence(before), _of_influence(self.config), strict=True)
            if old != new
        }
        told = ", ".join(changed.values())
        if not changed.keys() <= IN_THE_LAST_DIGITS:
            raise ConfigError(
                f"the checkpoint was trained with other settings ({told}); choose another output folder or do not "
                "resume"
            )
        if changed:
            self._tell(f"{told}: the run continues, but not to the bit")

    def _tell(self, text: str) -> None:
        if self.fabric.is_global_zero:
            warnings.warn(text, InputWarning, stacklevel=3)


def _of_influence(config: RunConfig) -> list[tuple[str, object]]:
    """Name and value of every setting that the weights depend on, but for the data's files."""
    values = config.model_dump(mode="json")
    nested = [(f"{table}.{key}", value) for table in ("model", "sampling", "schedule")
              for key, value in values[table].items()]  # fmt: skip
    nested += [(f"data.{key}", values["data"][key]) for key in OF_THE_DATA]
    alone = [(key, values[key]) for key in ("seed", "threads")]
    return [(key, value) for key, value in nested + alone if key not in WITHOUT_INFLUENCE]


def _share_buffers(model: torch.nn.Module, fabric: Fabric) -> None:
    """Give all processes the first one's running statistics; between steps each has its own."""
    if fabric.world_size > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)


def _seed_of(seed: int, *parts: int) -> int:
    """A seed of its own for a part of a run, in [0, 2^64)."""
    return int(np.random.SeedSequence((seed, *parts)).generate_state(1, np.uint64)[0])


def _least_factor(number: int) -> int:
    return next(n for n in range(2, number + 1) if number % n == 0)


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def gathered(value: Any, fabric: Fabric) -> list[Any]:
    """The values of all processes, in order of rank, in each of them."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values
