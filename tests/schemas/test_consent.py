"""The consent rule, for one event and for columns."""

from __future__ import annotations

import polars as pl
import pytest

from streamgauge.schemas.consent import ConsentDefault, identifiable
from streamgauge.schemas.consent_columns import identifiable_rows


@pytest.mark.parametrize(
    ("default", "expected"), [("granted", [True, False, True]), ("denied", [True, False, False])]
)
def test_what_is_said_holds_and_else_the_default(
    default: ConsentDefault, expected: list[bool]
) -> None:
    said = [True, False, None]
    assert [identifiable(consent, default) for consent in said] == expected
    frame = pl.DataFrame({"consent_analytics": said})
    assert frame.select(identifiable_rows(default)).to_series().to_list() == expected
