"""One trial: everything that decides its weights, in one row, and the key that names it."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from soilkit.models.inputs import Inputs

FORMAT_VERSION = 1  # raised when the same definition would give other numbers
NOT_DECISIVE = ("recipe",)  # the data count by their hash, whatever the recipe is called


@dataclass(frozen=True)
class Trial:
    """A model, its inputs, its training and its seed; equal trials of two tables are run once.

    ``product`` names a coarse source that is scored as it comes, without training. ``withheld``
    lists sets of sources that are absent in further evaluations of the same weights.
    """

    recipe: str = "sentinel1"
    high: tuple[str, ...] = ("sentinel1", "dem", "sentinel2")
    low: tuple[str, ...] = ("soilgrids",)
    coarse: tuple[str, ...] = ("smap", "gldas")
    product: str = ""
    preset: str = "small"
    crop_px: int = 128
    encoder: str = "xception"
    pooling: str = "center"
    fusion: str = "late"
    source_dropout: float | None = None
    withheld: tuple[tuple[str, ...], ...] = ()
    loss: str = "huber"
    steps: int = 300
    batch_size: int = 32
    validations: int = 5
    optimizer: str = "adam"
    learning_rate: float = 0.002
    weight_decay: float = 0.01
    precision: str = "float32"
    seed: int = 0
    split_seed: int = 0

    @property
    def inputs(self) -> Inputs:
        """What the model eats."""
        return Inputs(self.high, self.low, self.coarse)

    @property
    def has_images(self) -> bool:
        """Whether an encoder is trained."""
        return bool(self.high or self.low)

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source that the trial needs, once."""
        names = (*self.high, *self.low, *self.coarse, *((self.product,) if self.product else ()))
        return tuple(dict.fromkeys(name.partition(".")[0] for name in names))

    @property
    def definition(self) -> dict[str, Any]:
        """All fields as plain values, as they stand in a row."""
        return json.loads(json.dumps(asdict(self)))

    def key(self, content_hash: str) -> str:
        """Names the trial on these data: 16 hex digits."""
        decisive = {k: v for k, v in self.definition.items() if k not in NOT_DECISIVE}
        words = [FORMAT_VERSION, content_hash, decisive]
        return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:16]

    def with_(self, **changes: Any) -> "Trial":
        """The same trial but for these fields."""
        return replace(self, **changes)
