"""Sample the `stories` dataset from a trained model: `python -m interp.reference.sample --model DIR`.

Every passage has its own seed, which determines its opening, its length and each of its tokens. Except for rounding
in the model's logits, a passage does not depend on its batch or on the number of passages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from tqdm import tqdm

from interp.errors import ModelError

OPENINGS = (
    "",
    "Once upon a time",
    "One day, a little girl",
    "There was once an old man",
    "It was a cold night",
    "The next morning",
    '"Where have you been?"',
    "In the middle of the forest",
    "My father",
    "When the ship",
    "The house stood",
    "She looked out of the window",
    "A boy and his dog",
)
TEMPERATURE, TOP_P = 0.8, 0.95
MIN_TOKENS, MAX_TOKENS = 60, 200


@dataclass(frozen=True)
class PlantedPassage:
    """A sampled text; `n_tokens` excludes start-of-text and comes from tokenising `text` again."""

    prompt_id: int
    text: str
    seed: int
    n_tokens: int


@dataclass(frozen=True)
class SamplePlan:
    """A seed's choices before the model runs: the opening, and `draws` [tokens] in 0..1 to choose each later token."""

    opening: str
    draws: Tensor


def plan(seed: int, shortest: int = MIN_TOKENS, longest: int = MAX_TOKENS) -> SamplePlan:
    """Return the opening, length (`shortest` to `longest` tokens) and random numbers of the passage with this seed."""
    generator = torch.Generator().manual_seed(seed)
    opening = OPENINGS[int(torch.randint(len(OPENINGS), (), generator=generator))]
    length = int(torch.randint(shortest, longest + 1, (), generator=generator))
    return SamplePlan(opening, torch.rand(length, generator=generator, dtype=torch.float64))


def nucleus(logits: Tensor, draws: Tensor, temperature: float = TEMPERATURE, top_p: float = TOP_P) -> Tensor:
    """Choose token ids [batch] by `draws` [batch] in 0..1 among the most probable tokens, `top_p` in total.

    Args:
        logits: [batch, V].
        draws: uniform random numbers; the same number always chooses the same token from a distribution.
        temperature: divides the logits.
        top_p: the token that reaches this sum of probabilities is the last one kept.
    """
    probs, order = torch.softmax(logits.double() / temperature, dim=-1).sort(dim=-1, descending=True, stable=True)
    below = probs.cumsum(-1) - probs
    kept = torch.where(below < top_p, probs, 0.0)
    edges = kept.cumsum(-1)
    chosen = (edges <= draws[:, None] * edges[:, -1:]).sum(-1)
    last_kept = (kept > 0).sum(-1) - 1
    return order.gather(-1, torch.minimum(chosen, last_kept)[:, None])[:, 0]


