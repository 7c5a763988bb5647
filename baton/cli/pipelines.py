"""`baton pipelines check`: are the TOML files right?"""

import os
from pathlib import Path

import click

from baton.cli.common import answers, examples, json_option, print_json
from baton.errors import EXIT_FAILED, EXIT_OK, BatonError
from baton.render import plain


@click.group(epilog=examples("baton pipelines check", "baton pipelines check pipelines/babyweight.toml"))
def pipelines() -> None:
    """Check the pipelines' TOML files."""


@pipelines.command(
    epilog=examples(
        "baton pipelines check",
        "baton pipelines check my-model.toml",
        json_shape='[{file, name, problem}, …]; problem is "" where the file is right',
    )
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@json_option
@click.pass_context
def check(context: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """Check FILES, or every pipeline of the folder; a fault is named with its file, line, value and mend."""
    from workers.errors import PipelineError
    from workers.pipeline import load

    found: list[dict[str, str]] = []
    for path in files or _all(_folder()):
        try:
            load(path)
            problem = ""
        except PipelineError as fault:
            problem = str(fault)
        found.append({"file": str(path), "name": path.stem, "problem": problem})
    if as_json:
        print_json(found)
    else:
        console = answers()
        for row in found:
            mark = "[bold red]✘[/]" if row["problem"] else "[green]✔[/]"
            console.print(f"{mark} {plain(row['problem'] or row['file'])}", soft_wrap=True)
    context.exit(EXIT_FAILED if any(row["problem"] for row in found) else EXIT_OK)


def _folder() -> Path:
    from baton.profile import find_home, find_root

    if given := os.environ.get("BATON_PIPELINES_DIR"):
        return Path(given)
    return (find_root(find_home(os.environ, Path.cwd())) or Path.cwd()) / "pipelines"


def _all(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.toml"))
    if not found:
        raise BatonError(f"{folder} holds no pipeline", f"add {folder}/NAME.toml, or set BATON_PIPELINES_DIR")
    return found
