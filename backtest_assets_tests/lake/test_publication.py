import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest_assets.lake.publication import (
    Input,
    Publication,
    StoredFile,
    digest_of,
    pointed_to,
    pointer_to,
    publication_from_json,
    sha256_of,
)
from backtest_assets_tests.lake.shared import AS_OF, MONTH, RUN

text = st.text(max_size=20).filter(lambda value: value.isprintable())
digests = st.binary(max_size=4).map(sha256_of)


@st.composite
def publications(draw):
    sha = draw(digests)
    data = StoredFile(f"{sha}.parquet", sha, draw(st.integers(0, 10**12)))
    names = draw(st.lists(st.sampled_from(["a.html", "b.json", "c.parquet"]), unique=True))
    attachments = tuple(StoredFile(name, draw(digests), draw(st.integers(0, 99))) for name in names)
    return Publication(
        table="bars_um",
        partition=draw(st.sampled_from([MONTH, RUN])),
        publication_id="",
        digest=digest_of(data, attachments),
        n_rows=draw(st.integers(0, 10**9)),
        data=data,
        attachments=attachments,
        schema_version=1,
        code_version=draw(text),
        inputs=tuple(draw(st.lists(st.builds(Input, text, text, text, st.integers(0, 9)), max_size=2))),
        notes=draw(st.dictionaries(text, text, max_size=3)),
        published_at=AS_OF,
        writer=draw(text),
        previous=draw(st.none() | digests),
    ).sealed()


@given(publications())
def test_a_manifest_is_read_back_as_it_was_written(publication):
    assert publication == publication_from_json(publication.to_json())
    assert publication.publication_id == sha256_of(publication.to_json())
    assert publication.publication_id == pointed_to(pointer_to(publication))


@given(publications(), st.data())
def test_a_manifest_with_a_field_missing_added_or_of_another_type_is_refused(publication, data):
    body = json.loads(publication.to_json())
    field = data.draw(st.sampled_from(sorted(body)))
    for edited in (
        {k: v for k, v in body.items() if k != field},
        body | {"extra": 1},
        body | {field: 1.5},
        body | {field: True},
        body | {field: float("nan")},
    ):
        with pytest.raises(ValueError, match=r"missing or wrong|not the canonical JSON"):
            publication_from_json(
                json.dumps(edited, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            )


@given(publications())
def test_a_digest_that_is_not_the_files_digest_is_refused(publication):
    forged = replace(publication, digest=sha256_of(b"forged")).sealed()
    with pytest.raises(ValueError, match="not the digest of the files"):
        publication_from_json(forged.to_json())


@given(publications())
def test_a_data_file_not_named_by_its_content_is_refused(publication):
    forged = replace(publication, data=replace(publication.data, name="../../../etc/passwd")).sealed()
    with pytest.raises(ValueError, match="not named by its content"):
        publication_from_json(forged.to_json())


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"null", b"1", b"\xff", b"{", b'{"table":"a","table":"b"}', b"[" * 100_000]
)
def test_nonsense_is_no_manifest(manifest):
    with pytest.raises(ValueError, match=r".+"):
        publication_from_json(manifest)


def test_a_stored_file_needs_a_digest():
    with pytest.raises(ValueError, match="is not a stored file"):
        StoredFile("x", "../x", 1)
