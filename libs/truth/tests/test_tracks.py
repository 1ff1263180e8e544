"""Tracks: whose object is whose through a video, where it is at each keyframe, and when it is out of sight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth.shapes.boxes import Box
from cairn_truth.shapes.keyframes import bends
from cairn_truth.shapes.tracks import Keyframe, LiveTracks, Track, edges_at, tube_iou
from libs.truth.tests.live_contract import check_live_state

Crowd = dict[str, dict[str, tuple[Track, ...]]]
LAST = 100


def walker(name: str, edges: np.ndarray, frames: list[int], gone: tuple[int, int] | None = None) -> Track:
    """A track with keyframes at frames of a run of boxes ``(LAST + 1, 4)``, out of sight in a stretch of frames."""
    keys = {}
    for frame in frames:
        x0, y0, x1, y1 = (float(v) for v in edges[frame])
        keys[frame] = Keyframe(frame, Box("", x0, y0, x1 - x0, y1 - y0))
    if gone is not None:
        keys = {f: key for f, key in keys.items() if not gone[0] <= f < gone[1]}
        keys[gone[0]] = Keyframe(gone[0], None, outside=True)
        x0, y0, x1, y1 = (float(v) for v in edges[gone[1]])
        keys[gone[1]] = Keyframe(gone[1], Box("", x0, y0, x1 - x0, y1 - y0))
    return Track(name, "person", tuple(keys[f] for f in sorted(keys)))


def path(y: float, *, back: bool = False) -> np.ndarray:
    """A box that walks across the picture."""
    t = np.arange(LAST + 1)[:, None]
    x = (300.0 - 2.5 * t) if back else 2.5 * t
    y = y + 10.0 * np.sin(t / 15.0)
    return np.concatenate([x, y, x + 30.0, y + 60.0], axis=1)


def crowd(
    seed: int = 0, items: int = 4, noise: tuple[float, ...] = (1.0, 1.5, 1.5, 6.0), missed: float = 0.1
) -> tuple[Crowd, dict[str, list[np.ndarray]]]:
    rng = np.random.default_rng(seed)
    answers: Crowd = {}
    truth = {}
    for k in range(items):
        paths = [path(40.0), path(120.0, back=True), path(200.0)]
        truth[f"i{k}"] = paths
        answers[f"i{k}"] = {}
        for w, sd in enumerate(noise):
            tracks = []
            for n, edges in enumerate(paths):
                if rng.random() < missed:
                    continue
                frames = sorted({0, LAST, *rng.choice(np.arange(5, 96, 3), size=14, replace=False).tolist()})
                seen = edges + rng.normal(scale=sd, size=edges.shape)
                gone = (int(rng.integers(48, 52)), int(rng.integers(68, 72))) if n == 0 else None
                tracks.append(walker(f"t{n}", seen, frames, gone))
            answers[f"i{k}"][f"w{w}"] = tuple(tracks)
    return answers, truth


def test_it_is_a_live_state_like_all_others() -> None:
    answers, _ = crowd(items=3)
    check_live_state(LiveTracks, answers, (Track("a", "person", (Keyframe(0, None, outside=True),)),))


def test_one_answer_and_equal_answers_are_the_value_itself() -> None:
    track = walker("me", path(40.0), [0, 20, 100], gone=(40, 60))
    live = LiveTracks()
    assert live.update("i", "a", (track,)).value == (track,)
    assert live.update("i", "b", (track,)).value == (track,)


def test_joined_tracks_are_nearer_to_the_truth_than_any_labelers() -> None:
    answers, truth = crowd(missed=0.0)
    joined = LiveTracks().fit(answers)
    full = list(range(LAST + 1))
    got: dict[str, list[float]] = {}
    for item, paths in truth.items():
        for n, edges in enumerate(paths):
            true = walker("t", edges, full, (50, 70) if n == 0 else None)
            for who, tracks in [*answers[item].items(), ("ours", joined[item].value)]:
                got.setdefault(who, []).append(max(tube_iou(track, true) for track in tracks))
    ours = np.mean(got.pop("ours"))
    assert ours > max(np.mean(of) for of in got.values()) + 0.005
    assert ours > 0.9


def test_everybody_who_is_there_is_found_once_and_named_apart() -> None:
    answers, truth = crowd(items=6)
    joined = LiveTracks().fit(answers)
    for item in truth:
        assert len(joined[item].value) == 3
        assert len({track.id for track in joined[item].value}) == 3


def test_out_of_sight_is_by_vote() -> None:
    live = LiveTracks()
    for who, gone in (("a", (40, 60)), ("b", (42, 62)), ("c", None)):
        live.add("i", who, (walker("t", path(40.0), [0, 20, 80, 100], gone),))
    (joined,) = live.posterior("i").value
    seen = ~np.isnan(edges_at(joined, np.array([0, 39, 50, 61, 63, 100]))[:, 0])
    assert seen.tolist() == [True, True, False, True, True, True]


def test_what_leaves_the_picture_moves_until_the_frame_before() -> None:
    def leaving(off: float) -> Track:
        way_out = Keyframe(10, Box("", 100.0 + off, 0.0, 20.0, 20.0), outside=True)
        back = Keyframe(20, Box("", 200.0 + off, 0.0, 20.0, 20.0))
        return Track("t", "", (Keyframe(0, Box("", off, 0.0, 20.0, 20.0)), way_out, back))

    live = LiveTracks()
    for who, off in (("a", 0.0), ("b", 0.3), ("c", -0.3)):
        live.add("i", who, (leaving(off),))
    (joined,) = live.posterior("i").value
    left = edges_at(joined, np.arange(21))[:, 0]
    assert left[:10] == pytest.approx(10.0 * np.arange(10), abs=0.5)
    assert np.isnan(left[10:20]).all()
    assert left[20] == pytest.approx(200.0, abs=0.5)
    assert tube_iou(joined, leaving(0.0)) > 0.95


def test_the_end_is_no_frame_that_nobody_gave() -> None:
    live = LiveTracks()
    live.add("i", "a", (walker("t", path(40.0), [0, 50, 100]),))
    live.add("i", "b", (walker("t", path(42.0), [0, 40, 100]),))
    live.add("i", "c", (walker("t", path(41.0), [0, 30, 97]),))
    (joined,) = live.posterior("i").value
    assert joined.keyframes[0].frame == 0
    assert joined.keyframes[-1].frame == 100
    assert not joined.keyframes[-1].outside


def test_paths_that_cross_keep_their_identities() -> None:
    rng = np.random.default_rng(5)
    there, back = path(100.0), path(100.0, back=True)
    live = LiveTracks()
    for who in ("a", "b", "c"):
        tracks = (
            walker(name, edges + rng.normal(size=edges.shape), list(range(0, LAST + 1, 5)))
            for name, edges in (("x", there), ("y", back))
        )
        live.add("i", who, tuple(tracks))
    joined = live.posterior("i").value
    assert len(joined) == 2
    for edges in (there, back):
        assert max(tube_iou(track, walker("t", edges, list(range(LAST + 1)))) for track in joined) > 0.9


def test_a_labeler_who_lost_the_object_half_way_is_outvoted() -> None:
    lost = path(40.0)
    lost[50:] += 90.0
    live = LiveTracks()
    for who, edges in (("a", path(40.0)), ("b", path(41.0)), ("c", path(39.0)), ("d", lost)):
        live.add("i", who, (walker("t", edges, list(range(0, LAST + 1, 10))),))
    (joined,) = live.posterior("i").value
    assert tube_iou(joined, walker("t", path(40.0), list(range(0, LAST + 1, 10)))) > 0.9


def test_keyframes_that_say_nothing_new_are_left_out() -> None:
    frames = np.arange(11)
    straight = np.tile([0.0, 0.0, 30.0, 30.0], (11, 1)) + frames[:, None]
    assert bends(frames, straight).tolist() == [0, 10]
    bent = straight.copy()
    bent[5:] += (frames[5:, None] - 5) * 3.0
    assert bends(frames, bent).tolist() == [0, 5, 10]


def test_between_keyframes_a_box_is_interpolated_and_after_the_last_unknown() -> None:
    track = Track(
        "t",
        "",
        (
            Keyframe(10, Box("", 0, 0, 10, 10)),
            Keyframe(20, Box("", 10, 0, 20, 10)),
            Keyframe(30, outside=True),
        ),
    )
    found = edges_at(track, np.array([9, 10, 15, 20, 29, 30, 31]))
    assert np.isnan(found[[0, 5, 6]]).all()
    assert found[2].tolist() == [5.0, 0.0, 20.0, 10.0]
    assert found[4].tolist() == [10.0, 0.0, 30.0, 10.0]


def test_likeness_is_the_overlap_of_tubes() -> None:
    whole = walker("a", path(40.0), [0, 50, 100])
    assert tube_iou(whole, whole) == pytest.approx(1.0)
    half = walker("a", path(40.0), [0, 50])
    assert tube_iou(whole, half) == pytest.approx(0.5, abs=0.05)
    assert tube_iou(whole, walker("a", path(300.0), [0, 100])) == 0.0
    late = Track("z", "", (Keyframe(10**9, Box("", 0, 40, 30, 60)),))
    assert tube_iou(whole, late) == 0.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=2, max_size=6, unique=True), st.integers(0, 999))
def test_any_tracks_can_be_joined_and_are_tracks(frames: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    live = LiveTracks()
    for who in ("a", "b", "c"):
        keys = [
            Keyframe(f, Box("", *rng.uniform(0, 5, 2).tolist(), *rng.uniform(5, 10, 2).tolist()))
            if k == 0 or rng.random() < 0.7
            else Keyframe(f, None, outside=True)
            for k, f in enumerate(sorted(frames))
        ]
        live.add("i", who, (Track("t", "", tuple(keys)),))
    joined = live.posterior("i").value
    LiveTracks().add("i", "again", joined)
    for track in joined:
        assert {key.frame for key in track.keyframes} <= set(frames)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ((), "no keyframes"),
        ((Keyframe(-1, Box("", 0, 0, 1, 1)),), "the frame of keyframe 0 is -1"),
        ((Keyframe(3, Box("", 0, 0, 1, 1)), Keyframe(3, outside=True)), "keyframe 1 has frame 3"),
        ((Keyframe(3),), "keyframe 0 has no box"),
        ((Keyframe(3, Box("", 0, 0, float("nan"), 1)),), "expected a finite box"),
        ((Keyframe(3, None, outside=True),), "never in sight"),
        ((Keyframe(True, Box("", 0, 0, 1, 1)),), "the frame of keyframe 0 is True"),
        ((Keyframe(float("nan"), Box("", 0, 0, 1, 1)),), "the frame of keyframe 0 is nan"),  # type: ignore[arg-type]
        ((Keyframe(10**30, Box("", 0, 0, 1, 1)),), "the frame of keyframe 0 is 1000"),
        ((Keyframe(0.5, Box("", 0, 0, 1, 1)),), "the frame of keyframe 0 is 0.5"),  # type: ignore[arg-type]
        ((Keyframe(3, Box("", 0, 0, 1, 1), outside="no"),), "keyframe 0 has outside 'no'"),  # type: ignore[arg-type]
        ((Keyframe(3, Box("", 0, 0, 1e-200, 1)),), "expected a finite box"),
        ((Keyframe(3, Box(5, 0, 0, 1, 1)),), "class_id is 5"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_with_a_track_is_told(keys: tuple[Keyframe, ...], said: str) -> None:
    with pytest.raises(ValueError, match=f"object 0: .*{said}"):
        LiveTracks().add("i", "w", (Track("a", "", keys),))


def test_two_tracks_of_one_name_are_refused() -> None:
    track = walker("t", path(40.0), [0, 100])
    with pytest.raises(ValueError, match="its id 't' is that of object 0"):
        LiveTracks().add("i", "w", (track, track))


@pytest.mark.parametrize("votes", [("car", "car", "car"), ("car", "bus", "bus")])
def test_boxes_of_a_joined_track_are_of_its_class(votes: tuple[str, ...]) -> None:
    live = LiveTracks()
    for k, kind in enumerate(votes):
        keys = tuple(Keyframe(f, Box(kind, f + k, 0.0, 30.0, 20.0)) for f in (0, 10))
        live.add("i", f"w{k}", (Track("t", kind, keys),))
    (track,) = live.posterior("i").value
    assert track.class_id == votes[-1]
    assert [key.box.class_id for key in track.keyframes if key.box] == [votes[-1]] * 2


def test_boxes_that_name_no_class_still_name_none_when_joined() -> None:
    live = LiveTracks()
    for k in range(3):
        live.add("i", f"w{k}", (Track("t", "car", (Keyframe(0, Box("", float(k), 0.0, 30.0, 20.0)),)),))
    (track,) = live.posterior("i").value
    assert track.keyframes[0].box is not None
    assert track.keyframes[0].box.class_id == ""
