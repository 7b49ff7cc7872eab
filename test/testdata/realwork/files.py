"""Files as programs use them, in the project and beside it."""
import ctypes
import fcntl
import mmap
import os
import select
import socket
import stat
import struct
import subprocess
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)


def checked(n):
    if n < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return n


def child(f):
    pid = os.fork()
    if pid == 0:
        try:
            f()
        except BaseException as e:
            print(e, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid


def ended(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def locks():
    """flock(2) and POSIX locks exclude another process, on a file of the host's that is opened for writing, and on a new one."""
    for name in ("README.md", "new.lock"):
        f = open(name, "a")
        for lock in (fcntl.flock, fcntl.lockf):
            lock(f, fcntl.LOCK_EX)

            def other():
                try:
                    lock(open(name, "a"), fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return
                raise AssertionError(f"{lock.__name__} of {name} was given to two processes")

            ended(child(other))
            lock(f, fcntl.LOCK_UN)
            ended(child(lambda: lock(open(name, "a"), fcntl.LOCK_EX | fcntl.LOCK_NB)))


def maps():
    """Shared maps are seen by other processes and by read(2), in a file that the host has too."""
    for name in ("README.md", "new.map"):
        with open(name, "a+b") as f:
            f.truncate(8192)
            m = mmap.mmap(f.fileno(), 8192)

            def other():
                with open(name, "r+b") as g:
                    mmap.mmap(g.fileno(), 8192)[4096:4101] = b"child"

            ended(child(other))
            assert m[4096:4101] == b"child"
            m[0:3] = b"abc"
            m.flush()
            assert open(name, "rb").read(3) == b"abc"


def tmpfile():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o644)
    os.write(fd, b"from nowhere")
    os.link(f"/proc/self/fd/{fd}", "linked", src_dir_fd=os.open("/", os.O_RDONLY), follow_symlinks=True)
    assert open("linked").read() == "from nowhere"


class Watcher:
    """inotify(7), as editors and development servers use it."""

    CREATE, MODIFY, DELETE, MOVED_TO = 0x100, 0x2, 0x200, 0x80

    def __init__(self, path):
        self.fd = checked(libc.inotify_init1(os.O_NONBLOCK))
        checked(libc.inotify_add_watch(self.fd, path.encode(), self.CREATE | self.MODIFY | self.DELETE | self.MOVED_TO))
        self.events = []

    def expect(self, mask, name):
        deadline = time.monotonic() + 10
        while not any(m & mask and n == name for m, n in self.events):
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], f"no event {mask:#x} for {name}, only {self.events}"
            data, at = os.read(self.fd, 65536), 0
            while at < len(data):
                _, m, _, n = struct.unpack_from("iIII", data, at)
                self.events.append((m, data[at + 16 : at + 16 + n].rstrip(b"\0").decode()))
                at += 16 + n


def events():
    for path in (".", "src"):
        w = Watcher(path)
        at = lambda name: os.path.join(path, name)
        ended(child(lambda: open(at("made"), "w").write("x")))
        w.expect(w.CREATE, "made")
        w.expect(w.MODIFY, "made")
        ended(child(lambda: os.rename(at("made"), at("moved"))))
        w.expect(w.MOVED_TO, "moved")
        ended(child(lambda: os.unlink(at("moved"))))
        w.expect(w.DELETE, "moved")


def links():
    with open("first", "w") as f:
        f.write("one")
    os.link("first", "second")
    open("second", "a").write(" two")
    assert open("first").read() == "one two" and os.stat("first").st_nlink == 2 and os.path.samefile("first", "second")
    os.unlink("first")
    assert os.stat("second").st_nlink == 1
    os.link("src/main.c", "host-linked")  # a file of the host's
    assert open("host-linked").read() == open("src/main.c").read()


def symlinks():
    os.symlink("src", "to-src")
    os.symlink("nowhere", "dangling")
    os.symlink(os.path.abspath("README.md"), "absolute")
    assert os.path.exists("to-src/main.c") and not os.path.exists("dangling") and os.readlink("dangling") == "nowhere"
    assert os.path.samefile("absolute", "README.md")
    open("to-src/through", "w").close()
    assert os.path.exists("src/through")
    assert os.path.realpath("to-src") == os.path.join(os.getcwd(), "src")


def sparse():
    with open("sparse", "wb") as f:
        f.truncate(1 << 30)
        f.seek(1 << 29)
        f.write(b"island")
    st = os.stat("sparse")
    assert st.st_size == 1 << 30 and st.st_blocks * 512 < 1 << 20, st
    fd = os.open("sparse", os.O_RDONLY)
    at = os.lseek(fd, 0, os.SEEK_DATA)
    assert 0 < at <= 1 << 29, at
    os.posix_fallocate(os.open("allocated", os.O_RDWR | os.O_CREAT), 0, 1 << 20)
    assert os.stat("allocated").st_size == 1 << 20


def fifos():
    os.mkfifo("fifo")

    def other():
        with open("fifo", "w") as f:
            f.write("through")

    pid = child(other)
    assert open("fifo").read() == "through"
    ended(pid)


def sockets():
    for path in ("work.sock", "/tmp/work.sock", "\0work"):
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen()

        def other():
            c = socket.socket(socket.AF_UNIX)
            c.connect(path)
            c.sendall(b"hi")

        pid = child(other)
        assert server.accept()[0].recv(2) == b"hi"
        ended(pid)
    a, b = socket.socketpair()
    r, w = os.pipe()
    socket.send_fds(a, [b"x"], [w])
    os.write(socket.recv_fds(b, 1, 1)[1][0], b"passed")
    assert os.read(r, 6) == b"passed"


def metadata():
    open("meta", "w").close()
    os.chmod("meta", 0o751)
    os.utime("meta", ns=(1, 1_000_000_007))
    st = os.stat("meta")
    assert stat.S_IMODE(st.st_mode) == 0o751 and st.st_mtime_ns == 1_000_000_007
    os.chmod("README.md", 0o755)
    assert os.access("README.md", os.X_OK)
    os.makedirs("deep/er/and/deeper")
    os.chmod("deep", 0o500)
    if os.getuid():
        try:
            open("deep/x", "w")
            raise AssertionError("a directory without the right to write was written to")
        except PermissionError:
            pass
    os.chmod("deep", 0o700)
    os.removedirs("deep/er/and/deeper")
    long = "n" * 255
    open(long, "w").close()
    odd = "a b\n\t'\"$\\ü\udcff"
    open(odd, "w").close()
    assert {long, odd} <= set(os.listdir("."))


def replace():
    """Saving as editors do: a new file, synced, renamed over the host's."""
    with open("src/.main.c.tmp", "w") as f:
        f.write("int main(void) { return 7; }\n")
        f.flush()
        os.fsync(f.fileno())
    os.replace("src/.main.c.tmp", "src/main.c")
    fd = os.open("src", os.O_RDONLY)
    os.fsync(fd)
    assert "7" in open("src/main.c").read() and os.listdir("src").count("main.c") == 1
    exchange = libc.renameat2
    open("x1", "w").write("a")
    open("x2", "w").write("b")
    checked(exchange(-100, b"x1", -100, b"x2", 2))  # RENAME_EXCHANGE
    assert open("x1").read() == "b"
    assert exchange(-100, b"x1", -100, b"x2", 1) == -1  # RENAME_NOREPLACE


def copies():
    subprocess.run(["cp", "-a", "src", "copy"], check=True)
    subprocess.run(["cp", "--reflink=auto", "README.md", "copy/"], check=True)
    subprocess.run("tar cf - src | (mkdir untarred && cd untarred && tar xf -)", shell=True, check=True)
    subprocess.run(["sed", "-i", "s/a/A/", "README.md"], check=True)
    subprocess.run(["diff", "-r", "src", "untarred/src"], check=True)
    a, b = open("copy/README.md", "rb"), open("range", "wb")
    assert os.copy_file_range(a.fileno(), b.fileno(), 5) == 5 and os.sendfile(b.fileno(), a.fileno(), 5, 3) == 3


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print("work-done")
