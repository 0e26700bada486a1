import numpy as np
import pytest

from tf_mamlpp.deploy.contact_sheet import QueryPicture, contact_sheet, thumbnail


def picture(height=28, width=28, channels=1, value=40):
    return np.full((height, width, channels), value, np.uint8)


def colours(sheet):
    return {tuple(c) for c in np.asarray(sheet).reshape(-1, 3)}


GREEN, RED = (0x00, 0x7A, 0x4D), (0xC6, 0x28, 0x28)


def test_grows_with_what_it_shows():
    support = [("a", [picture()]), ("b", [picture()])]
    small = contact_sheet("t", support, [QueryPicture(picture(), "a", 0.9)])
    large = contact_sheet("t", support, [QueryPicture(picture(), "a", 0.9)] * 30, left_out=5)
    assert small.width == large.width == 1200
    assert large.height > small.height


@pytest.mark.slow
def test_frames_say_right_and_wrong_only_where_the_truth_is_known():
    support = [("a", [picture()]), ("b", [picture()])]
    unknown = colours(contact_sheet("t", support, [QueryPicture(picture(), "a", 0.9)]))
    right = colours(contact_sheet("t", support, [QueryPicture(picture(), "a", 0.9, "a")]))
    wrong = colours(contact_sheet("t", support, [QueryPicture(picture(), "a", 0.9, "b")]))
    assert GREEN not in unknown and RED not in unknown
    assert GREEN in right and RED not in right
    assert RED in wrong and GREEN not in wrong


@pytest.mark.parametrize("shape", [(28, 28, 1), (300, 20, 3), (1, 400, 3), (2000, 1500, 1)])
def test_pictures_of_any_shape_stay_inside_their_cells(shape):
    red = np.zeros(shape, np.uint8)
    red[...] = 77
    sheet = np.asarray(contact_sheet("t", [("a", [picture(value=200)])], [QueryPicture(red, "a", 1.0)]))
    rows, columns = np.nonzero((sheet == 77).all(-1))
    assert np.ptp(rows) < 112 and np.ptp(columns) < 112
    # in its own proportions
    assert (np.ptp(rows) + 1) / (np.ptp(columns) + 1) == pytest.approx(
        max(shape[0] / max(shape[:2]) * 112, 1) / max(shape[1] / max(shape[:2]) * 112, 1), rel=0.1
    )


def test_long_names_many_classes_and_many_pictures_do_not_fail():
    support = [(f"class number {i} with a long name / and a path", [picture()] * 40) for i in range(25)]
    sheet = contact_sheet("a long title " * 30, support, [QueryPicture(picture(), support[3][0], 0.0, support[4][0])])
    right_margin = np.asarray(sheet)[:, -20:]
    assert (right_margin == 255).all(), "something runs over the margin"


def test_thumbnail():
    assert thumbnail(picture(28, 28)).shape == (28, 28, 1)
    assert thumbnail(picture(3000, 1500, 3)).shape == (224, 112, 3)
    assert thumbnail(picture(3000, 1500, 1)).shape == (224, 112, 1)


def test_a_picture_of_no_class_is_shown_without_a_colour():
    support = [("a", [picture()])]
    blue = (0x00, 0x72, 0xB2)
    known = np.asarray(contact_sheet("t", support, [QueryPicture(picture(), "a", 0.9)]))
    unknown = np.asarray(contact_sheet("t", support, [QueryPicture(picture(), "unknown", 0.9, "unknown", known=0.03)]))
    assert known.shape == unknown.shape
    assert (known == blue).all(-1).sum() > (unknown == blue).all(-1).sum()  # the bar below the picture
    assert GREEN in colours(unknown) and RED not in colours(unknown)
