"""From measured times to ratios, and to a table."""

from typing import Any

GOAL_OVER_ORIGINAL = 100  # end to end, at 4,000,000 rows
GOAL_OVER_ARROW = 2  # run phase, at 4,000,000 rows
TITLES = {
    "original": "original, dicts in memory",
    "original_csv": "original, CSV file to CSV files",
    "arrow": "plain Arrow, no Beam, Parquet",
    "ours": "ours, Parquet",
    "ours_csv": "ours, CSV in",
}


def extrapolate(ways: dict[str, Any], way: str, rows: int) -> tuple[float, float]:
    """Return rows/s, and the wall time for `rows`, on the line through the way's two sizes.

    Two sizes, because the fixed time of a pipeline (imports, graph) is not to be multiplied.
    """
    large, small = ways[way], ways[f"{way}_tenth"]
    rate = (large["rows"] - small["rows"]) / (large["wall_s"] - small["wall_s"])
    return rate, large["wall_s"] + (rows - large["rows"]) / rate


def ratios(ways: dict[str, Any], rows: int) -> dict[str, Any]:
    """Compare end to end with the original's ways, and by the run phase with plain Arrow."""
    answer: dict[str, Any] = {}
    for way in ("original", "original_csv"):
        rate, wall_s = extrapolate(ways, way, rows)
        answer[way] = {
            "rows_per_s": rate,
            "extrapolated_wall_s": wall_s,
            "ours_is_times_faster": wall_s / ways["ours"]["wall_s"],
            "ours_csv_is_times_faster": wall_s / ways["ours_csv"]["wall_s"],
        }
    over_arrow = ways["ours"]["run_s"] / ways["arrow"]["run_s"]
    over_original = answer["original"]["ours_is_times_faster"]
    return answer | {
        "run_phase_over_plain_arrow": over_arrow,
        "goals": {
            f"at least {GOAL_OVER_ORIGINAL} times the original": over_original >= GOAL_OVER_ORIGINAL,
            f"run phase within {GOAL_OVER_ARROW} times plain Arrow": over_arrow <= GOAL_OVER_ARROW,
        },
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures for a reader."""
    lines = ["| way | rows | wall s | run phase s | processor s | peak MiB |", "|---|---|---|---|---|---|"]
    for name, title in TITLES.items():
        way = figures["ways"][name]
        times = [f"{way[name]:.2f}" for name in ("wall_s", "run_s", "cpu_s")]
        cells = [title, f"{way['rows']:,}", *times, str(way["peak_mib"])]
        lines.append(f"| {' | '.join(cells)} |")
        if name in figures["ratios"]:
            found = figures["ratios"][name]
            title = f"extrapolated, by {found['rows_per_s']:,.0f} rows/s"
            lines.append(f"| … {title} | {figures['rows']:,} | {found['extrapolated_wall_s']:.0f} | | | |")
    lines.append("")
    for name in ("original", "original_csv"):
        found = figures["ratios"][name]
        lines.append(
            f"end to end, ours is {found['ours_is_times_faster']:.0f} times as fast as the {TITLES[name]} "
            f"({found['ours_csv_is_times_faster']:.0f} times from CSV)"
        )
    lines += [
        f"run phase: {figures['ratios']['run_phase_over_plain_arrow']:.2f} times plain Arrow's",
        f"medians of {figures['repeats']}; {figures['cores']} cores; load {figures['load_at_end']:.1f} at the end",
    ]
    return "\n".join(lines)
