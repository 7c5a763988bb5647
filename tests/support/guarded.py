"""`python -m tests.support.guarded MODULE …`: runs a module as a program that may open no socket but loopback's."""

import runpy
import sys

from tests.support import loopback_only

if __name__ == "__main__":
    loopback_only.enforce()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
