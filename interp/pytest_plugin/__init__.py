"""Test findings about a model in any project's pytest run: check claims and compare with recorded values.

    @pytest.mark.finding(model="reference", data="stories", n=40)
    def test_middle_blocks_can_go(finding):
        frame = finding.run("layer_robustness", interventions=("delete",))
        middle = frame.query("control == 'none' and 1 < layer < 6 and pos > 0")
        finding.check("middle blocks keep 72 % of top-1", middle.groupby("prompt_id").top1_agrees.mean(), at_least=0.72)
        finding.record("by block", middle.groupby("layer").top1_agrees.mean(), tolerance=0.02)

Markers of a module, a class and a test are combined. `finding.check` decides by the interval over prompts; an undecided
claim fails too, unless the test expects it. `finding.record` compares with `<module>.findings.json` by key: missing and
extra rows and columns fail, and so does a changed sign. The summary at the end lists every finding, records that no
test uses any more, and files of records whose test module is gone.

    --interp-model=MODEL     run the tests on another model. Claims are decided on it; values recorded on the tests' own
                             model are not compared, and the new values are printed
    --interp-device=DEVICE   device of the models
    --interp-dtype=DTYPE     dtype of their weights
    --interp-update          rewrite the recorded values, and remove those that no test uses any more

Models are loaded and probes run once per process. With pytest-xdist that is once per worker, so keep a module's tests
together (`--dist loadfile`). No model library is imported before a finding runs.
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
    group.addoption("--interp-model", metavar="MODEL", help="Test this model (a name, a folder, a hub id) instead.")
    group.addoption("--interp-device", metavar="DEVICE", help="Device of the models: cpu, cuda, mps.")
    group.addoption("--interp-dtype", metavar="DTYPE", help="Dtype of their weights: float32, bfloat16, float16.")
    group.addoption("--interp-update", action="store_true", help="Rewrite recorded values; remove unused ones.")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and create the session that the tests of this process share."""
    config.addinivalue_line("markers", marker.HELP)
    model, dtype = config.getoption("--interp-model"), config.getoption("--interp-dtype")
    update = config.getoption("--interp-update")
    if update and (model or dtype):
        other = "--interp-model" if model else "--interp-dtype"
        raise pytest.UsageError(
            f"--interp-update records the models that the tests name, unchanged; leave {other} out."
        )
    if model and (config.invocation_params.dir / model).exists() and "--interp-model" in config.invocation_params.args:
        # pytest looks for its configuration beside all words that are paths, before it knows of options.
        raise pytest.UsageError(
            f"--interp-model {model}: write --interp-model={model}; after a space pytest takes the path for one of "
            "tests and looks for the project's configuration there."
        )
    if model and (config.invocation_params.dir / model).is_dir():
        # A test may change the working directory before the model is loaded, and a worker may start in another.
        model = config.option.interp_model = str(config.invocation_params.dir / model)
    config.stash[_SESSION] = Session(model, config.getoption("--interp-device"), dtype, update)
    if not hasattr(config, "workerinput"):
        picked = any("::" in str(argument) for argument in config.args)
        picked |= config.option.collectonly or bool(config.getoption("lf", False))
        config.pluginmanager.register(FindingsSummary(update, not picked, config.rootpath), "interp-ledger")


@pytest.hookimpl(tryfirst=True)  # before -k and -m deselect tests
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note the collected tests, and those that are findings."""
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
    """Send the collected tests to the controller of pytest-xdist."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[ledger.COLLECTED] = session.config.stash.get(_COLLECTED, {})


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a marker without the fixture, which would do nothing."""
    if item.get_closest_marker(marker.NAME) and "finding" not in getattr(item, "fixturenames", ()):
        pytest.fail(f"{item.name} is marked as a finding but lacks the fixture `finding`; add it.", pytrace=False)


@pytest.fixture
def finding(request: pytest.FixtureRequest) -> Finding:
    """Return the model and texts that `@pytest.mark.finding` names, with methods to check and record findings."""
    item = request.node
    markers = [(one.args, one.kwargs) for one in item.iter_markers(marker.NAME)]
    if not markers:
        pytest.fail(
            f'{item.name} takes the fixture `finding` but is not marked; add @pytest.mark.finding(model="reference").',
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
    """Attach the outcome to the report of the test."""
    report = yield
    made = item.stash.get(_FINDING, None)
    if made is not None and call.when == "call":
        setattr(report, ledger.OUTCOME, made.outcome.as_json())
    return report


def _test_name(item: pytest.Item) -> str:
    """Return the test's name within its module: `test_depth`, `TestLens::test_depth[gpt2]`."""
    return item.nodeid.partition("::")[2]
