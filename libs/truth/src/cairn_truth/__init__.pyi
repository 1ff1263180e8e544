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
from .classes.named_votes import NamedLabel, NamedVotes
from .classes.one_coin import OneCoinDawidSkene
from .classes.reliabilities import Reliabilities
from .classes.votes import Votes
from .classes.weighted_votes import Wawa, ZeroBasedSkill
from .live_answers import Evidence, Joined, LabelerAccuracy, LiveAnswers
from .quality.acceptance import DoublePlan, SinglePlan, double_plan, single_plan
from .quality.agreement import (
    Agreement,
    Interval,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac,
    krippendorff_alpha,
    raw_agreement,
    scott_pi,
)
from .quality.answer_times import AnswerTimes
from .quality.audit_statistics import (
    Acceptance,
    AcceptancePlan,
    ErrorEstimate,
    Stratum,
    StratumEstimate,
    StratumFindings,
    accept,
    acceptance_plan,
    allocate,
    estimate_error,
    strata_by_error,
)
from .quality.bots import find_bots
from .quality.colluders import find_colluders
from .quality.findings import Finding, Misconduct
from .quality.forensics import investigate
from .quality.pairwise_agreement import PairwiseAgreement, pairwise_agreement
from .quality.spammers import find_spammers
from .quality.suspicion import Suspicion, label_errors, suspicion
from .quality.unequal_sampling import UnequalEstimate, estimate_unequal, inclusion_chances
from .routing.calibration import (
    IsotonicCalibration,
    IsotonicClasses,
    ReliabilityDiagram,
    TemperatureScaling,
    expected_calibration_error,
    reliability_diagram,
)
from .routing.drift import AuditVerdict, DriftTest, embedding_drift, judge_audit, score_drift
from .routing.item_choice import Strategy, answer_prices, choose, margins
from .routing.stop_rule import StopDecision, StopPolicy, StopReason, Verdict, decide
from .routing.thresholds import (
    ClassThresholds,
    LetThrough,
    TestedThreshold,
    ThresholdDecision,
    choose_threshold,
    choose_thresholds_per_class,
    model_errors,
    spend,
)
from .routing.wager import fewest_items
from .shapes.boxes import Box, LiveBoxes
from .shapes.cuboids import Cuboid, LiveCuboids
from .shapes.ellipses import Ellipse, LiveEllipses
from .shapes.joined import JoinedObject, JoinedObjects, LabelerDetection
from .shapes.keypoints import Keypoint, LiveSkeletons, Skeleton, Visibility
from .shapes.masks import JoinedMask, LiveMasks
from .shapes.moving import (
    Moving,
    MovingBoxes,
    MovingEllipses,
    MovingPolygons,
    MovingRotatedBoxes,
    MovingSkeletons,
)
from .shapes.objects import LiveObjects
from .shapes.polygons import LivePolygons, Polygon
from .shapes.polylines import LivePolylines, Polyline
from .shapes.raster import Mask
from .shapes.regions import LiveRegions, Region
from .shapes.rotated_boxes import LiveRotatedBoxes, RotatedBox
from .shapes.tracks import Keyframe, LiveTracks, Track
from .stretches.live_marks import LabelerMarks
from .stretches.live_stretches import JoinedStretches
from .stretches.relations import JoinedRelations, LiveRelations, Relation
from .stretches.segments import LiveSegments, Segment
from .stretches.spans import LiveSpans, Span
from .values.bradley_terry import BradleyTerryFit, HierarchicalBradleyTerry
from .values.comparisons import Comparisons
from .values.davidson import Davidson, NoisyBradleyTerry
from .values.live_comparisons import LabelerHabits
from .values.numbers import LabelerError, LiveNumbers, Measured
from .values.ordinals import LiveRatings, Rated
from .values.preferences import JoinedPreference, LivePreferences
from .values.rankings import JoinedRanking, LiveRankings
from .values.texts import ChosenText, LiveTexts
from .values.transcripts import JoinedText, Joining, LiveTranscripts

