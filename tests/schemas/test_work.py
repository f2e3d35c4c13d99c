"""Agents, classes of work, and the groups they run in."""

import pytest

from streamgauge.schemas.errors import WorkError
from streamgauge.schemas.work import AGENTS, CLASSES, chosen, group

ALL = tuple(AGENTS)


@pytest.mark.parametrize(
    ("names", "agents", "name"),
    [
        ((), ALL, "streamgauge-worker"),
        (("realtime",), ALL, "streamgauge-worker"),
        (ALL[::-1], ALL, "streamgauge-worker"),
        (("source",), ("source",), "streamgauge-worker-source"),
        (("merge", "merge"), ("merge",), "streamgauge-worker-merge"),
    ],
)
def test_a_subset_of_the_agents_has_a_group_of_its_own(names, agents, name):
    assert chosen(names) == agents
    assert group(chosen(names)) == name


def test_a_name_that_means_nothing_is_told_what_there_is():
    with pytest.raises(WorkError, match="no agents of class 'reports'; there are realtime: source"):
        chosen(["reports"])
    with pytest.raises(WorkError, match="no agent or class 'sources'"):
        chosen(["sources"])


def test_every_agent_is_of_a_class():
    assert set(AGENTS.values()) <= set(CLASSES)
