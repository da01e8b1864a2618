import io
import os.path as osp
import sys
import time

from dassl.utils.tools import mkdir_if_missing


class Logger(io.TextIOBase):
    """Standard output that is written to a file as well."""

    def __init__(self, fpath: str | None = None):
        self.console = sys.stdout
        self.file = None
        if fpath:
            mkdir_if_missing(osp.dirname(fpath) or ".")
            self.file = open(fpath, "w", buffering=1, encoding="utf-8")  # by lines: a killed run leaves its log

    def write(self, text: str) -> int:
        self.console.write(text)
        if self.file:
            self.file.write(text)
        return len(text)

    def flush(self) -> None:
        self.console.flush()
        if self.file:
            self.file.flush()

    def close(self) -> None:
        """The file only: the console is not ours."""
        if self.file:
            self.file.close()
            self.file = None

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.console.isatty()

    def fileno(self) -> int:
        return self.console.fileno()

    @property
    def encoding(self) -> str:
        return self.console.encoding


def setup_logger(output: str | None = None) -> None:
    """Copy standard output to <output>/log.txt (or the file `output`), or to a dated file where there is one."""
    if output is None:
        return
    path = output if output.endswith((".txt", ".log")) else osp.join(output, "log.txt")
    if osp.exists(path):
        path += time.strftime("-%Y-%m-%d-%H-%M-%S")
    sys.stdout = Logger(path)
