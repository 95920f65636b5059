"""The papers that probes and claims come from: authors, year, title, identifier."""

BIGRAM_SUBNETWORKS = (
    "Chang & Bergen (2025), Bigram Subnetworks: Mapping to Next Tokens in Transformer Language Models, arXiv 2504.15471"
)
CHARACTERS = (
    "Kaushal & Mahowald (2022), What do tokens know about their characters and how do they know it?, arXiv 2206.02608"
)
CHARBENCH = "after Uzan & Pinter (2025), CharBench: the role of tokenization in character-level tasks, arXiv 2508.02591"
ERASER = "DeYoung et al. (2020), ERASER, arXiv 1911.03429"
EXACT_BYTES = "Phan et al. (2024), Exact Byte-Level Probabilities from Tokenized Language Models, arXiv 2410.09303"
ITERATIVE_INFERENCE = "Brothers et al. (2024), Uncovering Uncertainty in Transformer Inference, arXiv 2412.05768"
JACOBIAN_LENS = (
    "Gurnee et al. (2026), Verbalizable Representations Form a Global Workspace in Language Models, Transformer "
    "Circuits Thread"
)
KEY_VALUE_MEMORIES = "Geva et al. (2022), arXiv 2203.14680"
LATENT_LENS = "Krojer et al. (2026), LatentLens, arXiv 2602.00462"
LLM_MICROSCOPE = "Razzhigaev et al. (2025), LLM-Microscope, arXiv 2502.15007"
LOGIT_LENS = "nostalgebraist (2020), interpreting GPT: the logit lens, LessWrong AcKRB8wDpdaN6v6ru"
NEXT_TOKEN_LAW = "He & Su (2024), A Law of Next-Token Prediction in Large Language Models, arXiv 2408.13442"
NORMXLOGIT = "Abbasi et al. (2025), NormXLogit: the head-on-top never lies, arXiv 2411.16252"
REAGENT = "Zhao & Shan (2024), ReAGent: a model-agnostic feature attribution method, arXiv 2402.00794"
STAGES_OF_INFERENCE = (
    "Lad, Gurnee & Tegmark (2024), The Remarkable Robustness of LLMs: Stages of Inference?, arXiv 2406.19384"
)
PHANTOM_EDITS = (
    "after Ayoobi et al. (2026), Say Anything but This: When Tokenizer Betrays Reasoning in LLMs, arXiv 2601.14658"
)
INNER_LEXICON = "after Kaplan et al. (2024), From Tokens to Words: On the Inner Lexicon of LLMs, arXiv 2410.05864"
SUBWORD_ROBUSTNESS = (
    "after Chai et al. (2024), Tokenization Falling Short: On Subword Robustness in Large Language Models, "
    "arXiv 2406.11687"
)
STOCHASTOK = (
    "after Sims et al. (2025), StochasTok: Improving Fine-Grained Subword Understanding in LLMs, arXiv 2506.01687"
)
TOKEN_BASIS = "Häon et al. (2025), arXiv 2509.00328"
TUNED_LENS = (
    "Belrose et al. (2023), Eliciting Latent Predictions from Transformers with the Tuned Lens, arXiv 2303.08112"
)
UNDERTRAINED_TOKENS = (
    "Land & Bartolo (2024), Fishing for Magikarp: Automatically Detecting Under-trained Tokens in Large Language "
    "Models, arXiv 2405.05417"
)
HIDDEN_TEXT = "after Hościłowicz et al. (2024), Hiding Text in Large Language Models, arXiv 2406.02481"
FREQUENCY_LOSS = "after Pinto et al. (2024), The Fair Language Model Paradox, arXiv 2410.11985"
FAITHFULNESS = f"{ERASER}; {REAGENT}"
VALUE_VECTORS = f"{KEY_VALUE_MEMORIES}; {TOKEN_BASIS}"
ISOSCORE = "Rudman et al. (2022), IsoScore: Measuring the Uniformity of Embedding Space Utilization, arXiv 2108.07344"
RARE_TOKENS = (
    "Yu et al. (2022), Rare Tokens Degenerate All Tokens: Improving Neural Text Generation via Adaptive Gradient "
    "Gating for Rare Token Embeddings, arXiv 2109.03127"
)
POSITION_VARIANCE = (
    "Chi et al. (2023), Latent Positional Information is in the Self-Attention Variance of Transformer Language Models "
    "Without Positional Embeddings, arXiv 2305.13571"
)
LENGTH_COLLAPSE = "Zhou et al. (2025), Length-Induced Embedding Collapse in PLM-based Models, arXiv 2410.24200"
TOKEN_GEOMETRY = (
    "Viswanathan et al. (2025), The Geometry of Tokens in Internal Representations of Large Language Models, "
    "arXiv 2501.10573"
)
TOKEN_MANIFOLD = "Robinson et al. (2025), Token embeddings violate the manifold hypothesis, arXiv 2504.01002"
FOLLOW_THE_FLOW = (
    "after Kaplan et al. (2025), Follow the Flow: On Information Flow Across Textual Tokens in Text-to-Image Models, "
    "arXiv 2504.01137"
)
SIAMESE_ATTRIBUTION = "after Möller et al. (2023), An Attribution Method for Siamese Encoders, arXiv 2310.05703"
PATCHING = (
    "Meng et al. (2022), Locating and Editing Factual Associations in GPT, arXiv 2202.05262; after Vig et al. (2020), "
    "Investigating Gender Bias in Language Models Using Causal Mediation Analysis, arXiv 2004.12265"
)
INDUCTION_HEADS = "Olsson et al. (2022), In-context Learning and Induction Heads, arXiv 2209.11895"
ATTRIBUTION_PATCHING = (
    "Syed et al. (2023), Attribution Patching Outperforms Automated Circuit Discovery, arXiv 2310.10348; "
    "Hanna et al. (2024), Have Faith in Faithfulness: Going Beyond Circuit Overlap When Finding Model Mechanisms, "
    "arXiv 2403.17806"
)
LINEAR_ORIGINS = (
    "Jiang et al. (2024), On the Origins of Linear Representations in Large Language Models, arXiv 2403.03867; "
    "Park et al. (2023), The Linear Representation Hypothesis and the Geometry of Large Language Models, "
    "arXiv 2311.03658"
)
ASSOCIATIONS = (
    "May et al. (2019), On Measuring Social Biases in Sentence Encoders, arXiv 1903.10561; Bolukbasi et al. (2016), "
    "Man is to Computer Programmer as Woman is to Homemaker? Debiasing Word Embeddings, arXiv 1607.06520"
)
