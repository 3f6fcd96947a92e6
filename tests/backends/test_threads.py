"""Work on several threads: its order, its errors, which threads do it, and in forked processes."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from portinit.backends import threads
from portinit.backends.threads import in_threads


def workers(count: int) -> set[int]:
    """The threads that work on as many items at once: each item waits for all the others."""
    together = threading.Barrier(count, timeout=30)

    def work(_: int) -> int:
        together.wait()
        return threading.get_ident()

    return set(in_threads(work, range(count), count))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    assert in_threads(lambda n: n * n, iter(range(40)), threads) == [n * n for n in range(40)]
    assert in_threads(abs, [], threads) == []


def test_so_many_threads_work() -> None:
    here = threading.get_ident()
    assert workers(1) == {here}
    assert len(workers(3)) == 3
    assert here not in workers(3)


def test_the_threads_stay_for_the_next_call_and_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "_SOON", 60.0)
    assert workers(2) == workers(2)
    before = [pool for _, _, pool in threads._idle]
    monkeypatch.setattr(threads, "_SOON", 0.0)
    workers(2)
    assert len(threads._idle) == 1  # what was too old is dropped
    assert all(pool not in before for _, _, pool in threads._idle)


def test_calls_side_by_side_and_within_one_another_have_threads_of_their_own() -> None:
    def inner(n: int) -> int:
        return sum(in_threads(lambda m: n * m, range(5), 2))

    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(in_threads, inner, range(6), 2) for _ in range(8)]
        assert [call.result(30) for call in calls] == [[10 * n for n in range(6)]] * 8


def test_after_an_error_nothing_goes_on() -> None:
    done: list[int] = []

    def work(n: int) -> None:
        if n == 0:
            raise ValueError("no such tile")
        time.sleep(0.02)
        done.append(n)

    with pytest.raises(ValueError, match="no such tile"):
        in_threads(work, range(500), 2)
    finished = len(done)
    assert finished < 499
    time.sleep(0.1)
    assert len(done) == finished
    assert in_threads(lambda n: n, range(3), 2) == [0, 1, 2]


FORK = """
import os, threading
from portinit.backends import threads

threads._SOON = 60.0
assert threads.in_threads(abs, range(4), 2) == [0, 1, 2, 3]
child = os.fork()
if child == 0:
    threading.Timer(20, os._exit, [1]).start()  # else it would hang
    os._exit(0 if threads.in_threads(abs, range(4), 2) == [0, 1, 2, 3] else 2)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60)
