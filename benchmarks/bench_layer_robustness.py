"""Compare deletions and swaps of every block with other ways and with unavoidable work, at GPT-2 small's size.

    python benchmarks/bench_layer_robustness.py [--batch 8] [--length 64] [--repeats 1]

Prints one line each for: our finished frame, without and with its control; the unavoidable block runs and unembedding
products of the plan, as plain calls of transformers' blocks and plain matrix products; zeroing hooks and reordered
modules with a full forward pass each; the authors' procedure, entirely in TransformerLens, which loads every swapped
state dict into a new model. Then the same with 8 positions read per prompt, without the authors' procedure. Seconds
depend on the machine; quote the ratios.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable

import torch
from _timing import interleaved
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
from transformers import GPT2Config, GPT2LMHeadModel

import interp
from interp.model.schedules import plan
from probes import layer_robustness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config()).eval()
    subject = interp.load(model)
    _ = subject.fingerprint  # hashed once per subject, not per run
    ids = torch.randint(0, subject.d_vocab, (arguments.batch, arguments.length))
    layer_robustness(subject, ids[:2, :4])  # imports, and verifies the model on its first tokens
    layer_robustness(subject, ids)  # the first run pays for memory that the allocator then keeps
    some = list(range(7, arguments.length, 8))
    print(f"{subject.n_layers} blocks, {ids.shape[0]} x {ids.shape[1]} tokens, {torch.get_num_threads()} threads")
    for name, positions in (("every position", None), (f"{len(some)} positions of each prompt", some)):
        read = torch.arange(arguments.length) if positions is None else torch.tensor(positions)
        rounds: dict[str, Callable[[], object]] = {
            "ours": lambda positions=positions: layer_robustness(subject, ids, positions=positions, controls=()),
            "ours, with control": lambda positions=positions: layer_robustness(subject, ids, positions=positions),
            "unavoidable": lambda read=read: unavoidable(model, ids, len(read)),
            "hooks": lambda read=read: by_hooks(model, ids, read),
        }
        if positions is None:
            rounds["authors' way"] = lambda read=read: by_state_dicts(model, ids, read)
        seconds = interleaved(rounds, arguments.repeats)
        print(f"{name} read:")
        for way, value in seconds.items():
            print(f"  {way:18s} {value:7.2f} s   {value / seconds['unavoidable']:5.2f} x the unavoidable")
        target = "1.35" if positions is None else "2.2"
        print(f"  ours is {seconds['hooks'] / seconds['ours']:.2f} x as fast as hooks (target {target})")
        if positions is None:
            ratio = seconds["authors' way"] / seconds["ours"]
            print(f"  ours is {ratio:.2f} x as fast as the authors' way (target 4)")
        print(f"  ours costs {seconds['ours'] / seconds['unavoidable']:.2f} x the unavoidable (target 1.25)")


def orders(n: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return the orders of blocks for all deletions and all swaps."""
    swaps = [[*range(i), i + 1, i, *range(i + 2, n)] for i in range(n - 1)]
    return [[j for j in range(n) if j != i] for i in range(n)], swaps


@torch.inference_mode()
def unavoidable(model: GPT2LMHeadModel, ids: Tensor, n_positions: int) -> None:
    """Run the clean pass, the plan's block runs, at most eight per batch, and the unembedding of all read positions."""
    deletions, swaps = orders(model.config.n_layer)
    hidden = model.transformer.wte(ids)
    for block in model.transformer.h:
        block(hidden)
    for block, nodes in plan(deletions + swaps).steps:
        for some in torch.empty(len(nodes)).split(8):
            model.transformer.h[block](hidden.repeat(len(some), 1, 1))
    read = torch.randn(len(ids) * n_positions, hidden.shape[-1])
    for columns in model.lm_head.weight.split(4096):
        out = torch.empty(len(read), len(columns))
        for _ in range(len(deletions) + len(swaps) + 1):
            torch.mm(read, columns.T, out=out)


@torch.inference_mode()
def by_hooks(model: GPT2LMHeadModel, ids: Tensor, read: Tensor) -> None:
    """Run a full forward pass per variant: zeroing hooks for deletions, reordered modules for swaps."""
    blocks = model.transformer.h
    deletions, swaps = orders(len(blocks))
    intact = log_probs(model, ids, read)
    for index in range(len(deletions)):
        parts = (blocks[index].attn, blocks[index].mlp)
        handles = [part.register_forward_hook(zero) for part in parts]
        compare(log_probs(model, ids, read), intact, ids, read)
        for handle in handles:
            handle.remove()
    for order in swaps:
        model.transformer.h = nn.ModuleList([blocks[index] for index in order])
        compare(log_probs(model, ids, read), intact, ids, read)
    model.transformer.h = blocks


@torch.inference_mode()
def by_state_dicts(model: GPT2LMHeadModel, ids: Tensor, read: Tensor) -> None:
    """Run the authors' procedure: TransformerLens hooks that zero for deletions; a new model per swap of weights.

    As the authors do, process every model with TransformerLens (norms folded, weights centred), here version 4.
    """

    def through(bridge: TransformerBridge, hooks: list[tuple[str, Callable[..., Tensor]]]) -> Tensor:
        logits = bridge.run_with_hooks(ids, fwd_hooks=hooks, use_cache=False)
        return logits[:, read].log_softmax(dim=-1)

    intact_model = processed(copy.deepcopy(model))
    intact = through(intact_model, [])
    n_layers = model.config.n_layer
    for index in range(n_layers):
        hooks = [
            (f"blocks.{index}.hook_{part}_out", lambda out, hook: torch.zeros_like(out)) for part in ("attn", "mlp")
        ]
        compare(through(intact_model, hooks), intact, ids, read)
    for first in range(n_layers - 1):
        state = copy.deepcopy(model.state_dict())
        for name in [name for name in state if f".h.{first}." in name]:
            other = name.replace(f".h.{first}.", f".h.{first + 1}.")
            state[name], state[other] = state[other], state[name]
        swapped = GPT2LMHeadModel(model.config).eval()
        swapped.load_state_dict(state)
        compare(through(processed(swapped), []), intact, ids, read)


def processed(model: GPT2LMHeadModel) -> TransformerBridge:
    bridge = build_bridge_from_module(model, "GPT2LMHeadModel", hf_config=model.config)
    bridge.enable_compatibility_mode()
    return bridge


def zero(module: nn.Module, args: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)


def log_probs(model: GPT2LMHeadModel, ids: Tensor, read: Tensor) -> Tensor:
    return model(ids, use_cache=False).logits[:, read].log_softmax(dim=-1)


def compare(changed: Tensor, intact: Tensor, ids: Tensor, read: Tensor) -> tuple[Tensor, ...]:
    """Compute KL, loss of the next token, its rank, entropy and agreement by plain tensor code."""
    following = ids[:, (read + 1).clamp(max=ids.shape[1] - 1), None]
    of_target = changed.gather(-1, following)
    return (
        (intact.exp() * (intact - changed)).sum(dim=-1),
        -of_target,
        (changed > of_target).sum(dim=-1),
        -(changed.exp() * changed).sum(dim=-1),
        changed.argmax(dim=-1) == intact.argmax(dim=-1),
    )


if __name__ == "__main__":
    main()
