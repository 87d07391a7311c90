"""Become another program whose life is tied to the parent's.

Run as a script: `python -I -S launch.py PARENT_PID SIGNAL IDENTITY PROGRAM ARGUMENT...`, standard library only, so that
it costs some 20 ms.  A program of its own, because what it does is not safe between fork and exec of a process that has
threads.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
CLONE_NEWUSER = 0x10000000  # linux/sched.h


def main(arguments: list[str]) -> None:
    """Change identity, ask for a signal at the parent's death, and execute the program."""
    parent, death_signal, identity, *program = arguments
    os.umask(0o077)
    _become(identity)
    if sys.platform == "linux":
        # After the change of identity, which would clear it.
        _call("prctl", PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the parent was gone before its child had started")
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and that would survive exec
        signal.signal(ignored, signal.SIG_DFL)
    os.execv(program[0], program)  # noqa: S606  # the caller's program, without a shell, is the point


def _become(identity: str) -> None:
    if identity == "namespace":
        # Without a mapping, the user is `nobody` in its own eyes and root for the file system.
        _call("unshare", CLONE_NEWUSER)
    elif identity == "nobody":
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)


def _call(function: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        sys.exit(f"{function}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main(sys.argv[1:])
