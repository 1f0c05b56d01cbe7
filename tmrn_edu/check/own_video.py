"""Checkers of notebook 09: inside an outline or not, masks carried along by keys, frames a bounded memory keeps, one picture over another."""

from functools import wraps

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor

from tmrn_edu.check.cases import Draw, examples
from tmrn_edu.check.trial import trial
from tmrn_edu.memory.working import MemoryFrame, WorkingMemory


def _crossings(
    x: float, y: float, outline: Tensor, closed: bool = True, half_open: bool = True, right_only: bool = True
) -> list[int]:
    """The edges that a ray from (x, y) to the right crosses, each as +1 where it runs down the picture, as -1 where it runs up."""
    points = outline.tolist()
    crossed = []
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]] if closed else points[1:], strict=False):
        between = (y0 <= y) != (y1 <= y) if half_open else min(y0, y1) <= y <= max(y0, y1) and y0 != y1
        if between and (not right_only or x < x0 + (y - y0) * (x1 - x0) / (y1 - y0)):
            crossed.append(1 if y1 > y0 else -1)
    return crossed


def inside(function) -> bool:
    """`function(x, y, outline)` says whether a point lies inside an outline `n 2`, points (x, y), by the even-odd rule; not for points on it."""

    def case(draw: Draw) -> tuple[float, float, Tensor]:
        outline = draw.integers(f"{draw.integer(3, 6)} 2", 0, 8).float()
        x, y = draw.integer(-1, 8) + 0.3, draw.integer(0, 8)  # no edge but a level one passes there
        level = any(y0 == y1 == y for (_, y0), (_, y1) in zip(outline, outline.roll(-1, dims=0), strict=True))
        return x, y + draw.choice(0.0, 0.3) if not level else y + 0.3, outline

    def odd(x, y, outline, **rules):
        return len(_crossings(x, y, outline, **rules)) % 2

    star = torch.tensor([[6.0, 0.0], [10.0, 12.0], [0.0, 4.0], [12.0, 4.0], [2.0, 12.0]])
    kite = torch.tensor([[0.0, 4.0], [5.0, 0.0], [9.0, 4.0], [5.0, 8.0]])
    bay = torch.tensor([[0.0, 0.0], [8.0, 0.0], [8.0, 8.0], [4.0, 2.0], [0.0, 8.0]])
    spots = [
        (6.0, 2.0, star),
        (6.0, 7.0, star),
        (3.0, 5.0, star),
        (11.0, 9.0, star),
        (5.0, 4.0, kite),
        (1.0, 1.0, kite),
        (-2.0, 4.0, kite),
    ]
    spots += [
        (4.0, 5.0, bay),
        (1.0, 5.0, bay),
        (1.0, 2.0, bay),
        (7.0, 1.0, bay),
        (-1.0, 5.0, bay),
        (10.0, 4.0, kite),
        (3.0, 3.0, kite),
    ]

    @wraps(function)  # for the names of its arguments
    def answer(*case):
        return float(function(*case))

    return trial(
        answer,
        lambda x, y, outline: float(odd(x, y, outline)),
        spots + examples(case),
        passed="an odd number of crossings is inside",
        mistakes=[
            (
                lambda *case: float(odd(*case, closed=False)),
                "an outline is closed: the last edge goes from the last point to the first",
            ),
            (
                lambda *case: float(odd(*case, half_open=False)),
                "a ray through a corner meets two edges, and must count one of them: let an edge have its upper end but not its lower one",
            ),
            (
                lambda *case: float(odd(*case, right_only=False)),
                "edges to the left of the point are counted too: only those that the ray to the right meets",
            ),
            (
                lambda *case: float(sum(_crossings(*case)) != 0),
                "that is the non-zero rule, which counts the middle of a star as inside: even or odd alone decides",
            ),
            (lambda *case: float(not odd(*case)), "it is the other way round: odd is inside"),
        ],
    )


def over(function) -> bool:
    """`function(cut, background)` lays a cut-out `H W 4` over a background `H W 3`, all values in 0..255 -> `H W 3`."""

    def blend(cut, background, alpha):
        alpha = rearrange(alpha, "H W -> H W 1")
        return alpha * cut[..., :3] + (1 - alpha) * background

    def case(draw: Draw) -> tuple[Tensor, Tensor]:
        cut = draw.choice(1, 3) * (draw.uniform("H W 4") - 0.5) + 0.5  # the other: some alpha is 0, some is 255
        return 255 * cut.clamp(0, 1), 255 * draw.uniform("H W 3")

    return trial(
        function,
        lambda cut, background: blend(cut, background, cut[..., 3] / 255),
        examples(case),
        axes="H W c",
        passed="alpha of the one, the rest of the other",
        mistakes=[
            (
                lambda cut, background: blend(cut, background, cut[..., 3]),
                "alpha goes from 0 to 255 here: divide by 255",
            ),
            (
                lambda cut, background: blend(cut, background, 1 - cut[..., 3] / 255),
                "the other way round: where alpha is 255 the object is seen",
            ),
            (
                lambda cut, background: blend(cut, background, (cut[..., 3] > 127).float()),
                "that cuts with scissors: use alpha itself, not whether it is large",
            ),
            (
                lambda cut, background: rearrange(cut[..., 3] / 255, "H W -> H W 1") * cut[..., :3] + background,
                "the background shows through: it counts only 1 - alpha",
            ),
        ],
    )


