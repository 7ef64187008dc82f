"""What a browser's kernel lacks is imported where it is used, and no metric loads a model."""

import subprocess
import sys

import pytest

ABSENT = ("isal", "ismn", "rasterio")
LIGHT = (
    "soilkit", "soilkit.export", "soilkit.export.insitu", "soilkit.export.tables",
    "soilkit.export.published", "soilkit.export.join", "soilkit.metrics",
    "soilkit.metrics.splits", "soilkit.metrics.evaluation", "soilkit.world",
)  # fmt: skip


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_where_the_heavy_ones_are_absent(module):
    """In a process of its own: other tests have loaded them all."""
    words = f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r})); import {module}; "
    words += "sys.exit('torch is loaded' if 'torch' in sys.modules else 0)"
    answer = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
