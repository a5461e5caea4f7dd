"""The report of a run: its numbers as rows and one self-contained page; it decides nothing and measures nothing new.

`build.build_report` is the way in; `page.external_references` proves that the page needs no network.
"""
