"""The one member of an archive file, checked against everything a zip can hide; nothing is ever written to disk."""

import hashlib
import io
import re
import struct
import zipfile
import zlib
from typing import Final

from backtest_assets.errors import SourceError

MEMBER_BYTES_MAX: Final = 512 * 2**20
"""Largest member [bytes]; a month of 1m klines has 7 MB, a day of metrics 20 kB."""

EXPANSION_MAX: Final = 100
"""Largest uncompressed / compressed ratio; real files have 2 to 4, and 1,032 is the most that deflate can do."""

_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
_ENCRYPTED: Final = 0x1
_CHECKSUM: Final = re.compile(r"([0-9a-fA-F]{64}) [ *]([^\s/\\]+)\s*")


class ChecksumError(SourceError):
    """A file's bytes are not the ones that the exchange's checksum names; fetch it again."""


def verify_checksum(content: bytes, checksum_text: str, *, name: str) -> None:
    """Hold a file against the exchange's `.CHECKSUM` text, `<sha256>  <file name>`.

    Args:
        content: the file's bytes.
        checksum_text: what the `.CHECKSUM` file says.
        name: the file's own name, `.zip` included.

    Raises:
        ChecksumError: if the text is malformed, is about another file, or names another digest.
    """
    verify_digest(hashlib.sha256(content).hexdigest(), checksum_text, name=name)


def verify_digest(digest: str, checksum_text: str, *, name: str) -> None:
    """Hold a file's SHA-256 in hex against the exchange's `.CHECKSUM` text; else as `verify_checksum`.

    Raises:
        ChecksumError: if the text is malformed, is about another file, or names another digest.
    """
    match = _CHECKSUM.fullmatch(checksum_text)
    if match is None:
        message = f"{name}.CHECKSUM: {checksum_text[:80]!r} is not '<sha256>  <file name>'; fetch it again"
        raise ChecksumError(message)
    if match[2] != name:
        message = f"{name}.CHECKSUM: is about {match[2]}, not about {name}; fetch it again"
        raise ChecksumError(message)
    if digest != match[1].lower():
        message = f"{name}: its SHA-256 {digest} is not {match[1].lower()} of its .CHECKSUM; fetch both again"
        raise ChecksumError(message)


def read_member(content: bytes, *, name: str) -> bytes:
    """Return the bytes of a zip's one CSV member.

    Args:
        content: the zip's bytes.
        name: the file's own name, `.zip` included; the member must be called the same with `.csv`.

    Raises:
        SourceError: if the zip is damaged, encrypted or truncated, has not exactly one member, the member has another
            name, or it is larger than `MEMBER_BYTES_MAX` or `EXPANSION_MAX` allow.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            member = _only_member(archive.infolist(), name)
        return _unpack(member, _packed(content, member), name=name)
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError) as error:
        message = f"{name}: is no whole zip ({error or type(error).__name__}); fetch it again"
        raise SourceError(message) from error


def _only_member(members: list[zipfile.ZipInfo], name: str) -> zipfile.ZipInfo:
    wanted = f"{name.removesuffix('.zip')}.csv"
    if [member.filename for member in members] != [wanted]:
        shown = ", ".join(repr(member.filename) for member in members[:3]) or "nothing"
        message = f"{name}: holds {shown} ({len(members)} members), wanted exactly {wanted}; fetch it again"
        raise SourceError(message)
    return members[0]


def _packed(content: bytes, member: zipfile.ZipInfo) -> memoryview:
    start = member.header_offset + _LOCAL_HEADER.size
    signature, n_name, n_extra = _LOCAL_HEADER.unpack_from(content, member.header_offset)
    name = content[start : start + n_name]
    packed = memoryview(content)[start + n_name + n_extra :][: member.compress_size]
    if signature != b"PK\x03\x04" or name != member.filename.encode() or len(packed) != member.compress_size:
        message = "its directory and its member do not agree"
        raise zipfile.BadZipFile(message)
    return packed


def _unpack(member: zipfile.ZipInfo, packed: memoryview, *, name: str) -> bytes:
    if member.flag_bits & _ENCRYPTED or member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        message = (
            f"method {member.compress_type}, flags {member.flag_bits:#x}: only plain and deflated members are read"
        )
        raise zipfile.BadZipFile(message)
    limit = min(MEMBER_BYTES_MAX, EXPANSION_MAX * max(len(packed), 1))
    if member.file_size > limit:
        message = f"{name}: would unpack to {member.file_size:,} bytes, more than {limit:,}; a zip bomb, no file of the archive"
        raise SourceError(message)
    unpacked, is_whole = bytes(packed), True
    if member.compress_type == zipfile.ZIP_DEFLATED:
        # The header's size may lie, so the stream gets room for that and one byte more; zipfile's reader takes half as long again.
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        unpacked = stream.decompress(packed, member.file_size + 1)
        is_whole = stream.eof
    if not is_whole or len(unpacked) != member.file_size or zlib.crc32(unpacked) != member.CRC:
        message = f"the member's {len(unpacked):,} bytes are not the {member.file_size:,} of its CRC {member.CRC:08x}"
        raise zipfile.BadZipFile(message)
    return unpacked
