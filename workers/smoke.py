"""The smoke test of a rollout: the endpoint is asked what the trainer asked the model, and must answer the same."""

import json
import math
from collections.abc import Mapping
from typing import Any

from workers.endpoint import EndpointWork, section, train_done
from workers.errors import BadOutput, TransientError
from workers.plain import is_number, is_plain
from workers.record import JobRef
from workers.settings import Settings
from workers.sources import Sources, split_uri
from workers.stage import Context
from workers.vertex import Vertex

_NOT_YET_S = 1.0  # traffic that was moved may take a moment to arrive
_SHOWN, _SHOWN_CHARACTERS = 3, 2000


class SmokePhase(EndpointWork):
    """Compares the endpoint's answers with the trainer's; if they differ, the attempt fails and is rolled back."""

    name = "smoke"
    patience_s = 120.0  # a server that gives no answer for so long, with all traffic on it, has failed

    def __init__(self, vertex: Vertex, settings: Settings, sources: Sources) -> None:
        super().__init__(vertex, settings)
        self._sources = sources

    def find(self, context: Context) -> JobRef | None:
        return None  # asking again changes nothing

    def create(self, context: Context) -> JobRef:
        sample = self._sample(context)
        name = self._endpoint_name(context)
        request = self._api(context).endpoints().predict(endpoint=name, body={"instances": sample["instances"]})
        answer = self._read(context, request)
        mine = self._mine(context)
        if answer.get("deployedModelId", mine) != mine:
            raise TransientError(
                f"{name} answers with deployed model {answer['deployedModelId']}, traffic has not moved to {mine} yet",
                retry_after_s=_NOT_YET_S,
            )
        _compare(answer, sample, section(context.spec).tolerance, name)
        return self._there(context, name).model_copy(update={"data": {"predictions": _some(answer["predictions"])}})

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return dict(job.data)

    def _sample(self, context: Context) -> dict[str, Any]:
        """Read the rows, with the model's own answers, that the trainer left beside the model."""
        uri = f"{train_done(context).model_uri.rstrip('/')}/smoke.json"
        content = self._sources.read(*split_uri(uri))
        mend = "let the trainer write {instances: […], predictions: […]} there"
        if content is None:
            raise BadOutput(f"{uri} is not there, so the rollout cannot be checked", mend)
        try:
            sample: dict[str, Any] = json.loads(content)
            instances, predictions = sample["instances"], sample["predictions"]
        except (ValueError, KeyError, TypeError, RecursionError) as fault:
            raise BadOutput(f"{uri} cannot be read ({fault!r})", mend) from fault
        is_paired = isinstance(instances, list) and isinstance(predictions, list) and len(instances) == len(predictions)
        if not instances or not is_paired:
            raise BadOutput(f"{uri} holds no pairs of instance and prediction", mend)
        for index, pair in enumerate(zip(instances, predictions, strict=True)):
            if not is_plain(list(pair)):
                raise BadOutput(
                    f"{uri} holds a value at {index} that is no JSON, such as NaN ({pair!r:.200})",
                    "the training may have diverged: let the trainer write finite numbers",
                )
        return sample


def _some(predictions: list[Any]) -> list[Any]:
    """Return the first few for people to see, as far as they are short: the ledger is written at every step."""
    first = predictions[:_SHOWN]
    return first if len(json.dumps(first)) <= _SHOWN_CHARACTERS else []


def _compare(answer: Mapping[str, Any], sample: Mapping[str, Any], tolerance: float, place: str) -> None:
    predictions, wanted = answer.get("predictions", []), sample["predictions"]
    if not isinstance(predictions, list):
        raise BadOutput(f"{place} answered predictions = {predictions!r:.200}, no list", "mend the serving container")
    if len(predictions) != len(wanted):
        raise BadOutput(
            f"{place} answered {len(predictions)} predictions to {len(wanted)} instances", "mend the serving container"
        )
    for index, (got, want) in enumerate(zip(predictions, wanted, strict=True)):
        if not _is_close(got, want, tolerance):
            raise BadOutput(
                f"{place} answers {got!r} to instance {index}, the trainer's own model {want!r} (tolerance {tolerance:g})",
                "make serving prepare its input as training did",
            )


def _is_close(got: Any, want: Any, tolerance: float) -> bool:
    if isinstance(want, list):
        same = isinstance(got, list) and len(got) == len(want)
        return same and all(_is_close(g, w, tolerance) for g, w in zip(got, want, strict=True))
    if is_number(want):
        return is_number(got) and math.isclose(got, want, rel_tol=tolerance, abs_tol=tolerance)
    return bool(got == want)
