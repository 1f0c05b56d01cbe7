"""The two corrections of spatial alignment."""

import math

import torch

from tmrn_edu.memory.alignment import (
    CORRELATION_EPS,
    carry_on,
    chain_prior,
    grid_positions,
    rectification,
    within_reach,
)


def test_grid_positions_are_rows_first():
    positions = grid_positions(6, 8, like=torch.zeros(1, dtype=torch.float64))
    assert positions.shape == (2, 6, 8) and positions.dtype == torch.float64
    assert positions[:, 4, 7].tolist() == [4, 7] and positions[:, 0, 0].tolist() == [0, 0]


def test_rectification():
    g = torch.tensor([[[0.0, 0.25, 1.0]]], dtype=torch.float64)
    expected = [math.log(CORRELATION_EPS), math.log(0.25 + CORRELATION_EPS), math.log(1 + CORRELATION_EPS)]
    torch.testing.assert_close(rectification(g)[0, 0], torch.tensor(expected, dtype=torch.float64))
    g = torch.rand(2, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rectification, (g,))


def test_chain_prior_against_the_loop():
    positions = grid_positions(6, 8, like=torch.zeros(1, dtype=torch.float64))
    centre = 10 * torch.rand(2, 2, 5, dtype=torch.float64) - 2  # also outside the grid
    prior = chain_prior(positions, centre)
    assert prior.shape == (2, 48, 5) and prior.stride()[1] == 1
    for b in range(2):
        for m in range(48):
            for q in range(5):
                y, x = (float(v) for v in centre[b, :, q])
                assert math.isclose(prior[b, m, q], (m // 8 - y) ** 2 + (m % 8 - x) ** 2, rel_tol=1e-9, abs_tol=1e-9)
    assert torch.autograd.gradcheck(lambda c: chain_prior(positions[:, :2, :3], c), (centre.requires_grad_(),))


def test_chain_prior_keeps_its_digits_on_large_grids():
    """In float32, on a grid as large as a 1080p frame at stride 4; errors far below one squared cell."""
    positions = grid_positions(270, 480, like=torch.zeros(1))
    centre = torch.tensor([[[0.0, 269.0, 134.5], [0.0, 479.0, 239.25]]])
    exact = ((positions.double().reshape(1, 2, -1, 1) - centre.double().reshape(1, 2, 1, -1)) ** 2).sum(1)
    assert (chain_prior(positions, centre) - exact).abs().max() < 0.1


def test_within_reach_is_a_square_near_by_and_a_slope_far_away():
    square = torch.tensor([[[0.0, 1e-8, 1.0, 9.0, 1e8]]], dtype=torch.float64)
    reach = torch.tensor(3.0, dtype=torch.float64)
    expected = [0, 1e-8, 6 * (10**0.5 - 3), 6 * (18**0.5 - 3), 6 * ((1e8 + 9) ** 0.5 - 3)]
    torch.testing.assert_close(
        within_reach(square, reach)[0, 0], torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-14
    )
    assert torch.isfinite(
        within_reach(torch.tensor([[[-1e-3]]]), torch.tensor(1e-3))
    ).all()  # a square that rounding made negative
    square = (10 * torch.rand(2, 5, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(within_reach, (square, reach.requires_grad_()))


def test_carry_on():
    centre, motion = torch.rand(2, 2, 5), torch.rand(2, 2, 5)
    torch.testing.assert_close(carry_on(centre, motion, 4, torch.tensor(0.5)), centre + 2 * motion)
    gaps = torch.tensor([[[1.0]], [[10.0]]])
    both = carry_on(centre, motion, gaps, torch.tensor(1.0))
    torch.testing.assert_close(both[1], centre[1] + 10 * motion[1])
