"""Google's published shards of ``soil_moisture_retrieval``, read and written without TensorFlow."""

from soilkit.export.published.conversion import Dataset as Dataset
from soilkit.export.published.conversion import shard_paths as shard_paths
from soilkit.export.published.conversion import to_dataset as to_dataset
from soilkit.export.published.examples import write_archive_shard as write_archive_shard
from soilkit.export.published.labels import Labels as Labels
from soilkit.export.published.shards import Sample as Sample
from soilkit.export.published.shards import ShardReader as ShardReader
from soilkit.export.published.shards import download as download
from soilkit.export.published.shards import read_shard as read_shard
from soilkit.export.published.shards import write_shard as write_shard
