"""Label aggregation and label statistics in pure NumPy and SciPy: what answers, taken together, say, and how surely.

Classes: `Votes` to any method, `BlockDawidSkene` by default; live, `LiveClasses` and `LiveChoices`. Every other kind of
answer has a live state on one plan, `LiveAnswers`: numbers, ratings, texts, preferences, rankings, spans, segments,
relations, and shapes from boxes to masks and tracks. When to stop asking: `StopPolicy`. When a model may answer alone:
`choose_threshold`. Which item next: `choose`. How far labelers agree: `krippendorff_alpha` and its kin. Whom to doubt:
`investigate`. How good labels are: `estimate_error`, `single_plan`, `suspicion`.
"""

from importlib import import_module
from typing import Any

# Where each name is at home. A program that only estimates the error of labels need not wait for what joins polygons:
# a module is imported when one of its names is first asked for. Type checkers read the same from __init__.pyi.
_HOMES = {
    "classes.blocks": "BlockDawidSkene BlockFit",
    "classes.bwa": "BWA",
    "classes.choices": "ChosenSet LiveChoices",
    "classes.class_fit": "ClassFit ConfusionFit SkillFit",
    "classes.dawid_skene": "DawidSkene MajorityVote",
    "classes.ebcc": "EBCC",
    "classes.glad": "GLAD GLADFit",
    "classes.hierarchical": "HierarchicalDawidSkene HierarchicalFit",
    "classes.ibcc": "IBCC",
    "classes.live_classes": "LabelerReliability LiveClasses Weighed",
    "classes.mace": "MACE MACEFit",
    "classes.named_votes": "NamedLabel NamedVotes",
    "classes.one_coin": "OneCoinDawidSkene",
    "classes.reliabilities": "Reliabilities",
    "classes.votes": "Votes",
    "classes.weighted_votes": "Wawa ZeroBasedSkill",
    "live_answers": "Evidence Joined LabelerAccuracy LiveAnswers",
    "quality.acceptance": "DoublePlan SinglePlan double_plan single_plan",
    "quality.agreement": (
        "Agreement Interval cohen_kappa fleiss_kappa gwet_ac krippendorff_alpha raw_agreement scott_pi"
    ),
    "quality.answer_times": "AnswerTimes",
    "quality.audit_statistics": (
        "Acceptance AcceptancePlan ErrorEstimate Stratum StratumEstimate StratumFindings "
        "accept acceptance_plan allocate estimate_error strata_by_error"
    ),
    "quality.bots": "find_bots",
    "quality.colluders": "find_colluders",
    "quality.findings": "Finding Misconduct",
    "quality.forensics": "investigate",
    "quality.pairwise_agreement": "PairwiseAgreement pairwise_agreement",
    "quality.spammers": "find_spammers",
    "quality.suspicion": "Suspicion label_errors suspicion",
    "quality.unequal_sampling": "UnequalEstimate estimate_unequal inclusion_chances",
    "routing.calibration": (
        "IsotonicCalibration IsotonicClasses ReliabilityDiagram TemperatureScaling "
        "expected_calibration_error reliability_diagram"
    ),
    "routing.drift": "AuditVerdict DriftTest embedding_drift judge_audit score_drift",
    "routing.item_choice": "Strategy answer_prices choose margins",
    "routing.stop_rule": "StopDecision StopPolicy StopReason Verdict decide",
    "routing.thresholds": (
        "ClassThresholds LetThrough TestedThreshold ThresholdDecision choose_threshold "
        "choose_thresholds_per_class model_errors spend"
    ),
    "routing.wager": "fewest_items",
    "shapes.boxes": "Box LiveBoxes",
    "shapes.cuboids": "Cuboid LiveCuboids",
    "shapes.ellipses": "Ellipse LiveEllipses",
    "shapes.joined": "JoinedObject JoinedObjects LabelerDetection",
    "shapes.keypoints": "Keypoint LiveSkeletons Skeleton Visibility",
    "shapes.masks": "JoinedMask LiveMasks",
    "shapes.moving": "Moving MovingBoxes MovingEllipses MovingPolygons MovingRotatedBoxes MovingSkeletons",
    "shapes.objects": "LiveObjects",
    "shapes.polygons": "LivePolygons Polygon",
    "shapes.polylines": "LivePolylines Polyline",
    "shapes.raster": "Mask",
    "shapes.regions": "LiveRegions Region",
    "shapes.rotated_boxes": "LiveRotatedBoxes RotatedBox",
    "shapes.tracks": "Keyframe LiveTracks Track",
    "stretches.live_marks": "LabelerMarks",
    "stretches.live_stretches": "JoinedStretches",
    "stretches.relations": "JoinedRelations LiveRelations Relation",
    "stretches.segments": "LiveSegments Segment",
    "stretches.spans": "LiveSpans Span",
    "values.bradley_terry": "BradleyTerryFit HierarchicalBradleyTerry",
    "values.comparisons": "Comparisons",
    "values.davidson": "Davidson NoisyBradleyTerry",
    "values.live_comparisons": "LabelerHabits",
    "values.numbers": "LabelerError LiveNumbers Measured",
    "values.ordinals": "LiveRatings Rated",
    "values.preferences": "JoinedPreference LivePreferences",
    "values.rankings": "JoinedRanking LiveRankings",
    "values.texts": "ChosenText LiveTexts",
    "values.transcripts": "JoinedText Joining LiveTranscripts",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME)  # noqa: PLE0605 - the stub has them one by one


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
