# SPDX-License-Identifier: Apache-2.0
"""The store of runs: every kind listed and shown, folders of older versions read, broken ones named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests import factories

from zclab.analysis.verdict import RUN
from zclab.base.errors import UsageError
from zclab.cli.main import cli
from zclab.kernel.identity import KernelIdentity
from zclab.plan import schedule
from zclab.runs import folder, query
from zclab.runs.chain import Chain
from zclab.runs.folder import Run
from zclab.runs.manifest import KIND_NAMES, SCHEMA_VERSION
from zclab.runs.records import Manifest, Record
from zclab.runs.upgrades import UPGRADES
from zclab.suites import kinds

DATA = Path(__file__).parents[1] / "data"
V3, V4 = DATA / "runs-v3", DATA / "runs-v4"
OLD_RUN = "20261128T050155Z-namespaces-906a"
OLD_CROSSCHECK = "20261128T050259Z-namespaces-d2f5"
OLD_STRESS = "stress-20261128T050208Z-namespaces-09fe"
#: What the manifest of each kind says besides what all have, and one record of each.
FIELDS: dict[str, dict[str, Any]] = {
    "crosscheck": {
        "seed": 1,
        "repeats": 1,
        "seconds": 1,
        "chunk_bytes": 4096,
        "modes": [],
        "bounds": {},
        "host_problems": [],
    },
    "conformance": {"fingerprint": "f"},
    "selftests": {"fingerprint": "f", "tree": "t"},
    "stress": {"seed": 1, "seconds": 1.0},
    "lockdep": {"expected": []},
}
RECORDS: dict[str, dict[str, Any]] = {
    "conformance": {
        "abi": "msg_zerocopy",
        "row": "a",
        "family": 6,
        "setup": "",
        "expected": "x",
        "since": None,
        "document": None,
        "outcome": "x",
        "verdict": "pass",
        "reason": None,
        "claim_ids": [],
    },
    "selftests": {
        "name": "a",
        "why": "",
        "command": "",
        "result": "pass",
        "subtests": [],
        "reason": None,
        "changed": None,
        "seconds": 1.0,
        "output_tail": None,
    },
    "stress": {"name": "receiver1", "outcome": None, "lost": "gone", "recovered": None},
    "lockdep": {"row": "a", "family": 6, "expected": "x", "outcome": "x"},
}
#: What comes of these records.
VERDICTS = {
    "run": ("pass", 0),
    "crosscheck": ("pass", 0),
    "conformance": ("pass", 0),
    "selftests": ("pass", 0),
    "stress": ("fail", 1),
    "lockdep": ("pass", 0),
}

Zclab = Callable[..., Result]


@pytest.fixture
def zclab() -> Zclab:
    return lambda *arguments: CliRunner().invoke(cli, arguments)


@pytest.fixture
def every(runs: Path) -> Path:
    """One run of each kind, in the order of KIND_NAMES, each a minute after the one before."""
    for minute, name in enumerate(KIND_NAMES):
        directory = runs / f"20260101T00{minute:02d}00.000Z-virtual-{name}-abcd"
        if name == "run":
            manifest = factories.manifest()
            factories.stored_run(directory, manifest, factories.records(manifest))
            continue
        kind = kinds.KINDS[name].kind
        run = Run(directory, kind)
        directory.mkdir(parents=True)
        common = factories.common(name, run_id=run.id)
        run.write_manifest(kind.manifest.model_validate(common | FIELDS[name] | {"finished_at": None}))
        if name in RECORDS:
            run.append(kind.record.model_validate(RECORDS[name]))
        run.update(finished_at=common["finished_at"])
    return runs


def listed(zclab: Zclab, *arguments: str) -> list[dict[str, Any]]:
    done = zclab("list", "--json", *arguments)
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema_version"] == SCHEMA_VERSION
    found: list[dict[str, Any]] = document["runs"]
    return found


# ------------------------------------------------------------------------------------------- list and show


def test_the_list_has_the_same_columns_for_every_kind(every: Path, zclab: Zclab) -> None:
    found = listed(zclab)
    assert [one["kind"] for one in found] == [*reversed(KIND_NAMES)]
    for one in found:
        assert set(one) == {
            *("id", "kind", "lab", "kernel_variant", "kernel_release", "kernel_build_id"),
            *("artifact_key", "verdict", "exit_code", "started_at", "chain"),
        }
        assert one["chain"] == "whole"
        assert (one["verdict"], one["exit_code"]) == VERDICTS[one["kind"]]
        identity = {name: one[name] for name in KernelIdentity.model_fields}
        assert identity == KernelIdentity.of(factories.ARTIFACT).model_dump()
    text = zclab("list").stdout
    assert all(one["id"] in text for one in found) and "stock (6.1.192" in text


@pytest.mark.parametrize("name", KIND_NAMES)
def test_every_kind_is_shown(name: str, every: Path, zclab: Zclab) -> None:
    """The document has the manifest's fields, and the exit code is its own."""
    done = zclab("show", "latest", "--lab", "virtual", "--kind", name, "--json")
    document = json.loads(done.stdout)
    assert (document["verdict"], document["exit_code"], document["kind"]) == (*VERDICTS[name], name)
    assert done.exit_code == document["exit_code"] and done.stderr == ""
    assert document["kernel_variant"] == "stock" and document["artifact_key"] == factories.ARTIFACT.key
    people = zclab("show", document["run_id"])
    assert people.exit_code == done.exit_code
    assert "verdict: " in people.stdout or ": 1 passed, 0 failed" in people.stdout


