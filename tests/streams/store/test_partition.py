"""One partition: rows, deadlines and checkpoint, together or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.batch import RowChange
from streams.errors import Bug, Corrupt, Unavailable
from streams.store.changes import _SET, DUE, NEVER
from streams.store.options import StoreOptions
from streams.store.partition import _CHECKPOINT, Checkpoint, Partition, due_of, error_of

TOPIC_ID = "1gaSPGjKSqe/k7PgJYNw6w"
CHILD_S_MAX = 30


def row(due_ms: int, rest: bytes = b"") -> bytes:
    """Return a row that is due at *due_ms*."""
    return b"\x01" + due_ms.to_bytes(8, "big", signed=True) + rest


def restored(path: Path, memory_mib: int = 16) -> Partition:
    """Return the partition at *path*, as a restore of an empty changelog leaves it."""
    partition = Partition.open(path, StoreOptions(memory_mib))
    if partition.checkpoint() is None:
        partition.load([], 0, TOPIC_ID, 0)
    return partition


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the partition lives."""
    return tmp_path / "0"


@pytest.fixture
def partition(path: Path) -> Iterator[Partition]:
    """A restored, empty partition."""
    partition = restored(path)
    yield partition
    partition.close()


def test_rows_answer_the_keys_in_their_order(partition: Partition) -> None:
    """`get_many` answers key by key, None for a row that isn't there."""
    partition.write([RowChange(b"b", None, row(NEVER, b"B")), RowChange(b"a", None, row(NEVER, b"A"))], 2, 10)

    assert [row(NEVER, b"B"), None, row(NEVER, b"A")] == partition.get_many([b"b", b"c", b"a"])
    assert [] == partition.get_many([])


def test_items_are_the_rows_without_index_and_checkpoint(partition: Partition) -> None:
    """`items` yields keys and rows in key order, and nothing else of what the database holds."""
    partition.write([RowChange(b"b", None, row(5)), RowChange(b"a", None, row(7))], 2, 10)

    assert [(b"a", row(7)), (b"b", row(5))] == list(partition.items())


def test_due_entries_come_earliest_first_and_stay_until_dealt_with(partition: Partition) -> None:
    """A batch that is aborted must find the same deadlines again."""
    partition.write([RowChange(key, None, row(due)) for key, due in ((b"a", 300), (b"b", 100), (b"c", 200))], 3, 10)

    assert [] == partition.due(99, 10)
    assert [(100, b"b")] == partition.due(100, 10)
    assert [(100, b"b"), (200, b"c")] == partition.due(300, 2)
    assert [(100, b"b"), (200, b"c"), (300, b"a")] == partition.due(300, 10)


def test_changed_deadline_leaves_no_old_entry(partition: Partition) -> None:
    """The old row's entry goes in the same batch as the new one comes, earlier or later."""
    partition.write([RowChange(b"a", None, row(100)), RowChange(b"b", None, row(100))], 2, 10)
    partition.write([RowChange(b"a", row(100), row(50)), RowChange(b"b", row(100), row(NEVER))], 4, 20)

    assert [(50, b"a")] == partition.due(1_000, 10)


def test_deleted_row_leaves_no_entry(partition: Partition) -> None:
    """A row that is gone is never due."""
    partition.write([RowChange(b"a", None, row(100))], 1, 10)
    partition.write([RowChange(b"a", row(100), None)], 2, 20)

    assert [None] == partition.get_many([b"a"])
    assert [] == partition.due(1_000, 10)


def test_deadline_earlier_than_the_last_look_is_found(partition: Partition) -> None:
    """What was passed over in the index is remembered, but a later write may lie before it."""
    partition.write([RowChange(b"late", None, row(900))], 1, 10)
    assert [] == partition.due(500, 10)
    assert [(900, b"late")] == partition.due(900, 10)
    partition.write([RowChange(b"early", None, row(100))], 2, 20)
    partition.load([(b"earlier", row(50))], 3, TOPIC_ID, 0)

    assert [(50, b"earlier"), (100, b"early"), (900, b"late")] == partition.due(900, 10)


