"""The counting app on the shared Kafka."""

import pytest

from tests.streams.engine.counting import Counting


@pytest.fixture
def counting(kafka, namespace, tmp_path):
    harness = Counting(kafka, namespace, tmp_path)
    yield harness
    harness.close()
