"""Signals: which are answered, by what, and what is put back."""

import os
import signal
import threading

import pytest

from tinygan.interruption import SIGNALS, handled, noted, stop


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def unchanged():
    """Whatever a test does, the handlers of the test runner are back at its end."""
    before = [signal.getsignal(n) for n in SIGNALS]
    yield
    assert [signal.getsignal(n) for n in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted(number):
    with noted() as found:
        assert found.signal is None
        send(number)
        assert found.signal == number


def test_only_a_second_ctrl_c_stops_at_once():
    with noted() as found:
        send(*SIGNALS[1:], *SIGNALS[1:])
        assert found.signal == SIGNALS[1]
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


@pytest.mark.parametrize("number", SIGNALS)
def test_stop_raises_an_exception_with_its_number(number):
    with pytest.raises(KeyboardInterrupt) as error, handled(stop):
        send(number)
    assert error.value.args == (number,)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with noted() as found:
            send(signal.SIGHUP)
            assert found.signal is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_sets_no_handlers_and_fails_at_nothing():
    result = []

    def work():
        with noted() as found:
            result.append([signal.getsignal(n) for n in SIGNALS])
            result.append(found.signal)

    before = [signal.getsignal(n) for n in SIGNALS]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert result == [before, None]


def test_blocks_can_be_nested():
    with handled(stop), noted() as found:
        send(signal.SIGTERM)
        assert found.signal == signal.SIGTERM
