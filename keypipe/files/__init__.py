"""Files: people's texts are read, our own are there whole or not at all."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.files.atomic import replacing_file, write_text
    from keypipe.files.texts import check_encoding, decode_text, parse_csv, parse_json
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        atomic=(
            "replacing_file",
            "write_text",
        ),
        texts=(
            "check_encoding",
            "decode_text",
            "parse_csv",
            "parse_json",
        ),
    )

__all__ = [
    "check_encoding",
    "decode_text",
    "parse_csv",
    "parse_json",
    "replacing_file",
    "write_text",
]
