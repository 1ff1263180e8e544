"""Polylines: lines, open or closed, matched by how far they run from each other and joined along their lengths.

Lines of one object are walked at an even pace and averaged step by step, robustly, from a first pairing by length,
closed ones from the starts that fit best; then every line is paired with the average anew by dynamic time warping, and
averaged again (DBA; Petitjean, Ketterlin & Gançarski, Pattern Recognition 2011), so that one who cut a corner or
stopped early shifts nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..columns import Floats
from .attributes import Attributes
from .fields import LEAST, coordinates
from .objects import LiveObjects
from .raster import Ints, thinned
from .robust import student_mean

VERSION = "1"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "RobustBarycentreAveraging"

FALLOFF = 0.1
"""Distance of lines, in lengths, at which likeness is exp(-1/2)."""

_STEPS = 40
"""Points that a line is walked on."""

_CHUNK = 128
"""Lines paired at once, so that memory stays small."""

_ROUNDS = 2
"""Pairings with the average; the third moves a line by less than a thousandth of its length."""

_GAP = 0.05
"""Gap between a line's ends, in lengths, up to which it is taken for closed: hands stop a little short or run over."""

_FINE = 1e-3
"""How far a joined line may be from its own points left out, in lengths."""


@dataclass(frozen=True, slots=True)
class Polyline:
    """A line x0, y0, x1, y1, ... in pixels, of two points or more that are not all the same."""

    class_id: str
    line: tuple[float, ...]
    attributes: Attributes = ()


class LivePolylines(LiveObjects[Polyline]):
    """Live state of a question answered with polylines.

    Likeness is exp(-d² / 2 s² k²): d² the mean squared distance from either line to the nearest point of the other, s
    their mean length, k `FALLOFF`. Which end a line was begun at makes no difference, nor where a closed one was; a line
    that most of the weight closed is joined as a closed one, its last point its first.
    """

    drawn = Polyline
    first_spread: float = 0.4

    def _checked_object(self, given: Polyline) -> Polyline:
        line = coordinates("the line", given.line, points=2)
        if max(np.ptp(line[0::2]), np.ptp(line[1::2])) < LEAST:
            raise ValueError(
                f"all points of the line are the same; expected a line of {LEAST:g} pixels or more"
            )
        return Polyline(given.class_id, line, given.attributes)

    def _bounds(self, objects: Sequence[Polyline]) -> Floats:
        """Return bounds with a margin within which another line may be alike enough to be the same."""
        least = 0.5 * self.tolerance
        margin = FALLOFF * np.sqrt(-2.0 * np.log(least))
        return np.array([_bounds(points_of(one), margin) for one in objects]).reshape(-1, 4)

    def _similarity(self, left: Sequence[Polyline], right: Sequence[Polyline]) -> Floats:
        place: dict[tuple[float, ...], int] = {}
        one, other = ([place.setdefault(line.line, len(place)) for line in side] for side in (left, right))
        lines = [np.array(line).reshape(-1, 2) for line in place]
        length = np.array([length_of(line) for line in lines])
        walked = np.array([walk(line, _STEPS) for line in lines]).reshape(-1, _STEPS, 2)
        alike = np.ones(len(left))
        for low in range(0, len(left), _CHUNK):
            a, b = np.array(one[low : low + _CHUNK]), np.array(other[low : low + _CHUNK])
            square = (_squared_gap(walked[a], walked[b]) + _squared_gap(walked[b], walked[a])) / 2.0
            size = FALLOFF * (length[a] + length[b]) / 2.0
            alike[low : low + _CHUNK] = np.exp(-square / (2.0 * size**2))
        return alike

    def _squared_distance(self, likeness: Floats) -> Floats:
        return np.asarray(-2.0 * np.log(np.maximum(likeness, 1e-12)))

    def _place(
        self, objects: Sequence[Polyline], precision: Floats, corpus: Mapping[str, Floats]
    ) -> tuple[Polyline, Floats]:
        return self._places([objects], [precision], corpus)[0]

    def _places(
        self,
        groups: Sequence[Sequence[Polyline]],
        precision: Sequence[Floats],
        corpus: Mapping[str, Floats],
    ) -> Sequence[tuple[Polyline, Floats]]:
        if not groups:
            return []
        lines = [[points_of(one) for one in group] for group in groups]
        length = np.array([np.mean([length_of(line) for line in group]) for group in lines])
        scale = [p / (FALLOFF * s) ** 2 for p, s in zip(precision, length, strict=True)]
        closed = [
            float(p[[is_closed(line) for line in group]].sum()) > float(p.sum()) / 2.0
            for group, p in zip(lines, precision, strict=True)
        ]
        walked = [
            _round_alike(group) if around else _one_way(np.stack([walk(line, _STEPS) for line in group]), p)
            for group, p, around in zip(lines, precision, closed, strict=True)
        ]
        stacked, owner = np.concatenate(walked), np.repeat(np.arange(len(walked)), [len(w) for w in walked])
        centre, share = _centres(stacked, owner, scale)
        for _ in range(_ROUNDS):
            centre, share = _centres(paired(centre[owner], stacked), owner, scale)
        for k in np.flatnonzero(closed):
            centre[k, [0, -1]] = centre[k, [0, -1]].mean(axis=0)
        return [
            _drawn(group, middle, weight, _FINE * s)
            for group, middle, weight, s in zip(groups, centre, share, length, strict=True)
        ]


