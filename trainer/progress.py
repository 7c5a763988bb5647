"""Tell how far the training is: `progress.json` for whoever watches the job, and events for TensorBoard."""

import json
import tempfile
from pathlib import Path

import tensorflow as tf

from trainer.storage import Directory, write_tree


class Progress:
    """Writes one line of progress and the events so far into the log directory.

    TensorBoard's writer only knows local files (gs:// would go through TensorFlow), so it writes to a scratch directory
    whose files are copied at each report. A restarted job adds a file of its own; TensorBoard joins them by step.
    """

    def __init__(self, directory: Directory, steps: int) -> None:
        self._directory = directory
        self._steps = steps
        self._scratch = tempfile.TemporaryDirectory(prefix="trainer-logs-")
        self._writer = tf.summary.create_file_writer(self._scratch.name)

    def begin(self, step: int) -> None:
        """Tell that training starts, `step` steps having been done by earlier attempts."""
        self._publish(step, {})

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Publish the newest metrics; `step` is how many steps are done."""
        with self._writer.as_default(step=step):
            for name, value in metrics.items():
                tf.summary.scalar(name, value)
        self._writer.flush()
        write_tree(Path(self._scratch.name), self._directory)
        self._publish(step, metrics)

    def _publish(self, step: int, metrics: dict[str, float]) -> None:
        document = {"fraction": step / self._steps, "step": step, "steps": self._steps, "metrics": metrics}
        self._directory.write("progress.json", json.dumps(document).encode())

    def close(self) -> None:
        """Give the scratch directory back."""
        self._writer.close()
        self._scratch.cleanup()
