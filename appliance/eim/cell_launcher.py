"""Puts itself into a cell and becomes the program it is given: the step between the camera process and an .eim.

Run by file path, by an unprivileged user, and meant to be quick: it imports what it can't do without. The process
stays the same one all the way, so pid, parent, signals, exit status and memory figures are the program's own.

A cell is three Linux namespaces (man 7 namespaces) that an ordinary user may make:

- *user*: its own user and group mapped to themselves. It gives the right to do the rest; before the program runs every
  capability is given up for good (empty bounding set, no new privileges). A process in it can't look into those
  outside: reading their memory, files or ``/proc/PID/root`` takes CAP_SYS_PTRACE over *their* namespace.
- *mount*: empty, read-only folders lie over what is hidden, and what is kept lies in them again, read-only. ``/dev``
  has five harmless nodes and shared memory: a member of group ``video`` could open the sensor itself.
- *network*: no interface is up, not even loopback, and abstract Unix sockets are out of reach. A Unix socket with a
  path works as ever where its path can be reached.

Why not something else. bubblewrap does the same, but is one more package, and its parent process stays in between.
Landlock isn't compiled into every kernel that we support. A seccomp filter would have to be written by hand for each
processor, and a program without network, capabilities and devices has little left that one could take away; the
filter of the systemd unit stays in force anyway. What a cell does not stop: signals to processes of the same user
(a namespace for process ids would need a fork, and its own pid), filling shared memory, and the processor.

Arguments: REPORT PARENT MEMORY [hide=PATH | keep=PATH | share=PATH]... -- PROGRAM [ARGUMENT]...
REPORT is a descriptor that gets a line, ``in``, once the cell stands, and ``ERRNO WORDS`` after a failure; PARENT the
process without which it must not run; MEMORY bytes of its own memory, 0 for no limit. Without a PROGRAM it makes the
cell and ends. Paths are absolute, without symbolic links.
"""
# os.path, because importing pathlib would take longer than all of this:
# ruff: noqa: PTH103, PTH110, PTH112, PTH120, PTH211

from __future__ import annotations

import ctypes
import os
import resource
import sys

TYPE_CHECKING = False  # typing's own costs more time than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable

FAILED = 125  # its own exit status

# From linux/sched.h, linux/mount.h, linux/fcntl.h and linux/prctl.h; the same on every processor.
_NEW_NAMESPACES = 0x10000000 | 0x00020000 | 0x40000000  # CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID = 1, 2
_SIGKILL = 9  # importing signal takes longer than making a cell
_PR_SET_PDEATHSIG, _PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 23, 24, 38

