"""Which checkpoints are taken up: those of this group, on these topics, not ahead of the commit."""

import time
from dataclasses import replace

import pytest

from streamgauge.streams.engine.checkpoint import Changelog, Checkpoints
from streamgauge.streams.engine.resumption import Resumption
from streamgauge.streams.engine.task import Task

PLACE = ("in", 3)
SPANS = {"log": (0, 20)}


class Counting(Task):
    topic, changelogs, identity = "in", ("log",), "1"

    def __init__(self, answer=True):
        self.answer, self.told, self.revoked = answer, None, set()

    def load(self, partition, snapshot, at, offset, text):
        self.told = partition, bytes(snapshot), at, offset, text
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def revoke(self, partitions):
        self.revoked |= partitions


class Cluster:
    """A look-up: the cluster's id, the topics' and the changelog's end."""

    def __init__(self):
        self.name, self.topics, self.end = "c1", {"in": "t1", "log": "l1"}, 9

    def cluster(self):
        return self.name

    def ids(self, topics):
        return {topic: self.topics[topic] for topic in topics}

    def ends(self, places):
        return dict.fromkeys(places, self.end)


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def resumption(tmp_path, cluster):
    resumption = Resumption(Checkpoints(tmp_path, "group"), cluster)
    resumption.identify(["in", "log"], {("log", 3): 9})
    return resumption


def write(resumption, task=None, **changes):
    head = resumption.head(task or Counting(), PLACE, 70, ["log"], resumption.known)
    resumption.checkpoints.write(replace(head, **changes), b"state")


def load(resumption, task, start=0, offset=70, spans=SPANS):
    head = resumption.load(task, PLACE, start, (offset, "text"), spans)
    assert (head is None) == (resumption.checkpoints.read("Counting", 3) is None)  # kept if used
    return head


@pytest.mark.parametrize("offset", [70, 71, 10**9])
def test_one_of_this_commit_or_an_earlier_one_is_taken_up(resumption, offset):
    write(resumption)
    task = Counting()
    head = load(resumption, task, offset=offset)
    assert (head.offset, head.changelogs["log"].next) == (70, 9)
    assert task.told == (3, b"state", 70, offset, "text")


@pytest.mark.parametrize(
    "committed",
    [
        {"offset": 69},  # ahead of the group: it was set back
        {"offset": -1},  # the group has forgotten
        {"start": 71},  # the input between was deleted
        {"spans": {"log": (0, 8)}},  # the changelog was cut
        {"spans": {"log": (10, 20)}},
        {"spans": {}},
    ],
)
def test_one_that_the_offsets_do_not_fit_is_dropped(resumption, committed):
    write(resumption)
    task = Counting()
    assert load(resumption, task, **committed) is None
    assert task.told is None


@pytest.mark.parametrize(
    "head",
    [
        {"cluster": "c2"},
        {"cluster": ""},
        {"group": "other"},
        {"topic": "other"},
        {"topic_id": "t0"},
        {"identity": "2"},
        {"changelogs": {}},
        {"changelogs": {"log": Changelog(topic_id="l0", next=9, seen=time.time())}},
        {"changelogs": {"log": Changelog(topic_id="l1", next=9, seen=time.time() - 13 * 3600)}},
        {"changelogs": {"log": Changelog(topic_id="l1", next=9, seen=time.time() + 3600)}},
    ],
)
def test_a_foreign_or_an_old_one_is_dropped(resumption, head):
    write(resumption, **head)
    task = Counting()
    assert load(resumption, task) is None
    assert task.told is None


def test_age_does_not_matter_where_no_changelog_is_read(resumption):
    old = Changelog(topic_id="l1", next=9, seen=time.time() - 13 * 3600)
    write(resumption, changelogs={"log": old})
    task = Counting()
    task.tail = "input"
    assert load(resumption, task) is not None


def test_a_task_that_does_not_want_it_or_cannot_read_it_is_restored_in_full(resumption):
    for answer, revoked in ((False, set()), (ValueError("what is this?"), {3})):
        write(resumption)
        task = Counting(answer)
        assert load(resumption, task) is None
        assert task.revoked == revoked  # half loaded is not loaded


def test_a_commit_goes_with_what_was_known_before_it(resumption, cluster):
    then = resumption.known
    cluster.end = 15
    resumption.refresh()
    head = resumption.head(Counting(), PLACE, 70, ["log"], then)
    assert head.changelogs["log"].next == 9
    assert resumption.known.changelogs["log", 3].next == 15


def test_nothing_is_written_of_what_nobody_could_take_up(resumption):
    known = resumption.known
    assert resumption.head(Counting(), ("in", 4), 70, ["log"], known) is None
    assert resumption.head(Counting(), ("new", 3), 70, ["log"], known) is None
