"""RWKU's fluency, in a module of its own: nltk takes two seconds to import, and no other metric needs it."""

from collections import Counter

import numpy as np
from nltk import ngrams
from nltk.tokenize import NLTKWordTokenizer
from punkt import PunktSentenceTokenizer, load_model


def ngram_entropy(text: str) -> float:
    """Fluency: weighted mean of the 2- and 3-gram entropies in bits, weights 2/3 and 4/3.

    A text of fewer than n words has no n-grams and entropy 0. Sentences, then words are split as
    ``nltk.word_tokenize`` does; its Punkt model is that of the punkt package, since NLTK ships none.
    """
    sentences = PunktSentenceTokenizer(load_model("english")).tokenize(text)
    words = [word for sentence in sentences for word in NLTKWordTokenizer().tokenize(sentence)]
    entropies = []
    for n in (2, 3):
        counts = np.array(list(Counter(ngrams(words, n)).values()), dtype=float)
        shares = counts / counts.sum() if len(counts) else counts
        entropies.append(-(shares * np.log2(shares)).sum())
    return float(np.mean(np.array(entropies) * [2 / 3, 4 / 3]))
