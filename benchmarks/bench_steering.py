"""Compare reading neurons as tokens, finding concepts and steering them with unavoidable work and with naive ways.

    python benchmarks/bench_steering.py [--layers 12] [--prompts 32] [--length 16] [--repeats 1]

The model has GPT-2 small's size and random weights; a few neurons of each block promote eight planted words. Compares
reading the neurons of `--read-layers` blocks with the matrix products alone; scoring a concept in all blocks with
reading them in full; and a dose-response sweep of 5 alphas and 6 conditions, with neurons in the upper half of the
model, with separate hooked forward passes and the same statistics. Seconds depend on the machine; quote the ratios.
"""

from __future__ import annotations

import argparse

import torch
from _timing import interleaved
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import interp
from interp.model.sites import editing
from probes import NeuronSet, concept_scores, neuron_tokens, steer
from probes.neurons.steering._controls import conditions
from probes.neurons.steering._doses import edits_of, moments

WORDS = [f"w{index}" for index in range(100, 108)]
ALPHAS = (0.0, 1.0, 2.0, 4.0, 8.0)
CONTROLS = ("random", "norm_matched", "sign_flip", "direction", "mean")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--read-layers", type=int, default=1)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    subject = planted_gpt2(arguments.layers)
    _ = subject.fingerprint, subject.token_strings  # computed once per subject, not per run
    ids = torch.randint(0, subject.d_vocab, (arguments.prompts, arguments.length))
    subject.logits(ids[:2, :4])  # verifies the model on its first tokens
    reading(subject, list(range(arguments.read_layers)), arguments.repeats)
    sweep(subject, ids, arguments.repeats)


def planted_gpt2(n_layers: int) -> interp.Subject:
    """Build a model with random weights and, in every block, ten neurons that promote the words."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=n_layers, bos_token_id=0, eos_token_id=0)).eval()
    tokenizer = Tokenizer(WordLevel({f"w{index}": index for index in range(model.config.vocab_size)}))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    planted = model.lm_head.weight[100:108].mean(dim=0)
    with torch.no_grad():
        for block in model.transformer.h:
            block.mlp.c_proj.weight[:10] += 3.0 * planted
    return interp.load(model, tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer))


def reading(subject: interp.Subject, layers: list[int], repeats: int) -> None:
    def products() -> None:
        for layer in layers:
            for rows in subject.value_vectors(layer).split(256):
                rows @ subject.W_U

    rounds = {
        "products": products,
        "neuron_tokens": lambda: neuron_tokens(subject, layers=layers, n_random=0),
        "concept_scores": lambda: concept_scores(subject, words=WORDS),
    }
    seconds = interleaved(rounds, repeats, warm_up=1)
    n, n_all = len(layers) * subject.d_mlp, subject.n_layers * subject.d_mlp
    print(f"vocabulary {subject.d_vocab}, {torch.get_num_threads()} threads")
    for name, value in seconds.items():
        n_here = n_all if name == "concept_scores" else n
        share = value / n_here / (seconds["products"] / n)
        print(f"  {name:16s} {n_here:6d} neurons {value:7.2f} s   {share:6.3f} x the products, per neuron (target 2)")
    ratio = (seconds["neuron_tokens"] / n) / (seconds["concept_scores"] / n_all)
    print(f"  scoring a concept is {ratio:.1f} x as fast as reading the neurons in full, per neuron (target 20)")


def sweep(subject: interp.Subject, ids: torch.Tensor, repeats: int) -> None:
    upper = range(subject.n_layers // 2, subject.n_layers)
    neurons = NeuronSet.of(subject, {layer: range(10) for layer in upper}, WORDS)

    def ours() -> None:
        steer(subject, ids, neurons, alphas=ALPHAS, controls=CONTROLS)

    def naive() -> None:
        """Run a hooked pass per condition, with the same statistics; keep the unsteered distribution."""
        known = moments(subject, subject.tokens(ids), list(neurons.by_layer))
        doses, by_control = conditions(
            subject, neurons.by_layer, ALPHAS, CONTROLS, known, mode="override", alpha_unit="raw", seed=0
        )
        concept = neurons.words.held_out_ids
        everywhere = torch.arange(ids.shape[1])[None] > 0
        for some in ids.split(8):
            base = subject.backend.logits(some)[:, 1:]
            base_log_prob = base.log_softmax(dim=-1)
            for numbers in by_control.values():
                for number in numbers:
                    active = [editing(*edit) for edit in edits_of(subject, [doses[number]], lambda _: everywhere)]
                    for edit in active:
                        edit.__enter__()
                    logits = subject.backend.logits(some)[:, 1:]
                    for edit in reversed(active):
                        edit.__exit__(None, None, None)
                    log_prob = logits.log_softmax(dim=-1)
                    (base_log_prob.exp() * (base_log_prob - log_prob)).sum(dim=-1)
                    log_prob[..., concept].logsumexp(dim=-1)
                    logits[..., concept].mean(dim=-1)
                    log_prob[:, :-1].gather(2, some[:, 2:, None])

    seconds = interleaved({"ours": ours, "naive": naive}, repeats, warm_up=1)
    print(
        f"dose and response: {len(ALPHAS)} alphas x {1 + len(CONTROLS)} conditions on {len(ids)} prompts of "
        f"{ids.shape[1]} tokens, neurons in blocks {upper.start} to {upper.stop - 1} of {subject.n_layers}"
    )
    for name, value in seconds.items():
        print(f"  {name:22s} {value:7.2f} s   {value / seconds['naive']:5.2f} x the naive passes")
    print("  (target 0.5)")


if __name__ == "__main__":
    main()
