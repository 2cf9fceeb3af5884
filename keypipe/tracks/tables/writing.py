"""Which formats of tables there are, and several of them written together."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from keypipe.errors import PoseError, needs_extra
from keypipe.files.atomic import replacing_file
from keypipe.tracks.following import TrackedFrame
from keypipe.tracks.tables.deeplabcut import DeepLabCutCsv, DeepLabCutH5
from keypipe.tracks.tables.head import TableHead, TableWriter
from keypipe.tracks.tables.rows import CsvTable, ParquetTable
from keypipe.tracks.tables.sleap import SleapAnalysis

__all__ = ["FORMATS", "Format", "TableHead", "TableWriter", "check_formats", "open_tables"]


class Format(msgspec.Struct, frozen=True):
    """A format of tables.

    Attributes:
        ending: of the file, after the name of the video.
        opener: begins a file.
        needs: packages that write it, and the extra of keypipe's that installs them.
    """

    ending: str
    opener: Callable[[Path, TableHead], TableWriter]
    needs: tuple[tuple[str, str], ...] = ()


FORMATS = {
    "csv": Format(".csv", CsvTable),
    "parquet": Format(".parquet", ParquetTable, (("pyarrow", "log"),)),
    "dlc": Format(".dlc.csv", DeepLabCutCsv),
    "dlc-h5": Format(".dlc.h5", DeepLabCutH5, (("pandas", "dlc"), ("tables", "dlc"))),
    "sleap": Format(".analysis.h5", SleapAnalysis, (("h5py", "sleap"),)),
}
"""What can be written, by name."""


def check_formats(names: Sequence[str]) -> None:
    """Check that tables can be written, before hours of work.

    Raises:
        PoseError: there is no such format, or a package is not installed; says what to do.
    """
    for name in names:
        if name not in FORMATS:
            raise PoseError(f"no table is called {name!r}; there are {', '.join(FORMATS)}")
        for package, extra in FORMATS[name].needs:
            with needs_extra(package, extra):
                importlib.import_module(package)


@contextmanager
def open_tables(paths: dict[str, Path], head: TableHead) -> Iterator[Callable[[TrackedFrame], None]]:
    """Write tables that are there whole when the block ends without an error.

    Args:
        paths: the files, by format.
        head: what is known before the first frame.

    Yields:
        What takes the frames, in order.
    """
    with ExitStack() as files:
        temporary = {name: files.enter_context(replacing_file(path)) for name, path in paths.items()}
        with ExitStack() as writers:
            opened: list[TableWriter] = []
            for name, path in temporary.items():
                writer = FORMATS[name].opener(path, head)
                writers.callback(writer.close)
                opened.append(writer)

            def write(frame: TrackedFrame) -> None:
                for writer in opened:
                    writer.write(frame)

            yield write
