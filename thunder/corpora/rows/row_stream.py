"""Open files of rows: digest their bytes, decompress gzip and Zstandard, name files that are of another kind."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import importlib.util
import io
import re
import sys
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from thunder.errors import CorpusError
from thunder.units import format_path

# receives the number of bytes that were read since the last call
Progress = Callable[[int], None]
HEAD = 1 << 16
GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
COMPRESSED_SUFFIXES = (".gz", ".zst")
PARQUET_PACKAGE, ZSTD_PACKAGE = "pyarrow", "backports.zstd"
# first bytes -> the kind of file, and how its rows become a file that is read
FOREIGN: dict[bytes, tuple[str, str]] = {
    b"PK\x03\x04": ("a zip archive, perhaps an Excel workbook", "save the sheet as CSV UTF-8, or unpack the archive"),
    b"ARROW1": ("an Arrow file", "python -c \"import pyarrow.feather as f; f.read_table('{path}').to_pandas()"
                ".to_json('{stem}.jsonl', orient='records', lines=True, force_ascii=False)\""),
    b"version https://git-lfs": ("a Git LFS pointer, not the file itself", "git lfs pull"),
    b"SQLite format 3": ("an SQLite database", "sqlite3 -header -csv {path} 'select * from TABLE' > '{stem}'.csv"),
    b"<!doctype html": ("an HTML page, perhaps a login or error page of a download", "download the file again"),
    b"<html": ("an HTML page, perhaps a login or error page of a download", "download the file again"),
}  # fmt: skip
UTF16 = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class RowStream:
    """The decompressed bytes of one file; the digest and size are those of the file, complete after `finish`.

    head: the first bytes, at most HEAD; they are still to be read from `stream`.
    """

    def __init__(self, path: Path, raw: io.FileIO, progress: Progress | None = None) -> None:
        self.path = path
        self._bytes = _DigestingBytes(raw, progress)
        self.stream: Any = _decompressed(path, io.BufferedReader(self._bytes, HEAD))
        self.head: bytes = self.stream.peek(HEAD)[:HEAD]
        self._refuse_foreign_file()

    @property
    def bytes(self) -> int:
        """Bytes of the file that were read."""
        return self._bytes.count

    @property
    def kind(self) -> str:
        """The suffix of the file without that of its compression, such as '.csv'."""
        name = self.path.name.lower()
        for suffix in COMPRESSED_SUFFIXES:
            name = name.removesuffix(suffix)
        return Path(name).suffix

    def finish(self) -> str:
        """Read what is left of the file, and return the SHA-256 of all of its bytes."""
        while self._bytes.read(HEAD):
            pass
        self._bytes.report()
        return self._bytes.digest.hexdigest()

    def _refuse_foreign_file(self) -> None:
        """Raise CorpusError where the first bytes show another encoding or kind of file."""
        name = format_path(self.path)
        if encoding := _wide_encoding(self.head):
            fix = f"iconv -f {encoding} -t UTF-8 {name} > {self._new_name()}"
            raise CorpusError(f"{self.path}: is {encoding}, not UTF-8", fix=fix)
        lower = self.head.lstrip()[:64].lower()
        for first_bytes, (kind, fix) in FOREIGN.items():
            if self.head.startswith(first_bytes) or lower.startswith(first_bytes):
                raise CorpusError(f"{self.path}: is {kind}", fix=fix.format(path=name, stem=self.path.stem))
        if self.kind not in (".csv", ".tsv") and b"\n" not in self.head and b"\r" in self.head.strip():
            raise CorpusError(
                f"{self.path}: its line ends are CR (old Mac), not LF",
                fix=f"tr '\\r' '\\n' < {name} > {self._new_name()}",
            )

    def _new_name(self) -> str:
        return format_path(self.path.with_name(f"{self.path.stem}-utf8{self.path.suffix}"))


class _DigestingBytes(io.RawIOBase):
    """The bytes of a file, digested and counted as they are read."""

    def __init__(self, raw: io.FileIO, progress: Progress | None) -> None:
        self._raw, self._progress, self._reported = raw, progress, 0
        self.digest, self.count = hashlib.sha256(), 0

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; return the number of bytes."""
        size = self._raw.readinto(buffer)
        self.digest.update(memoryview(buffer)[:size])
        self.count += size
        if self.count - self._reported >= HEAD:
            self.report()
        return size

    def report(self) -> None:
        """Tell the progress."""
        if self._progress and self.count > self._reported:
            self._progress(self.count - self._reported)
        self._reported = self.count


@contextmanager
def open_rows(path: Path, progress: Progress | None = None) -> Generator[RowStream]:
    """Open a file of rows. Raises CorpusError where it cannot be read, is damaged, or is of another kind."""
    try:
        with path.open("rb", buffering=0) as raw:
            yield RowStream(path, raw, progress)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        _damaged(path, str(error))
    except OSError as error:
        unreadable_error(path, error)
    except Exception as error:
        if type(error).__name__ == "ZstdError":  # of a module that is imported only where it is needed
            _damaged(path, str(error))
        raise


def unreadable_error(path: Path, error: OSError) -> NoReturn:
    """Raise the CorpusError for a file that cannot be opened or read."""
    reason = "is a folder, not a file of rows" if path.is_dir() else error.strerror or str(error)
    raise CorpusError(f"{path}: {reason}", fix="give the path of a JSONL file") from None


def _damaged(path: Path, reason: str) -> NoReturn:
    raise CorpusError(f"{path}: is damaged or cut off: {reason}", fix="copy the file again") from None


def _decompressed(path: Path, stream: io.BufferedReader) -> Any:
    first = stream.peek(4)[:4]
    if first.startswith(GZIP):
        return gzip.GzipFile(fileobj=stream)
    if first != ZSTD:
        return stream
    for module in ("compression.zstd", ZSTD_PACKAGE):
        try:
            return importlib.import_module(module).ZstdFile(stream)
        except ImportError:
            continue
    raise CorpusError(
        f"{path}: is Zstandard, which this Python reads only with the package {ZSTD_PACKAGE}",
        fix=f"zstd -d {format_path(path)}, or {install_command(ZSTD_PACKAGE)}",
    )


def install_command(package: str) -> str:
    """The command that installs a package into this environment, which uv makes without pip."""
    python = format_path(Path(sys.executable))
    has_pip = importlib.util.find_spec("pip") is not None
    return f"{python} -m pip install {package}" if has_pip else f"uv pip install --python {python} {package}"


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 by the byte order mark, or by the zero bytes of ASCII text without one; else None."""
    for mark, encoding in UTF16.items():
        if head.startswith(mark):
            return encoding
    for zeros, encoding in ((head[1:64:2], "UTF-16LE"), (head[0:64:2], "UTF-16BE")):
        if len(zeros) > 3 and not re.search(rb"[^\x00]", zeros[:4]):
            return encoding
    return None
