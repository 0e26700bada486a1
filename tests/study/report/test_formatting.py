"""Numbers of a report as text."""

from tf_mamlpp.study.report.formatting import format_metric, mean_and_deviation


def test_numbers():
    assert format_metric(0.1234, "accuracy") == "12.34"
    assert format_metric(-0.05, "accuracy", sign=True) == "\N{MINUS SIGN}5.00"
    assert format_metric(0.123456, "mean_squared_error") == "0.1235"
    assert mean_and_deviation([], "accuracy") == "–"
    assert mean_and_deviation([0.5], "accuracy") == "50.00"
    assert mean_and_deviation([0.5, 0.7], "accuracy") == "60.00 ± 14.14"
