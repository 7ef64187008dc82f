"""A job that dies; it imports nothing heavy, so that its process starts at once."""

import dataclasses
import os
from types import SimpleNamespace
from typing import Any


@dataclasses.dataclass
class Dying:
    """Ends its process without a word, as the system does with one that eats all memory."""

    work: Any
    key: str = "dying"
    cost: float = 1.0
    trial: Any = dataclasses.field(default_factory=lambda: SimpleNamespace(seed=0))

    def __call__(self):
        os._exit(9)

    def broke(self, why):
        from soilkit.studies import trials

        row = {"format_version": 1, "key": self.key, "status": why, "seconds": 0.0}
        trials.write_row(self.work, row)
