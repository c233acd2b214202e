"""Chat templates: the text that a chat model sees, and the tokens that end its turn."""

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROBE = "\u2022probe\u2022"  # stands where an answer would


def chat_prompt(tokenizer: PreTrainedTokenizerBase, message: str, suffix: str = "", system: str | None = None) -> str:
    """The model's template around the message, the generation prompt, the suffix.

    The text is complete: encode it without adding special tokens. A model whose template refuses or
    drops a system role reads ``system`` at the head of the user's turn.
    """

    def render(messages: list[dict[str, str]]) -> str:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + suffix

    user = {"role": "user", "content": message}
    if system:
        try:
            text = render([{"role": "system", "content": system}, user])
        except TemplateError:
            text = ""
        if system.strip() in text:
            return text
        user = {"role": "user", "content": f"{system}\n{message}"}
    return render([user])


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Id of the special token that the template writes behind an assistant's answer; None if there is none."""
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": PROBE}]
    behind = tokenizer.apply_chat_template(messages, tokenize=False).rpartition(PROBE)[2]
    ids = tokenizer.encode(behind.strip(), add_special_tokens=False)
    return ids[0] if ids and ids[0] in tokenizer.added_tokens_decoder else None


def stop_tokens(llm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that end a turn, by the generation config, the tokenizer and its chat template."""
    configured = llm.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return sorted({i for i in [*ids, tokenizer.eos_token_id, turn_end(tokenizer)] if i is not None})
