"""One joint training step at one thread: time, operations, alternatives.

The synthetic recipe, 16 sentences of 12 ids, beside other ways to compute its step; then the sizes
of text, in float32 and with bfloat16 products, beside a plain step in float32 (``plain_step.py``).
Every alternative must give the loss and the gradients of the library's step before it is timed.
"""

from __future__ import annotations

import argparse
import copy
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch._inductor.config
from common import (
    KEPT_HEAP,
    PRODUCT_FLOP,
    Foreign,
    interleaved,
    machine,
    median_ratio,
    product,
    report,
    table,
    wait_until_quiet,
)
from plain_step import PlainVAE, Size, plain_stepper
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from training_step_alternatives import (
    BatchFirstDecoder,
    BatchFirstEncoder,
    CrossEntropyDecoder,
    DropIn,
    FlatStep,
    Recurrence,
    StackedStep,
    hand_written,
    unrolled,
)

from posterior_collapse import methods, recipes
from posterior_collapse.networks import (
    VAE,
    TextDecoder,
    TextEncoder,
    TextNetwork,
    build_vae,
    text_vae,
    uniform_,
)
from posterior_collapse.precision import Precision, available
from posterior_collapse.runs.work import one_thread
from posterior_collapse.training import Joint, Optimisation, State, new_state
from posterior_collapse.training.steps import gradients

SETUP = recipes.get("lagging-synthetic", "paper")
NETWORK = SETUP.network
assert isinstance(NETWORK, TextNetwork)
VOCABULARY, LENGTH, SEEDS = 1004, 12, 5
LIBRARY = "nn.LSTM (library)"
TEXT = {  # batch, words, vocabulary, embedding, hidden, latent
    "short text": Size(32, 10, 2000, 48, 96, 16),
    "Short Yelp": Size(32, 10, 9400, 48, 96, 16),
    "Yahoo": Size(32, 20, 2000, 48, 96, 16),
    "Yahoo, 8,000 words": Size(32, 20, 8000, 48, 96, 16),
    "large": Size(32, 10, 9400, 128, 512, 32),
}
RATES = {"sgd": 1.0, "adam": 2e-3}
PLAIN = "plain"
Change = Callable[[VAE], None]
Make = Callable[[Sequence[State]], StackedStep]


def first_model(seed: int, spread: float = 1.0) -> VAE:
    """The recipe's model as initialised; ``spread`` widens the initial range."""
    method = methods.get("vae")
    model = text_vae(
        VOCABULARY,
        NETWORK.embedding,
        NETWORK.hidden,
        SETUP.latent_dim,
        NETWORK.dropout,
        method.posterior,
        method.prior,
    )
    low, high = NETWORK.init_parameters
    generator = torch.Generator().manual_seed(seed)
    uniform_(model, generator, (spread * low, spread * high), NETWORK.init_embeddings)
    return model.train()


def state_of(model: VAE, seed: int) -> State:
    """State before the first update."""
    method = methods.get("vae")
    return new_state(model, method.objective, method.training, SETUP.optimisation, 1000, seed)


def random_batches(count: int, seeds: int = 1) -> Tensor:
    """Batches of random words: (count, S, B, T); time does not depend on which words they are."""
    generator = torch.Generator().manual_seed(1)
    shape = (count, seeds, SETUP.batch_size, LENGTH)
    return torch.randint(4, VOCABULARY, shape, generator=generator)


def recurrence_by(make: Callable[[nn.LSTM], nn.Module]) -> Change:
    """Change both LSTMs of a model."""

    def change(model: VAE) -> None:
        for part in (model.encoder, model.decoder):
            assert isinstance(part, (TextEncoder, TextDecoder))
            part.lstm = make(part.lstm)  # type: ignore[assignment]

    return change


def classes_by(encoder: type[TextEncoder], decoder: type[TextDecoder]) -> Change:
    """Change the forward passes of a model, whose parameters stay."""

    def change(model: VAE) -> None:
        model.encoder.__class__, model.decoder.__class__ = encoder, decoder

    return change


