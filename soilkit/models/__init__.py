"""One file a system, and how large its models are."""

from soilkit.models.inference import count_flops, count_parameters, size_table

__all__ = ["count_flops", "count_parameters", "size_table"]
