"""Chat templates: the text that a chat model reads, and the tokens that end its turn."""

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from atu.common.errors import ExplainedError

PROBE = "\u2022probe\u2022"  # placeholder for an answer
DATE = "26 Jul 2024"  # the date in all prompts; Llama 3's templates use it by default
DATE_FORM = "%d %b %Y"
# strftime's directives for days, and for times, which are midnight in all prompts.
DIRECTIVES = (
    *("a", "A", "b", "B", "c", "d", "-d", "e", "F", "D", "H", "I", "j", "m", "-m", "M", "p", "S", "T", "u", "U", "f"),
    *("G", "V", "w", "W", "x", "X", "y", "Y", "z", "Z"),
)
# What a faulty template may raise, since it can compute anything.
FAULTS = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
LONG = " ".join(f"word{i}" for i in range(5000))  # longer than any question, to find templates that cut
# For models without a template: each message stands on a line (or lines) of its own.
PLAIN = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if not (message['role'] == 'assistant' and loop.last) and message['content'][-1:] != '\\n' %}"
    "{{ '\\n' }}{% endif %}{% endfor %}"
)
RESERVED = set(inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters)


def check_option(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse an option that changes how a template is called, or that the template does not read.

    Raises:
        ExplainedError: names the option.
    """
    if name in RESERVED:
        raise ExplainedError(f"template_options.{name}: this is set here, and no template reads it; take it out")
    templates = tokenizer.chat_template or ""
    texts = templates.values() if isinstance(templates, dict) else [templates]
    if name != "date_string" and not any(re.search(rf"\b{re.escape(name)}\b", text) for text in texts):
        raise ExplainedError(
            f"template_options.{name}: the model's chat template does not read {name}; correct the name, or take it out"
        )


def set_template_options(tokenizer: PreTrainedTokenizerBase, options: dict | None) -> None:
    """Set the options with which the tokenizer's chat template is rendered from now on.

    Args:
        options: options that the template reads (such as ``enable_thinking``), and two of this library's own.
            ``date_string`` is today's date for the template ("26 Jul 2024"). ``chat_template`` replaces the tokenizer's
            template; None means no template, with messages as plain lines.

    Raises:
        ExplainedError: if the template does not read an option, or the date is invalid.
    """
    options = dict(options or {})
    tokenizer.plain_prompts = "chat_template" in options and options["chat_template"] is None
    template = options.pop("chat_template", None)
    if template or tokenizer.plain_prompts:
        tokenizer.chat_template = template or PLAIN
    for name in options:
        check_option(tokenizer, name)
    try:
        datetime.strptime(options.get("date_string", DATE), DATE_FORM)
    except (TypeError, ValueError) as error:
        raise ExplainedError(
            f"template_options.date_string: {options['date_string']!r} is no day such as {DATE!r}"
        ) from error
    tokenizer.template_options = options


def of_rendered(options: dict | None) -> dict:
    """The template options that a second model needs to read prompts that are already rendered.

    This is only ``chat_template``, which says whether prompts are plain lines. Its own template may not read the rest.
    """
    return {name: value for name, value in (options or {}).items() if name == "chat_template"}


def on_one_day(template: str, day: datetime) -> str:
    """A chat template for which ``day`` is today: it starts with a macro in place of the function that asks the clock.

    The templates' environment removes the line break after the macro, so nothing else changes.
    """
    told = "".join(f'|replace("%{name}", "{day.strftime(f"%{name}")}")' for name in DIRECTIVES)
    return "{% macro strftime_now(format) %}{{ format" + told + " }}{% endmacro %}\n" + template


@contextmanager
def behind(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]]) -> Iterator[None]:
    """Inside the block, each message comes after earlier turns of a chat.

    Args:
        turns: dicts of role (user, assistant) and content.
    """
    tokenizer.earlier_turns = turns
    try:
        yield
    finally:
        del tokenizer.earlier_turns


def render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], generation: bool) -> str:
    """Render messages after earlier turns (:func:`behind`) with the chat template; the result is the same on any day.

    Args:
        generation: whether to append the head of an answer.

    Raises:
        ExplainedError: if the tokenizer has no template.
        TemplateError: if the template refuses the messages.
    """
    options = getattr(tokenizer, "template_options", {})
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        raise ExplainedError(
            "the model has no chat template, so it is no chat model: choose the variant that is trained to answer, "
            "give the template's text as template_options.chat_template of the model, or set its template: none, with "
            "which it reads messages as plain lines"
        ) from error
    day = datetime.strptime(options.get("date_string", DATE), DATE_FORM)
    head = int(messages[0]["role"] == "system")
    text = tokenizer.apply_chat_template(
        [*messages[:head], *getattr(tokenizer, "earlier_turns", []), *messages[head:]],
        chat_template=on_one_day(template, day),
        tokenize=False,
        add_generation_prompt=generation,
        **options,
    )
    assert isinstance(text, str)  # with tokenize it would return tokens
    return text


def explained(error: Exception) -> ExplainedError:
    """The error to raise for a template that cannot be rendered."""
    reason = " ".join(str(error).split())
    return ExplainedError(
        f"the model's chat template cannot be rendered ({type(error).__name__}: {reason}); give what it asks for, or "
        "another text as chat_template, in template_options of the model"
    )


def chat_prompt(tokenizer: PreTrainedTokenizerBase, message: str, suffix: str = "", system: str | None = None) -> str:
    """The whole prompt: the model's template around the message, the generation prompt, and the suffix.

    Encode the text with :func:`prompt_ids`. If the template refuses or drops a system role, ``system`` starts the
    user's turn.

    Raises:
        ExplainedError: if there is no template, or it does not render the message unchanged.
    """
    user = {"role": "user", "content": message}
    if system:
        try:
            text = render(tokenizer, [{"role": "system", "content": system}, user], generation=True)
        except FAULTS:
            text = ""
        if system.strip() in text:
            return text + suffix
        user = {"role": "user", "content": f"{system}\n{message}"}
    try:
        text = render(tokenizer, [user], generation=True)
    except FAULTS as error:
        raise explained(error) from error
    if message.strip() not in text:
        raise ExplainedError(
            "the model's chat template leaves out what the user says, or changes it; give another text as "
            "chat_template in template_options of the model"
        )
    return text + suffix


def prompt_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], special_tokens: bool = False) -> list[list[int]]:
    """Token ids of prompts. A template writes special tokens itself; plain lines have those that the tokenizer adds.

    Args:
        special_tokens: whether to add special tokens even if a template has its own.
    """
    if not texts:
        return []
    added = special_tokens or getattr(tokenizer, "plain_prompts", False)
    return tokenizer(texts, add_special_tokens=added, verbose=False)["input_ids"]


def continued(prompt: str, text: str) -> str:
    """The prompt followed by the text, with a space between them if the prompt does not end in white space."""
    return prompt + text if prompt[-1:].isspace() else f"{prompt} {text}"


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a template that cuts or changes the user's message, however long, or whose output is random.

    Raises:
        ExplainedError: says what the template does.
    """
    chat_prompt(tokenizer, LONG)
    if len({chat_prompt(tokenizer, "Who?", system="Be brief.") for _ in range(16)}) > 1:
        raise ExplainedError(
            "the model's chat template writes another prompt each time; give another text as chat_template in "
            "template_options of the model"
        )


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Id of the special token that the template writes after an assistant's answer; None if there is none."""
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": PROBE}]
    try:
        _, found, behind = render(tokenizer, messages, generation=False).rpartition(PROBE)
    except FAULTS as error:
        raise explained(error) from error
    ids = tokenizer.encode(behind.strip(), add_special_tokens=False) if found else []
    return ids[0] if ids and ids[0] in tokenizer.added_tokens_decoder else None


def stop_tokens(llm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of tokens that end a turn, from the generation config, the tokenizer and its chat template."""
    configured = llm.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return sorted({i for i in [*ids, tokenizer.eos_token_id, turn_end(tokenizer)] if i is not None})


def named_stops(tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> list[int]:
    """Ids of the end of text and of the tokens with these names in the vocabulary, as RWKU looks them up.

    A name that is not in the vocabulary has the id of the unknown token. If the tokenizer has no unknown token, as
    byte-level ones do not, the name is left out.
    """
    ids = [tokenizer.eos_token_id, *map(tokenizer.convert_tokens_to_ids, names)]
    return sorted({i for i in ids if i is not None})