def compiled(plain: nn.LSTM) -> nn.Module:
    """The unrolled cell through ``torch.compile``."""
    return torch.compile(DropIn(plain, unrolled), dynamic=False)  # type: ignore[return-value]


CHANGES: dict[str, Change] = {
    LIBRARY: lambda model: None,
    "nn.LSTM, batch first": classes_by(BatchFirstEncoder, BatchFirstDecoder),
    "nn.LSTM, torch's cross-entropy": classes_by(TextEncoder, CrossEntropyDecoder),
    "unrolled cell": recurrence_by(lambda plain: DropIn(plain, unrolled)),
    "hand-written backward": recurrence_by(lambda plain: DropIn(plain, hand_written)),
}
COMPILED: dict[str, Change] = {"unrolled cell, compiled": recurrence_by(compiled)}


def changed_state(change: Change, seed: int, spread: float = 1.0) -> State:
    """State of a changed model; the parameters are those of the library's with the same seed."""
    model = copy.deepcopy(first_model(seed, spread))
    change(model)
    return state_of(model, seed)


def check_equal(name: str, found: Iterable[Tensor], expected: Iterable[Tensor]) -> None:
    """Losses and gradients agree to float32, relative to each tensor's largest entry.

    Raises:
        AssertionError: they do not; an alternative that computes something else is not timed.
    """
    for k, (a, b) in enumerate(zip(found, expected, strict=True)):
        worst, scale = (a - b).abs().max().item(), b.abs().max().item()
        assert worst <= 2e-5 * scale, (
            f"{name}: tensor {k} is off by {worst}, its largest is {scale}"
        )


def loss_and_gradients(state: State, batch: Tensor) -> list[Tensor]:
    """Loss and clipped gradients of a state."""
    loss = gradients(state, batch).loss.detach()
    return [loss, *(p.grad for p in state.model.parameters() if p.grad is not None)]


def check_change(name: str, change: Change) -> None:
    """A changed model against the library's, dropout on and with the same masks.

    The initial range is widened so that every part of the gradient counts.
    """
    batch = random_batches(1)[0, 0]
    expected = loss_and_gradients(changed_state(CHANGES[LIBRARY], 0, 30.0), batch)
    check_equal(name, loss_and_gradients(changed_state(change, 0, 30.0), batch), expected)


def check_flat() -> None:
    """The flat step against the library's."""
    batch = random_batches(1)[0, 0]
    expected = loss_and_gradients(changed_state(CHANGES[LIBRARY], 0, 30.0), batch)
    flat = FlatStep(changed_state(CHANGES[LIBRARY], 0, 30.0))
    loss = flat.gradients(batch)
    check_equal("flat", [loss, *(p.grad for p in flat.parameters if p.grad is not None)], expected)


def check_stacked(name: str, make: Make, seeds: int) -> None:
    """Every seed of a stacked step against the library's step of that seed."""
    batch = random_batches(1, seeds)[0]
    step = make([changed_state(CHANGES[LIBRARY], seed, 30.0) for seed in range(seeds)])
    losses, found = step.gradients(batch)
    for seed in range(seeds):
        expected = loss_and_gradients(changed_state(CHANGES[LIBRARY], seed, 30.0), batch[seed])
        check_equal(name, [losses[seed], *(g[seed] for g in found)], expected)


def counted_operations(change: Change) -> int:
    """Floating-point operations of products in a step, as torch's counter sees them."""
    state = changed_state(change, 0)
    with FlopCounterMode(display=False) as counter:
        gradients(state, random_batches(1)[0, 0])
    return counter.get_total_flops()