def test_the_latest_is_of_any_kind(every: Path, zclab: Zclab) -> None:
    assert json.loads(zclab("show", "--json").stdout)["kind"] == KIND_NAMES[-1]
    shutil.rmtree(folder.directories()[0])
    assert json.loads(zclab("show", "--json").stdout)["kind"] == KIND_NAMES[-2]


def test_runs_are_narrowed_by_lab_and_kind(every: Path, zclab: Zclab) -> None:
    Run(folder.directories()[0], kinds.KINDS["lockdep"].kind).update(lab="mine")
    assert [one["kind"] for one in listed(zclab, "--lab", "mine")] == ["lockdep"]
    assert [one["kind"] for one in listed(zclab, "--kind", "stress")] == ["stress"]
    assert listed(zclab, "--lab", "mine", "--kind", "stress") == []
    assert "no run of lab mine of kind stress yet" in one_error("show", "--lab", "mine", "--kind", "stress")


def one_error(*arguments: str) -> str:
    """Return the one line with which a command that exits 2 fails."""
    with pytest.raises(UsageError) as caught:
        cli.main(list(arguments), standalone_mode=False)
    assert UsageError.exit_code == 2
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("command", ["show", "list"])
def test_an_unknown_kind_or_lab_lists_the_valid_ones(command: str, every: Path, zclab: Zclab) -> None:
    assert ", ".join(KIND_NAMES) in one_error(command, "--kind", "stres")
    line = one_error(command, "--lab", "nosuch")
    assert line.startswith("--lab nosuch: ") and "namespaces, " in line and "virtual" in line


def test_a_named_run_of_another_lab_or_kind_is_refused(every: Path, zclab: Zclab) -> None:
    newest = folder.directories()[0].name
    assert "is a run of kind lockdep, not of stress" in one_error("show", newest, "--kind", "stress")
    assert "is a run of lab virtual, not of namesp" in one_error("show", newest, "--lab", "namespaces")


def test_an_interrupted_suite_is_invalid(every: Path, zclab: Zclab) -> None:
    directory = folder.directories()[0]
    Run(directory, kinds.KINDS["lockdep"].kind).update(finished_at=None)
    done = zclab("show", "--json")
    assert (done.exit_code, json.loads(done.stdout)["verdict"]) == (4, "invalid")
    assert done.stderr == f"zclab: {directory.name}: did not finish\n"
    assert listed(zclab)[0]["verdict"] == "invalid"


