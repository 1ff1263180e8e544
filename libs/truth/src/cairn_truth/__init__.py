"""Label aggregation and label statistics in pure NumPy: what answers, taken together, say, and how surely.

Aggregation of `Votes` on classes: `HierarchicalDawidSkene`, our default, and the published `MajorityVote`, `Wawa`,
`ZeroBasedSkill`, `DawidSkene`, `OneCoinDawidSkene`, `IBCC`, `GLAD`, `MACE`, `EBCC` and `BWA`. Live states:
`LiveClasses`, `LiveChoices`, `LiveNumbers`, `LiveTexts`. When to stop asking: `stop_rule`. When a model may answer alone:
`thresholds`. Is it as good as we say: `audit_statistics`. All of it measured on recorded crowds: `replay`.
"""

from .bwa import BWA
from .calibration import expected_calibration_error
from .choices import ChosenSet, LiveChoices
from .class_fit import ClassFit, ConfusionFit, SkillFit
from .dawid_skene import DawidSkene, MajorityVote
from .ebcc import EBCC
from .glad import GLAD, GLADFit
from .hierarchical import HierarchicalDawidSkene, HierarchicalFit, Reliabilities
from .ibcc import IBCC
from .live import LabelerReliability, LiveClasses, Weighed
from .mace import MACE, MACEFit
from .numbers import LabelerError, LiveNumbers, Measured
from .one_coin import OneCoinDawidSkene
from .stop_rule import StopDecision, StopPolicy, StopReason, Verdict
from .texts import ChosenText, LabelerAccuracy, LiveTexts
from .votes import Votes
from .weighted_votes import Wawa, ZeroBasedSkill

__all__ = [
    "BWA",
    "EBCC",
    "GLAD",
    "IBCC",
    "MACE",
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
