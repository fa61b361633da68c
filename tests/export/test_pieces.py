"""Pieces of work: in order whatever each takes, few taken ahead, errors in their place, nothing left running."""

import threading
import time

import pytest

from memssl_keras.export.pieces import in_order


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_pieces(threads):
    def work(number):
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    assert list(in_order(work, range(20), threads)) == [(n, n * n) for n in range(20)]


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (2, 5), (3, 7)])
def test_few_pieces_are_taken_before_they_are_asked_for(threads, ahead):
    taken = []

    def pieces():
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(lambda number: number, pieces(), threads)
    next(results)
    assert len(taken) == ahead
    results.close()
    assert len(taken) == ahead


def test_an_error_comes_in_its_turn_and_ends_the_rest():
    begun = []

    def work(number):
        begun.append(number)
        if number == 3:
            raise ValueError("the third")
        return number

    results = in_order(work, range(1000), 2)
    assert [next(results)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert len(begun) < 12 and threading.active_count() < 20


def test_an_error_of_the_pieces_is_raised():
    def pieces():
        yield 1
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(in_order(lambda number: number, pieces(), 2))
