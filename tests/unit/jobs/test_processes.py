"""Processes that are started at most once and found again."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from localcloud.jobs import processes
from tests.support.waiting import wait_until

ENV = {"PATH": os.environ["PATH"]}


def start(run: Path, script: str, token: str = "t") -> int:
    return processes.start(
        run, argv=["/bin/sh", "-c", script], env=ENV, directory=run.parent, log=run.parent / "log", token=token
    )


def ended(pid: int) -> int:
    code = wait_until(lambda: [code] if (code := processes.reap(pid)) is not None else None, what="the end")
    assert code is not None
    return code[0]


def test_the_exit_code_outlives_the_process(tmp_path: Path) -> None:
    """What the job exited with is in a file, its output in the log, and its pid in the claim."""
    run = tmp_path / "run"
    pid = start(run, "echo out; echo err >&2; exit 7")
    assert ended(pid) == 7
    assert processes.exit_code(run) == 7
    assert processes.claimant(run) == pid
    assert (tmp_path / "log").read_text() == "out\nerr\n"


def test_a_run_is_claimed_once(tmp_path: Path) -> None:
    """Of many wrappers of one run exactly one runs the job; the others exit with CLAIM_LOST."""
    run = tmp_path / "run"
    pids = [start(run, f"echo x >>{tmp_path}/starts; sleep 0.05") for _ in range(10)]
    codes = sorted(ended(pid) for pid in pids)
    assert codes == [0] + [processes.CLAIM_LOST] * 9
    assert (tmp_path / "starts").read_text() == "x\n"


def test_a_voided_run_never_starts(tmp_path: Path) -> None:
    """A run claimed for nobody is not started by a wrapper still on its way."""
    run = tmp_path / "run"
    assert processes.void(run)
    assert not processes.void(run)
    assert ended(start(run, f"touch {tmp_path}/started")) == processes.CLAIM_LOST
    assert not (tmp_path / "started").exists()
    assert processes.claimant(run) == 0


def test_a_removed_run_never_starts(tmp_path: Path) -> None:
    """A wrapper that comes when its directory is gone gives way."""
    run = tmp_path / "run"
    wrapper = ["/bin/sh", "-c", processes._WRAPPER, "job", str(run), str(tmp_path), "touch", str(tmp_path / "started")]
    assert subprocess.run(wrapper, check=False).returncode == processes.CLAIM_LOST
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("text", ["", "1", "12"])
def test_a_cut_off_exit_file_does_not_count(tmp_path: Path, text: str) -> None:
    """An exit code without its newline was being written when the machine died."""
    (tmp_path / "exit").write_text(text)
    assert processes.exit_code(tmp_path) is None


def test_term_reaches_the_job_and_the_code_is_kept(tmp_path: Path) -> None:
    """TERM to the group ends the job; its wrapper lives to write 143."""
    run = tmp_path / "run"
    pid = start(run, "echo ready; exec sleep 60")
    wait_until(lambda: (tmp_path / "log").read_text(), what="the start")
    processes.signal_group(pid, signal.SIGTERM)
    assert ended(pid) == 143
    assert processes.exit_code(run) == 143


def test_alive_means_this_run(tmp_path: Path) -> None:
    """A pid is a run's only while its own wrapper has it; a zombie, a stranger and nobody are not alive."""
    run = tmp_path / "run"
    pid = start(run, "sleep 60")
    wait_until(lambda: processes.claimant(run), what="the claim")
    assert processes.is_alive(pid, run)
    assert not processes.is_alive(pid, tmp_path / "other")
    assert not processes.is_alive(os.getpid(), run)
    assert not processes.is_alive(0, run)
    processes.signal_group(pid, signal.SIGKILL)
    wait_until(lambda: not processes.is_alive(pid, run), what="the zombie")
    assert ended(pid) == -signal.SIGKILL
    assert processes.exit_code(run) is None


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds strays in /proc")
def test_strays_are_found_by_their_token(tmp_path: Path) -> None:
    """A process that left its group and session is still found, and only it."""
    run = tmp_path / "run"
    pid = start(run, "setsid sleep 60 & echo $!; sleep 0.05", token="stray-token")
    other = start(tmp_path / "run2", "sleep 60", token="stray-token2")
    ended(pid)
    assert processes.kill_strays("stray-token") == 1
    assert processes.is_alive(other, tmp_path / "run2")
    processes.signal_group(other, signal.SIGKILL)
    ended(other)


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_a_watch_sees_an_end_at_once(tmp_path: Path, has_pidfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch calls back once, for our own child as for a stranger's, also when it had ended before; pidfd or not."""
    if not has_pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)

    async def watch() -> list[str]:
        seen: list[str] = []
        child = start(tmp_path / "run", "sleep 0.05")
        first = processes.Watch(child, tmp_path / "run", lambda: seen.append("child"), is_child=True)
        async with asyncio.timeout(5):
            while not seen:
                await asyncio.sleep(0.005)
        processes.reap(child)
        done = asyncio.Event()
        processes.Watch(child, tmp_path / "run", done.set, is_child=False)
        await asyncio.wait_for(done.wait(), 5)
        first.close()
        return seen

    assert asyncio.run(watch()) == ["child"]


def test_a_living_child_is_not_taken_for_dead(tmp_path: Path) -> None:
    """Just after its start a child has no arguments to be known by; a watch must not take that for its end."""

    async def watch() -> int:
        wrong = 0
        for number in range(200):
            run = tmp_path / str(number)
            pid = start(run, "exec sleep 60")
            fired: list[int] = []
            seen = processes.Watch(pid, run, lambda fired=fired, number=number: fired.append(number), is_child=True)  # type: ignore[misc]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            wrong += len(fired)
            seen.close()
            processes.signal_group(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return wrong

    assert asyncio.run(watch()) == 0


def test_what_no_process_can_be_given_is_refused(tmp_path: Path) -> None:
    """A NUL or an endless argument is an error of the start, not of the job."""
    for argument in ("a\0b", "x" * 3_000_000):
        with pytest.raises((OSError, ValueError)):
            processes.start(
                tmp_path / "run",
                argv=["/bin/echo", argument],
                env=ENV,
                directory=tmp_path,
                log=tmp_path / "l",
                token="t",
            )


def test_signals_are_the_systems_own(tmp_path: Path) -> None:
    """A job inherits neither what Python ignores (a broken pipe) nor what it blocks."""
    script = "yes | head -n 1 >/dev/null; grep -E '^Sig(Blk|Ign)' /proc/self/status"
    if not Path("/proc/self/status").exists():
        script = "yes | head -n 1 >/dev/null"
    assert ended(start(tmp_path / "run", script)) == 0
    said = (tmp_path / "log").read_text()
    assert "Broken pipe" not in said
    internal = 3 << 31  # signals 32 and 33 belong to the C library
    assert [int(line.split()[1], 16) & ~internal for line in said.splitlines()] in ([], [0, 0])
