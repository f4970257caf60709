"""`pytest bench/`: options, the workers behind the tests, the journal, and the tables at the end."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import journal, options, record, step_time
from bench.cases import Case
from bench.gate import paired
from bench.meters import allocator
from bench.reward_cases import RewardCase
from bench.runner import Pool
from methods.errors import InputError

if TYPE_CHECKING:
    from bench.alignment.benchmark import AlignmentCase
    from bench.gate.session import Gate

# bench.tables and bench.alignment are imported where they are used: pandas and the embedded world take a while, and a
# list of cases or a refused option needs neither.

RECORDS = pytest.StashKey[list[dict]]()
JOURNAL = pytest.StashKey[journal.Journal]()
MEMORY = pytest.StashKey[list[Case | RewardCase]]()
TIMED = pytest.StashKey[list[Case | RewardCase]]()
ALIGNED: "pytest.StashKey[list[AlignmentCase]]" = pytest.StashKey()
STUDIES = pytest.StashKey[list[str]]()
CASES: dict[str, pytest.StashKey] = {"case": MEMORY, "timed_case": TIMED, "alignment_case": ALIGNED, "study": STUDIES}
"""Whose cases each fixture takes."""
ONLY_WHERE_CHOSEN: dict[str, pytest.StashKey] = {
    "test_alignment.py": ALIGNED,
    "test_studies.py": ALIGNED,
    "test_trained_studies.py": STUDIES,
}
"""Files that are left alone where there are no such cases."""
GATE: "pytest.StashKey[Gate | None]" = pytest.StashKey()
GATE_REPORT = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RECORDS] = []
    try:
        of_rewards, timed_of_rewards = options.reward_cases(config)
        memory: list[Case | RewardCase] = [*options.memory_cases(config), *of_rewards]
        timed: list[Case | RewardCase] = [*options.timed_cases(config), *timed_of_rewards]
        config.stash[MEMORY], config.stash[TIMED] = memory, timed
        config.stash[ALIGNED] = options.alignment_cases(config)
        config.stash[STUDIES] = options.studies(config)
        allocator.settings()  # refused here, in a sentence, rather than in every case
        collecting = config.getoption("collectonly")
        result = None if collecting else config.getoption("benchmark_json")
        config.stash[GATE] = options.memory_gate(config)
        config.stash[JOURNAL] = journal.Journal(result, config.getoption("resume"))
    except (InputError, record.RecordError) as error:
        raise pytest.UsageError(str(error)) from None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    key = ONLY_WHERE_CHOSEN.get(collection_path.name)
    return True if key is not None and not config.stash[key] else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, key in CASES.items():
        if fixture in metafunc.fixturenames:
            cases = metafunc.config.stash[key]
            metafunc.parametrize(fixture, cases, ids=lambda case: case if isinstance(case, str) else case.id)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        if "timed_case" in item.fixturenames:
            clock = ReplayClock()
            item.stash[ReplayClock.KEY] = clock
            item.add_marker(pytest.mark.benchmark(timer=clock))


class ReplayClock:
    """A timer for pytest-benchmark that shows durations measured earlier, in the interleaved pass."""

    KEY = pytest.StashKey["ReplayClock"]()
    __name__ = "ReplayClock"

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _selected(session: pytest.Session, name: str) -> list:
    functions = [item for item in session.items if isinstance(item, pytest.Function) and name in item.fixturenames]
    cases = [item.callspec.params[name] for item in functions]
    return [case for case in cases if case in session.config.stash[CASES[name]]]


@pytest.fixture(scope="module")
def memory_record(request: pytest.FixtureRequest):
    """case -> its record, measured ahead by worker processes (or kept from the run that is resumed)."""
    log = request.config.stash[JOURNAL]
    cases = _selected(request.session, "case")
    kept = {case: log.kept(f"{record.kind('memory', case)}:{case.id}", record.commit()) for case in cases}
    pool = Pool([case for case, row in kept.items() if row is None])

    def get(case: Case | RewardCase) -> dict:
        row = kept[case]
        if row is None:
            row = pool.record(case)
            log.add(row)
        return row

    yield get
    pool.close()


@pytest.fixture(scope="module")
def timed_record(request: pytest.FixtureRequest):
    """case -> its step-time record; all are measured together, interleaved, before the first is shown."""
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    cases = _selected(request.session, "timed_case")

    def progress(line: str) -> None:
        if terminal is not None and terminal.verbosity >= 0:
            terminal.write_line(f"  step time, {line}")

    rounds, revision = request.config.getoption("rounds"), request.config.getoption("step_time_against")
    if revision is None:
        measured = step_time.measure(cases, rounds, progress)
    else:
        measured = paired.measure(cases, rounds, revision, progress)
    rows = dict(zip(cases, measured, strict=True))
    for row in rows.values():
        request.config.stash[JOURNAL].add(row)
    return rows.__getitem__


@pytest.fixture(scope="module")
def alignment_record(request: pytest.FixtureRequest):
    """case -> its record, from runs that worker processes are ahead with (or kept from the run that is resumed)."""
    from bench.alignment.benchmark import Benchmark, digest
    from bench.world import WEIGHTS

    config = request.config
    log, weights = config.stash[JOURNAL], config.getoption("align_world") or WEIGHTS
    cases = _selected(request.session, "alignment_case")
    kept = {}
    for case in cases:
        row = log.kept(f"alignment:{case.id}", record.commit())
        if row is not None and row["settings"]["world"] == digest(weights):
            kept[case] = row
    benchmark = Benchmark(
        [case for case in cases if case not in kept], weights, _teller(config, "alignment"), list(kept.values())
    )

    def get(case: "AlignmentCase") -> dict:
        if case in kept:
            return kept[case]
        row = benchmark.record(case)
        log.add(row)
        return row

    yield get
    benchmark.close()


def _teller(config: pytest.Config, what: str) -> Callable[[str], None]:
    """What writes a line of progress to the terminal, also within a test."""
    terminal, capture = map(config.pluginmanager.get_plugin, ("terminalreporter", "capturemanager"))

    def tell(line: str) -> None:
        if terminal is not None and capture is not None and terminal.verbosity >= 0:
            with capture.global_and_fixture_disabled():  # within a test the terminal is captured
                terminal.write_line(f"  {what}, {line}")

    return tell


@pytest.fixture
def study_record(request: pytest.FixtureRequest):
    """The name of a study that trains -> its record; what the work folder keeps is not run again."""
    from bench.alignment import studies
    from bench.world import WEIGHTS

    option, config = request.config.getoption, request.config
    weights = option("align_world") or WEIGHTS

    def get(name: str) -> dict:
        return studies.train(name, option("study_scale"), option("study_work"), weights, _teller(config, name))

    return get


@pytest.fixture
def keep(request: pytest.FixtureRequest, benchmark):
    """Puts a record where it belongs: the benchmark's extra_info and the terminal table; then says how it went."""

    def finish(row: dict) -> None:
        benchmark.extra_info.update(row)
        request.config.stash[RECORDS].append(row)
        if row["status"] == "unavailable":
            pytest.skip(row["reason"])
        if row["status"] != "ok":
            pytest.fail(f"{row['case']['id']}: {row['status']}: {row['reason']}", pytrace=False)
        if sentence := paired.slower(row, request.config.getoption("step_time_margin")):
            pytest.fail(sentence, pytrace=False)
        gate = request.config.stash[GATE]
        if gate is not None and row["kind"] == "memory" and (finding := gate.check(row)):
            pytest.fail(f"{finding.outcome}: {finding}", pytrace=False)

    return finish


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None]:
    """Before pytest-benchmark writes its file and the terminal its summary."""
    measured = session.config._benchmarksession  # type: ignore[attr-defined]  # pytest-benchmark's
    # One that was interrupted has no data, of which pytest-benchmark can make neither a table nor a file.
    measured.benchmarks[:] = [benchmark for benchmark in measured.benchmarks if benchmark]
    _finish_gate(session, exitstatus)
    yield


