"""In-context unlearning (Pawelczyk et al. 2024, as RWKU runs it): the prompt asks the model to have forgotten."""


def icu_instruction(template: str, name: str) -> str:
    """What stands at the head of every user message.

    Args:
        template: with {name} for the target.
    """
    return template.format(name=name)
