"""Which failures of a job are worth another attempt.

Pre-emption, a machine that broke, a full zone or a service that was away can end otherwise next time, and so may what we
do not know. A request that the service refuses as such, a missing permission or image, and a program that says itself that
its input is wrong cannot. Sources: google.rpc.Code; `sysexits.h`; Vertex AI writes "The replica workerpool0-0 exited with
a non-zero status of 1", whatever code it gives with it.
"""

import re

_EXIT_STATUS = re.compile(r"exited with (?:a )?(?:non-zero )?(?:exit )?(?:status|code)(?: of| code)?:? ?(\d+)")
# INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED
_FINAL_CODES = frozenset({3, 5, 7, 12, 16})
_EX_USAGE, _EX_CONFIG, _EX_TEMPFAIL = 64, 78, 75
_REFUSED = 2  # our jobs' own "refused, the last log line says why", and what a wrong flag gives everywhere


def is_worth_another_attempt(message: str, code: int = 0) -> bool:
    """Tell whether the same job could succeed when it is run again.

    Args:
        message: the provider's explanation.
        code: google.rpc.Code of the job's error, 0 where there is none.
    """
    exited = _EXIT_STATUS.search(message)
    if exited:
        status = int(exited.group(1))
        if status == _EX_TEMPFAIL:
            return True
        return status != _REFUSED and not _EX_USAGE <= status <= _EX_CONFIG
    return code not in _FINAL_CODES
