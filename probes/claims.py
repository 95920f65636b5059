"""The claims of all families, loaded through the entry-point group `interp.claims`."""

from interp.findings import Claim
from probes.attention.claims import CLAIMS as ATTENTION
from probes.attribution.claims import CLAIMS as ATTRIBUTION
from probes.characters.claims import CLAIMS as CHARACTERS
from probes.contexts.claims import CLAIMS as CONTEXTS
from probes.contexts.phrases.claims import CLAIMS as PHRASES
from probes.geometry.claims import CLAIMS as GEOMETRY
from probes.geometry.clouds.claims import CLAIMS as CLOUDS
from probes.geometry.concepts.claims import CLAIMS as CONCEPTS
from probes.layers.claims import CLAIMS as LAYERS
from probes.lens.claims import CLAIMS as LENS
from probes.neurons.claims import CLAIMS as NEURONS
from probes.patching.claims import CLAIMS as PATCHING
from probes.subnetworks.claims import CLAIMS as SUBNETWORKS
from probes.tokenization.claims import CLAIMS as TOKENIZATION
from probes.tokenization.recutting.claims import CLAIMS as RECUTTING
from probes.uncertainty.claims import CLAIMS as UNCERTAINTY
from probes.vocab.claims import CLAIMS as VOCAB

CLAIMS: tuple[Claim, ...] = (
    *ATTENTION,
    *ATTRIBUTION,
    *CHARACTERS,
    *CONCEPTS,
    *CONTEXTS,
    *GEOMETRY,
    *CLOUDS,
    *LAYERS,
    *LENS,
    *NEURONS,
    *PATCHING,
    *PHRASES,
    *RECUTTING,
    *SUBNETWORKS,
    *TOKENIZATION,
    *UNCERTAINTY,
    *VOCAB,
)
