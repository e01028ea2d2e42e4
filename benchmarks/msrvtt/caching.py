"""What gradient caching is worth: memory, seconds and gradient of one step, by the size of its chunks.

    python -m benchmarks.msrvtt.caching                                   # clip_micro, batch 128
    python -m benchmarks.msrvtt.caching --scale paper --device cuda       # ViT-B/32, 128 x 12 frames

Each chunk size has a process of its own. Memory is what a step adds to what the process had after a step
with two pairs: of the peak that torch allocates on a GPU, of the peak resident memory on a CPU. The gradient
is compared with that of the direct batch: the norm of the difference over its norm.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter
from typing import Any, NamedTuple

import torch

from benchmarks.harness.errors import DONE
from benchmarks.harness.execute import default_device
from benchmarks.harness.memory import peak_of_this_process
from benchmarks.msrvtt.loss import contrastive_loss
from benchmarks.msrvtt.model import CLIP4Clip
from benchmarks.msrvtt.spec import METHODS, MSRVTT
from benchmarks.msrvtt.throughput import TIMED
from benchmarks.training.retrieval_throughput import context_on
from benchmarks.training.two_stage import adapt

FEW = 2
"""Pairs of the step before the one that is measured."""


class Asked(NamedTuple):
    """One measurement."""

    scale: str
    method: str
    batch: int
    chunk: int | None
    device: str


class Step(NamedTuple):
    """The result of one step: added bytes, seconds, and the gradient as one vector."""

    added: int
    seconds: float
    gradient: list[float]


def measure(asked: Asked, threads: int) -> Step:
    """Make a step with two pairs and then one with all of them, in this process."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    cell = TIMED.cell(asked.method, MSRVTT.scales[asked.scale].backbones[0])
    config = TIMED.config(cell, asked.scale, asked.batch, {})
    problem: Any = TIMED.problem(config, context_on(asked.device))
    options = {key: value for key, value in config["method"].items() if key != "name"}
    model, _ = adapt(cell, options, problem)
    assert isinstance(model, CLIP4Clip)
    model.train()
    for name, parameter in model.named_parameters():
        if "lora_b" in name:  # zeros would leave the other factor without a gradient
            torch.nn.init.normal_(parameter, std=0.02)
    contrastive_loss(model(problem.batch.chunks(FEW)[0], 1)).backward()
    model.zero_grad(set_to_none=True)
    before = _peak(asked.device, reset=True)
    started = perf_counter()
    loss = contrastive_loss(model(problem.batch, asked.chunk))
    loss.backward()
    loss.item()
    seconds = perf_counter() - started
    added = _peak(asked.device) - before
    gradients = [p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None]
    return Step(added, seconds, torch.cat(gradients).tolist())


def _peak(device: str, *, reset: bool = False) -> int:
    if not device.startswith("cuda"):
        return peak_of_this_process()
    torch.cuda.synchronize()
    if reset:
        torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated()


def compare(asked: Asked, chunks: Sequence[int], threads: int = 1) -> list[dict[str, Any]]:
    """Measure the direct batch and each size of chunks."""
    spawn = multiprocessing.get_context("spawn")
    found: list[dict[str, Any]] = []
    direct: Step | None = None
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for chunk in (None, *chunks):
            step = pool.submit(measure, asked._replace(chunk=chunk), threads).result()
            direct = direct or step
            reference = torch.tensor(direct.gradient)
            off = (torch.tensor(step.gradient) - reference).norm() / reference.norm()
            found.append(
                {
                    "chunk": chunk,
                    "added_bytes": step.added,
                    "share_of_direct": step.added / direct.added if direct.added else None,
                    "seconds": step.seconds,
                    "relative_error": off.item(),
                }
            )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; writes JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.msrvtt.caching",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scale", default="micro", choices=list(MSRVTT.scales))
    parser.add_argument("--method", default="lora-r8", choices=METHODS)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--chunks", type=int, nargs="+", default=[32, 16, 8])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    asked = Asked(
        options.scale, options.method, options.batch, None, default_device(options.device)
    )
    found = {**asked._asdict(), "steps": compare(asked, options.chunks, options.threads)}
    del found["chunk"]
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
