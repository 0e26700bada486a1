import json

import pytest

from tf_mamlpp.data.sources.splits import check_fractions, divide_classes
from tf_mamlpp.errors import UserError


@pytest.mark.parametrize(
    "total, sizes",
    [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (6, 2, 2)), (100, (60, 20, 20)), (1623, (973, 325, 325))],
)
def test_sixty_twenty_twenty(total, sizes):
    divided = divide_classes([str(i) for i in range(total)], 0, source="any")
    assert tuple(len(divided[split]) for split in ("train", "validation", "test")) == sizes
    assert sorted(sum(divided.values(), [])) == list(range(total))


def test_omniglot_sizes():
    divided = divide_classes(["x"] * 1623, 0, source="tfds:omniglot")
    assert [len(part) for part in divided.values()] == [1150, 50, 423]


@pytest.mark.parametrize(
    "fractions, sizes",
    [
        ((0.5, 0.25, 0.25), (10, 5, 5)),
        ((0.8, 0.2, 0), (16, 4, 0)),
        ((1, 0, 0), (20, 0, 0)),
        ((0.98, 0.01, 0.01), (18, 1, 1)),
    ],
)
def test_other_fractions(fractions, sizes):
    divided = divide_classes([str(i) for i in range(20)], 3, fractions=fractions, source="any")
    assert tuple(len(part) for part in divided.values()) == sizes
    assert sorted(sum(divided.values(), [])) == list(range(20))


def test_omniglot_by_other_fractions():
    divided = divide_classes(["x"] * 1623, 0, fractions=(0.8, 0.1, 0.1), source="tfds:omniglot")
    assert [len(part) for part in divided.values()] == [1299, 162, 162]


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5), (0.6, 0.2, 0.1), (0, 0.5, 0.5), (1.2, -0.2, 0), (0.25,) * 4, (float("nan"), 0.5, 0.5)]
)
def test_bad_fractions(fractions):
    with pytest.raises(UserError, match=r"a.b is \(.*\): it must be three numbers"):
        check_fractions("a.b", fractions)


def test_seed_decides_alone():
    names = [str(i) for i in range(50)]
    assert divide_classes(names, 1, source="any") == divide_classes(names, 1, source="any")
    assert divide_classes(names, 1, source="any") != divide_classes(names, 2, source="any")
    # Pinned: a change would move classes of published results between splits.
    assert divide_classes(names[:5], 0, source="any") == {"train": [0, 1, 3], "validation": [2], "test": [4]}


LISTS = {"train": ["b", "e"], "validation": ["a"], "test": ["d"]}


def test_named_lists_decide_and_leave_out_the_others(tmp_path):
    (tmp_path / "lists.json").write_text(json.dumps(LISTS))
    expected = {"train": [1, 4], "validation": [0], "test": [3]}
    assert divide_classes(list("abcde"), 7, tmp_path / "lists.json", source="any") == expected
    assert divide_classes(list("abcde"), 0, str(tmp_path / "lists.json"), source="any") == expected


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
        ([], "must hold"),
        ({**LISTS, "val": ["c"]}, "must hold"),
        ({"train": ["a"], "test": ["b"]}, "must hold"),
        ({**LISTS, "test": []}, "'test' must be a list of one or more class names"),
        ({**LISTS, "test": "d"}, "'test' must be a list"),
        ({**LISTS, "test": [3]}, "'test' must be a list"),
        ({**LISTS, "test": ["f"]}, "pets has no class 'f'; it has a, b, c, ..."),
        ({**LISTS, "test": ["e"]}, "names the class 'e' twice"),
        ({**LISTS, "test": ["d", "d"]}, "names the class 'd' twice"),
    ],
)
def test_bad_lists_are_named(tmp_path, content, message):
    file = tmp_path / "lists.json"
    if content is not None:
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=f"lists.json: .*{message}"):
        divide_classes(list("abcde"), 0, file, source="pets")


def test_too_few_classes():
    with pytest.raises(UserError, match="pets: has 2 classes"):
        divide_classes(["cat", "dog"], 0, source="pets")
    with pytest.raises(UserError, match="10 for validation and 0 for test leave none for train.*data.split_fractions"):
        divide_classes(list("abcdefghij"), 0, fractions=(0.02, 0.98, 0), source="pets")
