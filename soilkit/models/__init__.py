"""One file a system, and how large its models are."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soilkit.models.inference import count_flops as count_flops
    from soilkit.models.inference import count_parameters as count_parameters
    from soilkit.models.inference import size_table as size_table


def __getattr__(name: str) -> Any:
    """Sizes of models, when they are asked for: they load torch, which a forest does without."""
    if name not in ("count_flops", "count_parameters", "size_table"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from soilkit.models import inference

    return getattr(inference, name)
