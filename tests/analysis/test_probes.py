"""Probes beside scikit-learn's logistic regression."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from replication.analysis.probes import fit_probe, probe_modules
from tests.analysis.test_lesion import READINGS, digits_like, network_of


def clusters(spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    centres = np.array([[0.0, 0.0, 0.0, 1.0], [4.0, 0.0, 0.0, 1.0], [0.0, 4.0, 0.0, 1.0]])
    features = centres[labels] + spread * rng.normal(size=(120, 4)) * [1, 1, 1, 0]
    return torch.from_numpy(features), torch.from_numpy(labels)


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_a_probe_is_scikit_learns_logistic_regression(spread):
    features, labels = clusters(spread)
    probe = fit_probe(features, labels, 3)
    scale = np.where(features.std(0, correction=0) > 1e-8, features.std(0, correction=0), 1.0)
    standardised = (features.numpy() - features.numpy().mean(0)) / scale
    stock = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(standardised, labels.numpy())
    np.testing.assert_allclose(
        torch.softmax(probe.logits(features), 1).numpy(), stock.predict_proba(standardised), atol=1e-4
    )
    assert probe.accuracy(features, labels) == pytest.approx(stock.score(standardised, labels.numpy()))
    np.testing.assert_allclose(probe.weight.numpy(), stock.coef_, atol=1e-3)


def test_separable_clusters_are_separated_and_the_same_data_gives_the_same_probe():
    features, labels = clusters(0.2)
    first, again = fit_probe(features.float(), labels, 3), fit_probe(features.float(), labels, 3)
    assert first.accuracy(features.float(), labels) == 1.0
    assert torch.equal(first.weight, again.weight)


@pytest.mark.parametrize("reading", READINGS)
def test_every_module_gets_a_probe_on_what_the_head_would_see(reading):
    network, whole = network_of(reading), digits_like(100)
    splits = {
        name: attrs.evolve(whole, images=whole.images[part], labels=whole.labels[part])
        for name, part in (("train", slice(60)), ("test", slice(60, None)))
    }
    rows = probe_modules(network, splits, 10, batch_size=25)
    assert [row["module"] for row in rows] == list(network.names)
    # The last one sees what the head sees; what it learns, it learns from the training images alone.
    seen = {}
    with torch.no_grad():
        for name, split in splits.items():
            handle = network.head.linear.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.__setitem__(name, inputs[0])
            )
            network(split.normalise(split.images))
            handle.remove()
    probe = fit_probe(seen["train"], splits["train"].labels, 10)
    for name, split in splits.items():
        assert rows[-1][f"probe_{name}_accuracy"] == pytest.approx(probe.accuracy(seen[name], split.labels))
    assert rows[-1]["probe_train_accuracy"] > 2 * rows[-1]["probe_test_accuracy"], "labels that nothing can foretell"
