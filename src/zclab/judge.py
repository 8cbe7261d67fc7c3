# SPDX-License-Identifier: Apache-2.0
"""From raw records to a verdict: what counts, what was compared, what that says.

Pure functions of a manifest and its records, so that every run can be judged again from its files.
"""

from __future__ import annotations

import statistics as plain_statistics
from math import isclose

from zclab import claims
from zclab.inventory import CPU_METRICS, METRIC_UNITS, Bounds, Metric, Threshold
from zclab.plan import PlannedComparison, metrics_of
from zclab.results import (
    SCHEMA_VERSION,
    ComparisonDocument,
    Completions,
    Cpu,
    End,
    Manifest,
    MeasurementDocument,
    Record,
    RunDocument,
    Snapshot,
    Verdict,
)
from zclab.statistics import Interval, decide, median_interval
from zclab.traffic import TrafficDocument

#: The command's exit code for each verdict, and which of several goes first.
EXIT_CODES: dict[Verdict, int] = {"pass": 0, "fail": 1, "inconclusive": 3, "invalid": 4}
_WORST_FIRST: tuple[Verdict, ...] = ("invalid", "fail", "inconclusive", "pass")

MIB = 2**20


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the verdict that goes before the others; of none, pass."""
    return min(verdicts, key=_WORST_FIRST.index, default="pass")


def judge(manifest: Manifest, records: list[Record]) -> RunDocument:
    """Judge a run from its files."""
    measurements = [judge_measurement(manifest, record) for record in records]
    comparisons = [
        comparison
        for cell, planned, _, pace in manifest.plan.cells()
        for comparison in _compare_cell(manifest, cell, planned, pace, measurements)
    ]
    problems = _problems(manifest, measurements)
    verdicts: list[Verdict] = [one.verdict for one in comparisons if one.verdict is not None]
    if any(one.invalid_reasons for one in measurements) or problems:
        verdicts.append("invalid")
    if any(one.skipped for one in measurements):
        verdicts.append("inconclusive")
    if any(manifest.console_reports.values()):
        verdicts.append("fail")
    verdict = worst(verdicts)
    return RunDocument(
        schema_version=SCHEMA_VERSION,
        run_id=manifest.run_id,
        lab=manifest.lab,
        emulated=manifest.emulated,
        started_at=manifest.started_at,
        finished_at=manifest.finished_at,
        exit_code=EXIT_CODES[verdict],
        hosts=manifest.hosts,
        measurements=measurements,
        comparisons=comparisons,
        console_reports=manifest.console_reports,
        problems=problems,
        verdict=verdict,
    )


def _problems(manifest: Manifest, measurements: list[MeasurementDocument]) -> list[str]:
    """Return what is wrong with the run as a whole."""
    ids = [one.id for one in measurements]
    missing = len({one.id for one in manifest.plan.measurements()} - set(ids))
    problems = [f"{missing} planned measurements were not made: continue with `zclab run --resume`"] * (
        missing > 0
    )
    if len(set(ids)) < len(ids):
        problems.append("a measurement is recorded twice")
    if manifest.finished_at is None:
        problems.append("the run did not finish")
    return problems


def judge_measurement(manifest: Manifest, record: Record) -> MeasurementDocument:
    """Turn one record into its document, with every reason that makes it invalid."""
    planned = record.planned
    receiver, sender = _document(record.receiver), _document(record.sender)
    received = receiver.window.bytes if receiver else None
    seconds = receiver.window.seconds if receiver else None
    mapped = receiver.window.mapped_bytes if receiver else None
    tcp = sender.tcp if sender else None
    retransmitted = tcp.total.retransmits if tcp else None
    segments = tcp.total.data_segs_out if tcp else None
    completions = sender.completions if sender else None
    reasons = invalid_reasons(manifest, record)
    return MeasurementDocument(
        id=planned.id,
        comparison=planned.comparison,
        arm=planned.arm,
        order=planned.order,
        receive_mode=planned.receive_mode,
        send_mode=planned.send_mode,
        ip_version=manifest.link.ip_version,
        message_bytes=planned.message_bytes,
        pace_gbit_per_s=planned.pace_gbit_per_s,
        seconds=seconds,
        bytes_received=received,
        gbit_per_s=received * 8 / seconds / 1e9 if received and seconds else None,
        mapped_bytes=mapped,
        copied_bytes=receiver.window.copied_bytes if receiver else None,
        mapped_fraction=mapped / received if received and mapped is not None else None,
        receiver_cpu=_cpu(receiver),
        sender_cpu=_cpu(sender),
        receiver_context_switches=_context_switches(receiver),
        retransmitted_segments=retransmitted,
        retransmitted_share=retransmitted / segments if segments and retransmitted is not None else None,
        mss=tcp.snd_mss if tcp else None,
        completions=Completions(
            sends=completions.sends, completed=completions.completed, copied=completions.copied
        )
        if completions
        else None,
        integrity="not checked",
        system_calls=receiver.system_calls if receiver else None,
        header_split=_difference(record, manifest.pair[1].name, "header_split"),
        drops=_sum(*(_difference(record, host.name, "drops") for host in manifest.pair)),
        skipped=record.skipped,
        valid=not reasons and record.skipped is None,
        invalid_reasons=reasons,
    )


def _document(end: End | None) -> TrafficDocument | None:
    return end.document if end else None


def _context_switches(end: TrafficDocument | None) -> int | None:
    return _sum(end.cpu.voluntary_context_switches, end.cpu.involuntary_context_switches) if end else None


def _sum(*values: int | None) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _difference(record: Record, host: str, field: str) -> int | None:
    before, after = record.before.get(host), record.after.get(host)
    if before is None or after is None:
        return None
    start, end = getattr(before, field), getattr(after, field)
    return end - start if start is not None and end is not None else None


def _cpu(end: TrafficDocument | None) -> Cpu | None:
    if end is None:
        return None
    user, system, moved = end.cpu.user_s, end.cpu.system_s, end.window.bytes
    if user is None or system is None or not moved:
        usec_per_mib = None
    else:
        usec_per_mib = (user + system) * 1e6 / (moved / MIB)
    return Cpu(
        user_s=user,
        system_s=system,
        usec_per_mib=usec_per_mib,
        softirq_s=end.host_cpu.softirq_s,
        host_busy_s=None,
    )


def invalid_reasons(manifest: Manifest, record: Record) -> list[str]:
    """Return every reason for which a measurement does not count, in the order to look at them."""
    reasons = [record.problem] if record.problem else []
    for host in manifest.pair:
        for when, snapshot in (
            ("before", record.before.get(host.name)),
            ("after", record.after.get(host.name)),
        ):
            if snapshot is None:
                if not record.problem:
                    reasons.append(f"{host.name}: its state {when} the measurement is not known")
                continue
            reasons += _host_reasons(manifest, host.name, snapshot)
    # Skipped, nothing was transferred; but on the wrong kernel that says nothing.
    if not record.problem and not record.skipped:
        reasons += _transfer_reasons(manifest, record)
        reasons += _transport_reasons(manifest, record)
        reasons += _zero_copy_reasons(manifest, record)
    return list(dict.fromkeys(reasons))


def host_reasons(manifest: Manifest, state: dict[str, Snapshot]) -> list[str]:
    """Return why measuring hosts in this state would be invalid from the start."""
    return [reason for host, snapshot in state.items() for reason in _host_reasons(manifest, host, snapshot)]


def _host_reasons(manifest: Manifest, name: str, snapshot: Snapshot) -> list[str]:
    facts = next(one for one in manifest.hosts if one.name == name)
    host = next(one for one in manifest.pair if one.name == name)
    artifact = manifest.artifact
    reasons = []
    if snapshot.kernel_release != artifact.release:
        reasons.append(f"{name}: runs {snapshot.kernel_release}, not the artifact {artifact.release}")
    elif snapshot.kernel_build_id != artifact.build_id:
        reasons.append(
            f"{name}: build id {snapshot.kernel_build_id} is not the artifact's {artifact.build_id}"
        )
    if snapshot.boot_id != facts.boot_id:
        reasons.append(f"{name}: rebooted since the run began")
    if snapshot.mtu != manifest.link.mtu:
        reasons.append(f"{name}: MTU is {snapshot.mtu}, the lab declares {manifest.link.mtu}")
    if snapshot.tcp_timestamps != 1:
        reasons.append(f"{name}: net.ipv4.tcp_timestamps is {snapshot.tcp_timestamps}, not 1")
    if host.data_address not in snapshot.addresses:
        reasons.append(f"{name}: lost its data address {host.data_address}")
    if host.nic_model is not None and facts.nic.driver != host.nic_model.replace("-", "_"):
        reasons.append(f"{name}: {facts.nic.name} is {facts.nic.driver}, the lab declares {host.nic_model}")
    return reasons


def _transfer_reasons(manifest: Manifest, record: Record) -> list[str]:
    """Return how the transfer itself fell short, or was another than planned."""
    reasons = []
    planned = record.planned
    for name, end in (("receiver", record.receiver), ("sender", record.sender)):
        document = _document(end)
        if document is None:
            said = (end.stderr.strip().splitlines() or ["no message"])[-1] if end else "did not start"
            reasons.append(f"{name}: left no result: {said}")
        elif document.outcome != "complete":
            reasons.append(f"{name}: {document.outcome}: {document.error or 'no message'}")
        elif not document.window.complete:
            reasons.append(f"{name}: the measured window was cut short")
        elif not document.window.bytes:
            reasons.append(f"{name}: no bytes in the measured window")
        if document and document.addresses.ip_version != manifest.link.ip_version:
            reasons.append(f"{name}: used IPv{document.addresses.ip_version}")
    receiver, sender = _document(record.receiver), _document(record.sender)
    if receiver and not receiver.total.bytes:
        reasons.append("receiver: zero bytes received")
    if receiver and receiver.mode != planned.receive_mode:
        reasons.append(f"receiver: mode was {receiver.mode}, planned was {planned.receive_mode}")
    if sender and sender.mode != planned.send_mode:
        reasons.append(f"sender: mode was {sender.mode}, planned was {planned.send_mode}")
    if sender and sender.message_bytes != planned.message_bytes:
        reasons.append(f"sender: sent {sender.message_bytes} bytes a call, not {planned.message_bytes}")
    if sender and not isclose(sender.pace_gbit or 0, planned.pace_gbit_per_s or 0, rel_tol=1e-4):
        reasons.append(f"sender: pace was {sender.pace_gbit}, planned was {planned.pace_gbit_per_s}")
    if receiver and sender and receiver.total.bytes != sender.total.bytes:
        reasons.append(
            f"receiver: got {receiver.total.bytes} bytes of the {sender.total.bytes} that were sent"
        )
    return reasons


def _transport_reasons(manifest: Manifest, record: Record) -> list[str]:
    reasons = []
    receiver, sender = _document(record.receiver), _document(record.sender)
    if sender:
        if sender.tcp.snd_mss != manifest.link.mss:
            reasons.append(
                f"sender: MSS was {sender.tcp.snd_mss}, the lab's link carries {manifest.link.mss}"
            )
        limit = manifest.validity.retransmitted_share_at_most
        segments, again = sender.tcp.total.data_segs_out, sender.tcp.total.retransmits
        if segments is None or again is None:
            reasons.append("sender: this kernel does not count retransmitted segments")
        elif segments and again / segments > limit:
            reasons.append(
                f"sender: {again} of {segments} segments were retransmitted, more than {limit:.2%}"
            )
    for host in manifest.pair:
        drops = _difference(record, host.name, "drops")
        if drops is not None and drops > manifest.validity.drops_at_most:
            reasons.append(f"{host.name}: {host.data_interface} dropped {drops} packets")
    low_water = receiver.rcvlowat if receiver else None
    wanted = manifest.receive_low_water_bytes
    if receiver and (low_water is None or low_water.got != wanted):
        reasons.append(
            f"receiver: SO_RCVLOWAT {wanted} was asked for and {low_water and low_water.got} was got: "
            "raise the third value of net.ipv4.tcp_rmem"
        )
    return reasons


def _zero_copy_reasons(manifest: Manifest, record: Record) -> list[str]:
    """Return where bytes were not mapped or pinned as the lab expects."""
    reasons = []
    planned = record.planned
    receiver, sender = _document(record.receiver), _document(record.sender)
    expected = manifest.validity.mapped_fraction.get(planned.receive_mode, {}).get(planned.send_mode)
    if planned.receive_mode != "copy" and expected is None:
        reasons.append(
            f"zclab_validity.mapped_fraction says nothing of {planned.receive_mode}, {planned.send_mode}"
        )
    elif expected is not None and receiver and receiver.window.bytes:
        mapped = (receiver.window.mapped_bytes or 0) / receiver.window.bytes
        reasons += _outside("receiver: mapped fraction", mapped, expected)
    if planned.send_mode == "zerocopy":
        host = manifest.pair[0]
        before = record.before.get(host.name)
        for feature in before.missing_offloads if before else []:
            reasons.append(
                f"{host.name}: {host.data_interface} has {feature} off: sent pages are copied on their way"
            )
    if planned.send_mode == "zerocopy" and sender:
        if sender.completions is None or not sender.completions.completed:
            reasons.append("sender: a zerocopy sender without completions")
        else:
            sends, completed = sender.completions.sends, sender.completions.completed
            if completed != sends:
                reasons.append(f"sender: {completed} of {sends} zerocopy sends were completed")
            copied = sender.completions.copied / completed
            reasons += _outside("sender: copied fraction", copied, manifest.validity.copied_fraction)
    return reasons


def _outside(what: str, value: float, bounds: Bounds) -> list[str]:
    if bounds.at_least is not None and value < bounds.at_least:
        return [f"{what} {value:.4f} is below {bounds.at_least}"]
    if bounds.at_most is not None and value > bounds.at_most:
        return [f"{what} {value:.4f} is above {bounds.at_most}"]
    return []


def metric_of(measurement: MeasurementDocument, metric: Metric) -> float | None:
    """Return the value of a metric, in its unit."""
    if metric == "gbit_per_s":
        return measurement.gbit_per_s
    cpu = measurement.receiver_cpu if metric == "receiver_usec_per_mib" else measurement.sender_cpu
    return cpu.usec_per_mib if cpu else None


def _compare_cell(
    manifest: Manifest,
    cell: str,
    planned: PlannedComparison,
    pace: float | None,
    measurements: list[MeasurementDocument],
) -> list[ComparisonDocument]:
    members = sorted((one for one in measurements if one.comparison == cell), key=lambda one: one.order)
    documents = []
    for metric in metrics_of(planned, pace):
        thresholds = [
            one
            for one in manifest.thresholds
            if one.comparison == planned.name
            and one.metric == metric
            and one.paced in (None, pace is not None)
        ]
        asked: list[Threshold | None] = [*thresholds] or [None]
        documents += [_compare(manifest, cell, planned, metric, one, members) for one in asked]
    return documents


def _compare(
    manifest: Manifest,
    cell: str,
    planned: PlannedComparison,
    metric: Metric,
    threshold: Threshold | None,
    members: list[MeasurementDocument],
) -> ComparisonDocument:
    values = {arm: [metric_of(one, metric) for one in members if one.arm == arm] for arm in ("a", "b")}
    pairs = [(a, b) for a, b in zip(values["a"], values["b"], strict=False) if a and b is not None]
    arm = threshold.arm if threshold else None
    if arm is None:
        samples = [b / a for a, b in pairs]
    else:
        samples = [value for value in values[arm] if value is not None]
    # A figure that was not measured leaves a gap that the others do not speak for.
    expected = manifest.plan.repeats
    interval = median_interval(samples) if samples else None
    skipped = next((one.skipped for one in members if one.skipped), None)
    because = f"skipped: {skipped}" if skipped else _not_gated(manifest, metric, threshold)
    claim_ids = sorted({*planned.metrics[metric], *(threshold.claims if threshold else [])})
    known = claims.load()
    return ComparisonDocument(
        name=cell,
        metric=metric,
        arm_a=None if arm else _arm_name(planned, "a"),
        arm_b=_arm_name(planned, arm or "b"),
        n=len(samples),
        median_a=median([a for a in values["a"] if a is not None]),
        median_b=median([b for b in values["b"] if b is not None]),
        ratio_median=interval.median if interval else None,
        ratio_ci95=(interval.low, interval.high) if interval else (None, None),
        threshold=(threshold.at_least if threshold.at_most is None else threshold.at_most)
        if threshold
        else None,
        unit=threshold.unit if threshold else "ratio",
        direction=("at_least" if threshold.at_most is None else "at_most") if threshold else None,
        gated=because is None,
        not_gated_because=because,
        verdict=_verdict(members, interval, threshold if because is None else None, len(samples) == expected),
        claim_ids=claim_ids,
        reference={one: known[one].reference for one in claim_ids if one in known and known[one].reference},
    )


def median(values: list[float]) -> float | None:
    """Return the median, null of nothing."""
    return plain_statistics.median(values) if values else None


def _arm_name(planned: PlannedComparison, arm: str) -> str:
    modes = planned.a if arm == "a" else planned.b
    return f"{modes.send_mode} to {modes.receive_mode}"


def _not_gated(manifest: Manifest, metric: Metric, threshold: Threshold | None) -> str | None:
    if metric in CPU_METRICS and manifest.emulated:
        return "emulated CPU"
    return None if threshold else "not declared by the lab"


def _verdict(
    members: list[MeasurementDocument], interval: Interval | None, threshold: Threshold | None, whole: bool
) -> Verdict | None:
    """Return null for a comparison that is sound and not gated: nothing was asked of it.

    A comparison whose measurements were skipped is inconclusive: never counted as passed.
    """
    if any(one.invalid_reasons for one in members):
        return "invalid"
    if any(one.skipped for one in members):
        return "inconclusive"
    if interval is None or not whole:
        return "invalid"
    if threshold is None:
        return None
    return decide(interval, threshold.at_least, threshold.at_most)


def unit_of(comparison: ComparisonDocument) -> str:
    """Return the unit of a comparison's arm medians."""
    return METRIC_UNITS[comparison.metric]
