"""Google's published shards of ``soil_moisture_retrieval``, read and written without TensorFlow."""

from soilkit.published.assembling import Dataset
from soilkit.published.convert import shard_paths, to_dataset
from soilkit.published.fetching import download
from soilkit.published.labels import Labels
from soilkit.published.shards import Sample, ShardReader, read_shard, write_shard
from soilkit.published.synthetic import samples_from_archive, write_archive_shard

__all__ = [
    "Dataset",
    "Labels",
    "Sample",
    "ShardReader",
    "download",
    "read_shard",
    "samples_from_archive",
    "shard_paths",
    "to_dataset",
    "write_archive_shard",
    "write_shard",
]
