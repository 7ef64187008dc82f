"""One file a system, and how large its models are."""

from soilkit.models.xception_fusion import count_flops, count_parameters, size_table

__all__ = ["count_flops", "count_parameters", "size_table"]
