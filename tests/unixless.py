"""A plugin of pytest (`-p unixless`): Limner's own modules see a Python like that of Windows.

Modules and attributes that exist on Unix only are missing for them, `os.name` is `nt`,
`sys.platform` is `win32`, and there are no files in /proc and /sys. The libraries that Limner uses
have their own branches for each system, and keep the real modules. This hides what is not on
Windows; it cannot show what Windows does otherwise, such as refusing to replace an open file.
"""

import builtins
import ctypes
import sys
import types

MODULES = {
    "crypt", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "readline", "resource",
    "spwd", "syslog", "termios", "tty",
}  # fmt: skip
ATTRIBUTES = {
    "os": {
        "O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "chown",
        "chroot", "confstr", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid",
        "getgroups", "getloadavg", "getpgid", "getpriority", "getsid", "getuid", "getxattr",
        "killpg", "lchown", "mkfifo", "mknod", "nice", "openpty", "pathconf", "pipe2",
        "posix_fadvise", "posix_fallocate", "posix_spawn", "pread", "pwrite", "register_at_fork",
        "sched_getaffinity", "sched_setaffinity", "sched_yield", "sendfile", "setpriority",
        "setsid", "setuid", "statvfs", "sync", "sysconf", "ttyname", "uname", "wait", "wait3",
        "writev",
    },
    "signal": {
        "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGPROF",
        "SIGQUIT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2", "SIGWINCH",
        "SIGXCPU", "SIGXFSZ", "alarm", "getitimer", "pause", "pthread_kill", "pthread_sigmask",
        "setitimer", "siginterrupt", "sigpending", "sigtimedwait", "sigwait", "sigwaitinfo",
    },
    "mmap": {
        "MADV_DONTNEED", "MADV_HUGEPAGE", "MADV_WILLNEED", "MAP_ANON", "MAP_ANONYMOUS",
        "MAP_NORESERVE", "MAP_POPULATE", "MAP_PRIVATE", "MAP_SHARED", "PROT_READ", "PROT_WRITE",
    },
    "select": {"epoll", "poll"},
    "socket": {"AF_UNIX"},
    "time": {"tzset", "clock_gettime"},
    "ctypes": set(),
    "multiprocessing": set(),
    "sys": {"getdlopenflags", "setdlopenflags"},
}  # fmt: skip
REPLACED = {"os": {"name": "nt"}, "sys": {"platform": "win32"}}
UNIX_FILES = ("/proc/", "/sys/", "/dev/shm")


class WindowsLike(types.ModuleType):
    """A module without some attributes; all else is the module's own."""

    def __init__(self, module):
        super().__init__(module.__name__)
        object.__setattr__(self, "_module", module)

    def __getattribute__(self, name):
        module = object.__getattribute__(self, "_module")
        here = module.__name__
        if name in REPLACED.get(here, {}):
            return REPLACED[here][name]
        if name in ATTRIBUTES[here]:
            raise AttributeError(f"module {here!r} has no attribute {name!r} on Windows")
        if here == "ctypes" and name == "CDLL":
            return _Library
        if here == "multiprocessing" and name == "get_context":
            return _context
        return getattr(module, name)

    def __setattr__(self, name, value):
        setattr(object.__getattribute__(self, "_module"), name, value)

    def __delattr__(self, name):
        delattr(object.__getattribute__(self, "_module"), name)


class _Library(ctypes.CDLL):
    def __init__(self, name, *arguments, **settings):
        if name is None:  # the libraries of the process itself
            raise TypeError("CDLL takes a name on Windows")
        super().__init__(name, *arguments, **settings)


def _context(method=None):
    if method not in (None, "spawn"):
        raise ValueError(f"cannot find context for {method!r}")
    return _real_modules["multiprocessing"].get_context("spawn")


def _importing(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if level or importer.partition(".")[0] not in ("limner", "benchmarks"):
        return _import(name, globals, locals, fromlist, level)
    if name.partition(".")[0] in MODULES:
        raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
    module = _import(name, globals, locals, fromlist, level)
    return _likes.get(module.__name__, module)


def _opening(event, arguments):
    """Limner's own code finds no file of Linux."""
    if event != "open" or not str(arguments[0]).startswith(UNIX_FILES):
        return
    frame = sys._getframe(1)
    while frame and frame.f_globals.get("__name__") in ("pathlib", "pathlib._local", "io"):
        frame = frame.f_back
    if frame and frame.f_globals.get("__name__", "").startswith("limner"):
        raise FileNotFoundError(2, "No such file or directory on Windows", str(arguments[0]))


assert "limner" not in sys.modules, "the plugin must come before Limner"
_import = builtins.__import__
_real_modules = {name: _import(name) for name in ATTRIBUTES}
_likes = {name: WindowsLike(module) for name, module in _real_modules.items()}
builtins.__import__ = _importing
sys.addaudithook(_opening)
