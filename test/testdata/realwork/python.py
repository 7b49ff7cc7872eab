"""What Python programs ask of the system besides reading and writing: workers, shared memory, a database used by two processes."""
import concurrent.futures
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import zipfile
from multiprocessing import shared_memory


def square(n):
    return n * n


def pool():
    with multiprocessing.Pool(4) as p:
        assert p.map(square, range(500)) == [n * n for n in range(500)]


def spawned():
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as e:
        assert sum(e.map(square, range(20))) == 2470


def put(q, n):
    q.put("x" * n)


def queue():
    q = multiprocessing.Queue()
    ps = [multiprocessing.Process(target=put, args=(q, n)) for n in (1, 100_000, 1_000_000)]
    for p in ps:
        p.start()
    assert sorted(len(q.get(timeout=30)) for _ in ps) == [1, 100_000, 1_000_000]
    for p in ps:
        p.join(30)


def fill(name):
    m = shared_memory.SharedMemory(name=name)
    m.buf[:5] = b"hello"
    m.close()


def shared():
    m = shared_memory.SharedMemory(create=True, size=1 << 20)
    p = multiprocessing.Process(target=fill, args=(m.name,))
    p.start()
    p.join(30)
    assert bytes(m.buf[:5]) == b"hello"
    m.close()
    m.unlink()


def threads():
    lock, count = threading.Lock(), []

    def work():
        for _ in range(1000):
            with lock:
                count.append(1)

    ts = [threading.Thread(target=work) for _ in range(8)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    assert len(count) == 8000


def insert(path, who):
    db = sqlite3.connect(path, timeout=30, isolation_level=None)
    for i in range(100):
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t VALUES (?, ?)", (who, i))
        db.execute("COMMIT")
    db.close()


def database(path):
    db = sqlite3.connect(path, timeout=30, isolation_level=None)
    assert db.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    db.execute("CREATE TABLE IF NOT EXISTS t (who TEXT, i INTEGER)")
    before = db.execute("SELECT count(*) FROM t").fetchone()[0]
    ps = [multiprocessing.Process(target=insert, args=(path, who)) for who in "ab"]
    for p in ps:
        p.start()
    while any(p.is_alive() for p in ps):  # a reader beside the writers sees whole transactions
        db.execute("SELECT count(*) FROM t").fetchone()
    for p in ps:
        p.join(60)
        assert p.exitcode == 0, p.exitcode
    assert db.execute("SELECT count(*) FROM t").fetchone()[0] == before + 200
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert os.path.exists(path + "-wal") and os.path.exists(path + "-shm")
    db.close()


def sqlite_of_the_host():
    assert sqlite3.connect("host.db").execute("SELECT count(*) FROM t").fetchone() == (3,)
    database("host.db")


def sqlite_new():
    database("new.db")


def processes():
    out = subprocess.run(["sh", "-c", "echo $((6*7)); exit 3"], capture_output=True, text=True)
    assert (out.stdout, out.returncode) == ("42\n", 3), out


def wheel():
    with zipfile.ZipFile("toy-1.0-py3-none-any.whl", "w") as z:
        z.writestr("toy.py", "def main():\n    print('toy runs')\n")
        z.writestr("toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        z.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr("toy-1.0.dist-info/entry_points.txt", "[console_scripts]\ntoy = toy:main\n")
        z.writestr("toy-1.0.dist-info/RECORD", "toy.py,,\n")


def venv():
    subprocess.run([sys.executable, "-m", "venv", "env"], check=True)
    out = subprocess.run(["env/bin/python", "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == os.path.realpath("env"), out.stdout
    wheel()
    subprocess.run(["env/bin/pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "./toy-1.0-py3-none-any.whl"], check=True)
    out = subprocess.run(["env/bin/toy"], capture_output=True, text=True, check=True)
    assert out.stdout == "toy runs\n", out


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print("work-done")
