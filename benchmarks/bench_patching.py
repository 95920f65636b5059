"""Compare patches of all sites, blocks and positions with hooked passes and unavoidable work, at GPT-2 small's size.

    python benchmarks/bench_patching.py [--length 16] [--repeats 1] [--every 9]

Two pairs of prompts, without controls: one that differs everywhere, and one that differs from the middle on, where
nothing is run for places that are equal. Prints: our finished frames; the unavoidable block runs of the first (two
forward passes and, for each patch, the blocks behind it), as plain calls of transformers' blocks on batches of 4,096
tokens; a full forward pass of transformers with a hook for each patch, and transformer_lens.patching for the same three
sites, both timed on one patch in `--every`, and multiplied; and all estimates of `attribution_patch`, without exact
patches. Processor seconds; quote the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Callable

import torch
from _timing import interleaved
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

import interp
from probes import attribution_patch, patch

SITES = ("resid_pre", "attn_out", "mlp_out")
AT_ONCE = 4096  # tokens in one call of a block


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--every", type=int, default=9)
    given = parser.parse_args()

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config()).eval()
    subject = interp.load(model)
    _ = subject.fingerprint  # hashed once per subject, not per run
    clean = torch.arange(1, 1 + given.length)[None]
    corrupt = clean + 1000
    alike = torch.cat([clean[:, : given.length // 2], corrupt[:, given.length // 2 :]], dim=1)
    n_layers, n_pos = subject.n_layers, given.length
    patch(subject, clean[:, :4], corrupt[:, :4], layers=0, controls=())  # imports, and verifies the model
    places = [(site, layer, pos) for site in SITES for layer in range(n_layers) for pos in range(n_pos)]
    print(f"{len(places)} patches: {n_layers} blocks, {n_pos} tokens, {torch.get_num_threads()} threads")
    one = {"target": 40, "against": 50}
    rounds: dict[str, Callable[[], object]] = {
        "ours": lambda: patch(subject, clean, corrupt, controls=(), **one),
        "ours, from the middle": lambda: patch(subject, clean, alike, controls=(), **one),
        "unavoidable": lambda: unavoidable(model, clean, corrupt),
        "hooks": lambda: by_hooks(model, clean, corrupt, places[:: given.every]),
        "transformer_lens": lambda: by_transformer_lens(subject, clean, corrupt, range(0, n_pos, given.every)),
        "estimates": lambda: attribution_patch(subject, clean, corrupt, methods=("gradient",), exact=0.0, **one),
    }
    seconds = interleaved(rounds, given.repeats, warm_up=1, clock=time.process_time)
    seconds["hooks"] *= len(places) / len(places[:: given.every])
    seconds["transformer_lens"] *= n_pos / len(range(0, n_pos, given.every))
    for way, value in seconds.items():
        print(f"  {way:21s} {value:7.2f} s   {value / seconds['unavoidable']:5.2f} x the unavoidable")
    print(f"ours is {seconds['hooks'] / seconds['ours']:.1f} x as fast as hooked passes (target 5)")
    print(
        f"the bound is {seconds['hooks'] / seconds['unavoidable']:.1f} x: plain calls of the unavoidable blocks alone"
    )
    print(f"from the middle it is {seconds['hooks'] / seconds['ours, from the middle']:.1f} x as fast as hooked passes")
    print(f"ours is {seconds['transformer_lens'] / seconds['ours']:.1f} x as fast as transformer_lens.patching")
    print(f"ours costs {seconds['ours'] / seconds['unavoidable']:.2f} x the unavoidable (target 1.25)")
    print(f"estimates are {seconds['ours'] / seconds['estimates']:.0f} x as fast as patches")


@torch.inference_mode()
def unavoidable(model: GPT2LMHeadModel, clean: Tensor, corrupt: Tensor) -> None:
    """Run both passes, and the blocks behind each patch: its own too, but for the MLP, whose output is known."""
    blocks = model.transformer.h
    for ids in (clean, corrupt):
        hidden = model.transformer.wte(ids)
        for block in blocks:
            hidden = leaving(block(hidden))
    per_call = max(1, AT_ONCE // hidden.shape[1])
    for layer, block in enumerate(blocks):
        # Residuals and attentions of this block and of those before it, and MLPs of those before it, at every position.
        riding = hidden.shape[1] * (2 * (layer + 1) + layer)
        for start in range(0, riding, per_call):
            block(hidden.expand(min(per_call, riding - start), -1, -1))


@torch.inference_mode()
def by_hooks(model: GPT2LMHeadModel, clean: Tensor, corrupt: Tensor, places: list[tuple[str, int, int]]) -> list[float]:
    """Run a whole pass with a hook for each patch, after one pass that keeps the clean activations."""
    blocks, kept, found = model.transformer.h, {}, []

    def keep(name: tuple[str, int]) -> Callable[..., None]:
        return lambda module, args, out: kept.__setitem__(name, leaving(out))

    handles = [block.attn.register_forward_hook(keep(("attn_out", layer))) for layer, block in enumerate(blocks)]
    handles += [block.mlp.register_forward_hook(keep(("mlp_out", layer))) for layer, block in enumerate(blocks)]
    states = model(clean, use_cache=False, output_hidden_states=True).hidden_states
    for handle in handles:
        handle.remove()
    for site, layer, pos in places:
        block = blocks[layer]
        if site == "resid_pre":
            handle = block.register_forward_pre_hook(putting_in(states[layer], pos))
        else:
            part = block.attn if site == "attn_out" else block.mlp
            handle = part.register_forward_hook(putting_out(kept[site, layer], pos))
        logits = model(corrupt, use_cache=False).logits[0, -1]
        found.append(float(logits[40] - logits[50]))
        handle.remove()
    return found


def putting_in(value: Tensor, pos: int) -> Callable[..., tuple[Tensor, ...]]:
    return lambda module, args: (put(args[0], value, pos), *args[1:])


def putting_out(value: Tensor, pos: int) -> Callable[..., Tensor | tuple[Tensor, ...]]:
    def hook(module: object, args: object, out: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        changed = put(leaving(out), value, pos)
        return (changed, *out[1:]) if isinstance(out, tuple) else changed

    return hook


def put(tensor: Tensor, value: Tensor, pos: int) -> Tensor:
    changed = tensor.clone()
    changed[:, pos] = value[:, pos]
    return changed


def leaving(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


@torch.inference_mode()
def by_transformer_lens(subject: interp.Subject, clean: Tensor, corrupt: Tensor, positions: range) -> None:
    """Run transformer-lens' own patching at some positions."""
    import pandas as pd
    from transformer_lens import patching

    bridge = subject.backend.bridge
    _, cache = bridge.run_with_cache(clean, use_cache=False)
    index = pd.DataFrame(
        [(layer, pos) for layer in range(subject.n_layers) for pos in positions], columns=["layer", "pos"]
    )
    functions = (patching.get_act_patch_resid_pre, patching.get_act_patch_attn_out, patching.get_act_patch_mlp_out)
    with contextlib.redirect_stderr(io.StringIO()):  # its bars
        for function in functions:
            function(
                bridge, corrupt, cache, lambda logits: logits[0, -1, 40] - logits[0, -1, 50],
                index_df=index, index_axis_names=None,
            )  # fmt: skip


if __name__ == "__main__":
    main()
