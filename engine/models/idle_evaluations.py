"""Makes in idle time what evaluations of resident models want, a little at a time."""

import logging
from collections.abc import Sequence

from engine.device.evaluations import Evaluation, Wanted
from engine.device.openvino_backend import OpenVino
from engine.device.tracing import trace
from engine.models.module_slot import ModuleSlot

log = logging.getLogger(__name__)


def make_wanted(slots: Sequence[ModuleSlot], openvino: OpenVino | None, room: int) -> bool:
    """Do one step; whether there is more to do.

    Args:
        room: Bytes of host memory that may be taken beside what is there.
    """
    if openvino is not None:
        if openvino.is_busy():
            return True
        made = openvino.take()
        for slot in slots:
            if made is not None and slot.evaluations.wanted.get(made[0].key) is made[0]:
                _keep(slot, *made)
        if openvino.is_busy():  # once more: what was on the disk could not be used
            return True
    for slot in slots:
        if slot.compile_wanted():
            return True
        for wanted in slot.evaluations.wanted.values():
            if openvino is None or not wanted.key.weights:
                slot.evaluations.keep(wanted.key, trace(wanted))
                return True
            size = slot.layout.component_size(wanted.key.component)
            problem = openvino.begin(wanted, size) if size <= room else "there is no memory for it"
            if problem:
                log.info("the %s is left to torch: %s", wanted.key.component, problem)
                _keep(slot, wanted, None)
            return True
    return False


def _keep(slot: ModuleSlot, wanted: Wanted, evaluation: Evaluation | None) -> None:
    """What OpenVINO made; where that is nothing, a trace."""
    evaluations, size = slot.evaluations, slot.layout.component_size(wanted.key.component)
    evaluations.keep(wanted.key, evaluation, size if evaluation else 0)
    without = wanted.key._replace(weights="")
    if evaluation is None and wanted.may_trace and without not in evaluations.ready:
        evaluations.keep(without, trace(wanted))
