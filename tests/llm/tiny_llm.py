"""Tiny decoder-only LLMs with random weights, saved as any model is; nothing comes from a hub."""

WORDS = (
    "In an image describe the distinctive visual features of nodule cyst fracture normal brain a long thin one".split()
)
SIZE = dict(vocab_size=64, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=128)
GROUPED = SIZE | dict(intermediate_size=48, num_key_value_heads=2)
ENDS = dict(bos_token_id=0, eos_token_id=1, pad_token_id=1)
SMALL = {
    "Llama": GROUPED,
    "Mistral": GROUPED | dict(sliding_window=8),
    "Qwen2": GROUPED,
    "Qwen3": GROUPED | dict(head_dim=8),
    "Gemma": GROUPED | dict(head_dim=8),
    "Gemma2": GROUPED | dict(head_dim=8, sliding_window=8),
    "Phi": GROUPED | dict(num_key_value_heads=4),
    "Phi3": GROUPED,
    "GPT2": dict(vocab_size=64, n_embd=32, n_layer=3, n_head=4, n_positions=128),
    "GPTNeoX": SIZE | dict(intermediate_size=48),
}
RECURRENT = {
    "Rwkv": dict(vocab_size=64, hidden_size=32, num_hidden_layers=3, attention_hidden_size=32),
}


def tokenizer(chat: str = ""):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<unk>"]
    tokens = special + WORDS + [f"w{i}" for i in range(64 - len(special) - len(set(WORDS)))]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.chat_template = chat or None
    return fast
