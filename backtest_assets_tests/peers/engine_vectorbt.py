"""The scenarios' trades as vectorbt makes them; run by the peer's own Python, knows nothing of ours.

    python engine_vectorbt.py QUESTIONS.json ANSWERS.json

Twice: `vectorbt` with one row per bar, as it is used; `vectorbt_two_rows` with a row for the open before the row of the
bar, so that a position entered at the open is watched in the entry bar too. It has no time stop: an exit signal at the
first bar at or after the due one stands in for it.
"""

import json
import sys
from bisect import bisect_left
from pathlib import Path

import numpy as np
import vectorbt as vbt

NAMES = ("open", "high", "low", "close")


def run(asked, rows_per_bar):
    number = asked["bars"]["number"]
    prices = {name: np.repeat(np.array(asked["bars"][name]), rows_per_bar) for name in NAMES}
    opens = np.array(asked["bars"]["open"])
    if rows_per_bar == 2:
        for name in NAMES:
            prices[name][::2] = opens
    n = prices["open"].size
    signals = {name: np.zeros(n, bool) for name in ("entries", "exits", "short_entries", "short_exits")}
    row_of = {bar: i * rows_per_bar for i, bar in enumerate(number)}
    for bar, side in asked["orders"]:
        if bar not in row_of:
            continue
        signals["entries" if side > 0 else "short_entries"][row_of[bar]] = True
        due = bisect_left(number, bar + asked["hold"])
        if due < len(number):
            signals["exits" if side > 0 else "short_exits"][due * rows_per_bar] = True
    portfolio = vbt.Portfolio.from_signals(
        prices["close"], **signals, open=prices["open"], high=prices["high"], low=prices["low"], price=prices["open"],
        size=1.0, init_cash=1e6, fees=asked["fee"], slippage=asked["slippage"], sl_stop=asked["stop"], tp_stop=asked["target"],
        stop_entry_price="price", stop_exit_price="stopmarket", upon_opposite_entry="ignore", accumulate=False, freq="15min",
    )  # fmt: skip
    records = portfolio.trades.values
    paid = records["pnl"] / opens[records["entry_idx"] // rows_per_bar]
    names = ("entry_idx", "direction", "entry_price", "exit_idx", "exit_price", "status")
    columns = [records[name].tolist() for name in names]
    return [
        (
            number[entry // rows_per_bar], 1 - 2 * direction, entry_price,
            number[leave // rows_per_bar] if status else None, exit_price if status else None, net if status else None,
        )
        for entry, direction, entry_price, leave, exit_price, status, net in zip(*columns, paid.tolist(), strict=True)
    ]  # fmt: skip


def main(questions, answers):
    asked = json.loads(Path(questions).read_text())
    told = {
        name: {"version": vbt.__version__, "trades": {one["name"]: run(one, rows) for one in asked}}
        for name, rows in (("vectorbt", 1), ("vectorbt_two_rows", 2))
    }
    Path(answers).write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
