"""How fast a run goes: images a second, share of time spent waiting for data, time left."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

WINDOW = 50
"""Steps that the pace is the mean of."""


class Pace:
    """Times steps, each of `images` images; what lies between them (evaluations, checkpoints) does not count.

    >>> pace = Pace(images=8)
    >>> with pace.step():
    ...     with pace.waiting():
    ...         pass
    >>> sorted(pace.values(steps_left=10))
    ['data_wait', 'eta', 'images_per_second']
    """

    def __init__(self, *, images: int) -> None:
        self.images = images
        self._steps: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._waited = 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around a step."""
        began, self._waited = perf_counter(), 0.0
        yield
        self._steps.append((perf_counter() - began, self._waited))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a wait for data, inside a step."""
        began = perf_counter()
        yield
        self._waited += perf_counter() - began

    def values(self, *, steps_left: int) -> dict[str, float]:
        """images_per_second over all processes, data_wait in [0, 1], eta in seconds; of the last `WINDOW` steps."""
        seconds, waited = (sum(column) for column in zip(*self._steps, strict=True))
        a_step = seconds / len(self._steps)
        return {
            "images_per_second": self.images / a_step,
            "data_wait": waited / seconds,
            "eta": steps_left * a_step,
        }
