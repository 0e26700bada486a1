"""A run in a process of its own: it ends with its parent, and waits for the lock of its folder."""

import os
import subprocess
import sys
import time

from tf_mamlpp.study.run_one import _wait_for_lock


def test_a_run_ends_with_its_parent(tmp_path):
    """A parent that is killed takes its child along: the child gets SIGTERM."""
    child = (
        "import pathlib, os, signal, sys, time\nfrom tf_mamlpp.study.run_one import _end_with_parent\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(tmp_path / 'ended')!r}).touch(), os._exit(0)))\n"
        f"_end_with_parent(int(sys.argv[1]), 0.05)\npathlib.Path({str(tmp_path / 'ready')!r}).touch()\ntime.sleep(60)"
    )
    parent = f"import os, subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child!r}, str(os.getpid())]).wait()"
    process = subprocess.Popen([sys.executable, "-c", parent])
    for name in ("ready", "ended"):
        deadline = time.monotonic() + 60
        while not (tmp_path / name).exists():
            assert time.monotonic() < deadline, name
            time.sleep(0.02)
        process.kill()
    process.wait()


def test_the_lock_of_one_that_outlived_its_parent_is_waited_for(tmp_path):
    holder = (
        "import fcntl, sys, time\nfile = open(sys.argv[1], 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\ntime.sleep(0.4)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path / ".lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    began = time.monotonic()
    _wait_for_lock(tmp_path)
    assert time.monotonic() - began > 0.2
    process.communicate()


def test_a_run_whose_parent_lives_is_left_alone():
    imports = "import sys, time\nfrom tf_mamlpp.study.run_one import _end_with_parent"
    program = f"{imports}\n_end_with_parent(int(sys.argv[1]), 0.01)\ntime.sleep(0.3)"
    assert subprocess.run([sys.executable, "-c", program, str(os.getpid())]).returncode == 0
