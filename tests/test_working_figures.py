"""viz/working.py: as many dots as frames in memory, given ones apart, and a figure that can be saved."""

import io

import pytest

from tmrn_edu.errors import InputError
from tmrn_edu.viz.working import memory_figure

KEPT = {"all": [[0], [0], [0, 2], [0, 2], [0, 2, 4]], "two": [[0], [0], [0, 2], [0, 2], [0, 4]]}


def test_a_dot_for_every_frame_that_is_kept():
    figure = memory_figure(KEPT, given=(0, 4))
    assert len(figure.axes) == 2
    for axis, run in zip(figure.axes, KEPT.values(), strict=True):
        given, predicted = ({tuple(place) for place in dots.get_offsets().tolist()} for dots in axis.collections)
        places = {(t, frame) for t, frames in enumerate(run) for frame in frames}
        assert given == {place for place in places if place[1] in (0, 4)} and predicted == places - given
    assert [axis.get_title() for axis in figure.axes] == ["all: 3 frames at the end", "two: 2 frames at the end"]
    figure.savefig(buffer := io.BytesIO(), format="png")
    assert buffer.getvalue()


@pytest.mark.parametrize("kept", [{}, {"one": []}])
def test_nothing_to_draw(kept):
    with pytest.raises(InputError, match="expected at least one run, of at least one frame"):
        memory_figure(kept)
