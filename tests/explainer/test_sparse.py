"""Games that lean on a few of many players: intervals, and the stop at an error asked for, must hold on them too."""

import numpy as np
import pytest

from explainer.coalitions import Budget, Clock
from explainer.methods.relevance import scales, taken
from explainer.methods.sampling import enumerated, settled
from explainer.methods.shapley import solver


def rule(live, rng):
    """1 where the weights of the players present exceed a quota."""
    weights = rng.uniform(0.2, 1, live) * rng.choice([-1, 1], live, p=[0.2, 0.8])
    quota = rng.uniform(0.2, 0.8) * weights.sum()
    return lambda masks: (masks @ weights > quota).astype(float)


def tree(live, rng):
    """A full tree of depth four; a player's presence says which way to go."""
    players, leaves = rng.integers(0, live, 16), rng.normal(size=16)

    def v(masks):
        place = np.ones(len(masks), dtype=int)
        for _ in range(4):
            place = 2 * place + masks[np.arange(len(masks)), players[place]]
        return leaves[place - 16]

    return v


def terms(live, rng):
    """Unanimity games of one to all players."""
    sets = [rng.choice(live, size, replace=False) for size in rng.integers(1, live + 1, 2 * live)]
    factors = rng.normal(size=len(sets))
    return lambda masks: sum(c * masks[:, s].all(axis=1) for c, s in zip(factors, sets, strict=True))


def sparse(d, seed):
    """Scores and exact values of a rule, a tree and a sum, each of three to eight players of ``d``."""
    for k, kind in enumerate((rule, tree, terms)):
        rng = np.random.default_rng([seed, d, k])
        live = int(rng.integers(3, 9))
        members, inner = rng.choice(d, live, replace=False), kind(live, rng)
        every = (np.arange(2**live)[:, None] >> np.arange(live)) & 1 == 1
        exact = np.zeros((d, 1))
        exact[members] = enumerated(inner(every).astype(float)[:, None], live)
        if np.abs(exact).max() > 1e-9:
            yield (lambda masks, f=inner, m=members: f(masks[:, m])[:, None].astype(float)), exact


def played(v, d, budget, seed, refine):
    play = solver("gaussian", d, budget, Clock(None), seed, refine)
    asked, count = next(play), 0
    while True:
        count += len(asked)
        try:
            asked = play.send(v(asked))
        except StopIteration as end:
            return end.value, count


@pytest.mark.parametrize(("refine", "least"), [(True, 0.91), (False, 0.91)])
def test_intervals_hold_where_a_few_of_many_players_matter(refine, least):
    inside = []
    for d in (12, 20, 30):
        for budget in (64, 128, 256, 512):
            for seed in range(8):
                for v, exact in sparse(d, 100 * budget + seed):
                    found, _ = played(v, d, Budget(budget), seed, refine)
                    matter = np.abs(exact) > 1e-9
                    inside.append((np.abs(found.values - exact) <= 1.96 * found.stderr + 1e-12)[matter])
    assert least <= np.concatenate(inside).mean() <= 0.98


@pytest.mark.parametrize("refine", [True, False])
def test_an_additive_game_is_not_surer_than_it_is_right(refine):
    """What the estimate loses of an additive game is the same in all rows, so that no row left out tells."""
    inside = []
    for d in (10, 20, 30):
        for seed in range(4):
            weights = np.random.default_rng([seed, d]).normal(size=d) * (np.arange(d) < 5)
            found, _ = played(lambda masks, w=weights: (masks @ w)[:, None], d, Budget(400), seed, refine)
            error = np.abs(found.values[:, 0] - weights)
            assert error.max() < 1e-3 * np.abs(weights).max()
            inside.append((error <= 1.96 * found.stderr[:, 0] + 1e-7)[:5])  # below, it is rounding
    assert np.concatenate(inside).mean() >= 0.9


def test_the_stop_at_an_error_is_right_on_sparse_games():
    right = []
    for d in (12, 20, 30):
        for seed in range(5):
            for v, exact in sparse(d, 5000 + seed):
                budget = Budget(4096, error=0.05)
                found, count = played(v, d, budget, seed, True)
                if settled(found.values, found.stderr, budget):
                    right.append(np.abs(found.values - exact).max() <= 0.05 * np.abs(exact).max())
                else:
                    assert count >= 2048  # it went on until the evaluations were spent
    assert len(right) >= 25
    assert np.mean(right) >= 0.95


def test_rows_that_a_value_hangs_on_make_its_scale():
    weights, size = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]]), np.ones(4)
    share = taken(weights, size)
    np.testing.assert_allclose(share, [[1, 0, 0, 0], [0, 1 / 3, 1 / 3, 1 / 3]], atol=1e-12)
    first, second = scales(np.array([3.0, 0.1, -0.1, 0.1]), share, 1000, 0)
    assert first > 4.5 > 2.3 > second > 0.01  # by their errors and the mean over all rows; few rows are made wider besides
    long = np.full((1, 4000), 1 / 4000)
    assert abs(scales(np.random.default_rng(0).normal(size=4000), long, 10**6, 0)[0] - 1) < 0.06  # many are taken as they are
    assert np.isfinite(scales(np.zeros(4), share, 100, 0)).all()
