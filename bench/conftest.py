"""`pytest bench/`: from options to cases, from a case to its record, and the tables at the end."""

# ruff: noqa: E402  # signals come first: the rest takes seconds to import
import sys

from bench import loading

_LOADING = loading.end_in_order("pytest", sys.exit)  # through pytest, which captures what is said, and shows it then

import contextlib
import gc
import time
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from bench import options
from bench.cases import Case
from bench.command import TERMINATED, Terminated, ignore_signals, terminated_in_order
from bench.gate import paired
from bench.lane import Kept, Lane
from bench.meters import allocator
from bench.records import MemoryRecord, Record
from bench.records.shards import Shard, deal
from bench.setup import caveat
from methods.errors import InputError

if TYPE_CHECKING:
    from bench.gate.session import Gate

# What only some runs need is imported where it is used: a list of cases needs no pandas and no world.
# pytest.TerminalReporter is quoted: pytest has the name since 8.4.

ORDER = ("test_memory.py", "test_step_time.py", "test_studies.py", "test_alignment.py", "test_trained_studies.py")
"""What people came for first, and times while nothing else runs."""


@dataclass
class State:
    """What a run of `pytest bench/` knows."""

    cases: options.Cases
    kept: Kept
    gate: "Gate | None"
    engine: Executor | None
    """What does the jobs in place of this machine's processes."""
    share: tuple[int, int] | None = None
    """--shard: which of how many shares is measured."""
    shard: Shard | None = None
    """The same, once the rows of all shares are known."""
    records: list[Record] = field(default_factory=list)
    gate_report: list[str] = field(default_factory=list)
    whole: bool = False
    """Every selected case was tried."""
    terminated: bool = False
    problem: str = ""
    """Why there is no result file."""


STATE = pytest.StashKey[State]()

_LOADING.enter_context(loading.end_in_order("pytest"))  # pytest no longer captures, nor lets a command end in order


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.add_cleanup(_LOADING.close)
    for marker in options.MARKERS:
        config.addinivalue_line("markers", marker)
    try:
        options.check_plugins(config)
        allocator.settings()  # refused here, in a sentence, rather than in every case
        cases = options.cases(config)
        gate = options.memory_gate(config)
        config.stash[STATE] = State(cases, _kept(config), gate, _engine(config), options.shard(config))
    except InputError as error:
        if _collects(config):
            raise pytest.Collector.CollectError(str(error)) from None
        raise pytest.UsageError(str(error)) from None
    if _collects(config):
        _end_in_order(config)


def _collects(config: pytest.Config) -> bool:
    """Whether tests are being collected when this file is found, as with --pyargs, and not before that."""
    return config.pluginmanager.hasplugin("funcmanage")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """From here on pytest ends in order when it is interrupted; before, it would not come to pytest_sessionfinish."""
    _end_in_order(session.config)


def _end_in_order(config: pytest.Config) -> None:
    stack = contextlib.ExitStack()
    stack.enter_context(terminated_in_order())
    config.add_cleanup(stack.close)


def _engine(config: pytest.Config) -> Executor | None:
    address = config.getoption("workers")
    if address is None or config.getoption("collectonly"):
        return None
    from bench.lane import cluster

    stack = contextlib.ExitStack()
    config.add_cleanup(stack.close)
    return stack.enter_context(cluster.connected(address))


