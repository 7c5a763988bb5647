"""The program of a spare process: an interpreter that is up before there is a job for it. Run by path, never imported.

It is two processes. The first is what `processes.py` calls the wrapper, and does what the `sh` one does: it takes the order
(from descriptor 3, as `spares.py` writes it), claims the run, lets the job run, writes the exit code. The second, its child
from the beginning, becomes the job: descriptors, directory, environment and arguments are what a process just started would
have, and the program runs as `__main__`. A spare whose service is gone before there is an order ends.

Both are found again by what `/proc` shows of them (see `processes.py`), which is the memory of a process's own first
arguments and environment. So each writes there, over the padding that it was started with, what a process just started would
show; where the system does not let it, it ends before anything is claimed, and the run is started the other way.

Only modules inside the interpreter are imported: the job finds the rest as unloaded as it would in a process of its own.
"""

import _signal  # type: ignore[import-not-found]
import builtins
import marshal
import posix
import sys

_ORDER_FD = 3
_CLAIM_LOST, _NO_DIRECTORY = 125, 126  # as the other wrapper ends
_COERCED = b"LC_CTYPE"  # the interpreter itself sets it, where no locale is set
_REHEARSED = b"1\0NAME=value\0run\0directory\0log\0token\0folder\x001\0python\0program"
_GO = b"g"
_TOKEN = b"LOCALCLOUD_RUN="  # processes.TOKEN_VARIABLE; nothing of ours can be imported under `-S -I`
_FIRST_ARGUMENT = 45  # arg_start in /proc/self/stat, counted behind the name; arg_end, env_start and env_end follow it


def main() -> None:
    """Wait for an order, as the wrapper and, behind it, as the job."""
    if len(posix.listdir("/proc/self/task")) > 1:
        sys.exit(1)  # a package began a thread when the interpreter started: the job's process would be without it
    read_fd, write_fd = posix.pipe()
    job = posix.fork()
    if job == 0:
        posix.close(_ORDER_FD)
        posix.close(write_fd)
        _rehearse()
        _become(read_fd)
    else:
        posix.close(read_fd)
        _wrap(job, write_fd)


def _rehearse() -> None:
    """Do once what will be done when somebody waits for it: the memory is there then, and what can't be done is known."""
    _show(["spare"], "")
    _taken_apart(_REHEARSED)
    exec(marshal.loads(marshal.dumps(compile("import sys", "", "exec"))), {})  # noqa: S102, S302  (our own text)
    with open("/proc/self/stat", "rb") as file:
        file.read()


def _wrap(job: int, write_fd: int) -> None:
    """The wrapper: its exit code is the job's."""
    for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
        _signal.signal(number, lambda _number, _frame: None)  # they reach the whole group; the wrapper lives to write
    _rehearse()
    order = _receive(_ORDER_FD)
    posix.close(_ORDER_FD)
    _tell(write_fd, b"%08d" % len(order) + order)  # it makes itself ready meanwhile
    run, directory, log, token, _, _, argv, _ = _taken_apart(order)
    _show(["job", run, directory, *argv], token)
    try:
        posix.chdir(directory)
    except OSError:
        posix._exit(_NO_DIRECTORY)
    try:
        claim = posix.open(f"{run}/claim", posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL, 0o644)
        posix.write(claim, b"%d\n" % posix.getpid())
        posix.close(claim)
    except OSError:
        posix._exit(_CLAIM_LOST)
    _tell(write_fd, _GO)
    posix.close(write_fd)
    _, status = posix.waitpid(job, 0)
    code = posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else 128 + posix.WTERMSIG(status)
    if posix.WIFSIGNALED(status) and posix.WTERMSIG(status) not in (
        _signal.SIGINT,
        _signal.SIGPIPE,
    ):  # as a shell says it
        _note(log, posix.O_APPEND, _signal.strsignal(posix.WTERMSIG(status)))
    _note(f"{run}/exit", posix.O_CREAT | posix.O_TRUNC, str(code))
    posix._exit(code)


def _note(path: str, flags: int, text: str) -> None:
    """Write a line in one write. On a full disk it is missing; how this process ends says the same to the service."""
    try:
        file = posix.open(path, posix.O_WRONLY | flags, 0o644)
        posix.write(file, f"{text}\n".encode())
        posix.close(file)
    except OSError:
        pass


