"""How methods and datasets are called and drawn: one place, so that a method keeps its name and colour everywhere."""

from __future__ import annotations

import attrs


@attrs.frozen
class MethodStyle:
    """Name and look of one method. Colours are Okabe and Ito's; the marker tells methods apart without colour."""

    label: str
    colour: str
    marker: str


METHOD_STYLES: dict[str, MethodStyle] = {
    "boostresnet": MethodStyle("BoostResNet", "#0072B2", "o"),
    "e2e": MethodStyle("End to end", "#D55E00", "s"),
    "boostresnet-refined": MethodStyle("BoostResNet, refined", "#009E73", "^"),
    "adaboost-mm": MethodStyle("AdaBoost.MM", "#E69F00", "D"),
    "gradient-boosting": MethodStyle("Gradient boosting", "#CC79A7", "v"),
    "hist-gradient-boosting": MethodStyle("Stock library: histogram gradient boosting", "#000000", "X"),
    "boostresnet-binary": MethodStyle("BoostResNet, binary", "#56B4E9", "P"),
}

#: Methods that leave a residual network for the whole problem, which can be taken apart.
NETWORKS = ("boostresnet", "e2e", "boostresnet-refined")
#: Its weak learners are fitted to the negative gradient of the loss.
GRADIENT_BOOSTING = "gradient-boosting"
#: Weighted sums of weak learners on the labels.
LABEL_BOOSTING = ("adaboost-mm", GRADIENT_BOOSTING)
#: Its rows must not be taken for our own implementation.
STOCK_LIBRARY = "hist-gradient-boosting"
#: Solves an easier problem than all others: two of the classes.
BINARY = "boostresnet-binary"

#: Rows of the results table that are read from a method's history instead of its end.
E2E_AT_EQUAL_UPDATES = "e2e-at-boostresnet"
E2E_AT_EQUAL_UPDATES_LABEL = "End to end, at BoostResNet's updates"
E2E_AT_EQUAL_OPERATIONS = "e2e-at-operations"
E2E_AT_EQUAL_OPERATIONS_LABEL = "End to end, at BoostResNet's operations"

DATASET_LABELS: dict[str, str] = {
    "digits": "digits",
    "cifar10": "CIFAR-10",
    "svhn": "SVHN",
    "mnist": "MNIST",
}

NOT_RUN = "not run"
NOT_MEASURED = "not measured"
UNOFFICIAL = "unofficial copy"
