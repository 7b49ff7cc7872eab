"""Directories that come from the host are renamed while other processes read them: each file is there as it was, or not there, never half."""
import hashlib
import multiprocessing
import os
import sys

HOMES = ["busy", "moved"]  # the directory is at one of them


def digests(root):
    return {
        os.path.relpath(os.path.join(d, f), root): hashlib.sha256(open(os.path.join(d, f), "rb").read()).hexdigest()
        for d, _, files in os.walk(root)
        for f in files
    }


def read(want, stop, begun, wrong, seen):
    while not stop.is_set():
        for name, digest in want.items():
            for home in HOMES:
                try:
                    with open(os.path.join(home, name), "rb") as f:
                        if hashlib.sha256(f.read()).hexdigest() != digest:
                            wrong.put(f"{home}/{name} has other bytes")
                            return
                        seen.value += 1
                except FileNotFoundError:
                    pass
                except OSError as e:
                    wrong.put(f"{home}/{name}: {e}")
                    return
        begun.set()


def main():
    want = digests("busy")
    assert len(want) > 300, len(want)
    name = next(iter(want))
    held = open(os.path.join("busy", name), "rb")
    here = os.open("busy", os.O_RDONLY)
    stop, wrong = multiprocessing.Event(), multiprocessing.Queue()
    readers = []
    for _ in range(2):
        begun, seen = multiprocessing.Event(), multiprocessing.Value("i", 0)
        p = multiprocessing.Process(target=read, args=(want, stop, begun, wrong, seen))
        p.start()
        assert begun.wait(20)
        readers.append((p, seen))
    for i in range(20):
        os.rename(HOMES[i % 2], HOMES[(i + 1) % 2])
    stop.set()
    for p, seen in readers:
        p.join(20)
        assert p.exitcode == 0, p.exitcode
        assert seen.value > 0
    assert wrong.empty(), wrong.get()
    assert digests("busy") == want, "the files are not what they were"
    assert hashlib.sha256(held.read()).hexdigest() == want[name], "an open file reads other bytes"
    assert os.fstat(here).st_ino, "an open directory is gone"
    left = [d for d in os.listdir(".") if d.startswith(".casemate")]
    assert not left, left
    # A directory with another process's working directory in it, and one given by a descriptor.
    os.mkdir("to")
    os.chdir("to")
    os.rename("../busy/sub", "./sub")
    assert len(digests("sub")) == sum(1 for n in want if n.startswith("sub/"))
    print("work-done")


sys.exit(main())
