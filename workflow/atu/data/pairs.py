"""Pairs for preference optimisation, made from texts that the model has written."""

CHOSEN = "{intro} Please write a short biography of {name}."  # RWKU, generation/pair_generation.py


def pair_biographies(chosen: list[dict], rejected: list[dict]) -> list[dict]:
    """Pairs of a made-up and a real biography, in the form of RWKU's ``train_pair``: prompt, response."""
    return [
        {
            "id": real["id"],
            "prompt": CHOSEN.format(name=real["subject"], intro=real["intro"]),
            "response": [made_up["text"], real["text"]],
            "subject": real["subject"],
            "intro": real["intro"],
        }
        for made_up, real in zip(chosen, rejected, strict=False)
    ]
