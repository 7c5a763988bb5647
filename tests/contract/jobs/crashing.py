"""A jobs service that kills itself with SIGKILL at its n-th step: `python crashing.py DATA_DIR PORT IMAGES STEP_FILE`.

A step is anything that changes the world: before and after each commit, before and after each process it starts or
reaps. SIGUSR1 arms it: STEP_FILE says which step from then on is the last.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localcloud import standalone
from localcloud.jobs import JobsServer, processes, spares
from localcloud.jobs.images import Images
from localcloud.jobs.store import Store


class Countdown:
    """Kills this process at the n-th step after it was armed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._left = 0

    def arm(self) -> None:
        self._left = int(self._file.read_text(encoding="ascii"))
        self._file.unlink()  # tells that it is armed

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._step()
            result = function(*args, **kwargs)
            self._step()
            return result

        return wrapped

    def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


async def serve(data_dir: Path, port: int, images: Path, step_file: Path) -> None:
    countdown = Countdown(step_file)
    Store._commit = countdown.around(Store._commit)  # type: ignore[method-assign]
    processes.start = countdown.around(processes.start)
    spares._hand_over = countdown.around(spares._hand_over)
    processes.reap = countdown.around(processes.reap)
    server = JobsServer(data_dir=data_dir, port=port, images=Images.load(images), max_parallel_jobs=4, kill_grace_s=0.3)
    stopping = standalone.stop_signal()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, countdown.arm)
    port = await server.start()
    print(f"jobs ready on 127.0.0.1:{port}", flush=True)
    await stopping.wait()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])))
