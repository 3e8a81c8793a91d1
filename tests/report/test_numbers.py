"""Numbers as people read them."""

import pytest

from puma_cli.report.numbers import duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (61, "1:01 min"), (3725, "1:02:05 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
