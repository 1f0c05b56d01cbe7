"""Polygons: filled by hand, by a loop over pixels, over masks; the command line's form; one line for each kind of bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tmrn_edu.data.polygons import check_polygons, fill, paint_polygons, parse_polygon
from tmrn_edu.errors import InputError

H, W = 9, 13


def picture(mask):
    return ["".join(".123456789"[int(v)] for v in row) for row in mask]


def test_the_pixels_that_were_clicked_are_in_it():
    """A rectangle with its rim, a triangle by hand, and a square with a hole whose rim stays."""
    assert picture(fill([[(2, 1), (5, 1), (5, 3), (2, 3)]], (5, 8))) == [
        "........",
        "..1111..",
        "..1111..",
        "..1111..",
        "........",
    ]
    assert picture(fill([[(0, 0), (4, 0), (0, 4)]], (5, 6))) == ["11111.", "1111..", "111...", "11....", "1....."]
    rings = [[(0, 0), (6, 0), (6, 6), (0, 6)], [(1, 1), (5, 1), (5, 5), (1, 5)]]
    assert picture(fill(rings, (7, 7))) == ["1111111", "1111111", *["11...11"] * 3, "1111111", "1111111"]


def test_an_outline_that_crosses_itself_is_filled_by_the_even_odd_rule():
    star = [(6, 0), (10, 12), (0, 4), (12, 4), (2, 12)]
    filled = fill([star], (13, 13))
    assert filled[2, 6] and filled[5, 3] and not filled[7, 6]  # an arm, an arm, the middle, which is crossed twice


def test_between_pixels_and_beyond_the_frame():
    assert picture(fill([[(1.4, 0.6), (3.6, 0.6), (3.6, 2.4), (1.4, 2.4)]], (4, 5))) == [
        ".....",
        "..11.",
        "..11.",
        ".....",
    ]
    assert fill([[(0, 0), (W, 0), (W, H), (0, H)]], (H, W)).all()  # far edges of the frame are allowed


def by_hand(outlines, size):
    """One pixel after another: count the edges that a ray to the right crosses; a pixel on an edge is in."""
    mask = torch.zeros(size, dtype=torch.bool)
    for y in range(size[0]):
        for x in range(size[1]):
            odd = on = False
            for outline in outlines:
                for i, (x0, y0) in enumerate(outline):
                    x1, y1 = outline[(i + 1) % len(outline)]
                    if (y0 > y) != (y1 > y) and x < x0 + (x1 - x0) * (y - y0) / (y1 - y0):
                        odd = not odd
                    between = min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1)
                    on = on or between and (x - x0) * (y1 - y0) == (y - y0) * (x1 - x0)
            mask[y, x] = odd or on
    return mask


points = st.tuples(st.integers(0, W), st.integers(0, H))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(points, min_size=3, max_size=7), min_size=1, max_size=3))
def test_any_polygons_equal_the_loop(outlines):
    assert torch.equal(fill(outlines, (H, W)), by_hand(outlines, (H, W)))


def test_higher_ids_are_on_top_and_zero_takes_away_from_the_mask():
    square = [(0, 0), (3, 0), (3, 3), (0, 3)]
    drawn = {7: square, 0: [(0, 4), (3, 4), (3, 5), (0, 5)], 2: [[(2, 0), (5, 0), (5, 4), (2, 4)]]}
    base = torch.zeros(6, 6, dtype=torch.int64)
    base[5] = 9
    expected = ["777722", "777722", "777722", "777722", "..2222", "....99"]
    mask = paint_polygons(drawn, (6, 6), base)
    assert mask.dtype == torch.uint8 and base.max() == 9 and base[0].max() == 0
    assert picture(mask) == expected
    assert picture(paint_polygons({}, (2, 3))) == ["...", "..."]


def test_forms_of_polygons():
    outline = [(1, 2), (3, 4), (5, 0)]
    assert check_polygons({2: outline, 1: [outline, outline], 5: []}) == {1: [outline, outline], 2: [outline]}
    assert list(check_polygons({2: torch.tensor(outline).numpy(), 1: [outline]}, (9, 9))) == [1, 2]
    assert parse_polygon("1:1,2 3,4  5,0") == (0, 1, outline)
    assert parse_polygon("30=12:1,2 3.5,4 5,0")[:2] == (30, 12)


@pytest.mark.parametrize(
    "text", ["1;2", "a:1,2 3,4 5,6", "1:1,2 3,4 5", "x=1:1,2 3,4 5,6", "", "1=:1,2 3,4 5,6", "1:1,2,3 3,4 5,6"]
)
def test_words_that_are_no_polygon(text):
    with pytest.raises(InputError, match="expected"):
        parse_polygon(text)


BAD = [
    ([(1, 1), (2, 2), (3, 1)], "polygons are a list, expected a dict"),
    ({255: [(1, 1), (2, 2), (3, 1)]}, "object 255 was given, expected an id from 1 to 254"),
    ({"1": [(1, 1), (2, 2), (3, 1)]}, "object '1' was given"),
    ({1: [(1, 1), (2, 2)]}, "object 1 has 2 points, expected at least 3"),
    ({1: [(1, 1), (2, 2), 3]}, "expected points"),
    ({1: 5}, "expected points"),
    ({1: [(1, 1), (2, float("nan")), (3, 1)]}, r"the point \(2.0, nan\), expected finite"),
    ({3: [(1, 1), (10, 2), (3, 1)]}, r"object 3 has the point x = 10, y = 2, the frame is 6 x 8 \(height x width\): x goes from 0 to 8"),
    ({3: [(1.2, 1.2), (1.4, 1.2), (1.3, 1.4)]}, "polygon of object 3 covers the middle of no pixel"),
]  # fmt: skip


@pytest.mark.parametrize("polygons, message", BAD)
def test_refusals(polygons, message):
    with pytest.raises(InputError, match=message):
        paint_polygons(polygons, (6, 8))


def test_negative_frame():
    with pytest.raises(InputError, match="polygon of frame -1, expected frame 0 or a later one"):
        parse_polygon("-1=1:0,0 1,1 2,0")