__all__ = [
    "BWA",
    "EBCC",
    "GLAD",
    "IBCC",
    "MACE",
    "Acceptance",
    "AcceptancePlan",
    "Agreement",
    "AnswerTimes",
    "AuditVerdict",
    "BlockDawidSkene",
    "BlockFit",
    "Box",
    "BradleyTerryFit",
    "ChosenSet",
    "ChosenText",
    "ClassFit",
    "ClassThresholds",
    "Comparisons",
    "ConfusionFit",
    "Cuboid",
    "Davidson",
    "DawidSkene",
    "DoublePlan",
    "DriftTest",
    "Ellipse",
    "ErrorEstimate",
    "Evidence",
    "Finding",
    "GLADFit",
    "HierarchicalBradleyTerry",
    "HierarchicalDawidSkene",
    "HierarchicalFit",
    "Interval",
    "IsotonicCalibration",
    "IsotonicClasses",
    "Joined",
    "JoinedMask",
    "JoinedObject",
    "JoinedObjects",
    "JoinedPreference",
    "JoinedRanking",
    "JoinedRelations",
    "JoinedStretches",
    "JoinedText",
    "Joining",
    "Keyframe",
    "Keypoint",
    "LabelerAccuracy",
    "LabelerDetection",
    "LabelerError",
    "LabelerHabits",
    "LabelerMarks",
    "LabelerReliability",
    "LetThrough",
    "LiveAnswers",
    "LiveBoxes",
    "LiveChoices",
    "LiveClasses",
    "LiveCuboids",
    "LiveEllipses",
    "LiveMasks",
    "LiveNumbers",
    "LiveObjects",
    "LivePolygons",
    "LivePolylines",
    "LivePreferences",
    "LiveRankings",
    "LiveRatings",
    "LiveRegions",
    "LiveRelations",
    "LiveRotatedBoxes",
    "LiveSegments",
    "LiveSkeletons",
    "LiveSpans",
    "LiveTexts",
    "LiveTracks",
    "LiveTranscripts",
    "MACEFit",
    "MajorityVote",
    "Mask",
    "Measured",
    "Misconduct",
    "Moving",
    "MovingBoxes",
    "MovingEllipses",
    "MovingPolygons",
    "MovingRotatedBoxes",
    "MovingSkeletons",
    "NamedLabel",
    "NamedVotes",
    "NoisyBradleyTerry",
    "OneCoinDawidSkene",
    "PairwiseAgreement",
    "Polygon",
    "Polyline",
    "Rated",
    "Region",
    "Relation",
    "Reliabilities",
    "ReliabilityDiagram",
    "RotatedBox",
    "Segment",
    "SinglePlan",
    "Skeleton",
    "SkillFit",
    "Span",
    "StopDecision",
    "StopPolicy",
    "StopReason",
    "Strategy",
    "Stratum",
    "StratumEstimate",
    "StratumFindings",
    "Suspicion",
    "TemperatureScaling",
    "TestedThreshold",
    "ThresholdDecision",
    "Track",
    "UnequalEstimate",
    "Verdict",
    "Visibility",
    "Votes",
    "Wawa",
    "Weighed",
    "ZeroBasedSkill",
    "accept",
    "acceptance_plan",
    "allocate",
    "answer_prices",
    "choose",
    "choose_threshold",
    "choose_thresholds_per_class",
    "cohen_kappa",
    "decide",
    "double_plan",
    "embedding_drift",
    "estimate_error",
    "estimate_unequal",
    "expected_calibration_error",
    "fewest_items",
    "find_bots",
    "find_colluders",
    "find_spammers",
    "fleiss_kappa",
    "gwet_ac",
    "inclusion_chances",
    "investigate",
    "judge_audit",
    "krippendorff_alpha",
    "label_errors",
    "margins",
    "model_errors",
    "pairwise_agreement",
    "raw_agreement",
    "reliability_diagram",
    "score_drift",
    "scott_pi",
    "single_plan",
    "spend",
    "strata_by_error",
    "suspicion",
]
