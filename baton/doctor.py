"""Looks for what is wrong with the set-up, without changing anything: each finding has a place and a mend."""

import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from baton.errors import BatonError, ProfileError
from baton.profile import Profile, load_profile
from workers.errors import PipelineError, SettingsError

_PYTHON = (3, 11)
_TOGETHER = ("PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "BATON_DATAFLOW_ENDPOINT", "BATON_AIPLATFORM_ENDPOINT")


class Verdict(StrEnum):
    """How bad a finding is; only a problem makes `baton doctor` fail."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"
    SKIPPED = "skipped"  # not looked at, for a reason that a problem before has named


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what it is, where, and what to do if it is not well."""

    verdict: Verdict
    what: str
    where: str
    mend: str = ""

    def to_json(self) -> dict[str, str]:
        return {"verdict": self.verdict.value, "what": self.what, "where": self.where, "mend": self.mend}


def examine(load: Callable[[], Profile] = load_profile) -> Iterator[Finding]:
    """Yield the findings one by one, as they are made; stops where going on would only repeat the first cause."""
    yield _python()
    try:
        profile = load()
    except ProfileError as fault:
        yield Finding(Verdict.PROBLEM, fault.message, "settings", fault.mend)
        return
    settings = list(_settings(profile))
    yield from settings
    yield from _pipelines(profile)
    try:
        silent = profile.silent_addresses()
    except ProfileError as fault:
        yield Finding(Verdict.PROBLEM, fault.message, profile.source, fault.mend)
        return
    yield from _endpoints(profile, silent)
    if silent or any(finding.verdict is Verdict.PROBLEM for finding in settings):
        return
    from baton.doctor_cloud import resources  # Google's clients, only once there is something to ask

    yield from resources(profile)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _PYTHON:
        return Finding(Verdict.PROBLEM, f"Python {version} is too old", sys.executable, "install Python 3.11 or newer")
    return Finding(Verdict.OK, f"Python {version}", sys.executable)


def _settings(profile: Profile) -> Iterator[Finding]:
    from workers.settings import Settings

    try:
        Settings.from_environment(profile.variables)
        project, bucket = profile.project, profile.bucket
    except (SettingsError, BatonError) as fault:
        yield Finding(Verdict.PROBLEM, str(fault), profile.source, getattr(fault, "mend", ""))
    else:
        yield Finding(Verdict.OK, f"project {project}, bucket {bucket}, region {profile.region}", profile.source)
    yield from _mixed(profile)
    if profile.is_local:
        from baton.locks import is_up

        if not is_up(profile.home):
            yield Finding(
                Verdict.NOTE,
                "no `baton up` holds this data directory: the workers may not run",
                str(profile.home),
                "start them with `baton up`",
            )


def _mixed(profile: Profile) -> Iterator[Finding]:
    """Look whether local and Google's services are mixed by accident."""
    missing = [name for name in _TOGETHER if not profile.get(name)]
    if missing and len(missing) < len(_TOGETHER):
        yield Finding(
            Verdict.PROBLEM,
            f"some services are local and some are Google's: {', '.join(missing)} unset",
            profile.source,
            "set all of the emulator addresses or none; `baton up` sets all",
        )
    elif profile.is_emulated and not profile.get("BIGQUERY_EMULATOR_HOST"):
        mend = "set it if a run's source is bq://…; `baton up` sets it"
        yield Finding(Verdict.NOTE, "BIGQUERY_EMULATOR_HOST is unset: BigQuery is Google's", profile.source, mend)


def _endpoints(profile: Profile, silent: list[tuple[str, str]]) -> Iterator[Finding]:
    if not list(profile.addresses()):
        yield Finding(Verdict.OK, "Google's own endpoints", profile.source)
    names_silent = {name for name, _ in silent}
    for name, address in profile.addresses():
        if name in names_silent:
            mend = "start the local cloud with `baton up`" if profile.is_local else f"start it, or mend {name}"
            yield Finding(Verdict.PROBLEM, f"nothing answers at {name}", address, mend)
        else:
            yield Finding(Verdict.OK, f"{name} answers", address)


def _pipelines(profile: Profile) -> Iterator[Finding]:
    from workers.pipeline import Catalog, PipelineSpec

    folder = profile.pipelines_dir
    catalog = Catalog(folder)
    if not catalog.names():
        yield Finding(
            Verdict.PROBLEM, "no pipeline", str(folder), f"add {folder}/NAME.toml, or set BATON_PIPELINES_DIR"
        )
    good: list[PipelineSpec] = []
    for name in catalog.names():
        path = str(folder / f"{name}.toml")
        try:
            good.append(catalog.get(name))
        except PipelineError as fault:
            yield Finding(Verdict.PROBLEM, str(fault), path, "mend that line")
        else:
            yield Finding(Verdict.OK, f"pipeline {name}", path)
    if profile.is_local:
        wanted = {s.train.image for s in good if s.train} | {s.deploy.image for s in good if s.deploy}
        yield from _images(profile, sorted(wanted))


def _images(profile: Profile, wanted: list[str]) -> Iterator[Finding]:
    """Look whether the local cloud has a command for each image that the pipelines name."""
    from baton.house import images_file

    try:
        path = images_file(profile.home)
        known = set(tomllib.loads(path.read_text(encoding="utf-8")).get("images", {}))
    except (BatonError, OSError, ValueError) as fault:
        yield Finding(Verdict.PROBLEM, f"the image table cannot be read ({fault})", "deploy/images.toml", "mend it")
        return
    for image in wanted:
        name = Path(image).name.partition("@")[0].partition(":")[0]
        if name in known:
            yield Finding(Verdict.OK, f"image {name}", str(path))
        else:
            mend = f"add [images.{name}] with a command"
            yield Finding(Verdict.PROBLEM, f"image {name} has no local command", str(path), mend)
