"""An agent that raises loses nothing: retry, bisect, dead-letter."""

import pytest

pytestmark = pytest.mark.kafka


def dead_letters(counting):
    """The raw dead letters of an app without a registry."""
    return counting.read("dead")


def test_an_agent_that_raises_twice_is_tried_again(counting):
    counting.produce(1000)
    assert counting.run(RAISES="2") == 0
    counting.assert_exact(1000)
    assert "rolling back" in counting.log()


def test_the_record_to_blame_is_found_and_dead_lettered(counting):
    counting.produce(300)
    counting.produce(1, raw=b'{"key": "k", "n": 666}')
    counting.produce(300)
    assert counting.run(POISON="1") == 0
    counting.assert_exact(600)
    assert [v for _, _, v in counting.read("dead")] == [b'{"key": "k", "n": 666}']


def test_the_record_whose_output_the_broker_refuses_is_dead_lettered(counting):
    counting.produce(50)
    counting.produce(1, raw=b'{"key": "large", "n": 777}')
    counting.produce(50)
    assert counting.run(TOO_LARGE="1") == 0
    counting.assert_exact(100)
    assert [v for _, _, v in counting.read("dead")] == [b'{"key": "large", "n": 777}']


def test_what_cannot_be_decoded_is_dead_lettered_in_the_same_transaction(counting):
    counting.produce(100)
    counting.produce(3, raw=b"no json")
    counting.produce(100)
    assert counting.run(FAULTPOINT="after_flush:1:kill") == -9
    assert counting.run() == 0
    counting.assert_exact(200)
    assert [v for _, _, v in counting.read("dead")] == [b"no json"] * 3


def test_an_agent_that_always_raises_ends_the_worker_before_it_empties_the_topic(counting):
    counting.produce(100, raw=b'{"key": "k", "n": 666}')
    assert counting.run(POISON="1") != 0
    assert "in a row failed" in counting.log()
    assert len(counting.read("dead")) <= 27
