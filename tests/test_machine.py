"""Work on several threads: its order, its errors, which threads do it, and in forked processes."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from portinit import machine
from portinit.machine import in_threads


def ident(_: int) -> int:
    time.sleep(0.01)  # so that no thread takes all
    return threading.get_ident()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    assert in_threads(lambda n: n * n, iter(range(40)), threads) == [n * n for n in range(40)]
    assert in_threads(ident, [], threads) == []


def test_so_many_threads_work() -> None:
    here = threading.get_ident()
    assert set(in_threads(ident, range(3), 1)) == {here}
    found = set(in_threads(ident, range(12), 3))
    assert len(found) == 3
    assert here not in found


def test_the_threads_stay_for_the_next_call_and_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "_SOON", 60.0)
    first = in_threads(ident, range(4), 2)
    assert set(in_threads(ident, range(4), 2)) == set(first)
    pools = len(machine._idle)
    monkeypatch.setattr(machine, "_SOON", 0.0)
    before = [pool for _, _, pool in machine._idle]
    in_threads(ident, range(4), 2)
    assert len(machine._idle) <= pools  # what was too old is dropped
    assert all(pool not in before for _, _, pool in machine._idle)


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
        in_threads(work, range(50), 2)
    finished = len(done)
    assert finished < 49
    time.sleep(0.1)
    assert len(done) == finished
    assert in_threads(lambda n: n, range(3), 2) == [0, 1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's
def test_a_forked_process_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_SOON", 60.0)
    in_threads(ident, range(4), 2)
    child = os.fork()
    if child == 0:
        threading.Timer(20, os._exit, [1]).start()  # else it would hang
        os._exit(0 if in_threads(lambda n: n, range(4), 2) == [0, 1, 2, 3] else 2)
    assert os.waitpid(child, 0)[1] == 0
