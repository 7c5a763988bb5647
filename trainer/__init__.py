"""Train one model from one dataset directory: what a Vertex AI custom job, or a local process, executes.

Start it as `python -m trainer.task`. Nothing here is imported by the workers, and nothing of theirs is imported here:
the dataset's `manifest.json` carries all that this package needs to know.
"""
