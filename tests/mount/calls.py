"""The system calls that the agents make, by name; what they return can be compared.

Descriptors are known by the number that the caller gives them, since the
numbers of the kernel may differ between two processes.
"""

import ctypes
import fcntl
import mmap
import os
import stat

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
SECOND = 10**9

WHOLE = 128 * 1024
"""Up to this size a file is read whole."""
_FAR = (2**32 - 4096, 16384)
_LAST = 8192

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


def _timespecs(*values):
    """Return times in nanoseconds for utimensat(2); "now" and "omit" are its special values."""
    special = {"now": (0, UTIME_NOW), "omit": (0, UTIME_OMIT)}
    return (_Timespec * 2)(*(special.get(each) or divmod(each, SECOND) for each in values))


def content(fd, size):
    """Return the parts of a file that anything is ever written to."""
    if size <= WHOLE:
        return os.pread(fd, WHOLE, 0)
    parts = [(0, WHOLE), _FAR, (size - _LAST, _LAST)]
    return [os.pread(fd, length, offset) for offset, length in parts]


def facts(info):
    """Return what of a stat result must be the same in both worlds."""
    return {
        "mode": oct(info.st_mode),
        "nlink": info.st_nlink,
        "uid": info.st_uid,
        "gid": info.st_gid,
        "rdev": info.st_rdev,
        "size": None if stat.S_ISDIR(info.st_mode) else info.st_size,
    }


def _mappable(fd):
    """Return how much of a file to map; to map what is no regular file fails with any length."""
    info = os.fstat(fd)
    return min(info.st_size, WHOLE) if stat.S_ISREG(info.st_mode) else 1


def times(info):
    """Return the times of a stat result by name."""
    return {"atime": info.st_atime_ns, "mtime": info.st_mtime_ns, "ctime": info.st_ctime_ns}


