"""Which formats of images are read, and what those are called that are not."""

from __future__ import annotations

from pathlib import PurePath

from keypipe.errors import AnnotationError

SUFFIXES_BY_FORMAT = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".mpo"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
}
"""The formats that are read, by Pillow's names, with their suffixes, the usual one first."""

IMAGE_SUFFIXES = tuple(dict.fromkeys(suffix for suffixes in SUFFIXES_BY_FORMAT.values() for suffix in suffixes))
"""Suffixes of the images that are read; the bytes say what a file holds."""

_RAW = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef",
    ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip

UNREAD_SUFFIXES = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys(_RAW, "a camera's RAW"),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    **dict.fromkeys((".czi", ".lif", ".lsm", ".nd2", ".oib", ".oif", ".svs", ".vsi"), "a microscope's own"),
    **dict.fromkeys((".fits", ".fit"), "FITS"),
    ".gif": "GIF",
    ".jxl": "JPEG XL",
    ".svg": "SVG",
    ".psd": "PSD",
    ".tga": "TGA",
    ".ico": "ICO",
    ".exr": "OpenEXR",
    ".hdr": "Radiance HDR",
    ".qoi": "QOI",
    ".pcx": "PCX",
}
"""Suffixes of images that are not read, and what their format is called."""

_SIGNATURES = (
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),  # BigTIFF
    (0, b"MM\0+", "TIFF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (4, b"ftypcrx", "a camera's RAW"),
    (0, b"FUJIFILMCCD-RAW", "a camera's RAW"),
    (0, b"IIU\0", "a camera's RAW"),
    (0, b"IIRO", "a camera's RAW"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL \r\n\x87\n", "JPEG XL"),
    (128, b"DICM", "DICOM"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?R", "Radiance HDR"),
    (0, b"%PDF", "PDF"),
)
"""Offset, bytes and format of TIFFs and of files that Pillow alone does not know."""

UNREAD_FIX = "save it as JPEG or PNG, of the same size and under the same stem, and put that beside it"
"""What to do about an image of a format that is not read."""


class UnreadFormatError(AnnotationError):
    """An image of a format that is not read."""

    def __init__(self, image_format: str) -> None:
        """Say which.

        Args:
            image_format: what people call it.
        """
        super().__init__(f"its format, {image_format}, is not read")


def identify(content: bytes) -> str:
    """Return the format that a file's first bytes tell; "" where it is for Pillow to find out.

    Args:
        content: of the file, or its start.
    """
    found = next((name for at, start, name in _SIGNATURES if content.startswith(start, at)), "")
    return "" if found == "HEIC" and b"avif" in content[8:64] else found


def name_unread(name: str) -> str:
    """Return what a file's format is called by its suffix; "" unless it is known as one that is not read."""
    return UNREAD_SUFFIXES.get(PurePath(name).suffix.lower(), "")


def check_suffix(name: str, image_format: str) -> None:
    """Check that a file is what its name says: the thumbnail in a camera's RAW opens as a TIFF.

    Args:
        name: of the file.
        image_format: as its bytes have it.

    Raises:
        UnreadFormatError: it is a TIFF with the suffix of a format that is not read.
    """
    if image_format == "TIFF" and (unread := name_unread(name)):
        raise UnreadFormatError(unread)
