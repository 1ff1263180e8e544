"""Label aggregation and label statistics in pure NumPy: what answers, taken together, say, and how surely.

Aggregation of `Votes` on classes: `BlockDawidSkene`, our default, `HierarchicalDawidSkene`, and the published
`MajorityVote`, `Wawa`, `ZeroBasedSkill`, `DawidSkene`, `OneCoinDawidSkene`, `IBCC`, `GLAD`, `MACE`, `EBCC` and `BWA`.
Live states: `LiveClasses`, `LiveChoices`, `LiveNumbers`, `LiveTexts`. When to stop asking: `stop_rule`. When a model may
answer alone: `thresholds`. Is it as good as we say: `audit_statistics`. All of it measured on recorded crowds: `replay`.
"""

from .classes.blocks import BlockDawidSkene, BlockFit
from .classes.bwa import BWA
from .classes.choices import ChosenSet, LiveChoices
from .classes.class_fit import ClassFit, ConfusionFit, SkillFit
from .classes.dawid_skene import DawidSkene, MajorityVote
from .classes.ebcc import EBCC
from .classes.glad import GLAD, GLADFit
from .classes.hierarchical import HierarchicalDawidSkene, HierarchicalFit
from .classes.ibcc import IBCC
from .classes.live_classes import LabelerReliability, LiveClasses, Weighed
from .classes.mace import MACE, MACEFit
from .classes.one_coin import OneCoinDawidSkene
from .classes.reliabilities import Reliabilities
from .classes.votes import Votes
from .classes.weighted_votes import Wawa, ZeroBasedSkill
from .routing.calibration import expected_calibration_error
from .routing.stop_rule import StopDecision, StopPolicy, StopReason, Verdict
from .values.numbers import LabelerError, LiveNumbers, Measured
from .values.texts import ChosenText, LabelerAccuracy, LiveTexts

__all__ = [
    "BWA",
    "EBCC",
    "GLAD",
    "IBCC",
    "MACE",
    "BlockDawidSkene",
    "BlockFit",
    "ChosenSet",
    "ChosenText",
    "ClassFit",
    "ConfusionFit",
    "DawidSkene",
    "GLADFit",
    "HierarchicalDawidSkene",
    "HierarchicalFit",
    "LabelerAccuracy",
    "LabelerError",
    "LabelerReliability",
    "LiveChoices",
    "LiveClasses",
    "LiveNumbers",
    "LiveTexts",
    "MACEFit",
    "MajorityVote",
    "Measured",
    "OneCoinDawidSkene",
    "Reliabilities",
    "SkillFit",
    "StopDecision",
    "StopPolicy",
    "StopReason",
    "Verdict",
    "Votes",
    "Wawa",
    "Weighed",
    "ZeroBasedSkill",
    "expected_calibration_error",
]
