"""A signal ends the server, whenever it comes and whichever thread gets it."""

import subprocess
import sys

import pytest

_BEFORE = "os.kill(os.getpid(), signal.SIGTERM)"
_IN_ANOTHER_THREAD = """
def get_signal():
    time.sleep(0.2)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(60)
threading.Thread(target=get_signal, daemon=True).start()
"""


@pytest.mark.parametrize("signalled", [_BEFORE, _IN_ANOTHER_THREAD], ids=["before", "elsewhere"])
def test_signal_ends_the_wait(signalled: str) -> None:
    program = f"""
import os, signal, threading, time
from rbdcsi.server import lifecycle
wait_for_stop = lifecycle.stop_on_signals()
{signalled}
wait_for_stop()
os._exit(7)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert done.returncode == 7
