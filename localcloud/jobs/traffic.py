"""Traffic splits: their rules, and which deployed model the next request goes to."""

from collections.abc import Iterable, Mapping

from localcloud.jobs.names import invalid

WHOLE = 100
NEW_MODEL = "0"  # in a deploy request: the model being deployed


def check(split: Mapping[str, int], deployed: Iterable[str]) -> None:
    """Refuse a split that names an unknown model or does not sum to 100 (an empty one means: no traffic)."""
    known = set(deployed)
    missing = sorted(set(split) - known)
    if missing:
        raise invalid(f"The following DeployedModel ID(s) [{', '.join(missing)}] do not exist.")
    for deployed_id, percent in split.items():
        if not 0 <= percent <= WHOLE:
            raise invalid(f"traffic_split[{deployed_id}] is {percent}; it must lie from 0 to 100.")
    total = sum(split.values())
    if split and total != WHOLE:
        raise invalid(f"Traffic split percentages must sum to 100, but they sum to {total}: {dict(split)}.")


def with_new_model(split: Mapping[str, int], new_id: str) -> dict[str, int]:
    """Put the new model's id in the place of "0"."""
    return {new_id if key == NEW_MODEL else key: percent for key, percent in split.items()}


class Splitter:
    """Chooses by smooth weighted round robin: of any hundred requests in a row each model gets exactly its share.

    Vertex AI draws at random; the shares are the same, and a canary test of a dozen requests is not left to luck.
    """

    def __init__(self) -> None:
        self._credits: dict[str, dict[str, int]] = {}

    def choose(self, endpoint: str, split: Mapping[str, int]) -> str | None:
        """Return the deployed model for one request; None when the split is empty."""
        weights = {key: percent for key, percent in split.items() if percent > 0}
        if not weights:
            return None
        credits = {key: self._credits.get(endpoint, {}).get(key, 0) + weight for key, weight in weights.items()}
        chosen = max(credits, key=lambda key: credits[key])
        credits[chosen] -= sum(weights.values())
        self._credits[endpoint] = credits
        return chosen