def _centres(walked: Floats, owner: Ints, scale: Sequence[Floats]) -> tuple[Floats, Sequence[Floats]]:
    """Return the robust mean ``(groups, steps, 2)`` of the lines ``(n, steps, 2)`` of each group, and their shares."""
    centre, shares = np.zeros((len(scale), *walked.shape[1:])), [np.zeros(0)] * len(scale)
    size = np.bincount(owner)
    for n in np.unique(size):
        members = np.flatnonzero(size == n)
        given = walked[np.isin(owner, members)].reshape(members.size, n, -1, 2).swapaxes(1, 2)
        precision = np.stack([scale[k] for k in members.tolist()])[:, None, :, None]
        centre[members], share = student_mean(given, precision)
        for k, weight in zip(members.tolist(), share.mean(axis=(1, 3)), strict=True):
            shares[k] = weight
    return centre, shares


def _drawn(
    group: Sequence[Polyline], centre: Floats, weight: Floats, tolerance: float
) -> tuple[Polyline, Floats]:
    """Return the average as a polyline; one of the lines themselves where all are equal or cancel out."""
    kept = centre[thinned(centre, tolerance)]
    if all(one.line == group[0].line for one in group) or not np.ptp(kept, axis=0).any():
        return group[int(weight.argmax())], weight
    return Polyline("", tuple(float(v) for v in kept.ravel())), weight


def points_of(polyline: Polyline) -> Floats:
    """Return the points ``(n, 2)``."""
    return np.array(polyline.line, dtype=np.float64).reshape(-1, 2)


def length_of(line: Floats) -> float:
    """Return a line's length in pixels."""
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def walk(line: Floats, steps: int) -> Floats:
    """Return ``steps`` points ``(steps, 2)`` along a line ``(n, 2)``, evenly by length, both ends among them."""
    gone = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.linspace(0.0, gone[-1], steps)
    return np.stack([np.interp(at, gone, line[:, 0]), np.interp(at, gone, line[:, 1])], axis=1)


def is_closed(line: Floats) -> bool:
    """Return whether a line ends where it began, or so nearly that it was meant to."""
    gap = float(np.hypot(*(line[-1] - line[0])))
    return len(line) > 2 and gap <= _GAP * length_of(line)


def _round_alike(group: Sequence[Floats]) -> Floats:
    """Return closed lines walked ``(n, steps, 2)`` the same way round and from the same start, that of the first."""
    first = next(line for line in group if is_closed(line))
    start = ring_walk(first, _STEPS - 1)
    rings = [begun_alike(ring_walk(line, _STEPS - 1), start) for line in group]
    return np.stack([np.concatenate([ring, ring[:1]]) for ring in rings])


def ring_walk(ring: Floats, steps: int) -> Floats:
    """Return ``steps`` points ``(steps, 2)`` around a ring ``(n, 2)``, closed or not, evenly by length."""
    return walk(np.concatenate([ring, ring[:1]]), steps + 1)[:-1]


def begun_alike(ring: Floats, to: Floats) -> Floats:
    """Return a ring begun where, and run through as, is nearest to another of as many points, middles put together."""
    other = to - to.mean(axis=0)
    spin = np.fft.fft(other[:, 0] + 1j * other[:, 1])
    best, found = -np.inf, ring
    for turned in (ring, ring[::-1]):
        own = turned - turned.mean(axis=0)
        # The squared distance at every shift, but for what all have in common.
        match = np.fft.ifft(np.conj(spin) * np.fft.fft(own[:, 0] + 1j * own[:, 1])).real
        shift = int(match.argmax())
        if match[shift] > best + 1e-12 * abs(match[shift]):
            best, found = float(match[shift]), np.roll(turned, -shift, axis=0)
    return found


