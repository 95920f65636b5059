"""Import everything that a probe, a figure or a claim needs from this one place.

Methods that replay, mask or unembed take more from `interp.model.tape`, `schedules`, `sites`, `weights`, `head` and
`readout`. Figures use `interp.display.plotting`, claims `interp.findings`, and statistics are in `interp.stats`.
"""

from interp.checks import answering, checked, shows_parameters_of
from interp.data.shipped import dataset, dataset_or_text, shipped_path, text_dataset_names
from interp.errors import InputError, InterpError, ModelError, NumericalError, TooLong, UnknownName, warn
from interp.frames.build import rows_of_block
from interp.frames.schema import VOCABULARY, Column, Schema, columns
from interp.model.generation import continuation
from interp.model.loading import Source, load, untrained
from interp.model.positions import (
    ChosenPositions,
    Layers,
    Positions,
    followed,
    layers_of,
    next_tokens,
    numbered,
    positions_of,
    require_two_tokens,
    select_positions,
    whole_numbers,
)
from interp.model.prefixes.shared import SharedPrefix
from interp.model.prefixes.tree import logits_after, n_read_after
from interp.model.subject import Subject
from interp.model.texts.continuation import continuation_of_ids, single_token, tokens_after, word_tokens
from interp.model.texts.ends import warn_of_end
from interp.model.texts.forms import frame_of_texts
from interp.model.texts.tokenizer import start_ids, start_of_text
from interp.model.texts.windows import context_windows
from interp.model.tokens import Batch, Texts, Tokens
from interp.model.usable import Usable, usable_facts, usable_tokens
from interp.options import options
from interp.runs.accessor import concat
from interp.runs.code import code_digest, hash_of
from interp.runs.cost import say_cost, seconds_of_products, spoken
from interp.runs.draws import content_keys, content_order, donor_prompts
from interp.runs.examples import CONCEPT, at_most, running_text, with_concept
from interp.runs.holdout import held_out_prompts, require_enough, require_fitted
from interp.runs.progress import progress_bar
from interp.runs.registry import Example, Probe, means_per_prompt, probe, summarise_by_prompt
from interp.runs.run import Run, in_batches, kept_as, run_id
from interp.runs.store import Store
from interp.runs.streams import Stream, Sums, collect, one_core_each, whole_frame
from interp.tokenization.asking import text_ids

__all__ = [
    "CONCEPT",
    "VOCABULARY",
    "Batch",
    "ChosenPositions",
    "Column",
    "Example",
    "InputError",
    "InterpError",
    "Layers",
    "ModelError",
    "NumericalError",
    "Positions",
    "Probe",
    "Run",
    "Schema",
    "SharedPrefix",
    "Source",
    "Store",
    "Stream",
    "Subject",
    "Sums",
    "Texts",
    "Tokens",
    "TooLong",
    "UnknownName",
    "Usable",
    "answering",
    "at_most",
    "checked",
    "code_digest",
    "collect",
    "columns",
    "concat",
    "content_keys",
    "content_order",
    "context_windows",
    "continuation",
    "continuation_of_ids",
    "dataset",
    "dataset_or_text",
    "donor_prompts",
    "followed",
    "frame_of_texts",
    "hash_of",
    "held_out_prompts",
    "in_batches",
    "kept_as",
    "layers_of",
    "load",
    "logits_after",
    "means_per_prompt",
    "n_read_after",
    "next_tokens",
    "numbered",
    "one_core_each",
    "options",
    "positions_of",
    "probe",
    "progress_bar",
    "require_enough",
    "require_fitted",
    "require_two_tokens",
    "rows_of_block",
    "run_id",
    "running_text",
    "say_cost",
    "seconds_of_products",
    "select_positions",
    "shipped_path",
    "shows_parameters_of",
    "single_token",
    "spoken",
    "start_ids",
    "start_of_text",
    "summarise_by_prompt",
    "text_dataset_names",
    "text_ids",
    "tokens_after",
    "untrained",
    "usable_facts",
    "usable_tokens",
    "warn",
    "warn_of_end",
    "whole_frame",
    "whole_numbers",
    "with_concept",
    "word_tokens",
]
