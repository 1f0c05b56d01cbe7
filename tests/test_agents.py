"""TMRN's agents: principal directions, likelihoods, and the agent-level correlation."""

import pytest
import torch
from einops import rearrange
from memories import CK, Case

from tmrn_edu.memory import agents as module
from tmrn_edu.memory.agents import Agents, agent_correlation, principal_directions


def key(b=2, h=6, w=8, **options):
    return torch.randn(b, CK, h, w, dtype=torch.float64, **options)


def trained(count=4):
    """Agents whose attention does something."""
    agents = Agents(CK, count).double()
    torch.nn.init.normal_(agents.to_out.weight)
    return agents


def correlation(agents, memory_key, query_key):
    description = agents.describe(memory_key)
    return agent_correlation(description.likelihood, agents.likelihood(query_key, description))


def test_principal_directions_are_right_singular_vectors():
    keys = key() + 3  # a mean to be taken off
    found = principal_directions(keys, CK)
    assert not found.requires_grad
    for x, directions in zip(keys, found, strict=True):
        rows = rearrange(x, "ck h w -> (h w) ck")
        _, sizes, vectors = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
        assert (sizes[:-1] > sizes[1:] + 1e-3).all()
        torch.testing.assert_close(
            (directions * vectors).sum(1).abs(), torch.ones(CK, dtype=torch.float64)
        )  # up to signs
        torch.testing.assert_close(directions @ directions.T, torch.eye(CK, dtype=torch.float64))
    torch.testing.assert_close(principal_directions(keys, 2), found[:, :2])


def test_principal_directions_refuses_more_than_there_are():
    with pytest.raises(ValueError, match="6 principal directions asked for, but keys have 5 channels"):
        principal_directions(key(), CK + 1)


@pytest.mark.parametrize("count", [0, 1, 3, 2 * CK + 2])
def test_impossible_numbers_of_agents(count):
    with pytest.raises(ValueError, match=f"{count} agents asked for, expected an even number from 2 to {2 * CK}"):
        Agents(CK, count)


def test_agents_start_as_directions_with_both_signs():
    agents, x = Agents(CK, 4).double(), key()
    description = agents.describe(x)
    directions = principal_directions(x, 2)
    torch.testing.assert_close(description.agents, torch.cat([directions, -directions], dim=1))
    torch.testing.assert_close(description.mean, x.mean((2, 3)))


