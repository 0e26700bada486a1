"""The paper's numbers beside a study."""

import pytest

from tf_mamlpp.study.method_names import modifications_of
from tf_mamlpp.study.report import published_results


@pytest.mark.parametrize(
    ("data", "heads"),
    [
        (("omniglot", 20, 1), ["paper, Omniglot 20-way 1-shot"]),
        (("tfds:omniglot", 5, 1), ["paper, Omniglot 5-way 1-shot", "paper, Omniglot 20-way 1-shot"]),
        (("mini_imagenet", 5, 5), ["paper, mini-ImageNet 5-way 5-shot", "paper, Omniglot 20-way 1-shot"]),
        (("glyphs", 5, 1), ["paper, Omniglot 20-way 1-shot"]),
    ],
)
def test_the_paper_s_columns(data, heads):
    found = published_results.columns(*data)
    assert list(found) == heads
    for method in {m for column in found.values() for m in column}:
        modifications_of(method)  # raises for a name that is no method's
    assert found["paper, Omniglot 20-way 1-shot"]["maml"] == "91.27 ± 1.07†"
