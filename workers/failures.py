"""Which failures of a job are worth another attempt.

Pre-emption, a machine that broke, a full zone or a service that was away can end otherwise next time, and so may what we
do not know. A request that the service refuses as such, a missing permission, image or source, and a program that says
itself that its input is wrong cannot. Sources: google.rpc.Code; `sysexits.h`; Vertex AI writes "The replica workerpool0-0
exited with a non-zero status of 1", whatever code it gives with it; Dataflow gives no code and no exit status at all, only
the texts of its messages.
"""

import re

_EXIT_STATUS = re.compile(r"exited with (?:a )?(?:non-zero )?(?:exit )?(?:status|code)(?: of| code)?:? ?(\d+)")
# INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED
_FINAL_CODES = frozenset({3, 5, 7, 12, 16})
_EX_USAGE, _EX_CONFIG, _EX_TEMPFAIL = 64, 78, 75
_REFUSED = 2  # our jobs' own "refused, the last log line says why", and what a wrong flag gives everywhere
_UNSPECIFIC = 1  # what a program ends with whatever went wrong
# What Google's services write where a permission or the thing itself is missing, and our own Beam job where its input is.
_FINAL_TEXT = re.compile(
    r"does not have (?:[\w.]+ (?:access|permission)|permission)"
    r"|PERMISSION_DENIED|Permission '[^']+' denied|Permission denied (?:on|for) resource|Access Denied: "
    r"|Not found: (?:Project|Dataset|Table) |The specified bucket does not exist|No such object: "
    r"|\b(?:BadFlag|SourceNotFound|UnsupportedSource|MissingColumns|EmptySource|NoGoodRows): "
)


def is_worth_another_attempt(message: str, code: int = 0) -> bool:
    """Tell whether the same job could succeed when it is run again.

    Args:
        message: the provider's explanation.
        code: google.rpc.Code of the job's error, 0 where there is none.
    """
    exited = _EXIT_STATUS.search(message)
    if exited is None:
        return code not in _FINAL_CODES and not _FINAL_TEXT.search(message)
    status = int(exited.group(1))
    if status == _UNSPECIFIC:
        return not _FINAL_TEXT.search(message)
    return status == _EX_TEMPFAIL or (status != _REFUSED and not _EX_USAGE <= status <= _EX_CONFIG)
