"""Test accuracies of "How to train your MAML" (arXiv 1810.09502), to show beside those of a study.

In percent, mean ± standard deviation over three seeds, ensemble of the five best validation epochs.
"""

from __future__ import annotations

RECALLED = "†"
"""Marks a number that is quoted from memory of the paper and was not confirmed in a second publication."""


_BATCH_NORM = "maml+per_step_statistics+per_step_weights"


_ROWS: dict[tuple[str, int, int], dict[str, str]] = {  # (data, way, shot): method: accuracy
    ("omniglot", 20, 1): {
        "maml": "91.27 ± 1.07†",  # the authors' own; Finn et al. 95.8 ± 0.3
        "maml+multi_step_loss": "91.53 ± 0.69†",
        "maml+derivative_order_annealing": "92.3 ± 0.55†",
        _BATCH_NORM: "95.35 ± 0.23†",
        "maml+learned_rates": "95.77 ± 0.38†",
        "maml+cosine_annealing": "93.03 ± 0.44†",
        "maml++": "97.65 ± 0.05†",  # an independent rerun of the authors' code: 96.65 ± 0.06
    },
    ("omniglot", 20, 5): {"maml": "98.78†", "maml++": "99.33 ± 0.03†"},
    ("omniglot", 5, 1): {"maml": "98.7 ± 0.4 (Finn et al.)", "maml++": "99.47†"},
    ("omniglot", 5, 5): {"maml": "99.9 ± 0.1 (Finn et al.)", "maml++": "99.93†"},
    ("mini_imagenet", 5, 1): {"maml": "48.25 ± 0.62†", "maml++": "52.15 ± 0.26"},
    ("mini_imagenet", 5, 5): {"maml": "64.39 ± 0.31†", "maml++": "68.32 ± 0.44"},
}


_TITLES = {"omniglot": "Omniglot", "mini_imagenet": "mini-ImageNet"}


_ABLATION = ("omniglot", 20, 1)  # the only task on which the paper has each modification alone


def columns(dataset: str, way: int, shot: int) -> dict[str, dict[str, str]]:
    """The paper's numbers to show beside a study: those of the same task, if the paper has it, and of its ablation.

    Args:
        dataset: the name of the data, as in a config.
        way: classes of a task.
        shot: support pictures of a class.

    Returns:
        For each column's heading, the accuracy of each method, as text.

    Example:
        >>> columns("mini_imagenet", 5, 1)["paper, mini-ImageNet 5-way 1-shot"]["maml++"]
        '52.15 ± 0.26'
    """
    name = dataset.removeprefix("tfds:").lower()
    keys = dict.fromkeys([(name, way, shot), _ABLATION])
    return {
        f"paper, {_TITLES[data]} {w}-way {s}-shot": _ROWS[data, w, s] for data, w, s in keys if (data, w, s) in _ROWS
    }
