"""Definitions as SQL: every operator against DuckDB, and the fields they need."""

import duckdb
import pytest

from streamgauge.cli.verify import translate
from streamgauge.schemas.metrics import builtin, load_definitions


def count(where, rows):
    """How many of the rows {status, method, cache_hit} a condition takes."""
    text = f"""
extends: none
metrics: [{{name: n, events: [request], where: {{{where}}}, aggregate: count}}]
"""
    (grain,) = load_definitions(text).grains()
    tables = duckdb.connect()
    tables.execute(
        "CREATE TABLE events (timestamp BIGINT, event_type VARCHAR, user_key VARCHAR,"
        " status BIGINT, method_name VARCHAR, cache_hit BOOLEAN)"
    )
    for row in rows:
        tables.execute("INSERT INTO events VALUES (0, 'request', 'u', ?, ?, ?)", row)
    query = translate.query(grain, "1m")
    found = tables.execute(query.sql).fetchall()
    return found[0][query.series[0].numerator] if found else 0


ROWS = [(200, "get", True), (500, "it's", False), (None, None, None)]


@pytest.mark.parametrize(
    ("where", "taken"),
    [
        ("status: 200", 1),
        ("status: [200, 500, 1]", 2),
        ("status: {ne: 200}", 1),  # an absent value is not unequal
        ("status: {lt: 500}", 1),
        ("status: {le: 500}", 2),
        ("status: {gt: 200}", 1),
        ("status: {ge: 200}", 2),
        ("status: {not_null: true}", 2),
        ("status: {not_null: false}", 1),
        ('method_name: "it\'s"', 1),
        ("cache_hit: true", 1),
        ("status: {ge: 200, lt: 500}, cache_hit: true", 1),
        ("status: 200, cache_hit: false", 0),
    ],
)
def test_a_condition_takes_what_it_says(where, taken):
    assert count(where, ROWS) == taken


def test_a_float_in_a_condition_is_compared_as_a_number():
    assert count("status: {lt: 200.5}", ROWS) == 1


def test_columns_are_the_fields_that_definitions_name_and_what_derived_ones_need():
    text = """
extends: none
metrics:
  - {name: a, events: [request], where: {is_error: true}, aggregate: count, dimensions: [page]}
  - {name: b, events: [playback], aggregate: sum, field: position_ms}
"""
    assert translate.columns(load_definitions(text).grains()) == {
        "status",
        "error_type",
        "page_url",
        "position_ms",
    }


def test_every_metric_of_the_catalogue_makes_valid_sql():
    grains = builtin().grains()
    from streamgauge.cli.verify.recompute import Recomputation

    oracle = Recomputation(grains, lambda value: {}, lateness_ms=0, consent_denied=False)
    assert oracle.cells() == {}