def test_spent_entry_is_gone_unless_its_row_is_due_again_then(partition: Partition) -> None:
    """A stale entry is deleted once; a row that asks for the very same instant keeps its entry."""
    partition.load([(b"stale", row(100)), (b"again", row(100)), (b"same", row(100))], 3, TOPIC_ID, 0)
    partition.load([(b"stale", row(500))], 4, TOPIC_ID, 0)
    fired = partition.due(100, 10)
    assert [(100, b"again"), (100, b"same"), (100, b"stale")] == fired

    again = [RowChange(b"again", None, row(100)), RowChange(b"same", row(100), row(100, b"changed"))]
    partition.write(again, 6, 100, fired)

    assert [(100, b"again"), (100, b"same"), (500, b"stale")] == partition.due(500, 10)


def test_deadlines_of_one_instant_are_one_entry(partition: Partition) -> None:
    """What a batch sets and takes back costs an entry for each instant, however many rows there are."""
    keys = [b"%03d" % number for number in range(500)]
    partition.write([RowChange(key, None, row(700)) for key in keys], 500, 10)
    assert 500 + 1 + 1 == partition.figures().entries - 1, "rows, the instant, and the checkpoint twice"
    partition.write([RowChange(key, row(700), row(900)) for key in keys[:400]], 900, 20)

    assert [(700, key) for key in keys[400:]] + [(900, key) for key in keys[:400]] == partition.deadlines()
    assert [(700, b"400"), (700, b"401")] == partition.due(1_000, 2)


def test_spent_part_of_an_instant_leaves_the_rest(path: Path) -> None:
    """More rows may be due at an instant than a transaction takes."""
    partition = restored(path)
    partition.write([RowChange(key, None, row(100)) for key in (b"a", b"b", b"c", b"d")], 4, 10)
    for first, last in ((b"a", b"b"), (b"c", b"d")):
        fired = partition.due(100, 2)
        assert [(100, first), (100, last)] == fired
        partition.write([RowChange(first, row(100), row(300)), RowChange(last, row(100), None)], 6, 100, fired)
    assert [] == partition.due(299, 2)
    assert [(300, b"a"), (300, b"c")] == partition.due(300, 2) == partition.deadlines()
    partition.close()

    again = restored(path)
    assert [(300, b"a"), (300, b"c")] == again.due(300, 9)
    again.close()


@pytest.mark.parametrize("spent", [1, 2])
def test_spent_part_may_be_due_at_the_same_instant_again(spent: int, partition: Partition) -> None:
    """What a batch sets counts after what it takes back."""
    keys = [b"a", b"b", b"c"]
    partition.write([RowChange(key, None, row(100)) for key in keys], 3, 10)
    fired = partition.due(100, spent)
    partition.write([RowChange(key, row(100), row(100, b"again")) for key in keys[:spent]], 5, 100, fired)
    assert [(100, key) for key in keys] == partition.due(100, 9)


def test_look_reads_no_more_of_the_index_than_it_returns(partition: Partition) -> None:
    """A worker that was away for days finds a long index."""
    for instant in range(100, 200):
        partition.write([RowChange(b"%d" % instant, None, row(instant))], 1, 10)
    assert 3 == len(partition.due(1_000, 3)) == len(partition._seen)


