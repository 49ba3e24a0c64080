"""Which shard watches a group, and what it continues with when the number of shards changes."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import structlog
from typer.testing import CliRunner

from promad.cli.app import build_app
from promad.config import read_config
from promad.data.groups import Grouping
from promad.data.shards import Shard, Share, assign_keys, hash_values, parse_share
from promad.errors import ConfigError
from promad.prometheus.groups import shard_queries
from promad.prometheus.groups.narrowing import PLACE, narrow_query, quote_values
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.shard_queries import ShardQueries
from tests.support.detectors import detector_of
from tests.support.fleet_world import FleetWorld, label

GROUPS = [(("instance", f"host-{number}.example.com:9100"),) for number in range(12_000)]
KEYS = hash_values([(group[0][1],) for group in GROUPS])
BY = ("instance",)


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_one_shard_more_takes_its_share_and_moves_nothing_else(count):
    before, after = assign_keys(KEYS, count), assign_keys(KEYS, count + 1)
    moved = before != after
    assert set(after[moved].tolist()) == {count}
    assert moved.mean() <= 1 / (count + 1) + 0.01


def test_shards_are_of_equal_size_and_each_group_is_in_one():
    sizes = np.bincount(assign_keys(KEYS, 5), minlength=5)
    assert np.abs(sizes / len(KEYS) - 0.2).max() < 0.01
    owned = [Shard(Share(number, 5), BY).choose(GROUPS) for number in range(5)]
    assert (np.sum(owned, axis=0) == 1).all()


def test_a_group_has_the_same_shard_in_every_version():
    assert hash_values([("a", "b"), ("ab", ""), ("",), ()]).tolist() == [
        7553831536636780098,
        17495393792825011025,
        17840976768840183104,
        13020603013274838756,
    ]
    assert assign_keys(KEYS[:8], 5).tolist() == [2, 1, 3, 3, 0, 2, 2, 2]


def test_groups_with_the_same_values_of_shard_by_are_together():
    groups = [(("cluster", "a"), ("instance", str(number))) for number in range(200)]
    shards = [Shard(Share(number, 3), ("cluster",)) for number in range(3)]
    assert sorted(shard.choose(groups).sum() for shard in shards) == [0, 0, 200]


def test_shard_by_is_in_any_order_and_a_missing_label_is_a_value_too():
    text = "queries: {a: up}\ngroup_by: [b, a]\nshard_by: [%s]\n"
    shards = [Shard.of(read_config(text % order), Share(1, 3)) for order in ("a, b", "b, a", "")]
    groups = [(("a", str(number)),) for number in range(50)] + [(), (("b", "x"),)]
    chosen = [shard.choose(groups).tolist() for shard in shards]
    assert chosen[0] == chosen[1] == chosen[2]


def test_one_group_cannot_be_shared():
    config = read_config("name: web\nqueries: {a: up}\n")
    with pytest.raises(ConfigError, match="web: group_by: empty, but --shard 1/3 shares groups"):
        Shard.of(config, Share(1, 3))
    assert Shard.of(config, None) is None


@pytest.mark.parametrize(
    ("text", "host", "expected"),
    [
        ("0/5", "", Share(0, 5)),
        ("4/5", "promad-1", Share(4, 5)),
        ("auto/5", "promad-0", Share(0, 5)),
        ("auto/5", "promad-eu-4", Share(4, 5)),
        ("auto/12", "promad-11.promad.monitoring.svc", Share(11, 12)),
    ],
)
def test_a_pods_ordinal_is_its_shard(text, host, expected):
    assert parse_share(text, host) == expected


@pytest.mark.parametrize(
    ("text", "host", "why"),
    [
        ("5/5", "", "no shard 5 of 5 — shards are numbered from 0: 0/5 to 4/5"),
        ("auto/3", "promad-3", "host promad-3: there is no shard 3 of 3"),
        ("auto/3", "laptop", "the host name 'laptop' does not end in a number"),
        ("auto/3", "web2", "does not end in a number"),
        ("1/0", "", "at least one shard"),
        ("2", "", "not NUMBER/COUNT — write it like 2/5"),
        ("-1/5", "", "not NUMBER/COUNT"),
        ("a/b", "", "not NUMBER/COUNT"),
    ],
)
def test_what_names_no_shard_is_refused_with_the_remedy(text, host, why):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_share(text, host)
    assert why in str(caught.value)


def test_the_command_line_and_the_environment_name_the_shard(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("queries: {a: up}\n")
    command = ["-c", str(config), "detect", "--web.listen-address=127.0.0.1:0"]
    runner, app = CliRunner(), build_app()
    wrong = runner.invoke(app, [*command, "--shard", "7/5"])
    assert wrong.exit_code != 0
    assert "--shard 7/5: there is no shard 7 of 5" in " ".join(wrong.output.split())
    empty = runner.invoke(app, [*command, "--shard", ""])
    assert "not NUMBER/COUNT" in " ".join(empty.output.split())
    by_environment = runner.invoke(app, command, env={"PROMAD_SHARD": "x"})
    assert "--shard x: not NUMBER/COUNT" in " ".join(by_environment.output.split())
    done = subprocess.run(
        [sys.executable, "-m", "promad", *command, "--shard=1/3"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "group_by: empty, but --shard 1/3 shares groups out" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_label_must_be_one_of_the_groups():
    with pytest.raises(ConfigError, match="shard_by: cluster is not a label of the groups"):
        read_config("queries: {a: up}\ngroup_by: [b]\nshard_by: [cluster]\n")


def test_meta_characters_are_escaped_for_re2_and_then_for_promql():
    assert quote_values(["a.b|c", 'x"y', "back\\slash", "new\nline"]) == [
        r"a\\.b\\|c",
        r"x\"y",
        r"back\\\\slash",
        r"new\nline",
    ]


@pytest.mark.parametrize("expr", ["up{", "load{i=\ue000}", "a{b='c' or d='e'}", "x / fill(0) y"])
def test_what_the_parser_does_not_know_or_the_rule_leaves_open_is_read_whole(expr):
    assert PLACE not in narrow_query(expr, "i").replace(expr, "")


@pytest.mark.parametrize("argument", ["+load", "( +load)", "# a comment\n+load{i='x'} offset 1m"])
def test_the_time_of_a_signed_value_is_not_that_of_its_sample(argument):
    """The parser drops the sign, so what it prints would have another value."""
    expr = f"max by (i) (timestamp({argument}))"
    assert narrow_query(expr, "i") == expr


@pytest.fixture
def queries():
    """Requests of the only shard of 200 hosts, whose names are 10 characters long."""
    options = PollOptions(
        {"load": "load"}, Grouping(("i",)), 15.0, 20, 60.0, max_groups=500, forget_after=1e9
    )
    client = SimpleNamespace(may_post=True)
    asking = ShardQueries(client, options, Shard(Share(0, 1), ("i",)))  # type: ignore[arg-type]
    asking._enter([b'{"i":"h%03d|12345"}' % number for number in range(200)], 0.0)
    return asking


def test_a_query_that_would_take_very_many_requests_is_read_whole_and_named(queries, monkeypatch):
    monkeypatch.setattr(shard_queries, "_LENGTHS", (60, 60, 60))
    narrowed = queries.narrow("load")
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert queries.fill(narrowed, "load") == [queries.widen(narrowed)]
    (line,) = logs
    assert line["event"] == "query not narrowed to the shard"
    assert line["query"] == "load"
    assert "requests, more than 64" in line["err"]


def test_label_sets_are_found_again_after_room_was_made_for_new_ones(queries, monkeypatch):
    monkeypatch.setattr(shard_queries, "_MOST_KNOWN", 201)
    old, new = b'{"i":"h000|12345"}', [b'{"i":"new-%d"}' % number for number in range(2)]
    queries._enter([old, *new], 1.0)
    (text,) = queries.fill(queries.narrow("load"), "load")
    assert "new-0" in text
    assert "new-1" in text


HOSTS = 8


class Worlds:
    """Shards in one directory, each a fleet of its own, whose hosts are the same."""

    def __init__(self, directory):
        self.directory = directory
        self.detector = detector_of(threshold=3.0, share=0.6)
        self.running = {}

    def start(self, number, count, at):
        """A shard before sample `at`; the one of this number was stopped before."""
        own = self.directory / "shards" / str(number)
        own.mkdir(parents=True, exist_ok=True)
        world = FleetWorld(own, self.detector, hosts=HOSTS)
        for host in range(HOSTS):
            world.jump(host, 26, 8)
        world.others = [self.directory / "shards" / str(n) for n in range(count) if n != number]
        world.others = [path for path in world.others if path.exists()]
        world.shard = Shard(Share(number, count), BY)
        world.open()
        world.sample = at - 1
        self.running[number] = world
        return world

    def stop(self, number):
        world = self.running.pop(number)
        world.loop.retire()
        world.events.close()

    def run(self, until):
        for world in self.running.values():
            world.run(until)

    def read_events(self):
        """By host each of its events once, and in how many logs it is open or ended quietly."""
        found = {}
        for world in self.running.values():
            for id_, group, start, end, reason in world.list_events():
                found.setdefault((group, id_, start), []).append((end, reason))
        return found


@pytest.mark.parametrize("new_first", [True, False])
def test_a_group_that_moves_continues_its_event_in_the_new_shard(tmp_path, new_first):
    worlds = Worlds(tmp_path)
    for number in range(2):
        worlds.start(number, 2, 0)
    worlds.run(31)
    before = worlds.read_events()
    assert len(before) == HOSTS
    for number in range(2):
        worlds.stop(number)
    order = (2, 0, 1) if new_first else (0, 1, 2)
    for number in order:
        worlds.start(number, 3, 31).run(32)
    worlds.run(46)
    after = worlds.read_events()
    assert after.keys() == before.keys()
    newcomer = worlds.running[2]
    moved = [host for host in range(HOSTS) if newcomer.shard.owns(label(host))]
    assert 0 < len(moved) < HOSTS
    for (group, _, _), ends in after.items():
        reasons = sorted(reason for _, reason in ends)
        expected = (
            ["moved", "quiet"] if any(newcomer.name(h) == group for h in moved) else ["quiet"]
        )
        assert reasons == expected, group
    incidents = [world.list_incidents() for world in worlds.running.values()]
    assert len({each[0] for own in incidents for each in own}) == 1
    assert newcomer.loop.snapshot.incidents.begun == {}


def test_a_shard_that_ends_leaves_its_groups_to_the_others(tmp_path):
    worlds = Worlds(tmp_path)
    for number in range(3):
        worlds.start(number, 3, 0)
    worlds.run(31)
    before = worlds.read_events()
    for number in range(3):
        worlds.stop(number)
    for number in range(2):
        world = worlds.start(number, 2, 31)
        world.others = [*world.others, tmp_path / "shards" / "2"]
        world.open()
    worlds.run(46)
    after = worlds.read_events()
    assert after.keys() == before.keys()
    assert {reason for ends in after.values() for _, reason in ends} == {"quiet"}


def test_a_shard_that_is_restarted_continues_alone(tmp_path):
    worlds = Worlds(tmp_path)
    for number in range(2):
        worlds.start(number, 2, 0)
    worlds.run(31)
    before = worlds.read_events()
    worlds.stop(1)
    worlds.run(32)
    worlds.start(1, 2, 32)
    worlds.run(46)
    after = worlds.read_events()
    assert after.keys() == before.keys()
    assert all(len(ends) == 1 and ends[0][1] == "quiet" for ends in after.values())


def test_what_another_shard_saved_long_ago_is_not_continued(tmp_path):
    worlds = Worlds(tmp_path)
    for number in range(2):
        worlds.start(number, 2, 0)
    worlds.run(31)
    for number in range(2):
        worlds.stop(number)
    newcomer = worlds.start(2, 3, 60)
    newcomer.run(63)
    assert newcomer.list_events() == []
