"""Findings as tests: what was found on a model, checked and recorded, in any project's pytest run.

    @pytest.mark.finding(model="reference", data="stories", n=40)
    def test_middle_blocks_can_go(finding):
        frame = finding.run("layer_robustness", interventions=("delete",))
        middle = frame.query("control == 'none' and 1 < layer < 6 and pos > 0")
        finding.check("middle blocks keep 72 % of top-1", middle.groupby("prompt_id").top1_agrees.mean(), at_least=0.72)
        finding.record("by block", middle.groupby("layer").top1_agrees.mean(), tolerance=0.02)

Markers of a module, a class and a test add up. `finding.check` decides by the interval over prompts: what is undecided
fails too, unless the test expects it. `finding.record` compares with `<module>.findings.json` by key: missing and extra
rows and columns fail, as does a changed sign. Records that no test asks for any more are listed at the end, and so are
files of records whose module is gone.

    --interp-model MODEL     ask another model the same. Claims are decided on it; values recorded of the tests' own
                             model are not compared, but reported as measured
    --interp-device DEVICE   where models go
    --interp-dtype DTYPE     of their weights
    --interp-update          rewrite the recorded values, and remove those that no test asks for any more

Models are loaded and probes run once per process: with pytest-xdist once per worker, so keep a module's tests together
(`--dist loadfile`). The summary at the end lists every finding. No model library is imported before a finding runs.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from interp.errors import InterpError
from interp.pytest_plugin import marker, records
from interp.pytest_plugin import summary as ledger
from interp.pytest_plugin.finding import Finding
from interp.pytest_plugin.session import Session
from interp.pytest_plugin.summary import FindingsSummary

_SESSION = pytest.StashKey[Session]()
_COLLECTED = pytest.StashKey[dict[str, list[str]]]()
_FINDING = pytest.StashKey[Finding]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--interp-model`, `--interp-device`, `--interp-dtype` and `--interp-update`."""
    group = parser.getgroup("interp", "findings about language models (interp)")
    group.addoption("--interp-model", metavar="MODEL", help="Ask this model (a name, a folder, a hub id) instead.")
    group.addoption("--interp-device", metavar="DEVICE", help="Where models go: cpu, cuda, mps.")
    group.addoption("--interp-dtype", metavar="DTYPE", help="Of their weights: float32, bfloat16, float16.")
    group.addoption("--interp-update", action="store_true", help="Rewrite recorded values; remove unused ones.")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and start the session that this process' tests share."""
    config.addinivalue_line("markers", marker.HELP)
    model, dtype = config.getoption("--interp-model"), config.getoption("--interp-dtype")
    update = config.getoption("--interp-update")
    if update and (model or dtype):
        other = "--interp-model" if model else "--interp-dtype"
        raise pytest.UsageError(
            f"--interp-update records the models that the tests name, as they are: leave {other} out."
        )
    if model and (config.invocation_params.dir / model).is_dir():
        # A test may change the working directory before the model is loaded, and a worker may start in another.
        model = config.option.interp_model = str(config.invocation_params.dir / model)
    config.stash[_SESSION] = Session(model, config.getoption("--interp-device"), dtype, update)
    if not hasattr(config, "workerinput"):
        picked = any("::" in str(argument) for argument in config.args)
        picked |= config.option.collectonly or bool(config.getoption("lf", False))
        config.pluginmanager.register(FindingsSummary(update, not picked, config.rootpath), "interp-ledger")


@pytest.hookimpl(tryfirst=True)  # before -k and -m take tests out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take note of which findings there are."""
    collected: dict[str, list[str]] = {}
    for item in items:
        tests = collected.setdefault(str(records.file_of(item.path)), [])
        if item.get_closest_marker(marker.NAME):
            tests.append(_test_name(item))
    config.stash[_COLLECTED] = collected
    found = config.pluginmanager.get_plugin("interp-ledger")
    if found is not None:
        found.collect(collected)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the controller of pytest-xdist what was collected here."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[ledger.COLLECTED] = session.config.stash.get(_COLLECTED, {})


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a marker that would do nothing."""
    if item.get_closest_marker(marker.NAME) and "finding" not in getattr(item, "fixturenames", ()):
        pytest.fail(f"{item.name} is marked as a finding but does not take the fixture `finding`.", pytrace=False)


@pytest.fixture
def finding(request: pytest.FixtureRequest) -> Finding:
    """The model and the texts that `@pytest.mark.finding` names, and the means to pin what is found on them."""
    item = request.node
    markers = [(one.args, one.kwargs) for one in item.iter_markers(marker.NAME)]
    if not markers:
        pytest.fail(
            f'{item.name} takes the fixture `finding` but is not marked: say @pytest.mark.finding(model="reference").',
            pytrace=False,
        )
    try:
        finding_spec = marker.finding_spec(reversed(markers))
    except InterpError as error:
        pytest.fail(str(error), pytrace=False)
    made = Finding(finding_spec, item.config.stash[_SESSION], item.path, _test_name(item))
    item.stash[_FINDING] = made
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send what was found along with the report of the test."""
    report = yield
    made = item.stash.get(_FINDING, None)
    if made is not None and call.when == "call":
        setattr(report, ledger.OUTCOME, made.outcome.as_json())
    return report


def _test_name(item: pytest.Item) -> str:
    """The test within its module: `test_depth`, `TestLens::test_depth[gpt2]`."""
    return item.nodeid.partition("::")[2]
