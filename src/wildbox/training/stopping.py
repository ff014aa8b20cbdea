"""Leave on a signal, but not in the middle of a step."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self

from wildbox.errors import WildboxError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What a cluster's scheduler sends before it kills, and Ctrl-C."""


class Stopped(WildboxError):  # noqa: N818 - not an error: the run did as asked
    """A run was asked to stop; it is saved at `step`."""

    def __init__(self, *, step: int, steps: int) -> None:
        super().__init__(f"stopped and saved at step {step} of {steps}")
        self.step = step
        self.steps = steps


class StopSignal:
    """While the block runs, a signal is noted instead of ending the process; a second Ctrl-C acts as ever.

    Calling it tells whether one has come: give it to `train` as `stop`. Only in the main thread.

    >>> import os, signal
    >>> with StopSignal() as stop:
    ...     before = stop()
    ...     os.kill(os.getpid(), signal.SIGTERM)
    ...     before, stop(), stop.status
    (False, True, 143)
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._handlers: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self._received is not None

    @property
    def status(self) -> int:
        """Exit status that a shell or a scheduler takes for this signal: 143 for SIGTERM, 130 for Ctrl-C."""
        return 0 if self._received is None else 128 + self._received

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        if number == signal.SIGINT:
            signal.signal(number, self._handlers[number])
