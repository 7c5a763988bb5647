"""Where a run's artifacts lie: one folder a run, and in it one for each attempt of each stage."""

from workers.settings import Settings
from workers.stage import Context


def run_folder(context: Context, settings: Settings) -> str:
    """Return the folder of this run's artifacts; each attempt of each stage has a folder of its own in it."""
    root = (context.params.output_uri or f"gs://{settings.bucket}/artifacts").rstrip("/")
    return f"{root}/{context.run_id}"