# ----------------------------------------------------------------------------------------- broken folders


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (None, "it has no manifest.json"),
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "its schema_version is None, this zclab reads 3 to 5"),
        ('{"schema_version": 6, "kind": "run"}', "its schema_version is 6, this zclab reads 3 to 5"),
        ('{"schema_version": 2}', "its schema_version is 2, this zclab reads 3 to 5"),
        ('{"schema_version": 3}', "artifact is missing"),
        ('{"schema_version": 4}', "kind is missing"),
        ('{"schema_version": 4, "kind": "party"}', "kind 'party' is none of run, crosscheck"),
        ('{"schema_version": 4, "kind": "run"}', "Field required"),
        ('{"schema_version": 5, "kind": "run"}', "Field required"),
    ],
)
def test_a_broken_folder_is_one_line_and_the_rest_goes_on(
    damage: str | None, reason: str, every: Path, zclab: Zclab
) -> None:
    broken = every / "20270101T000000.000Z-virtual-run-abcd"
    broken.mkdir()
    if damage is not None:
        (broken / "manifest.json").write_text(damage, encoding="utf-8")
    for arguments in (["list", "--json"], ["show", "latest", "--json"]):
        done = zclab(*arguments)
        assert json.loads(done.stdout)
        (line,) = done.stderr.splitlines()
        assert broken.name in line and reason in line
    assert len(listed(zclab)) == len(KIND_NAMES)
    assert broken.name in one_error("show", broken.name)


