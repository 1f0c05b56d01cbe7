"""A scene: which layers a synthetic clip has, on which paths, and where each of their points is.

Three levels: "easy" has one other object, unlike the target; "medium" a look-alike whose path crosses the target's;
"hard" two look-alikes, and in half the clips an occluder. Medium and hard clips have an unlike object half of the time.
Lengths are drawn in UNITS, 1/96 of the frame's shorter side, so a scene looks the same at any size. Ours.
"""

from dataclasses import dataclass, replace

import numpy as np

from .shapes import Motion, draw_shape_family, draw_silhouette, is_inside, sample_inside, swing, to_frame, to_local
from .textures import Family, draw_family

LEVELS = ("easy", "medium", "hard")
TARGET = 1  # its layer, and its label in the index masks

# A scene is redrawn unless its target passes: a share of its area in sight in frame 0, and hidden (less than
# HIDDEN_BELOW in sight) in at most HIDDEN_FRAMES of the frames. Further labelled objects need only START_OTHERS.
START_TARGET, START_OTHERS, HIDDEN_BELOW, HIDDEN_FRAMES = 0.65, 0.3, 0.15, 0.2


@dataclass(frozen=True, eq=False)
class Layer:
    """One cut-out: its outline (None: the background, which has none), its motion and what it is painted with."""

    silhouette: np.ndarray | None
    motion: Motion
    family: Family
    half_width: float  # its local coordinates lie within [-half_width, half_width] wherever it can be seen

    def covers(self, u, v):
        """Which local points belong to the layer."""
        return np.ones(np.broadcast(u, v).shape, bool) if self.silhouette is None else is_inside(self.silhouette, u, v)


@dataclass(frozen=True, eq=False)
class Scene:
    """All there is to know about a clip before it is painted."""

    layers: tuple  # of Layer: 0 background, 1 target, then look-alikes, other objects, the occluder
    order: tuple  # the layers from the bottom to the top
    light: tuple  # swings of the global gain

    def above(self, layer):
        """The layers that can hide `layer`."""
        return self.order[self.order.index(layer) + 1 :]

    def top(self, time, y, x):
        """Which layer is on top at the points (y, x), any real numbers "n", of frame `time`."""
        top = np.zeros(y.shape, np.int8)
        for index in self.order:
            layer = self.layers[index]
            top[layer.covers(*to_local(layer.motion.pose(time), y, x))] = index
        return top

    def local(self, time, top, y, x):
        """The local coordinates (u, v) of the points (y, x) of frame `time`, each in the layer that `top` names."""
        u, v = np.empty(y.shape), np.empty(y.shape)
        for index, layer in enumerate(self.layers):
            mine = top == index
            u[mine], v[mine] = to_local(layer.motion.pose(time), y[mine], x[mine])
        return u, v

    def place(self, time, top, u, v):
        """Where local points are in frame `time`: (y, x, hidden), hidden if a layer above covers them there."""
        y, x, hidden = np.empty(u.shape), np.empty(u.shape), np.zeros(u.shape, bool)
        for index, layer in enumerate(self.layers):
            mine = top == index
            y[mine], x[mine] = here = to_frame(layer.motion.pose(time), u[mine], v[mine])
            for other in (self.layers[above] for above in self.above(index)):
                hidden[mine] |= other.covers(*to_local(other.motion.pose(time), *here))
        return y, x, hidden


def _wander(rng, low, high, most):
    """A swing of amplitude up to `most` that stays in [low, high] pixels (if it fits; else in their middle)."""
    amplitude, middle = rng.uniform(0.4, 1.0) * most, (low + high) / 2
    room = max((high - low) / 2 - amplitude, 0.0)
    return middle + rng.uniform(-room, room), amplitude, rng.uniform(20, 38), rng.uniform(0, 2 * np.pi)


def _free_path(rng, height, width, unit, margin):
    """Swings of y and x that keep off the border by a share `margin` of the frame."""
    return tuple(_wander(rng, margin * side, (1 - margin) * side, 18 * unit) for side in (height, width))


def _crossing_path(rng, path, meeting, unit, heading=None):
    """Swings of y and x that pass through the other `path` at frame `meeting`, near top speed.

    `heading` (radians, atan2 of dy and dx) is where to; by default against the direction of the other, within 1 rad.
    """
    around = np.array([meeting - 0.5, meeting, meeting + 0.5])
    along = [swing(row, around) for row in path]
    if heading is None:
        heading = np.arctan2(along[0][0] - along[0][2], along[1][0] - along[1][2]) + rng.uniform(-1.0, 1.0)
    reach, period = unit * rng.uniform(28, 40), rng.uniform(26, 38)
    rows = []
    for place, share in zip(along, (np.sin(heading), np.cos(heading))):
        at_meeting = rng.uniform(-0.35, 0.35)  # phase there; 0 is the middle of the swing, where it is fastest
        amplitude = reach * share
        middle, phase = place[1] - amplitude * np.sin(at_meeting), at_meeting - 2 * np.pi * meeting / period
        rows.append((middle, amplitude, period, phase))
    return tuple(rows)


