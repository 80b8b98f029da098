"""One kevy process on a free port of loopback, gone with its block."""
import os
import socket
import subprocess
import tempfile
import time


def free_ports(count):
    """The first of so many free ports in a row, below those that outgoing connections take."""
    for first in range(12_000 + os.getpid() % 10_000, 32_000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            pass
    raise AssertionError("no free ports")


class Kevy:
    def __init__(self, program, shards, *flags):
        self.port = free_ports(1 + shards)
        self.port_base = self.port + 1
        self.directory = tempfile.TemporaryDirectory()
        self.command = [program, "serve", "--port", str(self.port), "--listen-port-base", str(self.port_base), "--shards", str(shards),
                        "--cpus", "off", "--dir", self.directory.name, *(flags or ("--role", "standalone"))]

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        for _ in range(400):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.025)
        self.__exit__(None, None, None)
        raise AssertionError("kevy did not start")

    def __exit__(self, kind, *_):
        ended = self.process.poll()
        self.process.terminate()
        self.process.wait(30)
        if kind or ended is not None:
            self.log.seek(0)
            print(self.log.read().decode(errors="replace")[-4000:])
        self.log.close()
        self.directory.cleanup()
        assert ended is None, f"kevy ended by itself: {ended}"
