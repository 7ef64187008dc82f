"""The layers of a region around a station: the scenes that the join chose, cut wider."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from soilkit import sources
from soilkit.contracts import Archive, Chip
from soilkit.datasets import Inputs, source_of
from soilkit.errors import CheckpointError, ContractError, SceneNotFoundError
from soilkit.export.chips.requests import Planner


def region_chips(
    sample: Any, archive: Archive, *, stations: Any, inputs: Inputs, size_px: int
) -> dict[str, Chip]:
    """The image layers around a sample's station, of the very scenes that the join chose for it.

    Parameters
    ----------
    sample : samples table of one row
    archive : the archive that the sample was joined with
    stations : stations table
    inputs : Inputs, whose high and low sources are cut
    size_px : int, pixels of 10 m a side; low-resolution layers cover the same ground at 160 m

    Returns
    -------
    {source: Chip} with all bands of the catalogue, stored values

    Raises
    ------
    ContractError
        When the table holds another number of samples than one.
    SceneNotFoundError
        When the archive has no such chip; it says why.
    """
    if len(sample) != 1:
        raise ContractError(
            f"A region is cut for one sample at a time, found {len(sample)}. Hand one row."
        )
    planner = Planner(sample, stations, size_px=size_px, version=archive.version)
    requests = []
    names = dict.fromkeys(source_of(entry) for entry in (*inputs.high, *inputs.low))
    for name in names:
        source = sources.get(name)
        requests += planner.requests(source, [band.name for band in source.bands])
    found = {}
    for request, answer in archive.chips(requests):
        if not isinstance(answer, Chip):
            raise SceneNotFoundError(
                f"No {request.source} over the region around {request.station_id}: "
                f"{answer.reason}. Choose another sample, or a smaller region."
            )
        found[request.source] = answer
    return {name: found[name] for name in names}


def stored_statistics(
    normalisation: Mapping[str, Mapping[str, Any]], inputs: Inputs
) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each coarse source, out of a checkpoint's normalisation.

    Parameters
    ----------
    normalisation : of a checkpoint: plain numbers by channel
    inputs : Inputs

    Raises
    ------
    CheckpointError
        When the checkpoint holds none for a source.

    Examples
    --------
    >>> stored_statistics({"smap.ssm": {"Standard": [0.2, 0.1]}}, Inputs((), (), ("smap",)))
    {'smap': (0.2, 0.1)}
    """
    found = {}
    for source, channel in zip(inputs.coarse, _coarse_channels(inputs), strict=True):
        pair = normalisation.get(channel, {}).get("Standard")
        if pair is None or not np.isfinite(pair).all():
            raise CheckpointError(
                f"The checkpoint holds no mean and standard deviation of {channel}; it normalises "
                f"{', '.join(normalisation) or 'nothing'}. Leave {source!r} out of the inputs, or "
                "train with it."
            )
        found[source] = (float(pair[0]), float(pair[1]))
    return found


def _coarse_channels(inputs: Inputs) -> tuple[str, ...]:
    return inputs.names[len(inputs.names) - len(inputs.coarse) :]
