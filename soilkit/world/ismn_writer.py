"""Write the synthetic stations as an ISMN archive: zip, header+values, one file a sensor."""

import os
import zipfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from soilkit.errors import StoreError
from soilkit.world import probes

_EPOCH = (
    2019,
    1,
    1,
    0,
    0,
    0,
)  # of the zip's members: the archive's bytes depend on the world alone
# ESA CCI classes for the Copernicus ones, as ISMN's static variables speak CCI.
CCI_CLASS = {
    20: 120, 30: 130, 40: 10, 50: 190, 60: 200, 90: 180, 111: 71, 114: 61, 121: 72, 124: 62,
}  # fmt: skip
_CSV_HEADER = (
    "quantity_name;unit;depth_from[m];depth_to[m];value;description;quantity_source_name;"
    "quantity_source_description;quantity_source_provider;quantity_source_version;"
    "quantity_source_resolution;quantity_source_timerange;quantity_source_url;"
)
_METADATA = """<?xml version="1.0" encoding="UTF-8"?>
<gmd:MD_Metadata xmlns:gmd="http://www.isotc211.org/2005/gmd"
    xmlns:gco="http://www.isotc211.org/2005/gco">
    <gmd:fileIdentifier><gco:CharacterString>Metadata</gco:CharacterString></gmd:fileIdentifier>
    <gmd:language><gco:CharacterString>eng</gco:CharacterString></gmd:language>
    <gmd:identificationInfo><gmd:MD_DataIdentification><gmd:abstract>
        <gco:CharacterString>Synthetic soil moisture, {version}. No reading in this archive was
        measured anywhere.</gco:CharacterString>
    </gmd:abstract></gmd:MD_DataIdentification></gmd:identificationInfo>
</gmd:MD_Metadata>
"""
_README = """Synthetic soil moisture in the format of the International Soil Moisture Network
(header+values), {version}.

Networks, stations and readings are invented; none of them was measured. One file a sensor:
<network>/<station>/<network>_<network>_<station>_sm_<from>_<to>_<sensor>_<start>_<end>.stm
Columns: date, time (UTC), soil moisture [m3 m-3], ISMN quality flag, provider flag.
"""


def write(world, path) -> Path:
    """Write every sensor of a world, hourly, as an ISMN-format zip (header+values).

    The archive appears under its name only when it is complete.

    Parameters
    ----------
    world : World
    path : path of the zip

    Returns
    -------
    Path

    Raises
    ------
    StoreError
        When the disk is full or refuses; what stood at ``path`` still stands.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
            _add(archive, "Metadata.xml", _METADATA.format(version=world.version))
            _add(archive, "Readme.txt", _README.format(version=world.version))
            _write_stations(world, archive)
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(
            f"Cannot write the archive {path}: {error}. Nothing is left of it; free space, or "
            "choose another folder."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _add(archive, name, text):
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, text)


def _write_stations(world, archive):
    network = world.network()
    span = f"{_compact(world.start)}_{_compact(world.end)}"
    stamps = _stamps(probes.hours(world))
    described = set()
    for k, row in enumerate(
        tqdm(network.table.itertuples(), total=len(network.table), desc="ISMN")
    ):
        folder = f"{row.network}/{row.station}/{row.network}_{row.network}_{row.station}"
        if row.station_id not in described:
            described.add(row.station_id)
            _add(archive, f"{folder}_static_variables.csv", _static(network, k))
        depth = f"{row.depth_from_m:.6f}_{row.depth_to_m:.6f}"
        name = f"{folder}_sm_{depth}_{network.probe[k]}_{span}.stm"
        _add(archive, name, _series(world, row, network.probe[k], stamps))


def _compact(time):
    return str(time.astype("datetime64[D]")).replace("-", "")


def _stamps(times):
    text = np.datetime_as_string(times, unit="m")
    return np.array([t.replace("-", "/").replace("T", " ") for t in text])


def _series(world, row, probe, stamps):
    header = (
        f"{row.network:<10} {row.network:<10} {row.station:<15}{row.latitude:.5f} "
        f"{row.longitude:.5f} {row.elevation_m:20.1f} {row.depth_from_m:.4f} "
        f"{row.depth_to_m:.4f} {probe}"
    )
    table = world.readings(row.sensor_id)
    hour = (table.time.to_numpy() - world.start) // np.timedelta64(1, "h")
    values = [f"{v:.4f}" for v in table.soil_moisture_m3_m3.tolist()]
    lines = map(" ".join, zip(stamps[hour].tolist(), values, table.flag.tolist(), strict=True))
    return header + "\n" + " M\n".join(lines) + " M\n"


def _static(network, k):
    """ISMN's table of static variables, for the station of sensor ``k``."""
    sand, silt, clay = network.texture_percent[k]
    cover = int(network.place.ground.land_cover[network.site[k]])
    lines = [_CSV_HEADER]
    for name, value in (("clay fraction", clay), ("sand fraction", sand), ("silt fraction", silt)):
        lines.append(f"{name};% weight;0.00;0.30;{value:.2f};;synthetic;;;;;;;")
    for year in (2000, 2005, 2010):
        lines.append(
            f"land cover classification;;;;{CCI_CLASS[cover]};Copernicus class {cover};"
            f"CCI_landcover_{year};synthetic;;;;;;"
        )
    for edition in (2007, 2017):
        lines.append(
            f"climate classification;;;;{network.table.koeppen[k]};;koeppen_geiger_{edition};"
            "synthetic;;;;;;"
        )
    return "\n".join(lines) + "\n"
