"""The prediction server, as a real process, answers as the trained model does."""

import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.http_process import ROOT, ServingProcess, random_instances, serving_process, start_serving
from tests.support.training import TrainedModel

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorFlow's own, when a SavedModel is loaded
def test_200_random_instances_are_answered_as_by_the_saved_model(trained: TrainedModel, server: ServingProcess) -> None:
    """LiteRT over HTTP and the SavedModel in TensorFlow agree to 1e-5 lb, Unknown included."""
    import tensorflow as tf

    instances = random_instances(trained.model_dir / "instance_schema.json", 200, seed=2026)
    assert {"Unknown", "True", "False"} == {instance["is_male"] for instance in instances}
    signature = tf.saved_model.load(str(trained.model_dir)).signatures["serving_default"]
    columns = {name: tf.constant([instance[name] for instance in instances]) for name in instances[0]}
    expected = signature(**columns)["weight_pounds"].numpy()
    found = np.array(server.predict(instances).json()["predictions"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert 0 < found.min() < found.max() < 15


def test_the_smoke_rows_are_answered_as_the_trainer_expects(trained: TrainedModel, server: ServingProcess) -> None:
    """The trainer leaves real rows of every category with its own answers; a server of that model gives the same."""
    smoke = json.loads((trained.model_dir / "smoke.json").read_text())
    schema = json.loads((trained.model_dir / "instance_schema.json").read_text())
    for name in ("is_male", "plurality"):
        assert {row[name] for row in smoke["instances"]} == set(schema["properties"][name]["enum"])
    found = server.predict(smoke["instances"]).json()["predictions"]
    np.testing.assert_allclose(found, smoke["predictions"], rtol=0, atol=1e-5)


def test_a_boy_at_term_weighs_what_boys_at_term_weigh(server: ServingProcess) -> None:
    """A readable example: weight rises with gestation, and twins are lighter."""
    boy = {"is_male": "True", "mother_age": 28, "plurality": "Single(1)", "gestation_weeks": 39}
    others = [boy | {"gestation_weeks": 32}, boy | {"plurality": "Twins(2)", "gestation_weeks": 36}]
    at_term, early, twin = server.predict([boy, *others]).json()["predictions"]
    assert 7 < at_term < 8.2
    assert early < 5.5 < at_term
    assert twin < at_term


def test_clients_at_the_same_time_get_their_own_answers(trained: TrainedModel, server: ServingProcess) -> None:
    """Batches of many sizes from eight threads: each answer is that of a lone request."""
    instances = random_instances(trained.model_dir / "instance_schema.json", 2_000, seed=7)
    expected = server.predict(instances).json()["predictions"]
    sizes = [1, 3, 64, 700] * 40

    def ask(number: int) -> bool:
        start, size = number * 7, sizes[number]
        answer = server.predict(instances[start : start + size])
        return bool(np.allclose(answer.json()["predictions"], expected[start : start + size], rtol=0, atol=1e-5))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(len(sizes))))


def test_a_bad_instance_gets_400_and_the_server_goes_on(server: ServingProcess) -> None:
    """The refusal lists the categories that training saw."""
    good = {"is_male": "True", "mother_age": 28, "plurality": "Single(1)", "gestation_weeks": 39}
    answer = server.predict([good, good | {"plurality": "Sextuplets(6)"}])
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("instances[1].plurality is 'Sextuplets(6)'")
    assert '"Twins(2)"' in answer.json()["error"]["message"]
    assert server.predict([good]).status_code == 200


def test_a_body_over_the_limit_gets_413(server: ServingProcess) -> None:
    """1.5 MB, the limit that Vertex AI has."""
    answer = httpx.post(f"{server.url}/predict", content=b" " * 1_500_001)
    assert answer.status_code == 413


def test_answers_do_not_wait_for_acknowledgements(server: ServingProcess) -> None:
    """The listening socket names its protocol, without which asyncio leaves Nagle's algorithm on (44 ms an answer)."""
    good = {"is_male": "True", "mother_age": 28, "plurality": "Single(1)", "gestation_weeks": 39}
    body = json.dumps({"instances": [good]}).encode()
    host, port = server.url.removeprefix("http://").split(":")
    head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    fastest_s = min(_timed_exchange(host, int(port), head, body) for _ in range(5))
    assert fastest_s < 0.03


def _timed_exchange(host: str, port: int, head: bytes, body: bytes) -> float:
    """Second exchange on one connection: the first may be acknowledged at once. Seconds."""
    import time

    with socket.create_connection((host, port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        duration_s = 0.0
        for _ in range(4):
            began_at = time.perf_counter()
            connection.sendall(head + body)
            answer = b""
            while b"]}" not in answer:
                answer += connection.recv(65_536)
            duration_s = time.perf_counter() - began_at
    return duration_s


def test_sigterm_ends_the_server_cleanly(trained: TrainedModel) -> None:
    """Exit code 0, and the port is free again."""
    with serving_process(str(trained.model_dir)) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/health")


def _refusal(server: ServingProcess) -> dict[str, object]:
    assert server.process.wait(60) == 2
    from tests.support.waiting import wait_until

    return wait_until(lambda: server.lines("serving.refused"), 5, "the refusal")[0]


def test_a_missing_model_ends_the_server_with_the_reason(tmp_path: Path) -> None:
    """Exit code 2; the last line names file, place and mend."""
    refusal = _refusal(start_serving(str(tmp_path)))
    assert str(tmp_path / "instance_schema.json") in str(refusal["place"])
    assert "AIP_STORAGE_URI" in str(refusal["mend"])


def test_a_model_that_does_not_fit_its_schema_ends_the_server(trained: TrainedModel, tmp_path: Path) -> None:
    """Files of two exports are not served together, and neither is a torn file."""
    schema = json.loads((trained.model_dir / "instance_schema.json").read_text())
    del schema["properties"]["mother_age"]
    (tmp_path / "instance_schema.json").write_text(json.dumps(schema))
    (tmp_path / "model.tflite").write_bytes((trained.model_dir / "model.tflite").read_bytes())
    assert "mother_age" in str(_refusal(start_serving(str(tmp_path)))["value"])
    (tmp_path / "model.tflite").write_bytes(b"torn")
    assert "model.tflite" in str(_refusal(start_serving(str(tmp_path)))["place"])


def test_a_taken_port_ends_the_server_with_the_reason(server: ServingProcess, trained: TrainedModel) -> None:
    """The address is named."""
    port = server.url.rpartition(":")[2]
    refusal = _refusal(start_serving(str(trained.model_dir), {"AIP_HTTP_PORT": port}))
    assert f"127.0.0.1:{port}" in str(refusal["value"])


def test_the_server_needs_neither_tensorflow_nor_the_bucket_client() -> None:
    """What is not imported costs no time at the start."""
    check = (
        "import sys, serving.__main__; "
        "heavy = {'tensorflow', 'keras', 'pyarrow', 'google.cloud.storage'} & sys.modules.keys(); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
