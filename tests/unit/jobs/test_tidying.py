"""What ended runs leave is taken away together, strays before folders."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from localcloud.jobs.processes import TOKEN_VARIABLE
from localcloud.jobs.tidying import Tidying


def stray(token: str) -> "subprocess.Popen[bytes]":
    """Start a process that carries a run's token and lives in a session of its own."""
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-S", "-I", "-c", code],
        env={**os.environ, TOKEN_VARIABLE: token},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


def test_strays_and_folders_of_several_runs_go(tmp_path: Path) -> None:
    """Whatever is asked for while nothing happens yet is done in one look; a run that is not named keeps its own."""
    folders = [tmp_path / name for name in ("a", "b", "kept")]
    for folder in folders:
        (folder / "1" / "tmp").mkdir(parents=True)

    async def end(*, at_once: bool) -> None:
        tidying = Tidying()
        for token, folder in (("t1", folders[0]), ("t2", folders[1])):
            tidying.strays(token)
            tidying.folder(folder)
        if not at_once:
            async with asyncio.timeout(10):
                while folders[0].exists() or folders[1].exists():
                    await asyncio.sleep(0.01)
        await tidying.close()

    with stray("t1") as first, stray("t2") as second, stray("t3") as other:
        try:
            asyncio.run(end(at_once=False))
            assert [first.wait(10), second.wait(10), other.poll()] == [-9, -9, None]
            assert [folder.exists() for folder in folders] == [False, False, True]
            folders[0].mkdir()
            asyncio.run(end(at_once=True))
            assert not folders[0].exists()
        finally:
            for process in (first, second, other):
                process.kill()