def operations() -> int:
    """Floating-point operations of the products in one step, by formula.

    A product of (n, k) and (k, m) counts 2nkm; backward has one for each of its two factors.
    The encoder's first state is a constant zero, so it has no gradient.
    """
    batch, hidden, latent = SETUP.batch_size, NETWORK.hidden, SETUP.latent_dim
    gate = 2 * batch * 4 * hidden  # times the length of what is multiplied
    steps = LENGTH - 1
    encoder = gate * (3 * LENGTH * NETWORK.embedding + (3 * LENGTH - 1) * hidden)
    decoder = gate * 3 * steps * (NETWORK.embedding + latent + hidden)
    heads = 3 * 2 * batch * hidden * (2 * latent + latent)
    return encoder + decoder + heads + 3 * 2 * batch * steps * hidden * VOCABULARY


def check_operations() -> int:
    """The formula against the counter.

    The counter does not see into the oneDNN layer that nn.LSTM calls, hence the other two.
    """
    expected = operations()
    with torch.backends.mkldnn.flags(enabled=False):
        plain = counted_operations(CHANGES[LIBRARY])
    for name, count in {
        "nn.LSTM": plain,
        "unrolled": counted_operations(CHANGES["unrolled cell"]),
    }.items():
        assert count == expected, f"{name}: {count} operations counted, {expected} by formula"
    return expected


def stepper(state: State, given: Sequence[Tensor] | None = None) -> Callable[[], None]:
    """One update of the library a call, on changing batches: the synthetic recipe's, or others."""
    batches = list(random_batches(64)[:, 0]) if given is None else given
    joint = Joint()

    def step() -> None:
        joint.update(state, batches[state.iteration % len(batches)], batches, lambda: None)
        state.iteration += 1

    return step


def without_onednn() -> Callable[[], None]:
    """The library's step with torch's own LSTM."""
    step = stepper(changed_state(CHANGES[LIBRARY], 0))

    def run() -> None:
        with torch.backends.mkldnn.flags(enabled=False):
            step()

    return run


def with_optimiser(**options: bool) -> Callable[[], None]:
    """The library's step with another implementation of SGD."""
    state = changed_state(CHANGES[LIBRARY], 0)
    for name in ("inference", "generative"):
        group = getattr(state, name).param_groups[0]
        setattr(state, name, torch.optim.SGD(group["params"], lr=group["lr"], **options))
    return stepper(state)


def on_batches(step: Callable[[Tensor], None], batches: Tensor) -> Callable[[], None]:
    """Call a step on one batch after another."""
    place = iter(int(k) for k in torch.arange(10**6) % len(batches))
    return lambda: step(batches[next(place)])


def stacked(recurrence: Recurrence, is_compiled: bool = False) -> Make:
    """Maker of stacked steps."""
    return lambda states: StackedStep(states, recurrence, is_compiled)


def stacked_action(make: Make, seeds: int) -> Callable[[], None]:
    """A stacked step to time."""
    step = make([changed_state(CHANGES[LIBRARY], seed) for seed in range(seeds)])
    return on_batches(step, random_batches(64, seeds))


STACKED: dict[str, Make] = {
    "five seeds stacked, unrolled": stacked(unrolled),
    "five seeds stacked, hand-written": stacked(hand_written),
}
STACKED_COMPILED: dict[str, Any] = {
    "five seeds stacked, unrolled, compiled": stacked(unrolled, True)
}


def stages() -> dict[str, Callable[[], None]]:
    """The library's step cut off after each of its parts."""
    state = changed_state(CHANGES[LIBRARY], 0)
    batch = random_batches(1)[0, 0]
    model = state.model

    def forward() -> Tensor:
        model.zero_grad(set_to_none=True)
        return state.objective(model, batch, state.progress, state.noise).loss

    def all_but_sgd() -> None:
        gradients(state, batch)

    def no_return() -> None:
        forward()

    return {
        "forward": no_return,
        "+ backward": lambda: forward().backward(),
        "+ clip and check": all_but_sgd,
        "+ SGD = whole step": stepper(state),
    }


