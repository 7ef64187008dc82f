"""One file a system, and how large its models are."""

from soilkit.models.inference import count_flops as count_flops
from soilkit.models.inference import count_parameters as count_parameters
from soilkit.models.inference import size_table as size_table
