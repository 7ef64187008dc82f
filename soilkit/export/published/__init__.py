"""Google's published shards of ``soil_moisture_retrieval``, read and written without TensorFlow."""

from soilkit.export.published.conversion import Dataset, shard_paths, to_dataset
from soilkit.export.published.examples import write_archive_shard
from soilkit.export.published.labels import Labels
from soilkit.export.published.shards import Sample, ShardReader, download, read_shard, write_shard

__all__ = [
    "Dataset", "Labels", "Sample", "ShardReader", "download", "read_shard", "shard_paths",
    "to_dataset", "write_archive_shard", "write_shard",
]  # fmt: skip
