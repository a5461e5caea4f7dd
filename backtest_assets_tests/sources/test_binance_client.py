import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from backtest_assets.errors import SettingsError, SourceError
from backtest_assets.sources.binance.client import CONCURRENCY, Client, RefusedRequestError
from backtest_assets.sources.binance.urls import BinanceUrls
from backtest_assets_tests.exchange import QUICK, exchange
from backtest_assets_tests.exchange_faults import Reset, SlowDrip, Status

INFO = "/fapi/v1/exchangeInfo"


def ask(ex, *, n=1, path=INFO, patience=QUICK, bytes_max=10**6):
    async def work() -> list[Any]:
        async with Client(patience) as client:
            questions = [client.get(f"{ex.base}{path}", bytes_max=bytes_max) for _ in range(n)]
            return await asyncio.gather(*questions, return_exceptions=True)

    return asyncio.run(work())


def only(answers):
    (answer,) = answers
    if isinstance(answer, BaseException):
        raise answer
    return answer


def timed(work):
    started = time.monotonic()
    return work(), time.monotonic() - started


def test_an_answer_has_its_body_and_the_hosts_clock():
    with exchange(date=datetime(2024, 3, 5, 1, 2, 3, tzinfo=UTC)) as ex:
        reply = only(ask(ex))
        assert (reply.status, reply.content[:1], reply.served_at) == (200, b"{", ex.date)


def test_what_is_not_there_is_an_answer_and_is_asked_once():
    with exchange() as ex:
        assert only(ask(ex, path="/data/nothing.zip")).status == 404
        assert len(ex.log) == 1


@pytest.mark.parametrize("fault", [Status(INFO, 500, times=2), Status(INFO, 503, times=1), Reset(INFO, times=2)])
def test_passing_trouble_is_retried(fault):
    with exchange(faults=[fault]) as ex:
        assert only(ask(ex)).status == 200


def test_lasting_trouble_ends_after_the_attempts_and_says_what_to_do():
    with exchange(faults=[Status(INFO, 500)]) as ex:
        with pytest.raises(
            SourceError, match=r"exchangeInfo: no answer in up to 3 attempts, at last status 500; check the network"
        ):
            only(ask(ex))
        assert len(ex.log) == QUICK.attempts


def test_a_host_that_is_not_there_is_named():
    with exchange() as ex:
        base = ex.base
    ex.base = base
    with pytest.raises(SourceError, match=r"at last ConnectError.*BACKTEST_BINANCE_\*_URL"):
        only(ask(ex))


def test_a_slow_drip_ends_although_each_byte_comes_in_time():
    patience = replace(QUICK, total_s=0.4, attempts=2)
    with exchange(faults=[SlowDrip(INFO)]) as ex:
        with pytest.raises(SourceError, match="TimeoutError"):
            only(ask(ex, patience=patience))
        assert len(ex.log) == 2


@pytest.mark.parametrize("status", [429, 418])
def test_a_pause_that_the_host_asks_for_is_kept_by_every_request_to_it(status):
    async def work(ex) -> list[Any]:
        async with Client(QUICK) as client:
            refused = asyncio.create_task(client.get(f"{ex.base}{INFO}", bytes_max=10**6))
            while not ex.log:  # noqa: ASYNC110  # the log is of another thread and wakes nobody
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)  # for the answer to arrive: what is under way before is nobody's fault
            others = [client.get(f"{ex.base}{INFO}", bytes_max=10**6) for _ in range(CONCURRENCY + 3)]
            return await asyncio.gather(refused, *others)

    with exchange(faults=[Status(INFO, status, times=1, Retry_After="1")]) as ex:
        answers = asyncio.run(work(ex))
        refused, *later = ex.log
        assert ([200] * 12, status, 12) == ([answer.status for answer in answers], refused.status, len(later))
        assert all(one.at - refused.at >= 0.95 for one in later)


def test_a_pause_may_be_given_as_a_date_on_the_hosts_own_clock():
    now = datetime(2024, 3, 5, 12, tzinfo=UTC)
    until = format_datetime(now + timedelta(seconds=1), usegmt=True)
    with exchange(date=now, faults=[Status(INFO, 429, times=1, Retry_After=until)]) as ex:
        reply, took_s = timed(lambda: only(ask(ex)))
        assert reply.status == 200
        assert 0.95 <= took_s < 3


def test_a_pause_longer_than_our_patience_is_an_error_that_says_how_long():
    with exchange(faults=[Status(INFO, 418, Retry_After="7200")]) as ex:
        with pytest.raises(
            RefusedRequestError, match=r"status 418, the host asks for a pause of 7,200 s; run again after it"
        ):
            only(ask(ex))
        assert len(ex.log) == 1


@pytest.mark.parametrize(
    ("status", "advice"),
    [(400, "check symbol and base URL"), (403, "set BACKTEST_BINANCE"), (451, "to a mirror"), (301, "redirects to")],
)
def test_what_another_attempt_would_not_change_is_asked_once(status, advice):
    with exchange(faults=[Status(INFO, status, body=b"no", Location="http://elsewhere.test/")]) as ex:
        with pytest.raises(RefusedRequestError, match=rf"status {status} .*{advice}"):
            only(ask(ex))
        assert len(ex.log) == 1


def test_an_answer_larger_than_allowed_is_not_read_on():
    with exchange() as ex, pytest.raises(SourceError, match="answers with more than 10 bytes"):
        only(ask(ex, bytes_max=10))


def test_no_more_than_eight_requests_are_open_at_once():
    with exchange(delay_s=0.1) as ex:
        ask(ex, n=40)
        assert ex.most_at_once == CONCURRENCY


def test_a_used_up_weight_makes_the_host_wait():
    with exchange(used_weight=1_800) as ex:
        _, took_s = timed(lambda: ask(ex, n=CONCURRENCY + 1))
        assert took_s >= QUICK.weight_pause_s


def test_a_host_that_is_down_is_not_asked_for_every_file():
    with exchange(faults=[Status("", 500)]) as ex:
        patience = replace(QUICK, lost_in_a_row=8)
        answers = ask(ex, n=100, patience=patience)
        assert all(isinstance(answer, SourceError) for answer in answers)
        assert "not asked any more" in str(answers[-1])
        assert len(ex.log) <= 2 * QUICK.attempts * CONCURRENCY


@pytest.mark.parametrize(
    "given", ["", "ftp://x", "https://", "https://user:secret@x", "https://x?y=1", "https://x y", "https://x:99999"]
)
def test_a_base_url_that_cannot_be_one_is_refused_by_its_setting(given):
    with pytest.raises(SettingsError, match="BACKTEST_BINANCE_UM_API_URL"):
        BinanceUrls(um_api=given)


def test_a_trailing_slash_and_a_path_in_a_base_url_are_fine():
    assert BinanceUrls(archive="http://mirror.test/binance/").archive == "http://mirror.test/binance"
