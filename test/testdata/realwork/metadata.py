# Modes, times, owners and attributes of files of one's own, by every call and name there is. Whatever is not as it should be ends it.
import ctypes, errno, os, stat, sys, tempfile

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, EMPTY, NOFOLLOW, O_PATH = -100, 0x1000, 0x100, 0o10000000


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def refused(want, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except OSError as e:
        assert e.errno in want, (call, arguments, e)
        return
    raise AssertionError(("went through", call, arguments))


def calls():
    here = os.getcwd()
    os.makedirs("m/sub")
    open("m/f", "w").close()
    os.symlink("f", "m/relative")
    os.symlink(here + "/m/f", "m/absolute")
    os.symlink(here + "/m", "m/sub/back")
    os.symlink("absolute", "m/twice")
    names = ["m/f", "./m//f", here + "/m/f", here + "/m/sub/../f", "m/sub/../f", "m/relative", "m/absolute", "m/twice", "m/sub/back/f", "m/sub/back/sub/back/absolute", "/proc/self/cwd/m/f"]
    for i, name in enumerate(names[:-1]):
        os.chmod(name, 0o600 | i)
        assert mode("m/f") == 0o600 | i, name
        os.utime(name, ns=(i, 1_000_000_007 + i))
        assert os.stat("m/f").st_mtime_ns == 1_000_000_007 + i, name
    os.chdir("m/sub")
    os.chmod("../f", 0o611)
    os.chmod(".", 0o711)
    os.chdir(here)
    assert mode("m/f") == 0o611 and mode("m/sub") == 0o711
    d = os.open("m", os.O_RDONLY)
    os.chmod("f", 0o612, dir_fd=d)
    os.utime("f", ns=(5, 6), dir_fd=d)
    os.chmod("sub/../f", 0o613, dir_fd=d)
    assert mode("m/f") == 0o613 and os.stat("m/f").st_mtime_ns == 6
    os.chmod(d, 0o750)
    assert mode("m") == 0o750
    for flags in os.O_RDONLY, os.O_RDWR, O_PATH:
        fd = os.open("m/f", flags)
        for name in f"/proc/self/fd/{fd}", f"/proc/{os.getpid()}/fd/{fd}", f"/dev/fd/{fd}", f"/proc/thread-self/fd/{fd}":
            os.chmod("m/f", 0o600)
            os.chmod(name, 0o640)
            assert mode("m/f") == 0o640, (flags, name)
            os.utime(name, ns=(7, 8))
            assert os.stat("m/f").st_mtime_ns == 8
        if flags != O_PATH:
            os.fchmod(fd, 0o604)
            os.utime(fd, ns=(9, 10))
            os.fchown(fd, -1, os.getgid())
            assert mode("m/f") == 0o604 and os.stat("m/f").st_mtime_ns == 10
            os.utime(fd)
            assert os.stat("m/f").st_mtime > 1e9
        os.close(fd)
    os.chmod(f"/proc/self/fd/{d}/f", 0o602)
    assert mode("m/f") == 0o602
    os.utime("m/relative", ns=(11, 12), follow_symlinks=False)
    assert os.lstat("m/relative").st_mtime_ns == 12 and os.stat("m/f").st_mtime_ns != 12
    os.utime("m/absolute", ns=(13, 14), follow_symlinks=False)
    assert os.lstat("m/absolute").st_mtime_ns == 14
    os.chown("m/f", os.getuid(), os.getgid())
    os.lchown("m/absolute", -1, -1)
    # Files without a name.
    with tempfile.TemporaryFile() as t:
        os.fchmod(t.fileno(), 0o640)
        assert stat.S_IMODE(os.fstat(t.fileno()).st_mode) == 0o640
    fd = os.open("m", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.fchmod(fd, 0o644)
    assert mode(fd) == 0o644
    # What C libraries do for fchmodat with flags, and by number what older ones do.
    if os.uname().machine == "x86_64":
        assert libc.syscall(452, AT_FDCWD, b"m/f", 0o666, 0) == 0 and mode("m/f") == 0o666
        assert libc.syscall(452, fd, b"", 0o600, EMPTY) == 0 and mode(fd) == 0o600
        assert libc.syscall(90, b"m/f", 0o601) == 0 and mode("m/f") == 0o601
        both = (ctypes.c_long * 4)(15, 16, 17, 18)
        assert libc.syscall(132, b"m/f", both) == 0 and os.stat("m/f").st_mtime == 16
        assert libc.syscall(235, b"m/f", both) == 0 and os.stat("m/f").st_mtime_ns == 17_000_018_000
        assert libc.syscall(261, d, b"f", None) == 0 and os.stat("m/f").st_mtime > 1e9
        assert libc.syscall(90, 1, 0o601) == -1 and ctypes.get_errno() == errno.EFAULT
    # Errors are the kernel's.
    refused([errno.ENOENT], os.chmod, "m/none", 0o600)
    refused([errno.ENOTDIR], os.chmod, "m/f/x", 0o600)
    refused([errno.ENOENT], os.chmod, "", 0o600)
    os.symlink("loop", "m/loop")
    refused([errno.ELOOP], os.chmod, "m/loop", 0o600)
    refused([errno.EBADF], os.fchmod, 999, 0o600)
    refused([errno.ENAMETOOLONG], os.chmod, "n" * 256, 0o600)
    # Set-user-ID never; set-group-ID on directories only.
    refused([errno.EPERM], os.chmod, "m/f", 0o4755)
    os.chmod("m/f", 0o2755)
    assert mode("m/f") == 0o755
    os.chmod("m/sub", 0o2755)
    assert mode("m/sub") == 0o2755
    refused([errno.ENOTSUP], os.setxattr, "m/f", "user.x", b"1")
    refused([errno.EPERM], os.chown, "m/f", 0, 0)
    print("work-done")


# Files of the user's that may be read and not changed, also by descriptors and through links of one's own.
def outside(path):
    base, dir = os.path.basename(path), os.path.dirname(path)
    before = os.stat(path)
    no = [errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOTSUP]
    read, name, d = os.open(path, os.O_RDONLY), os.open(path, O_PATH), os.open(dir, os.O_RDONLY)
    os.symlink(path, "link")
    os.symlink(dir, "dirlink")
    os.symlink(os.path.relpath(path), "uplink")
    refused(no, os.fchmod, read, 0o777)
    refused(no, os.utime, read, ns=(1, 1))
    refused(no, os.fchown, read, os.getuid(), -1)
    refused(no, os.setxattr, read, "user.x", b"1")
    refused(no, os.chmod, base, 0o777, dir_fd=d)
    refused(no, os.utime, base, ns=(1, 1), dir_fd=d)
    for p in path, "link", "dirlink/" + base, "uplink", os.path.relpath(path), f"/proc/self/fd/{read}", f"/proc/self/fd/{name}", f"/dev/fd/{read}", f"/proc/self/fd/{d}/{base}", "/proc/self/root" + path:
        refused(no, os.chmod, p, 0o777)
        refused(no, os.utime, p, ns=(1, 1))
        refused(no, os.utime, p)
        refused(no, os.chown, p, os.getuid(), -1)
        refused(no, os.setxattr, p, "user.x", b"1")
    refused(no, os.chmod, dir, 0o777)
    refused(no + [errno.EXDEV], os.link, path, "hard")
    refused(no + [errno.EXDEV], os.link, f"/proc/self/fd/{read}", "hard", follow_symlinks=True)
    refused(no + [errno.EXDEV], os.rename, path, "moved")
    os.chdir(dir)
    refused(no, os.chmod, base, 0o777)
    refused(no, os.utime, base, ns=(1, 1))
    after = os.stat(path)
    assert (before.st_mode, before.st_mtime_ns, before.st_ctime_ns) == (after.st_mode, after.st_mtime_ns, after.st_ctime_ns)
    print("work-done")


if sys.argv[1] == "calls":
    calls()
else:
    outside(sys.argv[2])