def test_long_index_of_which_nothing_is_left_is_looked_through_in_parts(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a week without a look there may be millions of entries; what is due behind them is found all the same."""
    monkeypatch.setattr("streams.store.partition._LOOK_BYTES_MAX", 10 * 19)
    for instant in range(100, 130):
        partition.write([RowChange(b"a", None, row(instant))], 1, 10)
        partition.write([RowChange(b"a", row(instant), None)], 2, 10)
    partition.write([RowChange(key, None, row(500)) for key in (b"b", b"c")], 3, 10)
    looks = [partition.due(1_000, 10) for _ in range(7)]
    assert looks == [[]] * 6 + [[(500, b"b"), (500, b"c")]]
    assert looks[-1] == partition.due(1_000, 10)
    partition.write([], 4, 1_000, looks[-1])
    assert [] == partition.deadlines() == partition.due(1_000, 10)
    assert 3 == len(list(partition._scan(DUE))), "the checkpoint and two rows"


def test_instants_of_which_nothing_is_left_are_deleted(path: Path) -> None:
    """Or the index would grow for ever, by what never fires."""
    partition = restored(path)
    for instant in range(100, 700):
        partition.write([RowChange(b"a", None, row(instant))], 1, 10)
        partition.write([RowChange(b"a", row(instant), None)], 2, 10)
    assert [] == partition.due(99, 10)
    assert [] == partition.due(10_000, 10)
    partition.write([RowChange(b"b", None, row(20_000))], 3, 10_000)
    partition.close()

    again = restored(path)
    assert [(20_000, b"b")] == again.deadlines()
    with again._translated():
        entries = [cursor.key()[:1] for cursor in again._scan(DUE)]
    assert [b"d", b"m", b"o"] == entries
    again.close()


def test_store_in_another_format_is_opened_empty(path: Path) -> None:
    """Its rows could be read, but not their deadlines: it is restored."""
    partition = restored(path)
    partition.write([RowChange(b"a", None, row(100))], 7, 10)
    partition._db.put(_CHECKPOINT, bytes(16) + TOPIC_ID.encode())
    partition.close()

    opened = Partition.open(path, StoreOptions(16))
    assert None is opened.checkpoint()
    assert [] == list(opened.items())
    opened.close()


def test_index_entry_that_cannot_be_read_is_corrupt(partition: Partition) -> None:
    """And it doesn't keep the files locked."""
    partition.write([RowChange(b"a", None, row(100))], 7, 10)
    partition._db.put(DUE + (50).to_bytes(8, "big") + bytes(8) + _SET, b"no")
    with pytest.raises(Corrupt, match="restored from its changelog") as caught:
        partition.due(100, 10)
    partition.wipe()
    assert [] == partition.due(100, 10)
    assert caught.value.__cause__


def test_load_keeps_the_last_value_of_each_key(partition: Partition) -> None:
    """A changelog holds many values of a key; a tombstone deletes, a later value brings back."""
    rows = [(b"a", row(1)), (b"b", row(2)), (b"a", None), (b"b", None), (b"b", row(3))]
    partition.load(rows, 5, TOPIC_ID, 77)

    assert [None, row(3)] == partition.get_many([b"a", b"b"])
    assert Checkpoint(5, TOPIC_ID, 77) == partition.checkpoint()


def test_everything_survives_closing(path: Path) -> None:
    """Rows, index and checkpoint are there after a clean restart; a restore doesn't turn the clock back."""
    partition = restored(path)
    partition.write([RowChange(b"a", None, row(100))], 7, 1_234)
    partition.load([], 9, TOPIC_ID, 1_000)
    partition.close()
    partition.close()
    with pytest.raises(Unavailable, match="closed"):
        partition.get_many([b"a"])

    again = restored(path)
    assert [row(100)] == again.get_many([b"a"])
    assert [(100, b"a")] == again.due(100, 10)
    assert Checkpoint(9, TOPIC_ID, 1_000) == again.checkpoint()
    assert 9 == again.position
    again.close()


def test_wiped_partition_is_open_and_empty(partition: Partition) -> None:
    """After `wipe` there is neither row nor entry nor checkpoint, and the next load works."""
    partition.write([RowChange(b"a", None, row(100))], 7, 10)
    partition.due(100, 10)
    partition.wipe()

    assert None is partition.checkpoint()
    assert [] == list(partition.items())
    partition.load([(b"b", row(50))], 1, TOPIC_ID, 0)
    assert [(50, b"b")] == partition.due(100, 10)


def test_partition_that_was_never_restored_refuses_writes(path: Path) -> None:
    """Without a checkpoint nobody knows what the rows reflect."""
    partition = Partition.open(path, StoreOptions(16))
    with pytest.raises(Bug, match="before it was restored"):
        partition.write([], 1, 1)
    partition.close()


def test_write_that_fails_forgets_no_deadline(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would have been deleted with it is still there, whoever writes next."""

    class Full:
        def write(self, _batch: object) -> None:
            raise OSError("IO error: No space left on device")

    partition.write([RowChange(b"a", None, row(100))], 1, 10)
    fired = partition.due(100, 10)
    with monkeypatch.context() as patched:
        patched.setattr(partition, "_db", Full())
        with pytest.raises(Unavailable, match="disk is full"):
            partition.write([RowChange(b"a", row(100), None)], 2, 100, fired)
    partition.write([RowChange(b"z", None, row(500))], 3, 110)
    assert [(100, b"a"), (500, b"z")] == partition.deadlines() == partition.due(500, 10)


def test_value_that_is_no_row_is_refused(partition: Partition) -> None:
    """A value too short to have a due time would make an index entry that nobody can read."""
    with pytest.raises(Bug, match="no row"):
        partition.load([(b"a", b"short")], 1, TOPIC_ID, 0)
    partition.load([], 0, TOPIC_ID, 0)
    with pytest.raises(Bug, match="no row"):
        partition.write([RowChange(b"a", None, b"short")], 1, 10)
    with pytest.raises(Bug, match="no row"):
        due_of(b"short")
    assert 0 == partition.position


def test_unreadable_database_is_opened_empty(path: Path) -> None:
    """A database whose list of files is garbage has no rows and no checkpoint, so that it is restored in full."""
    partition = restored(path)
    partition.write([RowChange(b"a", None, row(100))], 7, 10)
    partition.close()
    for manifest in path.glob("MANIFEST-*"):
        manifest.write_bytes(b"garbage" * 100)

    opened = Partition.open(path, StoreOptions(16))
    assert None is opened.checkpoint()
    assert [] == list(opened.items())
    opened.close()


def test_damaged_block_is_corrupt_and_wiping_helps(path: Path) -> None:
    """Damage that only a read finds says which path, and what happens with it."""
    partition = restored(path)
    partition.write([RowChange(b"%d" % i, None, row(NEVER, bytes(range(256)))) for i in range(1_000)], 7, 10)
    partition.close()
    for table in path.glob("*.sst"):
        content = bytearray(table.read_bytes())
        # In the middle: the checkpoint, which opening reads, lies before all rows.
        middle = len(content) // 2
        content[middle : middle + 1_000] = b"\xff" * 1_000
        table.write_bytes(content)

    damaged = Partition.open(path, StoreOptions(16))
    with pytest.raises(Corrupt, match=f"{path}.*restored from its changelog"):
        damaged.get_many([b"%d" % i for i in range(1_000)])
    damaged.wipe()
    assert [None] == damaged.get_many([b"1"])
    damaged.close()


def test_damaged_block_does_not_end_a_scan_as_if_nothing_followed(path: Path) -> None:
    """A block that can't be read hides no deadline: looking for what is due says so, and so does going through rows."""
    partition = restored(path)
    partition.write([RowChange(b"a", None, row(5))], 1, 1)
    partition.flush()
    (table,) = path.glob("*.sst")
    # The checkpoint, which opening reads, is in the newer file too.
    partition.write([RowChange(b"b", None, row(NEVER))], 2, 2)
    partition.close()
    content = bytearray(table.read_bytes())
    content[10] ^= 1
    table.write_bytes(content)

    damaged = Partition.open(path, StoreOptions(16))
    assert 2 == damaged.position
    with pytest.raises(Corrupt, match="restored from its changelog"):
        damaged.due(10, 1)
    with pytest.raises(Corrupt, match="restored from its changelog"):
        list(damaged.items())
    damaged.close()


_DISK_FULL = """
import resource, signal, sys
from pathlib import Path
from streams.batch import RowChange
from streams.errors import Unavailable
from streams.store.changes import NEVER
from streams.store.options import StoreOptions
from streams.store.partition import Partition
partition = Partition.open(Path(sys.argv[1]), StoreOptions(16))
partition.load([], 0, "", 0)
row = b"\\1" + NEVER.to_bytes(8, "big") + bytes(range(256)) * 4
partition.write([RowChange(b"%d" % i, None, row) for i in range(1_000)], 1, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    partition.flush()
except Unavailable as exc:
    print("unavailable:", exc)
"""


def test_disk_that_refuses_is_unavailable(path: Path) -> None:
    """A file that can't grow any more is the disk's fault: nothing is wiped for it."""
    done = subprocess.run(
        [sys.executable, "-c", _DISK_FULL, str(path)], capture_output=True, text=True, timeout=CHILD_S_MAX, check=False
    )
    assert "unavailable:" == done.stdout[:12], done.stderr
    assert str(path) in done.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IO error: No space left on device: While appending to file: /x/000008.sst", Unavailable),
        ("IO error: Disk quota exceeded: While appending to file: /x/000008.sst", Unavailable),
        ("IO error: Input/output error: While pread: /x/000008.sst", Unavailable),
        ("IO error: No such file or directory: While open a file for random read: /x/000008.sst", Corrupt),
        ("Corruption: block checksum mismatch: stored = 1, computed = 2", Corrupt),
    ],
)
def test_error_is_told_by_its_text(text: str, expected: type[Exception], path: Path) -> None:
    """RocksDB's errors come as one type; only what it says tells them apart."""
    assert expected is type(error_of(path, text))


