"""What a file is by its content: what is read, and a true name for everything else that is dropped."""

import pytest
from PIL import Image

from contract.errors import InvalidInput
from studio.uploads.file_kinds import sniff_image_format
from tests.support.images import encoded

SMALL = Image.new("RGB", (16, 16), "teal")
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
FOREIGN: dict[str, tuple[bytes, str, str]] = {
    "heic": (HEIC, "HEIC", "PNG or JPEG"),
    "heic named mif1": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC", "PNG or JPEG"),
    "jxl": (b"\xff\x0a" + b"\0" * 20, "JPEG XL", "PNG or JPEG"),
    "jxl in a container": (b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a", "JPEG XL", "PNG or JPEG"),
    "jpeg 2000": (encoded(SMALL, "JPEG2000"), "JPEG 2000", "PNG or JPEG"),
    "svg": (b"<svg xmlns='x'/>", "SVG", "PNG or JPEG"),
    "svg with xml": (b"\xef\xbb\xbf<?xml?>\n<svg/>", "SVG", "PNG"),
    "psd": (b"8BPS\0\1" + b"\0" * 20, "Photoshop", "PNG or JPEG"),
    "xcf": (b"gimp xcf v011", "GIMP", "PNG or JPEG"),
    "tiff": (encoded(SMALL, "TIFF"), "TIFF", "PNG or JPEG"),
    "bmp": (encoded(SMALL, "BMP"), "BMP", "PNG or JPEG"),
    "ico": (encoded(SMALL, "ICO"), "icon", "PNG or JPEG"),
    "gif": (encoded(SMALL, "GIF"), "GIF", "PNG or JPEG"),
    "ppm": (encoded(SMALL, "PPM"), "PNM", "Use PNG"),
    "tga": (encoded(SMALL, "TGA"), "TGA", "PNG or JPEG"),
    "gray tga, packed": (encoded(SMALL.convert("L"), "TGA", rle=True), "TGA", "PNG or JPEG"),
    "cursor": (b"\0\0\2\0\1\0\x20\x20", "a cursor", "Use PNG"),
    "weights": (b'\x40\0\0\0\0\0\0\0{"a":{"dtype":"F32"}}', "model's weights", "Use PNG"),
    "pdf": (b"%PDF-1.7", "PDF", "PNG or JPEG"),
    "eps": (b"%!PS-Adobe", "PostScript", "Use PNG"),
    "cr2": (b"II*\0\x10\0\0\0CR\2\0", "raw photo", "PNG or JPEG"),
    "cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1", "raw photo", "PNG"),
    "raf": (b"FUJIFILMCCD-RAW 0201", "raw photo", "PNG or JPEG"),
    "orf": (b"IIRO\x08\0\0\0", "raw photo", "PNG"),
    "exr": (b"v/1\x01\2\0\0\0", "OpenEXR", "PNG or JPEG"),
    "qoi": (b"qoif\0\0\0\1", "QOI", "PNG or JPEG"),
    "mp4": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", "film", "Use PNG"),
    "mov": (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "film", "Use"),
    "webm": (b"\x1a\x45\xdf\xa3\1\0", "film", "Use PNG"),
    "avi": (b"RIFF\0\0\0\0AVI LIST", "film", "Use PNG"),
    "wav": (b"RIFF\0\0\0\0WAVEfmt ", "sound", "Use PNG"),
    "mp3": (b"ID3\4\0\0", "sound", "Use PNG"),
    "zip": (b"PK\3\4", "ZIP", "Use PNG"),
    "html": (b"  <!doctype html>", "web page", "Use PNG"),
    "json": (b'{"prompt": 1}', "JSON", "Use PNG"),
    "exe": (b"MZ\x90\0", "program", "Use PNG"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1", "git-lfs", "Use PNG"),
    "text": (b"hello there", "format", "Use PNG"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_format_that_is_not_read_is_named_with_what_to_do(name: str) -> None:
    data, words, hint = FOREIGN[name]
    with pytest.raises(InvalidInput) as refused:
        sniff_image_format(data)
    assert words in refused.value.message and hint in refused.value.hint and "not supported" in refused.value.message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_what_pillow_reads_safely_is_known_by_its_content(kind: str) -> None:
    assert sniff_image_format(encoded(SMALL, kind)) == kind
