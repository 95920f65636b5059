"""Run every registered probe with its defaults on a real model: seconds beside bare forward passes, and memory.

    python benchmarks/bench_real.py [--model smollm2] [--prompts 24] [--only NAME ...] [--without NAME ...]
                                    [--together] [--limit 600] [--out results/bench_real.json]

Each probe runs in a process of its own (with --together all in this one, which saves the imports), on shipped stories
of 64 tokens, with the arguments of its `example` (`interp.report.every_probe`); a probe that says it needs running text
gets as much as it asks for. What was measured is kept in --out, one entry per probe, so that an interrupted table goes
on where it stopped. Before it starts, it says what the whole will cost by the seconds of an earlier table, if it knows
them. The ratio is of processor seconds, which other work on the machine changes least.

What a probe says that it will cost is kept beside what it cost. One that says, or needs, more processor seconds than
--limit is stopped, its entry says so, and a larger limit measures it again: 600 are five minutes on two cores.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any

LENGTH = 64  # tokens a prompt
ANSWERED = ("iterative_inference",)  # probes whose texts have right answers: they get shipped prompts
SAID = re.compile(r"about ([\d.,]+) (seconds|minutes|hours)")
SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600}
COLUMNS = ("seconds", "processor", "forward", "ratio", "MiB", "tokens", "rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2", help="anything interp.load takes")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--only", action="append", metavar="NAME", help="of a probe; may be repeated")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="of a probe; may be repeated")
    parser.add_argument("--limit", type=float, default=600, help="processor seconds of one probe")
    parser.add_argument("--together", action="store_true", help="all in one process: what is cached counts once")
    parser.add_argument("--out", type=Path, default=Path("results/bench_real.json"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # a probe: how this script calls itself
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.model, arguments.measure, arguments.prompts, arguments.limit)))
        return

    from interp.runs import registry
    from interp.runs.progress import progress_bar

    names = [name for name in arguments.only or registry.names() if name not in arguments.without]
    unknown = sorted({*(arguments.only or ()), *arguments.without} - set(registry.names()))
    if unknown:
        raise SystemExit(f"{unknown[0]!r} is not a registered probe; known: {', '.join(registry.names())}.")
    if absent := why_absent(arguments.model):
        print(f"{arguments.model!r} does not load without a network: {absent}")
        return
    kept: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    done = kept.setdefault(f"{arguments.model}, {arguments.prompts} prompts", {})
    left = [name for name in names if done.get(name, {"limit": 0.0}).get("limit", arguments.limit) < arguments.limit]
    print(f"{len(names)} probes, {len(names) - len(left)} of them kept in {str(arguments.out)!r}; {cost(kept, left)}")
    with progress_bar(len(left), "probe", "bench_real") as bar:
        for name in left:
            bar.set_description(name)
            if arguments.together:
                done[name] = measure(arguments.model, name, arguments.prompts, arguments.limit)
            else:
                done[name] = in_a_process(arguments, name)
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(kept, indent=1))
            bar.update()
    print(f"{arguments.model}, {arguments.prompts} prompts of {LENGTH} tokens, {threads()} thread(s)")
    print(f"  {'':24s}" + "".join(f"{column:>10s}" for column in COLUMNS))
    for name in names:
        found = done[name]
        shown = (
            "".join(f"{found[column]:10,.1f}" for column in COLUMNS) if "seconds" in found else f"  {found['absent']}"
        )
        print(f"  {name:24s}{shown}")
    total = sum(done[name].get("seconds", 0.0) for name in names)
    print(f"  all: {total:.0f} s (target 300 on two cores), at most {most_memory(done, names):,.0f} MiB (target 3,072)")


def why_absent(model: str) -> str:
    """Return why the model does not load without a network, in a process that gives its memory back; "" if it does."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    command = [sys.executable, "-c", "import sys, interp; interp.load(sys.argv[1])", model]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return last_words(done.stderr) if done.returncode else ""


def last_words(said: str) -> str:
    """Return the last line of what a process said."""
    return (said.strip().splitlines() or ["no reason given"])[-1]


def cost(kept: dict[str, Any], left: list[str]) -> str:
    """Say how long the probes that are left will take, by what other tables in the file say about a prompt."""
    known: dict[str, float] = {}
    for of_table in kept.values():
        known |= {name: one["seconds"] for name, one in of_table.items() if "seconds" in one}
    unknown = sum(name not in known for name in left)
    seconds = sum(known.get(name, 0.0) for name in left)
    more = f", and {unknown} of which that is not known, up to the time limit each" if unknown else ""
    return (
        f"about {seconds / 60:.1f} minutes for those measured before{more}." if left else "nothing is left to measure."
    )