_WRITER = """
import sys
from pathlib import Path
from streams.batch import RowChange
from streams.store.options import StoreOptions
from streams.store.partition import Partition
partition = Partition.open(Path(sys.argv[1]), StoreOptions(1))
partition.load([], 0, "", 0)
for batch in range(10_000):
    row = b"\\1" + (1_000 + batch).to_bytes(8, "big") + b"x" * 600
    partition.write([RowChange(b"%d-%d" % (batch, i), None, row) for i in range(100)], batch + 1, 1)
    print(batch, flush=True)
"""
_BATCHES_BEFORE_KILL = 100


def test_kill_after_memtable_flush_leaves_whole_batches(path: Path) -> None:
    """Rows, deadlines and checkpoint of a killed process reflect the same changelog position, whatever was flushed."""
    writer = [sys.executable, "-c", _WRITER, str(path)]
    with subprocess.Popen(writer, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        written = [int(child.stdout.readline()) for _ in range(_BATCHES_BEFORE_KILL)]
        child.send_signal(signal.SIGKILL)
        child.wait(CHILD_S_MAX)

    partition = Partition.open(path, StoreOptions(16))
    position = partition.position
    expected = {b"%d-%d" % (batch, i) for batch in range(position) for i in range(100)}
    # Write buffers of this size have been flushed several times by now, and the last one not at all.
    assert 0 < position
    assert _BATCHES_BEFORE_KILL == len(written)
    assert expected == {key for key, _ in partition.items()}
    assert expected == {key for _, key in partition.due(100_000, 10**6)}
    partition.close()


def test_memory_of_many_partitions_stays_near_the_budget(tmp_path: Path) -> None:
    """Write buffers and cached blocks of all partitions share one budget."""
    budget_mib = 32
    options = StoreOptions(budget_mib)
    partitions = [Partition.open(tmp_path / str(number), options) for number in range(8)]
    value = row(NEVER, bytes(range(200)) * 3)
    limit = 1.25 * budget_mib * 2**20
    for turn in range(40):
        for partition in partitions:
            partition.load([(b"%d-%d" % (turn, i), value) for i in range(1_000)], turn, TOPIC_ID, 0)
            partition.get_many([b"%d-%d" % (turn // 2, i) for i in range(1_000)])
        # What is written faster than it is flushed comes on top until it is: how much that is, is the machine's affair.
        until_s = time.monotonic() + 20
        while options.memory_bytes >= limit:
            assert time.monotonic() < until_s, f"{options.memory_bytes} bytes of {budget_mib} MiB"
            time.sleep(0.01)
    written_mib = 40 * 8 * 1_000 * len(value) >> 20
    assert 4 * budget_mib < written_mib
    for partition in partitions:
        partition.close()


_KEYS = st.sampled_from([b"", b"a", b"bb", b"ccc"])
_DUES = st.integers(0, 50) | st.just(NEVER)


class Step(NamedTuple):
    """A batch: what it does with the first *fires* keys that are due, with others, and how far the clock goes on."""

    changes: dict[bytes, int | None]
    fires: int
    passes_ms: int
    reopens: bool


_STEPS = st.lists(
    st.builds(
        Step,
        st.dictionaries(_KEYS, st.none() | _DUES),
        st.integers(0, 3),
        st.integers(0, 15),
        st.booleans(),
    ),
    max_size=16,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
def test_index_is_what_the_rows_say(steps: list[Step], tmp_path_factory: pytest.TempPathFactory) -> None:
    """After any batches, some of them fired by deadlines, and restarts, the index has the rows' deadlines."""
    path = tmp_path_factory.mktemp("model") / "0"
    partition = restored(path)
    model: dict[bytes, int] = {}
    now_ms = 0
    for number, step in enumerate(steps):
        now_ms += step.passes_ms
        fired = partition.due(now_ms, step.fires) if step.fires else []
        assert fired == sorted((due, key) for key, due in model.items() if due <= now_ms)[: step.fires]
        # A row that was due and isn't changed would be due for ever: it has no entry any more.
        after = model | {key: now_ms + 7 for _, key in fired} | step.changes
        partition.write(
            [
                RowChange(
                    key, row(model[key]) if key in model else None, None if due is None else row(due, b"%d" % number)
                )
                for key, due in after.items()
                if key in step.changes or (key in model and model[key] != due)
            ],
            number,
            now_ms,
            fired,
        )
        model = {key: due for key, due in after.items() if due is not None}
        if step.reopens:
            partition.close()
            partition = restored(path)
        expected = sorted((due, key) for key, due in model.items() if due != NEVER)
        assert expected == partition.deadlines()
        assert [entry for entry in expected if entry[0] <= now_ms] == partition.due(now_ms, 100)
    partition.close()
