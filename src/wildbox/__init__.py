"""wildbox: find, measure and beat label imbalance and multi-labels in object detection.

The names that stand here are those of the lower half: tables, readers, audit, evaluation. What needs torch is imported
by room: `wildbox.classification`, `wildbox.sampling`, `wildbox.detectors`, `wildbox.training`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wildbox.interface import *  # noqa: F403
else:
    import sys
    from importlib import import_module

    def __getattr__(name):
        """The names of `wildbox.interface`, imported with the first: a room alone needs none of its libraries."""
        # Python asks for rooms too, while they are imported
        if name == "__all__" or not (name.startswith("_") or f"{__name__}.{name}" in sys.modules):
            interface = import_module("wildbox.interface")
            if name == "__all__" or name in interface.__all__:
                return getattr(interface, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *import_module("wildbox.interface").__all__})
