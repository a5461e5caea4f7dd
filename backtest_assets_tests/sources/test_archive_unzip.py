import contextlib
import hashlib
import io
import struct
import zipfile
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest_assets.errors import SourceError
from backtest_assets.sources.archive import unzip
from backtest_assets.sources.archive.layout import daily_file
from backtest_assets.sources.archive.unzip import ChecksumError, read_member, verify_checksum
from backtest_assets.sources.base import Dataset
from backtest_assets_tests.archive_files import checksum_text, member_zip, there, zip_of

FILE = there(daily_file(Dataset.UM_OHLCV, "BTCUSDT", date(2024, 1, 2)))
NAME, MEMBER = FILE.name, f"{FILE.stem}.csv"
CSV = "".join(f"{number},{number * 7919 % 1009}\n" for number in range(2_000)).encode()
ZIP = member_zip(FILE, CSV)


def test_the_one_member_comes_back():
    assert CSV == read_member(ZIP, name=NAME)
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(MEMBER, CSV)
    assert CSV == read_member(stored.getvalue(), name=NAME)


@pytest.mark.parametrize(
    "members",
    [
        [],
        [(MEMBER, CSV), ("extra.csv", CSV)],
        [("../" + MEMBER, CSV)],
        [("/etc/" + MEMBER, CSV)],
        [("sub/" + MEMBER, CSV)],
        [("BTCUSDT-15m-2024-01-03.csv", CSV)],
    ],
)
def test_members_that_are_not_the_one_wanted_are_refused_by_name(members):
    with pytest.raises(SourceError, match=f"{NAME}: holds .* wanted exactly {MEMBER}"):
        read_member(zip_of(members), name=NAME)


def test_a_bomb_is_refused_by_its_size_before_it_is_unpacked(monkeypatch):
    with pytest.raises(SourceError, match="a zip bomb"):
        read_member(member_zip(FILE, bytes(50_000_000)), name=NAME)
    monkeypatch.setattr(unzip, "MEMBER_BYTES_MAX", len(CSV) - 1)
    with pytest.raises(SourceError, match=f"more than {len(CSV) - 1:,}"):
        read_member(ZIP, name=NAME)


def test_a_bomb_whose_header_lies_gets_no_more_room_than_it_asked_for():
    bomb = bytearray(member_zip(FILE, bytes(50_000_000)))
    directory = bomb.rindex(b"PK\x01\x02")
    for at in (22, directory + 24):  # uncompressed size in the local header and in the directory
        bomb[at : at + 4] = struct.pack("<I", 1_000)
    with pytest.raises(SourceError, match="1,001 bytes are not the 1,000"):
        read_member(bytes(bomb), name=NAME)


def test_a_wrong_crc_is_refused():
    content = bytearray(ZIP)
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 16] ^= 0xFF
    with pytest.raises(SourceError, match="is no whole zip"):
        read_member(bytes(content), name=NAME)


def test_an_encrypted_or_strangely_packed_member_is_refused():
    content = bytearray(ZIP)
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(SourceError, match="only plain and deflated"):
        read_member(bytes(content), name=NAME)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(MEMBER, CSV)
    with pytest.raises(SourceError, match="only plain and deflated"):
        read_member(packed.getvalue(), name=NAME)


@given(st.integers(0, len(ZIP) - 1))
def test_a_zip_cut_at_any_byte_is_refused(at):
    with pytest.raises(SourceError, match=f"{NAME}: "):
        read_member(ZIP[:at], name=NAME)


@given(st.integers(0, len(ZIP) - 1), st.integers(1, 255))
def test_a_zip_with_any_byte_changed_is_refused_or_says_the_same(at, change):
    changed = bytearray(ZIP)
    changed[at] ^= change
    with contextlib.suppress(SourceError):
        assert CSV == read_member(bytes(changed), name=NAME)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_zip_are_refused(content):
    with pytest.raises(SourceError, match=f"{NAME}: "):
        read_member(content, name=NAME)


def test_the_exchanges_checksum_holds_with_and_without_a_newline():
    text = checksum_text(ZIP, FILE)
    assert f"{hashlib.sha256(ZIP).hexdigest()}  {NAME}" == text
    for said in (text, f"{text}\n", text.upper().replace(NAME.upper(), NAME)):
        verify_checksum(ZIP, said, name=NAME)  # raises where it does not hold
        with pytest.raises(ChecksumError, match=f"is not {hashlib.sha256(ZIP).hexdigest()} of its .CHECKSUM"):
            verify_checksum(ZIP + b"x", said, name=NAME)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{hashlib.sha256(b'other').hexdigest()}  {NAME}", "is not .* of its .CHECKSUM"),
        (f"{hashlib.sha256(ZIP).hexdigest()}  OTHER.zip", "is about OTHER.zip, not about"),
        (hashlib.sha256(ZIP).hexdigest(), "is not '<sha256>  <file name>'"),
        (f"{'0' * 63}  {NAME}", "is not '<sha256>  <file name>'"),
        ("<html>404</html>", "is not '<sha256>  <file name>'"),
        ("", "is not '<sha256>  <file name>'"),
    ],
)
def test_a_checksum_that_does_not_hold_is_refused(text, why):
    with pytest.raises(ChecksumError, match=why):
        verify_checksum(ZIP, text, name=NAME)
