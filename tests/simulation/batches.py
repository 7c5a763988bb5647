"""Many histories, on one process or several; apart from `__main__`, for what a process is sent has to have an address."""

import multiprocessing
from collections.abc import Iterator
from functools import partial

from tests.simulation.scenario import draw, draw_crowded
from tests.simulation.verdict import Verdict, muted, try_scenario

_BATCH = 200
_BATCHES_OF_A_PROCESS = 50  # then a fresh one takes its place: what tasks of the dead leave behind adds up


def batches(
    first: int, histories: int, processes: int, *, is_crowded: bool = False
) -> Iterator[tuple[list[Verdict], int]]:
    """Play the seeds from `first`; yield the verdicts that were wrong, and how many played, batch by batch."""
    play = partial(play_span, is_crowded=is_crowded)
    spans = [(start, min(start + _BATCH, first + histories)) for start in range(first, first + histories, _BATCH)]
    if processes == 1:
        yield from map(play, spans)
        return
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=_BATCHES_OF_A_PROCESS) as pool:
        yield from pool.imap_unordered(play, spans)


def play_span(span: tuple[int, int], *, is_crowded: bool = False) -> tuple[list[Verdict], int]:
    """Play the seeds of one batch."""
    scenario = draw_crowded if is_crowded else draw
    with muted():
        verdicts = [try_scenario(scenario(seed)) for seed in range(*span)]
    return [verdict for verdict in verdicts if verdict.wrong], span[1] - span[0]