@torch.inference_mode()
def continue_openings(model: Any, bos: int, openings: list[list[int]], draws: list[Tensor]) -> list[list[int]]:
    """Sample `len(draws[row])` tokens per row in one batch, counting the opening but not start-of-text.

    An opening is fed token by token like the rest, so rows with openings of different lengths need no padding.
    """
    lengths = [len(row) for row in draws]
    numbers = torch.nn.utils.rnn.pad_sequence(draws, batch_first=True)
    given = torch.nn.utils.rnn.pad_sequence([torch.tensor(o, dtype=torch.long) for o in openings], batch_first=True)
    given_lengths = torch.tensor([len(opening) for opening in openings])
    ids, cache = torch.full((len(draws), 1), bos), None
    for step in range(max(lengths)):
        output = model(ids[:, -1:], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        chosen = nucleus(output.logits[:, -1], numbers[:, step])
        if step < given.shape[1]:
            chosen = torch.where(step < given_lengths, given[:, step], chosen)
        ids = torch.cat([ids, chosen[:, None]], dim=1)
    return [row[1 : 1 + length] for row, length in zip(ids.tolist(), lengths, strict=True)]


def passage_text(tokenizer: Any, ids: list[int]) -> str:
    """Return the text up to the end-of-text token, stripped of white space."""
    end = tokenizer.eos_token_id
    before_end = ids[: ids.index(end)] if end in ids else ids
    return str(tokenizer.decode(before_end)).strip()


def sample_seeds(model: Any, tokenizer: Any, seeds: list[int], shortest: int, longest: int) -> list[tuple[str, int]]:
    """Return each seed's text, and its number of tokens when tokenised again."""
    plans = [plan(seed, shortest, longest) for seed in seeds]
    openings = [tokenizer(each.opening, add_special_tokens=False).input_ids for each in plans]
    rows = continue_openings(model, tokenizer.bos_token_id, openings, [each.draws for each in plans])
    texts = [passage_text(tokenizer, row) for row in rows]
    return [(text, len(tokenizer(text, add_special_tokens=False).input_ids)) for text in texts]


def passages(
    model: Any,
    tokenizer: Any,
    first_seed: int = 0,
    *,
    shortest: int = MIN_TOKENS,
    longest: int = MAX_TOKENS,
    batch_size: int = 50,
) -> Iterator[PlantedPassage]:
    """Yield passages of `shortest` to `longest` tokens, in order of seed, without end.

    A seed is skipped if the story ended too early, if the text was cut inside a character, or if tokenising it again
    gives too few or too many tokens.

    Raises:
        ModelError: twenty batches in a row gave no passage.
    """
    prompt_id, barren = 0, 0
    for start in count(first_seed, batch_size):
        seeds = list(range(start, start + batch_size))
        barren += 1
        for seed, (text, n_tokens) in zip(seeds, sample_seeds(model, tokenizer, seeds, shortest, longest), strict=True):
            if shortest <= n_tokens <= longest and "\N{REPLACEMENT CHARACTER}" not in text:
                yield PlantedPassage(prompt_id, text, seed, n_tokens)
                prompt_id, barren = prompt_id + 1, 0
        if barren == 20:
            raise ModelError(f"none of {20 * batch_size} samples had {shortest} to {longest} tokens; train longer.")


def load_trained(folder: str | Path) -> tuple[Any, Any]:
    """Return the model (float32, evaluation mode) and the tokenizer of an exported folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def weights_sha256(folder: str | Path) -> str:
    """Return the SHA-256 of `model.safetensors` in `folder`."""
    return hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest()


def card(stories: list[PlantedPassage], weights: str) -> str:
    """Return the dataset's README."""
    lengths = sorted(story.n_tokens for story in stories)
    openings = "\n".join(f"- `{opening}`" for opening in OPENINGS if opening)
    n, tried = len(stories), stories[-1].seed - stories[0].seed + 1
    return f"""# stories

{n} passages sampled from the shipped reference model: texts to run probes on that can be shipped, since nobody wrote
them. They read like the model's training text, novels and children's stories, and make as much sense as a model of this
size can.

`interp.dataset("stories")` reads them. One JSON object per line in `stories.jsonl`:

| field | type | meaning |
|---|---|---|
| `prompt_id` | int | 0 to {n - 1}, in the order of the file |
| `text` | str | the passage, without the end-of-text token |
| `seed` | int | the passage's own seed, which decides its opening, its length and every token |
| `n_tokens` | int | number of tokens of `text` under the reference tokenizer, without start-of-text |

The length is drawn uniformly from {MIN_TOKENS} to {MAX_TOKENS} tokens. A passage is shorter if the model ended its
story, and it is skipped if fewer than {MIN_TOKENS} tokens remain: of {tried} seeds from {stories[0].seed} on,
{n} were used. The shortest has {lengths[0]} tokens, the median
{lengths[len(lengths) // 2]}, the longest {lengths[-1]}, all together {sum(lengths):,}.

Sampling starts from start-of-text and an opening, with temperature {TEMPERATURE}, nucleus {TOP_P} and one random
number per token. The opening is empty, or one of

{openings}

Made by `python -m interp.reference.sample --model DIR` with weights whose `model.safetensors` has SHA-256
`{weights}`.
Another processor rounds differently, and may choose another token in rare cases.

Licence: MIT, as the project.
"""


def main(
    model: Annotated[Path, typer.Option(help="Folder of the trained model.")],
    out: Annotated[Path, typer.Option(help="Folder for stories.jsonl and README.md.")] = Path("datasets/stories"),
    n: Annotated[int, typer.Option(min=1, help="Number of passages.")] = 300,
    seed: Annotated[int, typer.Option(help="First seed to try.")] = 0,
) -> None:
    """Sample passages from a trained model."""
    network, tokenizer = load_trained(model)
    source = passages(network, tokenizer, seed)
    stories = [next(source) for _ in tqdm(range(n), unit="passage")]
    out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(story), ensure_ascii=False) + "\n" for story in stories]
    (out / "stories.jsonl").write_text("".join(lines), "utf-8")
    (out / "README.md").write_text(card(stories, weights_sha256(model)), "utf-8")
    typer.echo(f"{len(stories)} passages, {sum(story.n_tokens for story in stories):,} tokens, in {out}")


if __name__ == "__main__":
    typer.run(main)
