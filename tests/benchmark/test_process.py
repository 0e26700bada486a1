import os
from functools import partial

import pytest

from tf_mamlpp.benchmark.process import Worker
from tf_mamlpp.errors import UserError
from tf_mamlpp.runtime import memory_mb


def test_calls_run_in_one_other_process():
    with Worker(partial, os.getpid) as pid:
        first = pid()
        assert first != os.getpid()
        assert pid() == first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_memory_is_the_processs_own():
    here = memory_mb()
    with Worker(partial, memory_mb) as there:
        resident, peak = there()
    assert 1 < resident <= peak < here[0]  # it has no TensorFlow, which this process has


def test_the_peak_is_a_peak():
    resident, peak = memory_mb()
    block = bytearray(200 * 2**20)
    block[:: 2**12] = b"x" * len(block[:: 2**12])
    assert memory_mb()[1] > resident + 190
    del block
    assert memory_mb()[1] >= max(peak, resident + 190)


def test_errors_come_back_and_the_process_goes_on():
    with Worker(partial, int) as number:
        with pytest.raises(RuntimeError, match="ValueError.*'many'"):
            number("many")
        assert number("7") == 7


def test_a_process_that_ended_is_a_users_error():
    with Worker(partial, os._exit, 3) as gone, pytest.raises(UserError, match="ended with status 3"):
        gone()
    with Worker(partial, os.kill) as killed, pytest.raises(UserError, match="status -9: out of memory"):
        killed_pid = killed._process.pid
        killed(killed_pid, 9)
