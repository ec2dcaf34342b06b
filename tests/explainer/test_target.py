import numpy as np
import pytest
import torch

from explainer.errors import InvalidInput, UnknownName
from explainer.target import resolve, shared

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
NAMES = ("cat", "dog", "cow")


@pytest.mark.parametrize(
    ("target", "expected", "labels"),
    [
        ("predicted", [[0.7], [0.5]], ("dog", "cat")),
        (2, [[0.2], [0.3]], ("cow", "cow")),
        ("dog", [[0.7], [0.2]], ("dog", "dog")),
        (("margin", "cat", 1), [[-0.6], [0.3]], ("cat over dog",) * 2),
        ("all", SCORES.tolist(), ("all", "all")),
        ([0, "cow"], [[0.1], [0.3]], ("cat", "cow")),
        (lambda s: s[:, 0] + s[:, 2], [[0.3], [0.8]], ("<lambda>",) * 2),
    ],
)
def test_each_form_on_numpy_and_torch(target, expected, labels):
    goal = resolve(target, SCORES, NAMES)
    assert goal.labels == labels
    np.testing.assert_allclose(goal(SCORES, [0, 1]), expected)
    np.testing.assert_allclose(goal(torch.tensor(SCORES), [0, 1]).numpy(), expected)


def test_perturbed_copies_keep_the_class_of_their_instance():
    goal = resolve("predicted", SCORES, NAMES)
    flipped = SCORES[:, ::-1].copy()
    np.testing.assert_allclose(goal(flipped, 0)[:, 0], flipped[:, 1])


def test_what_targets_have_in_common():
    assert shared(["cat", "cat"], "?") == "cat" and shared(["cat", "dog"], "?") == "?"
    assert shared(["a of 'x' (word 3)", "a of 'x' (word 0)"], "?") == "a of 'x'"
    assert shared(["a of 'x' (word 3)"], "?") == "a of 'x' (word 3)" and shared(["a of 'x' (word 3)", "a of 'y' (word 3)"], "?") == "?"


def test_names_that_do_not_exist():
    with pytest.raises(UnknownName, match="Did you mean 'cow'"):
        resolve("cov", SCORES, NAMES)
    with pytest.raises(UnknownName, match=r"0 \(cat\)"):
        resolve(7, SCORES, NAMES)
    with pytest.raises(InvalidInput, match="target has 3 entries, and 2 inputs are explained"):
        resolve([0, 1, 2], SCORES, NAMES)
    for wrong in (("margin", 0), ("token", "cat", "dog"), ()):
        with pytest.raises(InvalidInput, match=r"\('margin', a, b\) is the score of class a less"):
            resolve(wrong, SCORES, NAMES)
    assert resolve(np.array(1), SCORES, NAMES).labels == ("dog", "dog")
    with pytest.raises(InvalidInput, match="one number per row"):
        resolve(lambda s: s, SCORES, NAMES)


def test_a_class_that_is_true_or_false_is_named_by_what_is_predicted():
    scores = np.array([[0.2, 0.8], [0.6, 0.4]])
    for target in (True, np.bool_(True)):
        assert resolve(target, scores, ("False", "True")).labels == ("True", "True")
    assert resolve(np.array([True, False]), scores, ("False", "True")).labels == ("True", "False")
    with pytest.raises(UnknownName, match="'True'"):
        resolve(True, scores, ("no", "yes"))
