from backtest_assets.defs import code_version as module
from backtest_assets.defs.code_version import _PACKAGE, code_version
from backtest_assets.stages import Stage
from backtest_assets.tables.registry import TABLES


def files_behind(stage: Stage, monkeypatch) -> set[str]:
    """Watch which files the digest reads."""
    read: set[str] = set()

    class Spy:
        def update(self, data: bytes) -> None:
            read.add(data.split(b"\0")[0].decode())

        def hexdigest(self) -> str:
            return "0" * 64

    module._of_stage.cache_clear()
    monkeypatch.setattr(module.hashlib, "sha256", Spy)
    module._of_stage(stage)
    monkeypatch.undo()
    module._of_stage.cache_clear()
    return read


def test_what_a_stage_imports_counts_and_what_comes_later_does_not(monkeypatch):
    read = files_behind(Stage.HYPOTHESES, monkeypatch)
    assert {
        "research/events/conditions.py",
        "stats/bootstrap.py",
        "domain/cost.py",
        "gates/ask.py",
        "tables/hypotheses.py",
    } <= read
    assert not [
        name for name in read if name.startswith(("research/simulation", "research/report", "sources", "cli", "lake"))
    ]


def test_raw_counts_its_sources_and_the_report_its_page(monkeypatch):
    assert "sources/files/parse.py" in files_behind(Stage.RAW, monkeypatch)
    assert "research/report/page.html" in files_behind(Stage.REPORT, monkeypatch)


def test_every_module_that_judges_a_tables_rows_counts(monkeypatch):
    read = files_behind(Stage.BARS, monkeypatch)
    assert {f"gates/{name}.py" for name in ("bars", "settlements", "positioning", "coverage", "rows", "prices")} <= read
    assert "sources/merge.py" in read
    assert "gates/universe.py" in files_behind(Stage.FEATURES, monkeypatch)


def test_every_table_has_a_version_and_every_file_named_exists():
    for table in TABLES.values():
        assert len(code_version(table)) == 16
        assert (_PACKAGE / "defs" / "assets" / f"{table.stage.value}.py").exists()