def _finish_gate(session: pytest.Session, exitstatus: int) -> None:
    gate = session.config.stash.get(GATE, None)
    if gate is None or session.config.getoption("collectonly"):
        return
    whole = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
    lines, status = gate.finish(session.config.stash[RECORDS], whole and not session.shouldstop)
    session.config.stash[GATE_REPORT] = lines
    # A test that failed for another reason, or an abort, keeps pytest's own status.
    if status is not None and whole and session.testsfailed == gate.failed:
        session.exitstatus = status


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[RECORDS]
    if rows:
        _write_tables(terminalreporter, rows)
    if GATE_REPORT in config.stash:
        terminalreporter.section("memory gate")
        for line in config.stash[GATE_REPORT]:
            terminalreporter.write_line(line)


def _write_tables(terminalreporter: pytest.TerminalReporter, rows: list[dict]) -> None:
    from bench import tables

    memory, timing, aligned = tables.memory(rows), tables.step_time(rows), tables.alignment(rows)
    if len(memory):
        terminalreporter.section("memory, GiB (peak of one update, and of each phase)")
        terminalreporter.write_line(tables.text(memory))
        if any(row["simulated"] for row in rows):
            terminalreporter.write_line(
                "meter simulated: no device was used; see README, what a simulated figure leaves out"
            )
    if len(timing):
        terminalreporter.section("step time, seconds (median of interleaved rounds)")
        terminalreporter.write_line(tables.text(timing))
    if len(reward := tables.reward_training(rows)):
        terminalreporter.section("one step of the reward's own training: memory, GiB, and seconds")
        terminalreporter.write_line(tables.text(reward))
    if len(aligned):
        from bench.alignment.benchmark import CLOCK

        motion = ", ".join(sorted({row["case"]["backbone"] for row in rows if row["kind"] == "alignment"}))
        terminalreporter.section(f"alignment, {motion} motion (test prompts, 95% intervals over seeds)")
        terminalreporter.write_line(tables.text(aligned))
        terminalreporter.write_line(f"s: {CLOCK}; goal: the validation reward that DRaFT ends with")


def pytest_unconfigure(config: pytest.Config) -> None:
    if JOURNAL in config.stash:
        config.stash[JOURNAL].close()