def profile(steps: int = 100) -> list[tuple[str, float, float]]:
    """(operation, calls a step, own microseconds a step) by torch's profiler, costly ones first."""
    step = stepper(changed_state(CHANGES[LIBRARY], 0))
    for _ in range(20):
        step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        for _ in range(steps):
            step()
    rows = [(e.key, e.count / steps, e.self_cpu_time_total / steps) for e in seen.key_averages()]
    return sorted(rows, key=lambda row: -row[2])


def probe() -> None:
    """Print seconds and page faults of a step of the library, in a process that does no more."""
    step = stepper(changed_state(CHANGES[LIBRARY], 0))
    interleaved({"step": step}, 10, 5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    times = interleaved({"step": step}, 50, 5)["step"]
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    print(statistics.median(times), faults / 300)


def heap(processes: int) -> dict[str, dict[str, list[float]]]:
    """The library's step in fresh processes, in turn as it is and with the heap kept."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(processes):
        for name, extra in {"as it is": {}, "heap kept": KEPT_HEAP}.items():
            output = subprocess.run(
                [sys.executable, "-W", "ignore", __file__, "--probe"],
                env={**os.environ, **extra},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout.split()
            entry = found.setdefault(name, {"seconds": [], "page_faults": []})
            entry["seconds"].append(float(output[-2]))
            entry["page_faults"].append(float(output[-1]))
    return found


def compiled_actions(result: dict[str, Any]) -> dict[str, tuple[Callable[[], None], int]]:
    """Check and warm up what needs a compiler; without one the reason goes into the result."""
    actions: dict[str, tuple[Callable[[], None], int]] = {}
    torch._inductor.config.force_disable_caches = True  # a compile time is one from nothing
    try:
        for name, change in COMPILED.items():
            start = time.perf_counter()
            check_change(name, change)
            result["compile_seconds"][name] = time.perf_counter() - start
            actions[name] = stepper(changed_state(change, 0)), 1
        for name, make in STACKED_COMPILED.items():
            start = time.perf_counter()
            check_stacked(name, make, SEEDS)
            result["compile_seconds"][name] = time.perf_counter() - start
            actions[name] = stacked_action(make, SEEDS), SEEDS
    except torch._dynamo.exc.BackendCompilerFailed as error:
        result["not_compiled"] = str(error).splitlines()[0]
    return actions


def checked_actions(result: dict[str, Any], compile_too: bool) -> dict[str, Any]:
    """(action, seeds it trains) by name, each proved equal to the library's step first."""
    actions: dict[str, tuple[Callable[[], None], int]] = {}
    for name, change in CHANGES.items():
        check_change(name, change)
        actions[name] = stepper(changed_state(change, 0)), 1
    check_flat()
    flat = FlatStep(changed_state(CHANGES[LIBRARY], 0))
    actions["nn.LSTM, parameters in one vector"] = on_batches(flat, random_batches(64)[:, 0]), 1
    actions["nn.LSTM, foreach SGD"] = with_optimiser(foreach=True), 1
    actions["nn.LSTM, fused SGD"] = with_optimiser(fused=True), 1
    actions["nn.LSTM without oneDNN"] = without_onednn(), 1
    for name, make in STACKED.items():
        check_stacked(name, make, SEEDS)
        actions[name] = stacked_action(make, SEEDS), SEEDS
    if compile_too:
        actions |= compiled_actions(result)
    return actions


def text_state(size: Size, precision: Precision, optimiser: str, dropout: float) -> State:
    """State of the library's model at a size of text, before the first update."""
    method = methods.get("vae")
    network = TextNetwork(
        size.embedding, size.hidden, dropout, (-0.1, 0.1), (-1.0, 1.0), precision=precision
    )
    model = build_vae(network, size.vocabulary, size.latent, method.posterior, method.prior)
    network.initialise(model, torch.Generator().manual_seed(0))
    settings = Optimisation(optimiser=optimiser, learning_rate=RATES[optimiser])
    return new_state(model.train(), method.objective, method.training, settings, 1000, 0)


def plain_model(state: State, size: Size, dropout: float) -> PlainVAE:
    """The plain model with the parameters of the library's."""
    plain = PlainVAE(size, dropout)
    with torch.no_grad():
        for own, other in zip(plain.parameters(), state.model.parameters(), strict=True):
            own.copy_(other)
    return plain.train()


def text_batches(size: Size, count: int) -> list[Tensor]:
    """Batches of random words."""
    generator = torch.Generator().manual_seed(1)
    shape = (count, size.batch, size.words + 1)
    return list(torch.randint(4, size.vocabulary, shape, generator=generator))


def check_plain(name: str, size: Size) -> dict[str, float]:
    """The plain step against the library's in float32, without dropout and with equal noise.

    Returns:
        How far the gradient of all parameters is off in each precision, relative to its length.
    """
    found = {}
    (batch,) = text_batches(size, 1)
    for precision in Precision:
        state = text_state(size, precision, "sgd", 0.0)
        state.clip_norm = float("inf")
        plain = plain_model(state, size, 0.0)
        loss = plain(batch, torch.Generator().manual_seed(1))
        loss.backward()
        own = loss_and_gradients(state, batch)
        wanted = [loss.detach(), *(p.grad for p in plain.parameters() if p.grad is not None)]
        if precision is Precision.FLOAT32:
            check_equal(name, own, wanted)
        one, other = (torch.cat([g.flatten() for g in x[1:]]) for x in (own, wanted))
        found[precision.value] = float((one - other).norm() / other.norm())
    return found


def text_steps(rounds: int, inner: int) -> list[dict[str, Any]]:
    """Steps at the sizes of text: ratios to the plain step of the same turn."""
    found = []
    for name, size in TEXT.items():
        errors = check_plain(name, size)
        batches = text_batches(size, 64)
        for optimiser, rate in RATES.items():
            states = {p: text_state(size, p, optimiser, 0.5) for p in Precision}
            plain = plain_model(states[Precision.FLOAT32], size, 0.5)
            actions = {PLAIN: plain_stepper(plain, optimiser, rate, batches)}
            actions |= {p.value: stepper(state, batches) for p, state in states.items()}
            times = interleaved(actions, rounds, inner)
            ratios = {
                p.value: sorted(a / b for a, b in zip(times[p], times[PLAIN], strict=True))
                for p in Precision
            }
            found.append(
                {
                    "case": name,
                    "size": size._asdict(),
                    "optimiser": optimiser,
                    "milliseconds": {k: 1e3 * statistics.median(v) for k, v in times.items()},
                    "ratio": {k: statistics.median(v) for k, v in ratios.items()},
                    "quartiles": {k: statistics.quantiles(v, n=4)[::2] for k, v in ratios.items()},
                    "gradient_error": errors,
                }
            )
    return found


def readable_text(cases: list[dict[str, Any]]) -> str:
    """A table of the steps at the sizes of text."""
    rows = [
        [
            f"{case['case']}, {case['optimiser']}",
            *(f"{case['milliseconds'][k]:.1f}" for k in (PLAIN, *Precision)),
            *(
                f"{case['ratio'][p]:.2f} ({case['quartiles'][p][0]:.2f} to "
                f"{case['quartiles'][p][1]:.2f})"
                for p in Precision
            ),
            f"{case['gradient_error']['bfloat16']:.0e}",
        ]
        for case in cases
    ]
    header = ["a step of text, ms", PLAIN, *Precision, "float32 / plain", "bfloat16 / plain", "off"]
    there = available(Precision.BFLOAT16, torch.device("cpu")) is Precision.BFLOAT16
    note = "" if there else "\nthis processor has no bfloat16 products: both are in float32"
    return table(header, rows) + note


def measure(rounds: int, inner: int, compile_too: bool) -> dict[str, Any]:
    """Everything, as numbers."""
    result: dict[str, Any] = {"operations": check_operations(), "compile_seconds": {}}
    actions = checked_actions(result, compile_too)
    watch = Foreign()
    timed = {name: action for name, (action, _) in actions.items()}
    times = interleaved({"product": product(), **timed}, rounds, inner)
    result["product_rate"] = PRODUCT_FLOP / statistics.median(times.pop("product"))
    result["alternatives"] = {
        name: describe(name, times, actions[name][1], result) for name in times
    }
    parts = interleaved(stages(), rounds, inner)
    result["stages_seconds"] = {name: statistics.median(found) for name, found in parts.items()}
    result["foreign_cores"] = watch.cores()
    result["profile"] = profile()
    result["heap"] = heap(processes=5)
    return result


def describe(
    name: str, times: dict[str, list[float]], seeds: int, result: dict[str, Any]
) -> dict[str, float]:
    """Numbers of one alternative; all are per seed."""
    seconds = statistics.median(times[name]) / seeds
    rate = result["operations"] / seconds
    return {
        "seconds": seconds,
        "speedup": seeds / median_ratio(times[name], times[LIBRARY]),
        "flop_per_second": rate,
        "share_of_product_rate": rate / result["product_rate"],
    }


def readable(result: dict[str, Any]) -> str:
    """Tables of the alternatives, the stages and the profile."""
    rows = [
        [
            name,
            f"{1e3 * found['seconds']:.2f}",
            f"{found['speedup']:.2f}",
            f"{found['flop_per_second'] / 1e9:.1f}",
            f"{100 * found['share_of_product_rate']:.0f}%",
            f"{result['compile_seconds'][name]:.0f}" if name in result["compile_seconds"] else "",
        ]
        for name, found in result["alternatives"].items()
    ]
    header = ["step", "ms a seed", "speed-up", "GFLOP/s", "of product", "compile s"]
    parts = [[name, f"{1e3 * s:.2f}"] for name, s in result["stages_seconds"].items()]
    shown = [[name, f"{calls:.0f}", f"{us:.0f}"] for name, calls, us in result["profile"][:12]]
    lines = [
        f"{result['operations'] / 1e6:.1f} MFLOP a step; product of size 512: "
        f"{result['product_rate'] / 1e9:.0f} GFLOP/s; others used {result['foreign_cores']:.2f} "
        "cores meanwhile (CPU time is counted, so they cost caches only)",
        table(header, rows),
        "",
        table(["the library's step, cut off", "ms"], parts),
        "",
        table(["its operations, profiled", "calls", "own us"], shown),
    ]
    kept = [
        [name, f"{1e3 * statistics.median(v['seconds']):.2f}"]
        + [f"{f(v['page_faults']):.0f}" for f in (min, statistics.median, max)]
        for name, v in result["heap"].items()
    ]
    header = ["the library's step, 5 fresh processes", "ms", "least faults", "median", "most"]
    lines += ["", table(header, kept)]
    if "not_compiled" in result:
        lines.append(f"not compiled: {result['not_compiled']}")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--inner", type=int, default=5, help="steps a turn")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--text-only", action="store_true", help="leave the synthetic recipe out")
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.probe:
        probe()
        return
    where = machine(wait_until_quiet(patience=20.0))
    text = f"{where['processor']}, torch {where['torch']}, one thread"
    result: dict[str, Any] = {"machine": where}
    if not given.text_only:  # before the heap is kept, which it compares
        result |= measure(given.rounds, given.inner, not given.no_compile)
        text += f"\n{readable(result)}\n"
    with one_thread(torch.device("cpu")):  # keeps the heap, as a run does; the plain step gains too
        result["text"] = text_steps(max(2, given.rounds // 2), given.inner)
    report(f"{text}\n{readable_text(result['text'])}", result, given.json)


if __name__ == "__main__":
    main()