def _cosine(memory_key: Tensor, query_key: Tensor) -> Tensor:
    """Cosine of every pair of keys: `ck m`, `ck q` -> `m q`."""
    lengths = [reduce(key**2, "ck n -> 1 n", "sum").sqrt() for key in (memory_key, query_key)]
    return einsum(memory_key / lengths[0], query_key / lengths[1], "ck m, ck q -> m q")


def propagate(function) -> bool:
    """`function(memory_key, query_key, mask, temperature)` carries a mask to a query frame: `ck m`, `ck q`, `m` -> `q`."""

    def voted(weights, mask):
        return einsum(weights, mask, "m q, m -> q")

    def right(memory_key, query_key, mask, temperature):
        return voted((_cosine(memory_key, query_key) / temperature).softmax(dim=0), mask)

    def case(draw: Draw) -> tuple[Tensor, Tensor, Tensor, float]:
        draw.size("ck", least=2)  # in one dimension there are only two directions
        memory_key, query_key, mask = draw.normal("ck m"), draw.normal("ck q"), draw.uniform("m")
        return memory_key, query_key, draw.choice(mask, mask, mask.round()), draw.choice(0.01, 0.2, 0.5, 1.5)

    return trial(
        function,
        right,
        examples(case),
        axes="q",
        passed="the memory pixels vote, those of like direction the loudest",
        mistakes=[
            (
                lambda k, x, mask, tau: voted((einsum(k, x, "ck m, ck q -> m q") / tau).softmax(dim=0), mask),
                "a dot product counts lengths too: divide each key by its length first",
            ),
            (
                lambda k, x, mask, tau: voted((_cosine(k, x) / tau).softmax(dim=1), mask),
                "the weights of a query pixel must sum to one: softmax over m, not over q",
            ),
            (
                lambda k, x, mask, tau: voted((_cosine(k, x) * tau).softmax(dim=0), mask),
                "divide by the temperature: the smaller it is, the fewer memory pixels count",
            ),
            (
                lambda k, x, mask, tau: voted(_cosine(k, x).softmax(dim=0), mask),
                "the temperature is not used",
            ),
            (
                lambda k, x, mask, tau: mask[_cosine(k, x).argmax(dim=0)],
                "that is the best match alone; here all memory pixels vote, by their softmax",
            ),
            (
                lambda k, x, mask, tau: voted((_cosine(k, x) / tau).exp(), mask),
                "the weights do not sum to one: divide the exponentials by their sum over m",
            ),
        ],
    )


def _kept(now: int, every: int, most: int, given: tuple[int, ...], restart: bool = True) -> Tensor:
    """What a `WorkingMemory` of `most` frames holds when frame `now` is segmented; `restart`: a given mask starts the count of `every` anew."""
    memory, last = WorkingMemory(most), 0
    for t in range(now):
        if t in given or (t - last >= every if restart else t % every == 0):
            memory.add(MemoryFrame(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1), index=t, exact=t in given))
            last = t
    return torch.tensor([frame.index for frame in memory.frames])


def frames_kept(function) -> bool:
    """`function(now, every, most, given)` lists the frames in memory when frame `now` is segmented, ascending, as a tensor."""

    def case(draw: Draw) -> tuple:
        now = draw.integer(1, 40)
        corrected = (frame for frame in range(1, now) if draw.integer(0, now) < 4)  # a few
        return now, draw.integer(1, 6), draw.integer(2, 5), (0, *corrected)

    def window(now, every, most, given):
        return _kept(now, every, now + 1, given)[-most:]

    def first_and_window(now, every, most, given):
        frames = _kept(now, every, now + 1, given)
        return frames if len(frames) <= most else torch.cat([frames[:1], frames[len(frames) - most + 1 :]])

    return trial(
        function,
        _kept,
        [(13, 5, 8, (0,)), (40, 5, 4, (0,)), (20, 4, 3, (0, 5, 6, 7)), *examples(case)],
        axes="kept",
        passed="the first frame, what was given, and a window of recent frames",
        mistakes=[
            (
                lambda now, every, most, given: _kept(now, every, now + 1, given),
                "nothing is ever thrown out: memory holds at most `most` frames",
            ),
            (window, "the first frame is lost: it always stays"),
            (
                first_and_window,
                "corrected frames leave too early: the oldest *predicted* frame goes first, a given one only when there is none",
            ),
            (
                lambda *case: _kept(*case, restart=False),
                "a given mask starts the count anew: the next frame joins `every` frames after the last one that did",
            ),
            (
                lambda now, every, most, given: _kept(now + 1, every, most, given),
                "frame `now` is not in memory while it is segmented: it has no mask yet",
            ),
        ],
    )