def test_likelihood_against_the_loop():
    agents, x = trained(), key(h=2, w=3)
    description = agents.describe(x)
    found = agents.likelihood(x, description)
    torch.testing.assert_close(found, description.likelihood)  # the frame's own pixels, computed once
    for b in range(2):
        for m in range(6):
            pixel = x[b, :, m // 3, m % 3] - description.mean[b]
            cosines = [torch.cosine_similarity(pixel, agent, dim=0) for agent in description.agents[b]]
            torch.testing.assert_close(found[b, :, m], (torch.stack(cosines) / 0.1).softmax(0), rtol=1e-6, atol=1e-9)


def test_attention_against_the_loop():
    agents, x = trained(), key(b=1, h=2, w=3)
    seeds = torch.cat([principal_directions(x, 2), -principal_directions(x, 2)], dim=1)[0]
    rows = rearrange(x[0], "ck h w -> (h w) ck")
    for seed, found in zip(seeds, agents.describe(x).agents[0], strict=True):
        scores = torch.stack([agents.to_query(seed) @ agents.to_key(row) for row in rows]) / CK**0.5
        read = sum(weight * agents.to_value(row) for weight, row in zip(scores.softmax(0), rows, strict=True))
        torch.testing.assert_close(found, seed + agents.to_out(read))


def test_correlation_is_a_probability():
    agents, memory_key, query_key = trained(), key(), key(h=3, w=5)
    description = agents.describe(memory_key)
    likelihood = agents.likelihood(query_key, description)
    torch.testing.assert_close(likelihood.sum(1), torch.ones(2, 15, dtype=torch.float64))
    g = correlation(agents, memory_key, query_key)
    assert g.shape == (2, 48, 15) and g.min() >= 0 and g.max() <= 1 + 1e-12
    loop = sum(
        rearrange(r, "b m -> b m 1") * rearrange(p, "b q -> b 1 q")
        for r, p in zip(description.likelihood.unbind(1), likelihood.unbind(1), strict=True)
    )
    torch.testing.assert_close(g, loop)


def test_signs_of_singular_vectors_do_not_matter(monkeypatch):
    """Identity 3: values and gradients of g stay when directions flip."""
    agents, memory_key, query_key = trained(), key(requires_grad=True), key(requires_grad=True)
    found = []
    for signs in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
        flip = torch.tensor(signs, dtype=torch.float64).reshape(2, 1)
        monkeypatch.setattr(
            module, "principal_directions", lambda key, count, flip=flip: flip * principal_directions(key, count)
        )
        g = correlation(agents, memory_key, query_key)
        weights = torch.linspace(-1, 1, g.numel(), dtype=g.dtype).reshape(g.shape)
        found.append((g, *torch.autograd.grad((weights * g).sum(), (memory_key, query_key, *agents.parameters()))))
    for other in found[1:]:
        for x, y in zip(found[0], other, strict=True):
            torch.testing.assert_close(x, y)


def test_correlation_does_not_depend_on_scale_or_offset():
    agents, memory_key, query_key = Agents(CK, 4).double(), key(), key()
    g = correlation(agents, memory_key, query_key)
    torch.testing.assert_close(correlation(agents, 7 * memory_key + 3, 7 * query_key + 3), g)


def test_gradients():
    agents, query_key = trained(), key(b=1, h=2, w=2, requires_grad=True)
    memory_key = key(b=1, h=2, w=3)
    description = agents.describe(memory_key)
    assert torch.autograd.gradcheck(lambda x: agents.likelihood(x, description), (query_key,))
    g = correlation(agents, memory_key.requires_grad_(), query_key)
    for gradient in torch.autograd.grad(g.square().sum(), (memory_key, *agents.parameters())):
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


@pytest.mark.parametrize("kind", ["constant", "zero", "one pixel", "two pixels", "one colour apart"])
def test_degenerate_frames_are_finite(kind):
    case = Case(dtype=torch.float32)
    x = {
        "constant": case.keys[:, 0, :, :1, :1].expand(-1, -1, 6, 8).clone(),
        "zero": torch.zeros(2, CK, 6, 8),
        "one pixel": case.keys[:, 0, :, :1, :1].clone(),
        "two pixels": case.keys[:, 0, :, :1, :2].clone(),
        "one colour apart": torch.zeros(2, CK, 6, 8).index_fill(3, torch.tensor([2]), 1.0),
    }[kind].requires_grad_()
    agents = Agents(CK, 2 * CK)
    torch.nn.init.normal_(agents.to_out.weight)
    query_key = case.query_key.clone().requires_grad_()
    g = torch.log(correlation(agents, x, query_key) + 1e-6)
    assert torch.isfinite(g).all()
    for gradient in torch.autograd.grad(g.sum(), (x, query_key, *agents.parameters())):
        assert torch.isfinite(gradient).all() and gradient.abs().max() < 1e9


def test_features_against_the_loop():
    """Keys, their means around each pixel (of the pixels that exist), and places as long as keys are."""
    x = key(h=4, w=5)
    agents = Agents(CK, 4, place=0.5, scales=(1, 3)).double()
    found = agents.features(x)
    assert found.shape == (2, 3 * CK + 2, 4, 5) and torch.equal(found[:, :CK], x)
    for b, i, j in ((0, 0, 0), (0, 3, 4), (1, 2, 1)):
        for number, radius in enumerate((1, 3), start=1):
            around = x[b, :, max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1]
            torch.testing.assert_close(found[b, number * CK : (number + 1) * CK, i, j], around.mean((1, 2)))
        length = (x[b] - x[b].mean((1, 2), keepdim=True)).square().sum(0).mean().sqrt()
        place = torch.tensor([2 * i / 3 - 1, 2 * j / 4 - 1], dtype=torch.float64)
        torch.testing.assert_close(found[b, -2:, i, j], 0.5 * length * place)
    assert Agents(CK, 4).features(x) is x


def test_agents_that_see_places_part_look_alikes():
    """Two things with equal keys, left and right: g is 1 between them for agents of keys alone, and small for agents of places."""
    x = torch.zeros(1, CK, 1, 9, dtype=torch.float64)
    x[:, 0, 0, [0, 8]] = 1.0
    plain, placed = (correlated(place, x) for place in (0.0, 4.0))
    torch.testing.assert_close(plain[0, 0, 8], plain[0, 0, 0])
    assert placed[0, 0, 8] < 0.5 * placed[0, 0, 0]


def correlated(place, x):
    agents = Agents(CK, 4, place=place).double()
    description = agents.describe(x)
    return agent_correlation(description.likelihood, agents.likelihood(agents.features(x), description))


@pytest.mark.parametrize("options", [{"place": -1.0}, {"scales": (0,)}])
def test_impossible_features(options):
    with pytest.raises(ValueError, match="expected 0 or more, and radii of 1 cell or more"):
        Agents(CK, 4, **options)


def test_random_start_is_learned_and_the_same_for_all_frames():
    agents = Agents(CK, 4, start="random").double()
    torch.testing.assert_close(agents.directions.norm(dim=1), torch.ones(2, dtype=torch.float64), rtol=1e-6, atol=0)
    one, other = (agents.describe(key()).agents for _ in range(2))
    assert torch.equal(one, other) and torch.equal(one[:, :2], -one[:, 2:])
    agents.describe(key()).likelihood[:, 0].sum().backward()
    assert agents.directions.grad.any()
    with pytest.raises(ValueError, match="start is 'pca', expected 'svd' or 'random'"):
        Agents(CK, 4, start="pca")
