import shutil
from pathlib import Path

import pytest

from backtest_assets.domain.market import Partition
from backtest_assets.errors import LakeError, TamperedError
from backtest_assets.lake.store import Lake
from backtest_assets_tests.lake.shared import RUN, publish_run, version_read

FOLDER = Path("lake/research_run/run_id=123")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def append(path):
    path.write_bytes(path.read_bytes() + b"\n")


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def files_of(root, publication):
    folder = root / FOLDER
    return {
        "data": folder / "data" / publication.data.name,
        "attachment": folder / "data" / f"{publication.attachments[0].sha256}.html",
        "manifest": folder / "manifests" / f"{publication.publication_id}.json",
        "pointer": folder / "current.json",
    }


@pytest.mark.parametrize("harm", [flip, truncate, empty, append, Path.unlink])
@pytest.mark.parametrize("which", ["data", "attachment", "manifest", "pointer"])
def test_any_harm_to_any_file_is_seen_and_mended_by_materialising_again(tmp_path, which, harm):
    lake = Lake(tmp_path)
    publish_run(lake, 1)
    publication = publish_run(lake, 2)
    path = files_of(tmp_path, publication)[which]
    path.chmod(0o644)
    harm(path)
    if (which, harm) == ("pointer", Path.unlink):
        assert lake.current("research_run", RUN) is None  # nothing is published, so nothing can be read
    else:
        with pytest.raises(
            TamperedError, match=r"research_run run_id=123: .*; materialise this partition again"
        ) as refusal:
            version_read(lake)
        # A pointer that still looks like one names a manifest that is not there.
        assert str(path if which != "pointer" else tmp_path / FOLDER) in str(refusal.value)
    mended = publish_run(lake, 2)
    assert version_read(lake) == 2
    if which == "manifest":
        assert "repaired" in mended.notes
        assert mended.previous is None
    assert (mended,) == lake.history("research_run", RUN)[:1]


@pytest.mark.parametrize("which", ["data", "attachment", "manifest"])
def test_a_file_replaced_by_its_own_older_copy_is_seen(tmp_path, which):
    lake = Lake(tmp_path)
    old, new = publish_run(lake, 1), publish_run(lake, 2)
    files_of(tmp_path, new)[which].unlink()
    shutil.copy2(files_of(tmp_path, old)[which], files_of(tmp_path, new)[which])
    with pytest.raises(TamperedError):
        version_read(lake)


def test_a_pointer_put_back_is_told_by_the_publication_id(tmp_path):
    lake = Lake(tmp_path)
    old = publish_run(lake, 1)
    pointer = (tmp_path / FOLDER / "current.json").read_bytes()
    new = publish_run(lake, 2)
    (tmp_path / FOLDER / "current.json").write_bytes(pointer)
    # What lies there is a whole older version: only the caller knows that a newer one was recorded.
    assert old == lake.current("research_run", RUN)
    assert new.publication_id != old.publication_id


def test_a_pointer_of_another_partition_is_seen(tmp_path):
    lake = Lake(tmp_path)
    publish_run(lake, 1)
    publish_run(lake, 2, Partition.of_run("other"))
    shutil.copy2(tmp_path / "lake/research_run/run_id=other/current.json", tmp_path / FOLDER / "current.json")
    with pytest.raises(TamperedError, match="is missing"):
        lake.current("research_run", RUN)
    shutil.copytree(
        tmp_path / "lake/research_run/run_id=other/manifests", tmp_path / FOLDER / "manifests", dirs_exist_ok=True
    )
    with pytest.raises(TamperedError, match=r"was swapped: it belongs to research_run run_id=other"):
        lake.current("research_run", RUN)


def test_a_whole_partition_copied_elsewhere_is_seen(tmp_path):
    lake = Lake(tmp_path)
    publish_run(lake, 1)
    shutil.copytree(tmp_path / FOLDER, tmp_path / "lake/research_run/run_id=copy")
    with pytest.raises(TamperedError, match="was swapped"):
        lake.current("research_run", Partition.of_run("copy"))


@pytest.mark.parametrize(
    "pointer",
    [b"", b"null", b"[" * 100_000, b'{"publication_id":"../../x"}', b'{"publication_id":1}', b"\xff\xfe", b"{}"],
)
def test_a_pointer_of_nonsense_is_refused(tmp_path, pointer):
    lake = Lake(tmp_path)
    publish_run(lake, 1)
    (tmp_path / FOLDER / "current.json").write_bytes(pointer)
    with pytest.raises(TamperedError, match="it is not a pointer"):
        lake.current("research_run", RUN)
    assert "repaired" in publish_run(lake, 2).notes
    assert version_read(lake) == 2


def test_an_edited_link_of_the_chain_is_seen_in_the_history(tmp_path):
    lake = Lake(tmp_path)
    old = publish_run(lake, 1)
    publish_run(lake, 2)
    files_of(tmp_path, old)["manifest"].chmod(0o644)
    flip(files_of(tmp_path, old)["manifest"])
    assert version_read(lake) == 2
    with pytest.raises(TamperedError):
        lake.history("research_run", RUN)


@pytest.mark.parametrize("which", ["data", "manifest", "pointer"])
def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path, which):
    lake = Lake(tmp_path)
    path = files_of(tmp_path, publish_run(lake, 1))[which]
    replace_by_folder(path)
    with pytest.raises(LakeError, match=str(path)):
        version_read(lake)
