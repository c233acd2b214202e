"""RWKU's fluency, in its own module because nltk takes two seconds to import and no other metric needs it."""

from collections import Counter

import numpy as np
from nltk import ngrams
from nltk.tokenize import NLTKWordTokenizer
from punkt import PunktSentenceTokenizer, load_model


def ngram_entropy(text: str) -> float:
    """Fluency: the mean of the 2- and 3-gram entropies in bits, weighted by 2/3 and 4/3.

    A text of fewer than n words has no n-grams and entropy 0. Sentences and then words are split as
    ``nltk.word_tokenize`` does; the Punkt model is from the punkt package, since NLTK ships none.
    """
    sentences = PunktSentenceTokenizer(load_model("english")).tokenize(text)
    words = [word for sentence in sentences for word in NLTKWordTokenizer().tokenize(sentence)]
    entropies = []
    for n in (2, 3):
        counts = np.array(list(Counter(ngrams(words, n)).values()), dtype=float)
        shares = counts / counts.sum() if len(counts) else counts
        entropies.append(-(shares * np.log2(shares)).sum())
    return float(np.mean(np.array(entropies) * [2 / 3, 4 / 3]))
