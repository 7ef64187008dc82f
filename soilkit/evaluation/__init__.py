"""The evaluation report's tables and sentences, from any predictions table."""

from soilkit.evaluation.cautioning import cautions
from soilkit.evaluation.checklisting import checklist, stage
from soilkit.evaluation.evaluating import evaluate
from soilkit.evaluation.protocol import protocol
from soilkit.evaluation.records import (
    NOT_AUDITABLE,
    Applicability,
    Background,
    Calibration,
    Evaluation,
    Failures,
    NotAudited,
    Options,
    is_missing,
)
from soilkit.evaluation.verdicts import sentence, verdict

__all__ = [
    "NOT_AUDITABLE",
    "Applicability",
    "Background",
    "Calibration",
    "Evaluation",
    "Failures",
    "NotAudited",
    "Options",
    "cautions",
    "checklist",
    "evaluate",
    "is_missing",
    "protocol",
    "sentence",
    "stage",
    "verdict",
]
