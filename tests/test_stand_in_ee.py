"""The stand-in Earth Engine answers the unmodified client as the real service would."""

import numpy as np
import pytest

PLACE = 2.1, 43.2


def test_the_unmodified_client_lists_and_reads_scenes(earth_engine, stand_in):
    """A filtered collection comes as features, a mosaic of its images as pixels."""
    ee = earth_engine
    passes = (
        ee.ImageCollection("COPERNICUS/S1_GRD")
        .filterBounds(ee.Geometry.Point(PLACE))
        .filterDate("2020-01-01", "2020-02-01")
        .filter(ee.Filter.eq("instrumentMode", "IW"))
        .map(lambda image: ee.Feature(None, {"id": image.get("system:index")}))
    )
    names = [
        f["properties"]["id"] for f in ee.data.computeFeatures({"expression": passes})["features"]
    ]
    images = [ee.Image(f"COPERNICUS/S1_GRD/{name}").select("VV") for name in names[:2]]
    grid = {
        "crsCode": "EPSG:32631",
        "affineTransform": {
            "scaleX": 10,
            "scaleY": -10,
            "translateX": 427000,
            "translateY": 4785000,
        },
        "dimensions": {"width": 8, "height": 6},
    }
    chip = ee.data.computePixels(
        {
            "expression": ee.ImageCollection.fromImages(images).mosaic(),
            "fileFormat": "NUMPY_NDARRAY",
            "grid": grid,
        }
    )
    assert len(names) >= 5
    assert chip.shape == (6, 8)
    assert chip.dtype.names == ("VV",)
    assert np.ptp(chip["VV"]) > 0.1


def test_a_node_that_is_not_evaluated_is_refused_by_name(earth_engine):
    ee = earth_engine
    with pytest.raises(ee.EEException, match="does not evaluate Kernel.square"):
        ee.Image(1).entropy(ee.Kernel.square(1)).getInfo()
