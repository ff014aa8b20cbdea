"""The checkpoints of a run's folder: the newest, some before it, and the best.

checkpoint.pt             the newest
checkpoint-00000400.pt    the ones before it, by step
best.pt                   the one of the best evaluation, and best.json, which tells it
"""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from pathlib import Path

from wildbox.errors import InputError, InputWarning, WildboxError
from wildbox.formats.files import whole_file, write_json
from wildbox.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


class CheckpointFolder:
    """Saves, keeps, and finds again. One process writes.

    Args:
        folder: of the run.
        keep: how many of the newest stay, at least 1.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self.newest = folder / "checkpoint.pt"
        self.best = folder / "best.pt"
        self._newest_step: int | None = None

    def check_space(self, size: int) -> None:
        """Refuse to begin what could not be saved.

        Args:
            size: of one checkpoint, in bytes.
        Raises:
            WildboxError: less is free.
        """
        free = shutil.disk_usage(self.folder).free
        there = len(self._earlier()) + self.newest.exists()
        more = max(self.keep + 1 - there, 1)  # a new one is whole before the oldest goes
        if free < more * size:
            raise WildboxError(
                f"{self.folder}: {free / 1e6:,.0f} MB are free, {more} checkpoints of about {size / 1e6:,.0f} MB are "
                "to come; make room, lower schedule.keep_checkpoints, or choose another output folder"
            )

    def save(self, checkpoint: Checkpoint) -> None:
        """Make this the newest. Killed at any moment, the folder holds the new one or the one before."""
        if self._newest_step is not None:
            _link(self.newest, self._earlier_path(self._newest_step))
        save_checkpoint(checkpoint, self.newest)
        self._newest_step = checkpoint.step
        for path in self._earlier()[self.keep - 1 :]:
            path.unlink()

    def load(self) -> Checkpoint | None:
        """The newest that is whole, or else the best, which then is `checkpoint.pt`; None where there is none.

        Raises:
            InputError: there are some but all are damaged.
        Warns:
            InputWarning: one is absent or damaged and was passed over; the damaged is renamed to end in `.damaged`.
        """
        self._remove_leftovers()
        earlier = self._earlier()
        others = bool(earlier) or self.best.exists()
        problems = [f"{self.newest}: is gone"] if others and not self.newest.exists() else []
        for path in (self.newest, *earlier, self.best):
            if not path.exists():
                continue
            try:
                found = load_checkpoint(path)
            except InputError as error:
                problems.append(str(error))
                path.replace(path.with_name(path.name + ".damaged"))
                continue
            if path != self.newest:
                _link(path, self.newest)
            self._newest_step = found.step
            for problem in problems:
                warnings.warn(
                    f"{problem}; going on from step {found.step}, the one before", InputWarning, stacklevel=2
                )
            return found
        problems = problems or [f"{path}: was damaged" for path in sorted(self.folder.glob("*.pt.damaged"))]
        if problems:
            raise InputError(f"{'; '.join(problems)}; no other is left: choose another output folder")
        return None

    def mark_best(self, step: int, mean_ap: float, measure: str = "") -> bool:
        """Keep the newest, of this step, as the best if it is better than those before; whether it is.

        Args:
            measure: what the mean AP was measured by and on; one of another measure before is no better.
        """
        if math.isnan(mean_ap):
            return False
        known = json.loads(self._best_file.read_text()) if self._best_file.exists() else None
        if known is not None and known.get("measure", measure) != measure:
            known = None
        if known is not None and known["step"] < step and not mean_ap > known["mean_ap"]:
            return False
        _link(self.newest, self.best)
        write_json({"step": step, "mean_ap": mean_ap, "measure": measure}, self._best_file)
        return True

    def clear(self) -> None:
        """Remove all of an earlier run."""
        self._remove_leftovers()
        damaged = self.folder.glob("*.pt.damaged")
        for path in (self.newest, self.best, self._best_file, *self._earlier(), *damaged):
            path.unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """Of a process that was killed while it wrote."""
        for path in self.folder.glob(".*.pt.*.tmp"):
            path.unlink(missing_ok=True)

    @property
    def _best_file(self) -> Path:
        return self.folder / "best.json"

    def _earlier_path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step:08}.pt"

    def _earlier(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("checkpoint-????????.pt"), reverse=True)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, at once; a copy where the file system has no links."""
    if target.exists() and os.path.samefile(source, target):
        return
    with whole_file(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
