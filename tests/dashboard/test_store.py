from __future__ import annotations

import threading

import numpy as np

from dashboard.store import Store, weigh


def test_least_recently_used_leaves_first() -> None:
    store = Store(entries=2)
    store.put(("a",), 1)
    store.put(("b",), 2)
    assert store.get(("a",)) == 1  # asked for: now newer than b
    store.put(("c",), 3)
    assert store.get(("b",)) is None
    assert (store.get(("a",)), store.get(("c",))) == (1, 3)


def test_bytes_are_bounded_and_the_newest_stays() -> None:
    store = Store(megabytes=1)
    for k in range(5):
        store.put((k,), np.zeros(50_000))  # 0.4 MB each
    assert len(store) == 2
    store.put(("big",), np.zeros(1_000_000))
    assert len(store) == 1 and store.get(("big",)) is not None


def test_replacing_a_value_does_not_count_it_twice() -> None:
    store = Store(megabytes=1)
    store.put(("other",), np.zeros(50_000))
    for _ in range(10):
        store.put(("same",), np.zeros(50_000))
    assert ("other",) in store


def test_weight_follows_what_a_result_holds() -> None:
    class Result:
        def __init__(self) -> None:
            self.values = np.zeros(1000)
            self.extras = {"attention": (np.zeros((10, 10)),)}

    assert weigh(Result()) >= 8800
    assert weigh(b"x" * 500) == 500


def test_many_threads_keep_the_bounds() -> None:
    store = Store(entries=50)

    def work(seed: int) -> None:
        for k in range(300):
            store.put((seed, k % 70), k)
            store.get((seed, (k * 7) % 70))

    threads = [threading.Thread(target=work, args=(s,)) for s in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store) == 50
    assert store._size == sum(weight for _, weight in store._held.values())