def most_memory(done: dict[str, Any], names: list[str]) -> float:
    """Return the most memory of a probe, MiB."""
    return max((done[name].get("MiB", 0.0) for name in names), default=0.0)


def threads() -> str:
    """Return the number of threads of the processes."""
    return os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))


def in_a_process(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """Measure a probe in a process of its own; on failure, its last words."""
    options = {"model": arguments.model, "prompts": arguments.prompts, "limit": arguments.limit, "measure": name}
    command = [sys.executable, __file__, *(word for key, value in options.items() for word in (f"--{key}", str(value)))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"absent": last_words(done.stderr)}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


class OverLimit(BaseException):
    """Stops a probe that costs too much: not an Exception, which a probe may catch."""


class Listening(io.StringIO):
    """Keeps what a probe says of its cost, and stops one that says more than the limit of processor seconds."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.says, self.is_over, self._limit = "", False, limit

    def write(self, text: str) -> int:
        """Keep the sentence that says a duration."""
        if (found := SAID.search(text)) and not self.says:
            self.says = next(line for line in text.splitlines() if SAID.search(line)).strip()
            self.is_over = float(found[1].replace(",", "")) * SECONDS[found[2]] > self._limit
            if self.is_over:
                raise OverLimit
        return len(text)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `OverLimit` inside the block after as many processor seconds."""

    def stop(*_: Any) -> None:
        raise OverLimit

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def give_back_memory() -> None:
    """Give freed memory back to the system, so that the next probe's growth is its own."""
    gc.collect()
    with suppress(OSError, AttributeError):  # not the GNU library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def measure(model: str, name: str, n_prompts: int, limit: float) -> dict[str, Any]:
    """Run a probe once on a warm model; and then one bare forward pass over the tokens that it was given.

    `seconds` is the clock's; `processor` and `forward` are processor seconds of all threads, and `ratio` is theirs.
    """
    from _timing import extra_memory

    import interp
    from interp.report.every_probe import arguments_of, some_texts
    from interp.runs import registry

    interp.options.progress = True  # or nothing says what it will cost
    subject = interp.load(model)
    texts = some_texts("prompts", n_prompts) if name in ANSWERED else prompts(subject, n_prompts)
    subject.logits(texts["text"].iloc[:1].tolist())  # verifies the model
    _ = subject.fingerprint
    probe = registry.get(name)
    frames: list[Any] = []
    give_back_memory()
    listening = Listening(limit)
    try:
        given = arguments_of(probe, subject, texts)
        start, started = time.perf_counter(), time.process_time()
        with redirect_stderr(listening), limited(limit):
            memory = extra_memory(lambda: frames.append(probe.function(subject, **given)))
        seconds, processor = time.perf_counter() - start, time.process_time() - started
    except interp.InterpError as error:
        return {"absent": str(error)}
    except OverLimit:
        used = time.process_time() - started
        stopped = "not run" if listening.is_over else f"stopped after {used:.0f} processor seconds"
        return {"absent": f"{stopped}; it says {listening.says or 'nothing'!r}.", "limit": limit}
    found = {"seconds": seconds, "processor": processor, "MiB": (memory or 0) / 2**20, "rows": float(len(frames[0]))}
    tokens = subject.tokens(given.get("texts", texts), truncate=True)
    forward = of_a_pass(subject, tokens)
    found |= {"forward": forward, "ratio": processor / forward, "tokens": float(sum(map(len, tokens.ids)))}
    return found | {"says": listening.says}


def of_a_pass(subject: Any, tokens: Any) -> float:
    """Return the processor seconds of one bare forward pass over the tokens, without the unembedding."""
    started = time.process_time()
    for batch in tokens.batches(subject.batch_tokens(1)):
        subject.run(batch.ids, lambda tape: None)
    return time.process_time() - started


def prompts(subject: Any, n_prompts: int) -> Any:
    """Return shipped stories cut to `LENGTH` tokens, as texts, at even distances."""
    from interp.data.shipped import dataset
    from interp.report.every_probe import some_texts

    chosen = some_texts(dataset("stories"), n_prompts)
    ids = subject.tokens(chosen, bos=False, truncate=True).ids
    texts = [subject.tokenizer.decode(one[: LENGTH - 1], skip_special_tokens=True) for one in ids]
    return chosen.assign(text=texts)


if __name__ == "__main__":
    main()
