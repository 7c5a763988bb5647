"""Which failures are worth another attempt is told from the provider's code and the program's exit status."""

import pytest

from workers.failures import is_worth_another_attempt

OOM = "The replica workerpool0-0 exited with a non-zero status of 137. Termination reason: OOMKilled."
REFUSED = "The replica workerpool0-0 exited with a non-zero status of 2. Termination reason: Error."


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", 0),
        ("Job was pre-empted", 10),
        ("There are currently insufficient resources in us-central1", 8),
        ("Internal error occurred", 13),
        (OOM, 3),  # Vertex AI gives INVALID_ARGUMENT with whatever the program did
        ("The process exited with status 1.", 0),
        ("The process exited with status 75.", 0),  # EX_TEMPFAIL: "try again later"
        ("The process exited with status 137.\nreading: PERMISSION_DENIED, going on without", 0),  # it was killed
        ("Workflow failed. Causes: The worker lost contact with the service.", 0),
    ],
)
def test_what_can_end_otherwise_is_tried_again(message: str, code: int) -> None:
    """Pre-emption, stockouts, service faults, and what nobody knows the cause of."""
    assert is_worth_another_attempt(message, code)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Image not found", 5),
        ("Permission denied on bucket", 7),
        ("machineType is invalid", 3),
        (REFUSED, 3),
        ("The process exited with status 2.", 0),
        ("The process exited with status 65.", 0),  # EX_DATAERR
        (
            "Workflow failed. Causes: a@b.com does not have storage.objects.get access to the Google Cloud Storage object.",
            0,
        ),
        ("BigQuery job failed: Access Denied: Table p:d.t: User does not have permission to query table p:d.t", 0),
        ("Not found: Table p:d.none was not found in location US", 0),
        ("beam.errors.SourceNotFound: source 'gs://b/none.csv' does not exist; check the name", 0),
        ("The process exited with status 1.\n403 GET: a@b.com does not have serviceusage.services.use access", 0),
    ],
)
def test_what_cannot_succeed_is_not(message: str, code: int) -> None:
    """A refused request, a missing image or permission, a program that says that its input is wrong."""
    assert not is_worth_another_attempt(message, code)
