"""Google's published shards of ``soil_moisture_retrieval``, read and written without TensorFlow."""

from soilkit.published.shards import Sample, ShardReader, read_shard, write_shard
from soilkit.published.synthetic import samples_from_archive, write_archive_shard

__all__ = [
    "Sample",
    "ShardReader",
    "read_shard",
    "samples_from_archive",
    "write_archive_shard",
    "write_shard",
]