_NODES = ("null", "zero", "full", "random", "urandom", "shm")
_LINKS = {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
_LIMITS = {
    resource.RLIMIT_CORE: 0,  # a core file would hold the picture that it was asked about
    resource.RLIMIT_NOFILE: 256,
    resource.RLIMIT_NPROC: 64,  # threads too; counted within the cell (Linux 5.14 and later)
}


def main(arguments: list[str]) -> int:
    """Make the cell, become the program; return an exit status if that can't be."""
    cut = arguments.index("--")
    report, parent, memory_bytes = map(int, arguments[:3])
    program = arguments[cut + 1 :]
    os.set_inheritable(report, False)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        _call(libc.prctl, _PR_SET_PDEATHSIG, _SIGKILL)
        if os.getppid() != parent:
            return FAILED
        _write("/proc/self/oom_score_adj", "500")  # should memory run out, it goes before the camera does
        _enter(libc, [tuple(option.split("=", 1)) for option in arguments[3:cut]])
        os.write(report, b"in\n")
        if not program:
            return 0
        _limit(memory_bytes)
        # From here the program looks after itself: this signal comes when a *thread* of the parent ends, too.
        _call(libc.prctl, _PR_SET_PDEATHSIG, 0)
        if os.getppid() != parent:
            return FAILED
        os.execv(program[0], program)
    except OSError as error:
        os.write(report, f"{error.errno} {error.filename or 'system'}: {error.strerror}".encode())
    except AttributeError as error:  # a function that the C library doesn't have
        os.write(report, f"0 the C library is too old: {error}".encode())
    return FAILED


def _enter(libc: ctypes.CDLL, options: list[tuple[str, ...]]) -> None:
    _make_namespaces(libc)
    _hide(libc, options)
    capability = 0
    while libc.prctl(_PR_CAPBSET_READ, ctypes.c_long(capability)) >= 0:  # as many as this kernel knows
        _call(libc.prctl, _PR_CAPBSET_DROP, capability, 0, 0, 0)
        capability += 1
    _call(libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _make_namespaces(libc: ctypes.CDLL) -> None:
    user, group = os.geteuid(), os.getegid()
    _call(libc.unshare, _NEW_NAMESPACES, at="making namespaces")
    _write("/proc/self/setgroups", "deny")  # without this an ordinary user may not map a group
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/gid_map", f"{group} {group} 1")


def _hide(libc: ctypes.CDLL, options: list[tuple[str, ...]]) -> None:
    os.chdir("/")  # a folder one stands in can be seen from inside, whatever is put over it
    # What must be seen is held on to before anything is hidden; outer folders are hidden before inner ones.
    nodes = {f"/dev/{name}": _tree(libc, f"/dev/{name}") for name in _NODES if os.path.exists(f"/dev/{name}")}
    seen = {path: _tree(libc, path, read_only=kind == "keep") for kind, path in options if kind != "hide"}
    hidden = [path for kind, path in options if kind == "hide" and os.path.exists(path)]
    folders = ["/dev", *filter(os.path.isdir, hidden)]
    seen |= {path: _tree(libc, "/dev/null") for path in hidden if path not in folders}
    for path in sorted({*folders, *seen}, key=lambda path: path.count("/")):
        if path in seen:
            _put(libc, seen[path], path)
        elif os.path.isdir(path):  # unless it lies in a hidden one, and is hidden by that
            flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
            _call(libc.mount, b"tmpfs", os.fsencode(path), b"tmpfs", flags, b"size=64k,mode=755", at=path)
    for path, tree in nodes.items():
        _put(libc, tree, path)
    for name, target in _LINKS.items():
        os.symlink(f"/proc/self/{target}", f"/dev/{name}")
    for path in folders:
        if os.path.isdir(path):
            _set_read_only(libc, _AT_FDCWD, path, 0)


def _tree(libc: ctypes.CDLL, path: str, *, read_only: bool = False) -> int:
    """A descriptor of what can be seen at a path now, to be put somewhere later."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    tree = _call(libc.open_tree, _AT_FDCWD, os.fsencode(path), flags, at=path)
    if read_only:
        _set_read_only(libc, tree, "", _AT_EMPTY_PATH | _AT_RECURSIVE)
    return tree


def _put(libc: ctypes.CDLL, tree: int, path: str) -> None:
    if not os.path.exists(path):
        if os.path.isdir(tree):
            os.makedirs(path)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC))
    _call(libc.move_mount, tree, b"", _AT_FDCWD, os.fsencode(path), _MOVE_MOUNT_F_EMPTY_PATH, at=path)
    os.close(tree)


def _set_read_only(libc: ctypes.CDLL, folder: int, path: str, flags: int) -> None:
    wanted = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID)  # struct mount_attr
    _call(libc.mount_setattr, folder, os.fsencode(path), flags, wanted, ctypes.sizeof(wanted), at=path)


def _limit(memory_bytes: int) -> None:
    limits = dict(_LIMITS)
    if memory_bytes:  # RLIMIT_DATA counts what is its own, not what it maps of files or shared memory
        limits[resource.RLIMIT_DATA] = memory_bytes
    for which, wanted in limits.items():
        hard = resource.getrlimit(which)[1]
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(which, (limit, limit))


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), path) from error
    finally:
        os.close(file)


def _call(function: Callable[..., int], *arguments: object, at: str = "") -> int:
    # A plain int would be passed as 32 bits, and some of these take 64.
    result = function(*(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}", at or None)
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
