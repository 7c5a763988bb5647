"""The training loop: batches gathered from columns in memory, evaluations along the way, a state to restart from.

Two runs with the same settings and data agree, also when one of them was interrupted: the order of the examples follows
from the seed and the step alone, never from how often the process was started.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer import logs
from trainer.checkpoint import TrainingState
from trainer.errors import DivergedError, Interrupted
from trainer.evaluate import Predictor, root_mean_square
from trainer.features import Features
from trainer.options import Options

_STEPS_PER_CALL = 256  # enough to hide the cost of a call, few enough that a signal is answered within a second or so
_WARM_UP_STEPS = 50


@dataclass(frozen=True)
class Rows:
    """Features with the label, in the label's unit; all of shape (rows,)."""

    features: Features
    label: npt.NDArray[np.float32]


class ExampleOrder:
    """Which training rows are drawn, in which order.

    Every row is drawn once before any is drawn again, each time in a new order that depends on the seed and on how many
    rounds came before, and on nothing else.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self._rows = rows
        self._seed = seed
        self._round = -1
        self._order = np.empty(0, np.int32)

    def draw(self, start: int, count: int) -> npt.NDArray[np.int32]:
        """Row numbers of the examples `start` to `start + count`; int32, shape (count,)."""
        parts = []
        while count > 0:
            number, position = divmod(start, self._rows)
            parts.append(self._shuffled(number)[position : position + count])
            start += len(parts[-1])
            count -= len(parts[-1])
        return np.concatenate(parts)

    def _shuffled(self, number: int) -> npt.NDArray[np.int32]:
        if number != self._round:
            self._order = np.random.default_rng([self._seed, number]).permutation(self._rows).astype(np.int32)
            self._round = number
        return self._order


def learning_rate_schedule(peak: float, steps: int) -> Any:
    """Rises to `peak` over the first steps (a tenth of all, at most 50), then falls to zero along a cosine."""
    warm_up = min(_WARM_UP_STEPS, steps // 10)
    if warm_up == 0:
        return keras.optimizers.schedules.CosineDecay(peak, decay_steps=steps)
    return keras.optimizers.schedules.CosineDecay(
        peak / warm_up, decay_steps=max(steps - warm_up, 1), warmup_target=peak, warmup_steps=warm_up
    )


class Training:
    """One run of the loop.

    Args:
        predictor: of the same network, in the label's unit.
        mean, deviation: of the label in the training split, in its unit.
        save: called with the state at each evaluation, and when interrupted.
        report: called with the newest evaluation: step, loss, validation_rmse, learning_rate, examples_per_second.
        is_interrupted: asked between calls; when true the state is saved and `Interrupted` raised.
        clock: seconds, for the rate only.
    """

    def __init__(
        self,
        network: keras.Model,
        rows: Rows,
        validation: Rows,
        options: Options,
        *,
        predictor: Predictor,
        mean: float,
        deviation: float,
        save: Callable[[TrainingState], None] = lambda state: None,
        report: Callable[[dict[str, float]], None] = lambda evaluation: None,
        is_interrupted: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._network = network
        self._options = options
        self._validation = validation
        self._save = save
        self._report = report
        self._is_interrupted = is_interrupted
        self._clock = clock
        self._order = ExampleOrder(len(rows.label), options.seed)
        self._predictor = predictor
        self._features = {name: tf.constant(values) for name, values in rows.features.items()}
        self._label = tf.constant(((rows.label - mean) / deviation).astype(np.float32))
        self._schedule = learning_rate_schedule(options.learning_rate, options.steps)
        self._optimizer = keras.optimizers.Adam(self._schedule)
        self._optimizer.build(network.trainable_variables)
        self._run_steps = tf.function(
            self._steps, input_signature=[tf.TensorSpec([None, options.effective_batch_size], tf.int32)]
        )

    def run(self, state: TrainingState | None = None) -> TrainingState:
        """Train from the given state, or from the start, to the last step.

        Returns:
            The last state; its `best_weights` are also set in the network.

        Raises:
            Interrupted: `is_interrupted` said so.
            DivergedError: the loss is not a number any more.
        """
        state = state or TrainingState()
        if state.step:
            self._restore(state)
        for target in self._options.evaluation_steps:
            if target > state.step:
                self._train_until(target, state)
        self._network.set_weights(state.best_weights)
        return state

    def _train_until(self, target: int, state: TrainingState) -> None:
        began_at, began_step = self._clock(), state.step
        losses = []
        while state.step < target:
            if self._is_interrupted():
                self._capture(state)
                self._save(state)
                raise Interrupted
            count = min(_STEPS_PER_CALL, target - state.step)
            losses.append(float(self._run_steps(self._batches(state.step, count))) / count)
            state.step += count
        examples = (state.step - began_step) * self._options.effective_batch_size
        rate = examples / max(self._clock() - began_at, 1e-9)
        self._evaluate(state, loss=losses[-1], rate=rate)

    def _batches(self, step: int, count: int) -> Any:
        size = self._options.effective_batch_size
        return tf.constant(self._order.draw(step * size, count * size).reshape(count, size))

    def _steps(self, batches: Any) -> Any:
        """Traced once. `batches` is int32, shape (steps, batch_size): row numbers. Returns the sum of the losses."""
        total = tf.constant(0.0)
        for step in tf.range(tf.shape(batches)[0]):
            chosen = batches[step]
            features = {name: tf.gather(column, chosen) for name, column in self._features.items()}
            with tf.GradientTape() as tape:
                error = self._network(features, training=True) - tf.gather(self._label, chosen)
                loss = tf.reduce_mean(tf.square(error))
            variables = self._network.trainable_variables
            self._optimizer.apply(tape.gradient(loss, variables), variables)
            total += loss
        return total

    def _evaluate(self, state: TrainingState, *, loss: float, rate: float) -> None:
        predictions = self._predictor.predict(self._validation.features)
        error = root_mean_square(predictions - self._validation.label.astype(np.float64))
        if not (math.isfinite(error) and math.isfinite(loss)):
            raise DivergedError(
                "training diverged",
                value={"loss": loss, "validation_rmse": error, "step": state.step},
                place=f"--learning-rate {self._options.learning_rate}",
                mend="lower the learning rate, or look for extreme values in the dataset",
            )
        is_best = all(error < earlier["validation_rmse"] for earlier in state.evaluations)
        state.evaluations.append(
            {
                "step": state.step,
                "loss": loss,
                "validation_rmse": error,
                "learning_rate": float(self._schedule(state.step)),
                "examples_per_second": round(rate),
            }
        )
        self._capture(state)
        if is_best:
            state.best_weights = state.weights
        self._save(state)
        self._report(state.evaluations[-1])
        logs.info("evaluation.done", steps=self._options.steps, **state.evaluations[-1])

    def _capture(self, state: TrainingState) -> None:
        state.weights = self._network.get_weights()
        state.optimizer = [variable.numpy() for variable in self._optimizer.variables]

    def _restore(self, state: TrainingState) -> None:
        self._network.set_weights(state.weights)
        for variable, value in zip(self._optimizer.variables, state.optimizer, strict=True):
            variable.assign(value)