def _tell(write_fd: int, data: bytes) -> None:
    try:
        posix.write(write_fd, data)
    except BrokenPipeError:  # somebody killed the job's process before it was one: a lost run, which is started again
        posix.kill(posix.getpid(), _signal.SIGKILL)


def _become(read_fd: int) -> None:
    """The job: everything as in a process just started, and, once the run is claimed, the program."""
    _, directory, log, token, imports_from, program, argv, env = _taken_apart(_receive(read_fd))
    _show(argv, token)
    file = posix.open(log, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND, 0o600)
    posix.dup2(file, 1)
    posix.dup2(file, 2)
    posix.close(file)
    posix.chdir(directory)
    for name in list(posix.environ):
        if name != _COERCED:
            posix.unsetenv(name)
            del posix.environ[name]
    for name, value in env.items():
        posix.putenv(name, value)
        posix.environ[name] = value
    sys.orig_argv[:] = argv
    if not sys.flags.safe_path:
        sys.path[0] = imports_from
    main_module = type(sys)("__main__")
    main_module.__dict__.update(__builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main_module
    _exactly(read_fd, len(_GO))
    posix.close(read_fd)
    try:
        if argv[program] == "-m":
            _run_module(argv[program + 1], argv[program + 2 :])
        else:
            _run_script(argv[program], argv[program + 1 :], main_module.__dict__)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  (told as the interpreter tells it, without the frames of this file)
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals is globals():
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        if isinstance(error, KeyboardInterrupt):
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
            posix.kill(posix.getpid(), _signal.SIGINT)
        sys.exit(1)


def _run_module(name: str, arguments: list[str]) -> None:
    """What the interpreter does for `-m`, by the function that it calls itself."""
    sys.argv[:] = ["-m", *arguments]
    import runpy

    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _run_script(path: str, arguments: list[str], names: dict[str, object]) -> None:
    """What the interpreter does for a file."""
    sys.argv[:] = [path, *arguments]
    path = path if path.startswith("/") else f"{posix.getcwd()}/{path}"
    importer = sys.modules["_frozen_importlib_external"]
    with open(path, "rb") as program:
        data = program.read()
    if path.endswith(".pyc"):
        if data[:4] != importer.MAGIC_NUMBER:
            raise RuntimeError("Bad magic number in .pyc file")
        code = marshal.loads(data[16:])  # noqa: S302  (the job's own program, as the interpreter would load it)
        loader = importer.SourcelessFileLoader("__main__", path)
    else:
        code = compile(data, path, "exec", dont_inherit=True)
        loader = importer.SourceFileLoader("__main__", path)
    names.update(__file__=path, __cached__=None, __loader__=loader, __spec__=None, __package__=None, __doc__=None)
    exec(code, names)  # noqa: S102  (the job's own program)


def _show(argv: list[str], token: str) -> None:
    """Show these arguments and this token in /proc; ends the process where that is not possible."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    arg_start, arg_end, env_start, env_end = (int(field) for field in fields[_FIRST_ARGUMENT : _FIRST_ARGUMENT + 4])
    shown = b"".join(part.encode("utf-8", "surrogateescape") + b"\0" for part in argv)
    memory = posix.open("/proc/self/mem", posix.O_RDWR)
    place = posix.pread(memory, env_end - env_start, env_start).index(_TOKEN) + len(_TOKEN)
    posix.pwrite(memory, token.encode() + b"\0", env_start + place)
    posix.pwrite(memory, shown.ljust(arg_end - arg_start, b"\0"), arg_start)
    posix.close(memory)


def _receive(descriptor: int) -> bytes:
    """Wait for an order: eight digits that say its length, then what `spares.py` joins. Reads no byte of what follows."""
    return _exactly(descriptor, int(_exactly(descriptor, 8)))


def _exactly(descriptor: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = posix.read(descriptor, count - len(data))
        if not more:  # the service is gone
            posix._exit(0)
        data += more
    return data


def _taken_apart(order: bytes) -> tuple[str, str, str, str, str, int, list[str], dict[bytes, bytes]]:
    """Run, directory, log, token, where imports come from, place of the program in the arguments; arguments; variables."""
    count, _, rest = order.partition(b"\0")
    parts = rest.split(b"\0")
    texts = [part.decode("utf-8", "surrogateescape") for part in parts[int(count) :]]
    run, directory, log, token, imports_from, program, *argv = texts
    variables = dict(part.split(b"=", 1) for part in parts[: int(count)])
    return run, directory, log, token, imports_from, int(program), argv, variables


if __name__ == "__main__":
    main()
