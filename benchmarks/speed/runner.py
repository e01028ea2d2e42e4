"""Runs a cell of the benchmark of speed: the measurement of ``measure.py`` as a record."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.memory import peak_of_this_process
from benchmarks.harness.record import Outcome
from benchmarks.harness.runner import Runner
from benchmarks.harness.spec import Config
from benchmarks.speed.measure import Measurement
from benchmarks.speed.spec import METRICS
from benchmarks.speed.world import Size

KEPT = ("matmul_flops_per_second", "step_flops", "evaluated_per_second")


class NotMeasured(RuntimeError):
    """The trainer's own configuration, to which all others are compared, cannot be measured."""


class SpeedRunner(Runner):
    """Measures ways of training."""

    def run(self, cell: Cell, config: Config, context: Context) -> Outcome:
        """Measure one cell."""
        plan, device = config["measure"], context.device
        size = Size(
            backbone=cell.backbone,
            device=device,
            method=plan["method"],
            batch_size=config["step"]["batch_size"],
            images=plan["images"],
            steps=plan["steps"],
            rounds=plan["rounds"],
            workers=plan["workers"],
        )
        measurement = Measurement(
            size, None, tell=lambda done, total: context.on_epoch(cell, done, total)
        )
        found = measurement.run()
        first = METRICS[0].name.partition("/")[2]
        if first not in found["ways"]:
            raise NotMeasured(f"{first}: {found['left_out'].get(first)}")
        return Outcome(
            metrics={
                f"images_per_second/{name}": way["images_per_second"]
                for name, way in found["ways"].items()
            },
            curves={"rounds": {name: way["rounds"] for name, way in found["ways"].items()}},
            counts={
                "batch_size": size.batch_size,
                "steps": measurement.world.problem.steps,
                "rounds": size.rounds,
                "ways": len(found["ways"]),
            },
            cost=_cost(found, measurement),
            protocol=found["protocol"] | {"left_out": found["left_out"]},
            weights=vars(measurement.world.weights),
        )


def _cost(found: dict[str, Any], measurement: Measurement) -> dict[str, Any]:
    memory = [way["peak_gpu_memory_bytes"] for way in found["ways"].values()]
    known = [value for value in memory if value is not None]
    left_out = ("images_per_second", "rounds", "label")
    return {
        "by_way": {
            name: {key: value for key, value in way.items() if key not in left_out}
            for name, way in found["ways"].items()
        },
        **{key: found[key] for key in KEPT},
        "total_seconds": found["seconds"],
        "peak_gpu_memory_bytes": max(known, default=None),
        "peak_process_memory_bytes": peak_of_this_process(),
        "total_params": sum(p.numel() for p in measurement.world.model.parameters()),
    }


RUNNER = SpeedRunner()