class Calls:
    """System calls as methods, and the descriptors they work on."""

    def __init__(self):
        self._fds = {}

    def inspect(self):
        """Return of each descriptor what fstat and others say, and the content of nameless files."""
        found = {}
        for slot, fd in self._fds.items():
            info = os.fstat(fd)
            seen = facts(info)
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            seen["flags"] = oct(flags)
            if stat.S_ISREG(info.st_mode) and not flags & os.O_PATH:
                seen["position"] = os.lseek(fd, 0, os.SEEK_CUR)
                if info.st_nlink == 0 and flags & os.O_ACCMODE != os.O_WRONLY:
                    seen["content"] = content(fd, info.st_size)
            found[slot] = (info.st_ino, seen, times(info), times(os.fstat(fd)))
        return found

    # -- descriptors ---------------------------------------------------------------

    def open(self, slot, path, flags, mode):
        self._fds[slot] = os.open(path, flags, mode)

    def close(self, slot):
        os.close(self._fds.pop(slot))

    def dup(self, slot, new):
        self._fds[new] = os.dup(self._fds[slot])

    def read(self, slot, count):
        return os.read(self._fds[slot], count)

    def pread(self, slot, count, offset):
        return os.pread(self._fds[slot], count, offset)

    def write(self, slot, data):
        return os.write(self._fds[slot], data)

    def pwrite(self, slot, data, offset):
        return os.pwrite(self._fds[slot], data, offset)

    def lseek(self, slot, offset, whence):
        fd = self._fds[slot]
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            offset, whence = 0, os.SEEK_SET  # other positions are what the file system likes
        return os.lseek(fd, offset, whence)

    def ftruncate(self, slot, size):
        os.ftruncate(self._fds[slot], size)

    def fsync(self, slot):
        os.fsync(self._fds[slot])

    def fdatasync(self, slot):
        os.fdatasync(self._fds[slot])

    def fstat(self, slot):
        return facts(os.fstat(self._fds[slot]))

    def fchmod(self, slot, mode):
        os.fchmod(self._fds[slot], mode)

    def fchown(self, slot, uid, gid):
        os.fchown(self._fds[slot], uid, gid)

    def futimens(self, slot, atime, mtime):
        self._checked(_libc.futimens(self._fds[slot], _timespecs(atime, mtime)))

    def flistdir(self, slot):
        return sorted(os.listdir(self._fds[slot]))

    def fchdir(self, slot):
        os.fchdir(self._fds[slot])

    def map_read(self, slot):
        fd = self._fds[slot]
        with mmap.mmap(fd, _mappable(fd), prot=mmap.PROT_READ) as view:
            return view[:]

    def map_write(self, slot, data, offset):
        fd = self._fds[slot]
        length = _mappable(fd)
        with mmap.mmap(fd, length) as view:
            end = min(offset + len(data), length)
            view[min(offset, end) : end] = data[: max(end - offset, 0)]
            view.flush()

    def flock(self, slot, operation):
        fcntl.flock(self._fds[slot], operation)

    def lockf(self, slot, operation, length, start):
        fcntl.lockf(self._fds[slot], operation, length, start)

    def copy_file_range(self, source, target, count, offset_source, offset_target):
        fds = self._fds[source], self._fds[target]
        return os.copy_file_range(*fds, count, offset_source, offset_target)

    def sendfile(self, target, source, offset, count):
        return os.sendfile(self._fds[target], self._fds[source], offset, count)

    def fsetxattr(self, slot, name, value, flags):
        os.setxattr(self._fds[slot], name, value, flags)

    def fgetxattr(self, slot, name):
        return os.getxattr(self._fds[slot], name)

    def flistxattr(self, slot):
        return sorted(os.listxattr(self._fds[slot]))

    def fremovexattr(self, slot, name):
        os.removexattr(self._fds[slot], name)

    # -- paths -----------------------------------------------------------------------

    def chdir(self, path):
        os.chdir(path)

    def getcwd(self):
        return os.getcwd()

    def listdir(self, path):
        return sorted(os.listdir(path))

    def stat(self, path):
        return facts(os.stat(path))

    def lstat(self, path):
        return facts(os.lstat(path))

    def access(self, path, mode):
        return os.access(path, mode)

    def truncate(self, path, size):
        os.truncate(path, size)

    def mkdir(self, path, mode):
        os.mkdir(path, mode)

    def rmdir(self, path):
        os.rmdir(path)

    def unlink(self, path):
        os.unlink(path)

    def rename(self, old, new):
        os.rename(old, new)

    def renameat2(self, old, new, flags):
        paths = os.fsencode(old), os.fsencode(new)
        self._checked(_libc.renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], flags))

    def link(self, old, new, follow):
        os.link(old, new, follow_symlinks=follow)

    def symlink(self, target, path):
        os.symlink(target, path)

    def readlink(self, path):
        return os.readlink(path)

    def mknod(self, path, mode, device):
        os.mknod(path, mode, device)

    def chmod(self, path, mode):
        os.chmod(path, mode)

    def chown(self, path, uid, gid):
        os.chown(path, uid, gid)

    def lchown(self, path, uid, gid):
        os.lchown(path, uid, gid)

    def utimensat(self, path, atime, mtime, follow):
        flags = 0 if follow else AT_SYMLINK_NOFOLLOW
        pair = _timespecs(atime, mtime)
        self._checked(_libc.utimensat(AT_FDCWD, os.fsencode(path), pair, flags))

    def setxattr(self, path, name, value, flags, follow):
        os.setxattr(path, name, value, flags, follow_symlinks=follow)

    def getxattr(self, path, name, follow):
        return os.getxattr(path, name, follow_symlinks=follow)

    def listxattr(self, path, follow):
        return sorted(os.listxattr(path, follow_symlinks=follow))

    def removexattr(self, path, name, follow):
        os.removexattr(path, name, follow_symlinks=follow)

    # -- helpers ---------------------------------------------------------------------

    @staticmethod
    def _checked(result):
        if result == -1:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