def _kept(config: pytest.Config) -> Kept:
    result = None if config.getoption("collectonly") else options.result_file(config)
    if result is None:
        return Kept(None)
    return Kept(result.with_name(result.name + ".partial"), config.getoption("resume"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    chosen = config.stash[STATE].cases.of_file(collection_path.name)
    return True if chosen is not None and not chosen else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        chosen = metafunc.config.stash[STATE].cases.of_file(Path(metafunc.module.__file__).name)
        metafunc.parametrize("case", chosen or [], ids=lambda case: case.id)


@pytest.hookimpl(trylast=True)  # when -m and -k have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    _keep_share(config, items)
    items.sort(key=lambda item: ORDER.index(item.path.name) if item.path.name in ORDER else len(ORDER))
    for item in items:
        if item.path.name == "test_step_time.py":
            clock = ReplayClock()
            item.stash[ReplayClock.KEY] = clock
            item.add_marker(pytest.mark.benchmark(timer=clock))


def _keep_share(config: pytest.Config, items: list[pytest.Function]) -> None:
    """Leaves the cases of this run's share, if it has one."""
    state = config.stash.get(STATE, None)
    if state is None or state.share is None:  # without a state the options were refused
        return
    number, of = state.share
    by_row = {row: item for item in items if (row := _row(item))}
    dealt = deal(by_row, of)
    others = [by_row[row.kind, row.id] for row in dealt if row.shard != number]
    if len(others) == len(dealt):
        most = max((row.shard for row in dealt), default=0)
        raise pytest.UsageError(f"--shard {number}/{of} has no cases: what is chosen makes {most} shares at most")
    state.shard = Shard(number, of, dealt)
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def _row(item: pytest.Function) -> tuple[str, str] | None:
    """As bench.records.shards.row_of gives it of the item's record: a test is named after the kind of its records. None
    of a test that has no case."""
    case: Any = item.callspec.params.get("case") if hasattr(item, "callspec") else None
    ours = item.path.parent == Path(__file__).parent and hasattr(case, "id")
    return (item.originalname.removeprefix("test_"), case.id) if ours else None


class ReplayClock:
    """A timer for pytest-benchmark that shows durations measured earlier, in the interleaved pass."""

    KEY = pytest.StashKey["ReplayClock"]()
    __name__ = "ReplayClock"

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def record(request: pytest.FixtureRequest):
    """case -> its record, measured ahead by worker processes (or kept from the run that is resumed)."""
    config, name = request.config, request.path.name
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and item.path.name == name]
    cases = [item.callspec.params["case"] for item in items]
    state = config.stash[STATE]
    kept = state.cases.kept(name) or state.kept
    say = _teller(config, name.removeprefix("test_").removesuffix(".py").replace("_", " "))
    lane = Lane(kept, say, state.cases.together(name), state.engine)
    try:
        yield state.cases.runs(name, lane, cases).record
    finally:
        lane.close()
        if kept is not state.kept:
            kept.close()
    if name == ORDER[0] and state.records:
        _write_tables(config, state.records)


def _teller(config: pytest.Config, what: str) -> Callable[[str], None]:
    """What shows progress, also within a test, whose output is captured: on a terminal one line that changes, elsewhere
    a line now and then."""
    terminal, capture = map(config.pluginmanager.get_plugin, ("terminalreporter", "capturemanager"))
    if terminal is None or capture is None or terminal.verbosity < 0:
        return lambda line: None
    live = Progress(terminal, what)

    def show(line: str) -> None:
        with capture.global_and_fixture_disabled():
            live.show(line)

    return show


LINE_SECONDS = 15.0


class Progress:
    """How far the work is: on a terminal one line that changes, elsewhere a line now and then."""

    def __init__(self, terminal: "pytest.TerminalReporter", what: str) -> None:
        self._terminal, self._what = terminal, what
        self._shown = 0.0

    def show(self, line: str) -> None:
        text = f"  {self._what}, {line}"
        if self._terminal.isatty:
            self._terminal.rewrite(text, erase=True)
        elif time.monotonic() - self._shown >= LINE_SECONDS:
            self._shown = time.monotonic()
            self._terminal.write_line(text)


@pytest.fixture
def keep(request: pytest.FixtureRequest, benchmark):
    """Puts a record where it belongs: the benchmark's extra_info and the terminal table; then says how it went."""
    from bench.records.make import to_json

    state = request.config.stash[STATE]

    def finish(row: Record) -> None:
        benchmark.extra_info.update(to_json(row))
        state.records.append(row)
        state.kept.add_row(row.kind, row.case.id, to_json(row))
        if row.status == "unavailable":
            pytest.skip(row.reason or "")
        if not row.ok:
            pytest.fail(f"{row.case.id}: {row.status}: {row.reason}", pytrace=False)
        if sentence := paired.slower(row, request.config.getoption("step_time_margin")):
            pytest.fail(sentence, pytrace=False)
        gate = state.gate
        if gate is not None and isinstance(row, MemoryRecord) and (finding := gate.check(row)):
            pytest.fail(f"{finding.outcome}: {finding}", pytrace=False)

    return finish


def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    _STOPPED.append(isinstance(excinfo.value, Terminated))


_STOPPED: list[bool] = []
"""Whether the run was terminated, once it was stopped at all; pytest's hook has no config."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None]:
    """Before pytest-benchmark writes its file and the terminal its summary, neither of which is interrupted."""
    ignore_signals()
    state = session.config.stash[STATE]
    measured = session.config._benchmarksession  # type: ignore[attr-defined]  # pytest-benchmark's
    # One that was interrupted has no data, of which pytest-benchmark can make neither a table nor a file.
    measured.benchmarks[:] = [benchmark for benchmark in measured.benchmarks if benchmark]
    state.terminated = any(_STOPPED)
    if _STOPPED:
        gc.freeze()  # as in bench.command.carry_out
    _STOPPED.clear()
    ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
    state.whole = bool(ended) and not session.shouldstop and not session.shouldfail
    _finish_gate(session, exitstatus)
    if state.terminated:
        session.exitstatus = TERMINATED
    try:
        yield
    except OSError as error:
        state.whole = False
        state.problem = f"cannot write the result: {error.strerror}; free some space, then run again with --resume"
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict) -> None:
    if shard := config.stash[STATE].shard:
        output_json["shard"] = msgspec.to_builtins(shard)


def _finish_gate(session: pytest.Session, exitstatus: int) -> None:
    state = session.config.stash[STATE]
    if state.gate is None or session.config.getoption("collectonly"):
        return
    shard = state.shard
    elsewhere = {row.id for row in shard.rows if row.kind == "memory" and row.shard != shard.number} if shard else set()
    state.gate_report, status = state.gate.finish(state.records, state.whole, elsewhere)
    # A test that failed for another reason, or an abort, keeps pytest's own status.
    if status is not None and state.whole and session.testsfailed == state.gate.failed:
        session.exitstatus = status


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter", config: pytest.Config) -> None:
    state = config.stash[STATE]
    if state.records:
        _write_tables(config, state.records)
        said = (caveat(case) for case in state.cases.memory if isinstance(case, Case))
        for line in dict.fromkeys(filter(None, said)):
            terminalreporter.write_line(line)
    if state.gate_report:
        terminalreporter.section("memory gate")
        for line in state.gate_report:
            terminalreporter.write_line(line)
    if state.problem:
        terminalreporter.write_line(state.problem)
    elif not state.whole and (state.terminated or state.kept.anything):
        what = "terminated" if state.terminated else "the run is not whole"
        mend = f"; what was measured is in {state.kept.path}: the same command with --resume goes on"
        terminalreporter.write_line(f"{what}{mend if state.kept.anything else ''}")


def _write_tables(config: pytest.Config, rows: list[Record]) -> None:
    from bench import tables

    terminal, capture = map(config.pluginmanager.get_plugin, ("terminalreporter", "capturemanager"))
    if terminal is None or capture is None:
        return
    with capture.global_and_fixture_disabled():
        for title, text in tables.for_terminal(rows):
            terminal.ensure_newline()
            terminal.section(title)
            terminal.write_line(text)


def pytest_unconfigure(config: pytest.Config) -> None:
    state = config.stash.get(STATE, None)
    if state is not None:
        if state.whole:
            state.kept.remove()
        state.kept.close()
