"""Log lines of the server are whole, in order, and never late."""

import asyncio
import io
import logging
import re

import pytest
from tests.support.virtual_time import run_virtual

from hotloop.cli.log_output import HELD_LINES, HELD_S, LineHandler


def logger_to(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("some.part", logging.DEBUG)
    logger.addHandler(handler)
    return logger


def test_a_line_reads_as_the_standard_library_writes_it() -> None:
    ours, theirs = io.StringIO(), io.StringIO()
    plain = logging.StreamHandler(theirs)
    plain.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logger_to(LineHandler(ours))
    logger.addHandler(plain)
    for number in range(3):
        logger.info("turn %d", number)
    assert ours.getvalue() == theirs.getvalue()
    assert re.fullmatch(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO some\.part: turn \d\n){3}", ours.getvalue())


def test_on_the_loop_lines_leave_together_and_in_time() -> None:
    async def main() -> None:
        stream = io.StringIO()
        logger = logger_to(LineHandler(stream))
        logger.info("one")
        logger.info("two")
        assert stream.getvalue() == ""
        await asyncio.sleep(HELD_S * 1.1)
        assert stream.getvalue().count("\n") == 2
        logger.info("three")
        logger.warning("four")
        assert stream.getvalue().count("\n") == 4, "a warning takes along what was held"
        for _ in range(HELD_LINES):
            logger.info("more")
        assert stream.getvalue().count("\n") == 4 + HELD_LINES

    run_virtual(main())


def test_what_is_held_is_written_at_the_end() -> None:
    async def main() -> None:
        logger.info("last words")

    stream = io.StringIO()
    handler = LineHandler(stream)
    logger = logger_to(handler)
    run_virtual(main())
    handler.flush()  # logging.shutdown does
    assert "last words" in stream.getvalue()


def test_a_line_that_cannot_be_made_is_reported_and_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logger_to(LineHandler(io.StringIO()))
    logger.info("%d", "no number")
    assert "Logging error" in capsys.readouterr().err
