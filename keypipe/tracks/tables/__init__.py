"""Tables of identities, as people's next tools read them: one module a format."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.tracks.tables.writing import FORMATS, TableHead, TableWriter, open_tables
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(__name__, writing=("FORMATS", "TableHead", "TableWriter", "open_tables"))

__all__ = ["FORMATS", "TableHead", "TableWriter", "open_tables"]