def test_a_damaged_record_is_one_line_and_the_rest_is_listed(every: Path, zclab: Zclab) -> None:
    path = next(every.glob("*-run-*")) / "records.jsonl"
    path.write_text("damage\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    done = zclab("list", "--json")
    assert len(json.loads(done.stdout)["runs"]) == len(KIND_NAMES) - 1
    assert done.stderr == f"zclab: {path}: line 1 is damaged\n"


def test_a_last_line_that_was_cut_off_is_left_out(every: Path) -> None:
    for name in RECORDS:
        directory = next(every.glob(f"*-{name}-*"))
        with (directory / "records.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"half')
        assert len(Run(directory, kinds.KINDS[name].kind).records()) == 1  # type: ignore[index]


@pytest.mark.parametrize("name", KIND_NAMES)
def test_an_edit_is_the_first_line_and_makes_every_kind_invalid(name: str, every: Path, zclab: Zclab) -> None:
    directory = next(every.glob(f"*-{name}-*"))
    before = zclab("show", directory.name).stdout
    path = directory / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"accelerator": "kvm"', '"accelerator": null'))
    first = (
        'manifest.json: accelerator was changed after it was written, from "kvm" to null: '
        "what follows is not what was measured"
    )
    done = zclab("show", directory.name)
    assert (done.exit_code, done.stdout.splitlines()[0]) == (4, first)
    assert first not in before
    document = json.loads(zclab("show", directory.name, "--json").stdout)
    assert (document["verdict"], document["exit_code"], document["chain"]["state"]) == (
        "invalid",
        4,
        "broken",
    )
    one = next(one for one in listed(zclab) if one["id"] == directory.name)
    assert (one["verdict"], one["exit_code"], one["chain"]) == ("invalid", 4, "broken")
    assert zclab("list").stdout.count("changed after") == 1


@pytest.mark.parametrize("name", [name for name in KIND_NAMES if name != "run"])
def test_only_a_run_can_be_resumed(name: str, every: Path, zclab: Zclab) -> None:
    directory = next(every.glob(f"*-{name}-*"))
    with pytest.raises(UsageError, match=f"is a run of kind {name}, not of run"):
        query.find(directory.name, pytest.fail, kind="run")
    with pytest.raises(UsageError, match=f"is a run of kind {name}, not run"):
        Run(directory, RUN).manifest()


# ------------------------------------------------------------------------------------------- older versions


@pytest.fixture
def old(runs: Path) -> Path:
    """The folders that version 3 left."""
    shutil.copytree(V3, runs)
    return runs


def test_there_is_an_upgrade_from_every_version() -> None:
    assert sorted(UPGRADES) == list(range(3, SCHEMA_VERSION))


def test_version_3_is_listed_by_time(old: Path, zclab: Zclab) -> None:
    found = listed(zclab)
    assert [one["id"] for one in found] == [OLD_CROSSCHECK, OLD_STRESS, OLD_RUN]
    assert [(one["kind"], one["verdict"], one["exit_code"]) for one in found] == [
        ("crosscheck", "inconclusive", 3),
        ("stress", "inconclusive", 3),
        ("run", "inconclusive", 3),
    ]
    assert {one["chain"] for one in found} == {"none"}
    assert {one["artifact_key"] for one in found} == {None}
    assert [one["kernel_release"] for one in found] == [None, "6.18.44", "6.18.44"]


def test_a_run_of_version_3_gives_the_figures_of_then(old: Path, zclab: Zclab) -> None:
    """The expected ones are what version 3 printed of this folder; its verdict was pass."""
    done = zclab("show", OLD_RUN, "--json")
    document = json.loads(done.stdout)
    assert (done.exit_code, document["verdict"], document["problems"]) == (3, "inconclusive", [])
    assert (document["schema_version"], document["kind"], document["kernel_variant"]) == (5, "run", None)
    assert (document["recorded_schema"], document["chain"]) == (3, {"state": "none", "problems": []})
    rates = {one["id"]: (one["gbit_per_s"], one["valid"]) for one in document["measurements"]}
    assert rates == {
        "integrity-receive-262144-unpaced-a": (13.689799916648086, True),
        "integrity-receive-262144-unpaced-b": (9.8780107578083, True),
        "receive-262144-unpaced-01a": (17.43073475722288, True),
        "receive-262144-unpaced-01b": (15.321560320371232, True),
    }
    ratios = {one["metric"]: one["ratio_median"] for one in document["comparisons"]}
    assert ratios == {"receiver_usec_per_mib": 0.5747608898205565, "gbit_per_s": 0.8789968141774599}
    expected = Run(old / OLD_RUN, RUN).manifest().expectations
    assert (expected.rcvlowat_bytes, expected.shared_cpu, expected.link.mtu) == (524288, True, 4168)


def test_a_crosscheck_and_a_stress_of_version_3(old: Path, zclab: Zclab) -> None:
    crosscheck = json.loads(zclab("show", OLD_CROSSCHECK, "--json").stdout)
    (mode,) = crosscheck["modes"]
    assert [one["ratio_median"] for one in mode["ratios"]] == [
        0.9889916989465137,
        0.9369583648016043,
        1.744154716620796,
        0.42479093244892036,
    ]
    assert crosscheck["versions"]["traffic"] == "zclab-traffic 0.1.0"
    done = zclab("show", OLD_STRESS, "--json")
    (host,) = json.loads(done.stdout)["hosts"]
    assert (done.exit_code, host["name"], host["outcome"]["connections"]) == (3, "receiver1", 471)


def test_version_4_is_listed_and_shown_and_not_resumed(runs: Path, zclab: Zclab) -> None:
    """The figures are those that version 4 printed; both of its verdicts were pass."""
    shutil.copytree(V4, runs)
    found = listed(zclab)
    assert [(one["kind"], one["verdict"], one["chain"]) for one in found] == [
        ("stress", "inconclusive", "none"),
        ("run", "inconclusive", "none"),
    ]
    done = zclab("show", "--kind", "run", "--json")
    document = json.loads(done.stdout)
    rates = [round(one["gbit_per_s"], 3) for one in document["measurements"]]
    assert (done.exit_code, rates) == (3, [6.058, 5.539, 17.199, 15.583])
    assert document["recorded_schema"] == 4 and all(one["valid"] for one in document["measurements"])
    with pytest.raises(UsageError, match="an older zclab made this run: start a new one"):
        Run(folder.directories()[1], RUN).resume()


@pytest.mark.parametrize("version", [V3, V4])
def test_an_older_version_is_named_once_before_the_figures(version: Path, runs: Path, zclab: Zclab) -> None:
    shutil.copytree(version, runs)
    for directory in folder.directories():
        done = zclab("show", directory.name)
        schema = version.name[-1]
        first = f"recorded by an older version (schema {schema}), which kept no hash chain and no interface"
        assert done.stdout.startswith(first) and done.stdout.count("recorded by an older version") == 1
        assert done.exit_code == 3


@pytest.mark.parametrize("threshold", [0.3, 0.9])
def test_a_threshold_of_version_3_still_gates(threshold: float, old: Path, zclab: Zclab) -> None:
    """One pair is too few for more than inconclusive: an easier verdict would be a loosened bound."""
    path = old / OLD_RUN / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["thresholds"] = [factories.threshold(at_most=threshold)]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    done = zclab("show", OLD_RUN, "--json")
    (gated,) = [one for one in json.loads(done.stdout)["comparisons"] if one["gated"]]
    assert (done.exit_code, gated["threshold"], gated["verdict"]) == (3, threshold, "inconclusive")


def test_a_run_of_version_3_is_not_resumed(old: Path) -> None:
    before = {path: path.read_bytes() for path in (old / OLD_RUN).iterdir()}
    with pytest.raises(UsageError, match="an older zclab made this run: start a new one"):
        Run(old / OLD_RUN, RUN).resume()
    assert {path: path.read_bytes() for path in (old / OLD_RUN).iterdir()} == before


def test_a_damaged_record_of_version_3_is_named(old: Path) -> None:
    path = old / OLD_RUN / "measurements.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([lines[0], '{"planned": {}}\n', *lines[1:]]), encoding="utf-8")
    with pytest.raises(UsageError, match=r"measurements\.jsonl: line 2 is damaged$"):
        Run(old / OLD_RUN, RUN).records()


def test_records_under_earlier_names_are_read_as_todays(runs: Path) -> None:
    """Also a comparison of equal arms, an artifact, a kernel as an arm, and what a ping-pong left."""
    manifest = factories.manifest(plan=factories.plan(aa_pairs=8, repeats=8))
    record = factories.record(schedule.measurements(manifest.plan)[0])
    ping_pong = json.loads(record.model_dump_json())
    for end, kind in (("receiver", "rpc_server"), ("sender", "rpc_client")):
        ping_pong[end]["document"] = factories.rpc_document(kind)
    other = KernelIdentity.of(factories.ARTIFACT.model_copy(update={"variant": "mine", "key": "ffff"}))
    manifest = manifest.model_copy(update={"other_kernels": {"mine": other}})
    directory = runs / manifest.run_id
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text(as_version_3(_manifest_3(manifest)), encoding="utf-8")
    lines = [
        as_version_3(_record_3(json.loads(record.model_dump_json()))),
        as_version_3(_record_3(ping_pong)),
    ]
    assert '"phase": "a_a"' in lines[0] and '"id": "a_a-01' in lines[0] and '"wait": 1000' in lines[1]
    (directory / "measurements.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    run = Run(directory, RUN)
    assert run.manifest() == manifest.model_copy(update={"recorded_schema": 3, "chain": Chain(state="none")})
    assert run.records() == [record, Record.model_validate(ping_pong)]


def as_version_3(data: object) -> str:
    """Return JSON with the names that version 3 had."""
    old = {
        '"aa_pairs"': '"a_a_pairs"',
        '"aa': '"a_a',
        "inject_usec_per_mib": "planted_usec_per_mib",
        "rcvlowat_bytes": "receive_low_water_bytes",
        '"schema_version": 4': '"schema_version": 3',
        '"schema_version": 5': '"schema_version": 3',
        '"poll": 1000, "getsockopt": 1000, "recvmsg": 1000, "sendmsg": 1000': (
            '"wait": 1000, "map": 1000, "receive": 1000, "send": 1000'
        ),
    }
    text = json.dumps(data)
    for new, name in old.items():
        text = text.replace(new, name)
    return text


def _manifest_3(manifest: Manifest) -> dict[str, Any]:
    data = json.loads(manifest.model_dump_json())
    data |= data.pop("expectations")
    del data["not_gated"], data["baseline"]  # came later
    artifact = factories.ARTIFACT.model_dump()
    others = {"mine": artifact | {"variant": "mine", "key": "ffff"}}
    for key in (
        "recorded_schema",
        "chain",
        "kind",
        "verdict",
        "exit_code",
        "other_kernels",
        *KernelIdentity.model_fields,
    ):
        del data[key]
    return {**data, "artifact": artifact, "other_artifacts": others}


def _record_3(record: dict[str, Any]) -> dict[str, Any]:
    planned = dict(record["planned"])
    planned["kernel"] = planned.pop("kernel_variant")
    return record | {"planned": planned}