def line_likeness(one: Polyline, other: Polyline) -> float:
    """Return how alike two lines are, 0..1, as `LivePolylines` has it."""
    return float(LivePolylines()._similarity([one], [other])[0])


def _squared_gap(points: Floats, line: Floats) -> Floats:
    """Return the mean squared distance ``(n,)`` from points ``(n, m, 2)`` to the nearest on lines ``(n, k, 2)``."""
    start, along = line[:, None, :-1], np.diff(line, axis=1)[:, None]
    off_x, off_y = points[:, :, None, 0] - start[..., 0], points[:, :, None, 1] - start[..., 1]
    square = np.maximum(np.square(along).sum(axis=3), np.finfo(float).tiny)
    share = np.clip((off_x * along[..., 0] + off_y * along[..., 1]) / square, 0.0, 1.0)
    gap = np.square(off_x - share * along[..., 0]) + np.square(off_y - share * along[..., 1])
    return np.asarray(gap.min(axis=2).mean(axis=1), dtype=np.float64)


def _one_way(walked: Floats, precision: Floats) -> Floats:
    """Return lines ``(n, steps, 2)`` turned to run the same way: that of most of the weight, of the first if even."""
    there, back = (np.square(w - walked[0]).sum(axis=(1, 2)) for w in (walked, walked[:, ::-1]))
    turned = back < there
    if float(precision[turned].sum()) > float(precision.sum()) / 2.0 * (1.0 + 1e-9):
        turned = ~turned
    return np.where(turned[:, None, None], walked[:, ::-1], walked)


def paired(centre: Floats, line: Floats) -> Floats:
    """Return for each point of averages ``(n, steps, 2)`` the mean ``(n, steps, 2)`` of those of lines beside them
    that go with it."""
    found = np.empty_like(line)
    for low in range(0, len(line), _CHUNK):
        one, other = centre[low : low + _CHUNK], line[low : low + _CHUNK]
        with_each = warped(np.square(one[:, :, None, :] - other[:, None, :, :]).sum(axis=3))
        found[low : low + _CHUNK] = with_each @ other / with_each.sum(axis=2, keepdims=True)
    return found


def warped(cost: Floats) -> Floats:
    """Return 1 for the pairs of the cheapest monotone pairing of two sequences, from first to last, and 0 elsewhere.

    Both ``(n, rows, columns)``, n pairings at once. Dynamic time warping (Sakoe & Chiba 1978), a diagonal at a time.
    """
    n, rows, columns = cost.shape
    diagonal, row = np.mgrid[: rows + columns - 1, :rows]
    column = np.clip(diagonal - row, 0, columns - 1)
    costs = np.moveaxis(cost, 0, 2)[row, column]  # (diagonals, rows, n)
    # The cheapest ways to the two diagonals before, a row and a column of nothing before the first.
    last, last_but_one = np.full((2, rows + 1, n), np.inf)
    last_but_one[0] = 0.0
    came = np.zeros((rows + columns - 1, rows, n), dtype=np.int8)
    for d in range(rows + columns - 1):
        low, high = max(0, d - columns + 1), min(rows, d + 1)
        both, above, left = last_but_one[low:high], last[low:high], last[low + 1 : high + 1]
        straight = np.minimum(above, left)
        came[d, low:high] = np.where(both <= straight, 0, np.where(above <= left, 1, 2))
        now = np.full((rows + 1, n), np.inf)
        now[low + 1 : high + 1] = costs[d, low:high] + np.minimum(both, straight)
        last_but_one, last = last, now
    which, i, j = np.arange(n), np.full(n, rows - 1), np.full(n, columns - 1)
    path = np.empty((rows + columns - 1, 2, n), dtype=np.int64)
    for d in range(rows + columns - 1):
        path[d] = i, j
        way = came[i + j, i, which]
        i, j = np.maximum(i - (way != 2), 0), np.maximum(j - (way != 1), 0)
    pairs = np.zeros((n, rows, columns))
    pairs[which, path[:, 0], path[:, 1]] = 1.0
    return pairs


def _bounds(line: Floats, margin: float) -> tuple[float, float, float, float]:
    reach = margin * length_of(line)
    (x0, y0), (x1, y1) = line.min(axis=0) - reach, line.max(axis=0) + reach
    return float(x0), float(y0), float(x1), float(y1)