def _motion(rng, path, radius, stretch=1.0, turn=0.5, grow=0.2, wave=0.09):
    """A motion along `path`; `turn`, `grow` and `wave` bound rotation (radians), log scale and shear waves (radii)."""

    def around(mean, most, slow):
        return mean, rng.uniform(0.3, 1.0) * most, rng.uniform(slow, 2 * slow), rng.uniform(0, 2 * np.pi)

    return Motion(
        *path,
        angle=around(rng.uniform(-np.pi, np.pi), turn, 20),
        log_scale=around(0.0, grow, 20),
        shear=around(0.0, turn / 3, 20),
        radius=radius,
        stretch=stretch,
        waves=tuple(
            (wave * rng.uniform(0.3, 1.0), rng.uniform(1.5, 3.5), rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3))
            for _ in range(2)
        ),
    )


def _cut_out(rng, shape, family, motion, wobble=1.0):
    silhouette = draw_silhouette(rng, shape, wobble)
    return Layer(silhouette, motion, family, float(np.sqrt(silhouette.max())))


def _background(rng, family, height, width, unit):
    path = tuple(
        (side / 2, rng.uniform(3, 12) * unit, rng.uniform(20, 38), rng.uniform(0, 2 * np.pi))
        for side in (height, width)
    )
    motion = _motion(rng, path, 48 * unit, turn=0.12, grow=0.1, wave=0.04)
    # The farthest corner of the frame, seen from the layer's centre, in local units: what the texture has to cover.
    reach = np.hypot(height, width) / 2 + np.hypot(path[0][1], path[1][1])
    shrink = np.exp(-0.1) * (1 - 0.5 * 0.12 / 3)
    return Layer(None, motion, family, reach / (48 * unit * shrink) + 2 * 0.04 + 0.02)


def draw_scene(rng, level, height, width, objects):
    """One draw of all layers; nothing is checked yet."""
    unit = min(height, width) / 96
    look_alikes = LEVELS.index(level)
    others = max(1 if level == "easy" else rng.randint(2), objects - 1 - look_alikes)
    occluders = rng.randint(2) if level == "hard" else 0
    crowd = np.sqrt(3 / max(3, 1 + look_alikes + others))  # many objects are smaller ones
    unlike = 10 if level == "easy" else 2  # candidates for each texture: how different things are from one another

    def radius():
        return max(rng.uniform(15, 23) * unit * crowd, 1.8)

    families = [draw_family(rng)]
    families.append(draw_family(rng, unlike=families, candidates=unlike))
    ground, family = families
    path, shape = _free_path(rng, height, width, unit, 0.2), draw_shape_family(rng)
    size = radius()
    layers = [_background(rng, ground, height, width, unit), _cut_out(rng, shape, family, _motion(rng, path, size))]
    meetings = rng.permutation([2, 3, 4, 5, 6])  # frames in which the target is met: within the first eight
    for meeting in meetings[:look_alikes]:
        crossing = _crossing_path(rng, path, meeting, unit)
        motion = _motion(rng, crossing, size * rng.uniform(0.85, 1.15))
        layers.append(_cut_out(rng, shape, family, motion))
    for _ in range(others):
        families.append(draw_family(rng, unlike=families, candidates=unlike))
        motion = _motion(rng, _free_path(rng, height, width, unit, 0.1), radius())
        layers.append(_cut_out(rng, draw_shape_family(rng), families[-1], motion))
    order = [0, *(1 + rng.permutation(len(layers) - 1)).tolist()]
    for meeting in meetings[-1:] if occluders else ():
        heading = rng.uniform(-np.pi, np.pi)
        crossing = _crossing_path(rng, path, meeting, unit, heading)
        motion = _motion(rng, crossing, 15 * unit, stretch=rng.uniform(1.9, 2.6), turn=0.2, wave=0.03)
        # It travels across its length, up to 0.4 rad askew: its long axis u points down the rows at angle 0, along the
        # heading at pi / 2 - heading, and across it a right angle further.
        motion = replace(motion, angle=(np.pi - heading + rng.uniform(-0.4, 0.4), *motion.angle[1:]))
        families.append(draw_family(rng, unlike=families, candidates=3))
        order.append(len(layers))
        layers.append(_cut_out(rng, ("superellipse", 4, 4.0), families[-1], motion, wobble=0.3))
    light = tuple((mean, rng.uniform(0.01, 0.06), rng.uniform(9, 40), rng.uniform(0, 2 * np.pi)) for mean in (1.0, 0.0))
    return Scene(tuple(layers), tuple(order), light)


def _share_in_sight(scene, index, times, height, width):
    """Share of a layer's area that is inside the frame and not hidden, per frame "t", from 96 points of it."""
    layer = scene.layers[index]
    times = times[:, None, None]
    u, v = sample_inside(layer.silhouette)
    y, x = to_frame(layer.motion.pose(times), u, v)
    seen = inside_frame(y, x, height, width)
    for other in scene.above(index):
        seen &= ~scene.layers[other].covers(*to_local(scene.layers[other].motion.pose(times), y, x))
    return seen.mean(axis=(1, 2))


def inside_frame(y, x, height, width):
    """Which points have a nearest pixel."""
    return (y >= -0.5) & (y < height - 0.5) & (x >= -0.5) & (x < width - 0.5)


def passes(scene, frames, height, width, objects):
    """Whether the target, and every other labelled object, can be seen well enough."""
    times = np.arange(frames)
    share = np.concatenate(
        [_share_in_sight(scene, TARGET, part, height, width) for part in np.array_split(times, 1 + frames // 256)]
    )
    if share[0] < START_TARGET or (share < HIDDEN_BELOW).mean() > HIDDEN_FRAMES:
        return False
    return all(
        _share_in_sight(scene, index, times[:1], height, width)[0] >= START_OTHERS for index in range(2, objects + 1)
    )
