"""viz/votes.py: numbers that figures are made of, against loops, and figures that can be saved."""

import io

import pytest
import torch
from einops import rearrange

from tmrn_edu.memory.affinity import softmax_over_memory
from tmrn_edu.memory.similarity import dot_product, negative_squared_l2
from tmrn_edu.viz import votes as draw

B, T, H, W, h, w, Q = 2, 3, 24, 32, 6, 8, 37


def frames(count=T):
    return torch.randint(0, 256, (count, H, W, 3), dtype=torch.uint8)


def saved(figure):
    figure.savefig(buffer := io.BytesIO(), format="png")
    return buffer.getvalue()


def test_votes_by_a_loop():
    similarity = torch.randn(B, T, h * w, Q)
    loop = torch.zeros(B, T, h * w, dtype=torch.long)
    for b in range(B):
        for q in range(Q):
            t, m = max(
                ((t, m) for t in range(T) for m in range(h * w)), key=lambda place: similarity[b, place[0], place[1], q]
            )
            loop[b, t, m] += 1
    votes = draw.count_votes(similarity)
    assert torch.equal(votes, loop) and (votes.sum(dim=(1, 2)) == Q).all()
    torch.testing.assert_close(draw.coverage(votes), (loop > 0).float().mean(dim=(1, 2)))


def test_among_equals_the_first_gets_the_vote():
    votes = draw.count_votes(torch.zeros(1, 2, 5, 4))
    assert votes[0, 0, 0] == 4 and votes.sum() == 4


def test_share_of_top():
    votes = torch.tensor([[[5, 0, 2], [1, 0, 2]]])
    shares = [float(draw.share_of_top(votes, count)) for count in (1, 2, 3, 6, 100)]
    assert shares == pytest.approx([0.5, 0.7, 0.9, 1, 1])
    with pytest.raises(ValueError, match="count is 0"):
        draw.share_of_top(votes, 0)


def test_a_distance_covers_what_a_dot_product_does_not():
    """Every key wins the query that equals it; by dot product, one that is much longer than all others wins half the plane."""
    keys = torch.randn(1, 4, h, w)
    memory = rearrange(keys, "b ck h w -> b 1 ck h w").clone()
    assert draw.coverage(draw.count_votes(negative_squared_l2(memory, keys))) == 1
    memory[..., 0, 0] *= 100
    by_dot = draw.count_votes(dot_product(memory, keys))
    assert draw.coverage(by_dot) < 1 and by_dot[0, 0, 0] > 0.2 * h * w


def test_votes_figure():
    votes = {"dot": draw.count_votes(torch.randn(1, T, h * w, Q))[0], "L2": torch.zeros(T, h * w, dtype=torch.long)}
    figure = draw.votes_figure(frames(), votes, ["a", "b", "c"])
    assert len(figure.axes) == 2 * T and saved(figure).startswith(b"\x89PNG")
    wins = int((votes["dot"] > 0).sum())
    assert figure.axes[0].get_ylabel().splitlines()[:2] == ["dot", f"{wins} of {T * h * w}"]
    assert figure.axes[0].get_title() == f"a: {int(votes['dot'][0].sum())} votes"


def test_share_figure_reaches_one_where_nobody_else_wins():
    votes = {"some": draw.count_votes(torch.randn(1, T, h * w, Q))[0]}
    (axis,) = draw.share_figure(votes).axes
    line, dot, _ = axis.get_lines()
    assert line.get_ydata()[-1] == pytest.approx(1)
    assert dot.get_xdata()[0] == int((votes["some"] > 0).sum())


def test_winners_figure_counts_keys_that_win():
    """Of a triangle and a point within, a dot product chooses the corners alone."""
    keys = torch.tensor([[2.0, 0.0], [-1.0, 2.0], [-1.0, -2.0], [0.1, 0.2]])
    titles = [axis.get_title().splitlines()[1] for axis in draw.winners_figure(keys).axes]
    assert titles == ["3 of 4 keys win somewhere", "4 of 4 keys win somewhere"]
    assert saved(draw.winners_figure(keys, names=["p", "q", "r", "s"])).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="0 memory keys"):
        draw.winners_figure(torch.zeros(0, 2))


def test_kept_figure_counts_cells():
    weights = softmax_over_memory(torch.randn(1, T, h * w, Q), top_k=20)[0, :, :, 3]
    figure = draw.kept_figure(frames(1)[0], (3.0, 5.0), frames(), {"20": weights}, ["a", "b", "c"])
    titles = [axis.get_title() for axis in figure.axes[1:]]
    counts = [int(title.split()[1]) for title in titles]
    assert sum(counts) == 20 and saved(figure).startswith(b"\x89PNG")


def test_numbers_that_do_not_fit_are_named():
    votes = torch.ones(T, h * w, dtype=torch.long)
    with pytest.raises(ValueError, match="3 frames, 2 titles, votes {'dot': 3}"):
        draw.votes_figure(frames(), {"dot": votes}, ["a", "b"])
    with pytest.raises(ValueError, match="weights {'k': 2}"):
        draw.kept_figure(frames(1)[0], (0, 0), frames(), {"k": torch.ones(2, h * w)}, ["a", "b", "c"])
    with pytest.raises(ValueError, match="0 rows of votes"):
        draw.share_figure({})
    with pytest.raises(ValueError, match="47 cells do not make a grid"):
        draw.votes_figure(frames(), {"dot": votes[:, :47]}, ["a", "b", "c"])
