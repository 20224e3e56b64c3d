"""The reader that ships: late interaction finds the places, a cross-encoder reads them.

Late interaction (ColBERT, arXiv:2004.12832) over the token embeddings that the index keeps orders all
sentences by

    late(q, s) = scale * (sum_i w_i max_j <q_i, s_j> / sum_i w_i + dense * <q, s> + prior . mean_j s_j)

with unit token embeddings `q_i` of the question and `s_j` of the sentence in its window, their
vectors `q` and `s`, and `w_i = softplus(weight . q_i + weight_0)`, less for earlier questions. "The
interview does not say" scores `null . mean_i q_i + null_0` beside the sentences. The cross-encoder
(`rag.cross`) then reads the best few places together with the question.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from index.adapter import shipped_adapter
from index.chunks import blocks_around, make_block
from index.encoder import Floats
from index.store import Index
from rag.cross import CrossEncoder, Judged, as_read
from rag.question import Question
from rag.reader import Reading, combined, of_speakers, quote_inside, sigmoid
from rag.retrieval import Matches, View

BLOCKS = 5
"""How many places the cross-encoder reads, five sentences each."""
PASSAGE = 0.2
"""What the passage's score counts beside the sentence's."""
LENGTH = 0.5
"""What the logarithm of the number of sentences takes from the sum of their evidence: of many, more
look like an answer by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What speaks for the candidates: `late (n,)`, late interaction's logits against the null and the
    passage's score; `cross (n,)`, the cross-encoder's logits, the least of them where it did not
    read; `who (n,)`, what is added for who speaks; what the cross-encoder thought of the sentences
    that it read; and the `features (k,)` of confidence."""

    late: Floats
    cross: Floats
    who: Floats
    judged: dict[int, Judged]
    features: Floats


class TrainedReader:
    """Orders sentences by whether they answer, says how surely any does, and marks short answers."""

    def __init__(self, cross_encoder: CrossEncoder | None = None) -> None:
        self._cross_encoder = cross_encoder or CrossEncoder()

    def read(self, question: Question, index: Index, matches: Matches) -> Reading:
        """Score every candidate; the best few are read once more together with the question."""
        evidence = self.evidence(question, index, matches)
        learnt = self._cross_encoder.adapter.metadata
        confidence = np.append(evidence.features, 1.0) @ np.asarray(learnt["confidence"])
        shorts = {
            sentence: quote
            for sentence, judged in sorted(evidence.judged.items(), key=lambda item: -item[1].probability)
            if judged.probability >= learnt["short_answer_from"]
            and (quote := quote_inside(index, sentence, judged.start, judged.end))
        }
        return Reading(
            scores=weighed(evidence, learnt["share"]),
            confidence=sigmoid(float(confidence)),
            short_answers=shorts,
        )

    def evidence(self, question: Question, index: Index, matches: Matches) -> Evidence:
        """Both stages' scores, before they are weighed."""
        heads = late_heads()
        means = index.tokens.means(matches.candidates)
        who = of_speakers(question, index, matches.candidates)
        late = combined([late_scores(view, means, heads) for view in matches.views], matches)
        null = float(question.encoded.tokens.mean(axis=0) @ heads["null"] + heads["null_0"])
        turns = index.transcript.turns
        may = np.array(
            [
                question.may_be_answered_by(turns[index.sentences[int(i)].turn_id].role)
                for i in matches.candidates
            ]
        )
        eligible = np.flatnonzero(may) if may.any() else np.arange(len(late))
        scores = np.asarray(late - null + PASSAGE * matches.chunk_scores, dtype=np.float32)
        best = eligible[np.argsort(-(scores + who)[eligible], kind="stable")]
        wanted = [int(matches.candidates[place]) for place in best[: 3 * BLOCKS]]
        runs = blocks_around(wanted, len(index.sentences), BLOCKS)
        blocks = [make_block(index.transcript, index.sentences, first, last) for first, last in runs]
        judged = self._cross_encoder.read(as_read(question.text, question.earlier, index.transcript), blocks)
        cross = np.full(len(scores), min(j.logit for j in judged.values()), dtype=np.float32)
        read = []
        for sentence, found in judged.items():
            place = int(np.searchsorted(matches.candidates, sentence))
            if place < len(cross) and matches.candidates[place] == sentence:
                cross[place] = found.logit
                read.append(place)
        # Of a very long question's blocks little is left, perhaps nothing that may answer.
        asked = np.intersect1d(read, eligible) if np.isin(read, eligible).any() else best[:1]
        top = np.sort((scores + cross + who)[asked])[::-1]
        features = [
            np.logaddexp.reduce((late + who)[eligible].astype(np.float64))
            - null
            - LENGTH * np.log(len(eligible)),
            np.logaddexp.reduce((cross + who)[asked].astype(np.float64)),
            top[0] - top[min(1, len(top) - 1)],
        ]
        return Evidence(
            late=scores,
            cross=cross,
            who=who,
            judged=judged,
            features=np.array(features, dtype=np.float32),
        )


def weighed(evidence: Evidence, share: float) -> Floats:
    """Both stages' logits as one, `(n,)`, the cross-encoder's `share` times as heavy as late
    interaction's, on the scale of their sum; and who speaks."""
    scores = 2 * (evidence.late + share * evidence.cross) / (1 + share) + evidence.who
    return np.asarray(scores, dtype=np.float32)


@cache
def late_heads() -> dict[str, Any]:
    """The few numbers of late interaction, by name."""
    return {name: t if t.ndim else float(t) for name, t in shipped_adapter().of("reader.").items()}


def late_scores(view: View, means: Floats, heads: dict[str, Any]) -> Floats:
    """Late interaction's score of every candidate, `(n,)`; `means (n, d)` of their tokens."""
    weight = np.logaddexp(0, view.encoded.tokens @ heads["weight"] + heads["weight_0"])
    weight = np.where(view.is_earlier, weight * np.exp(heads["history"]), weight)
    late = weight @ view.similarities / weight.sum()
    scores = np.exp(heads["scale"]) * (late + heads["dense"] * view.cosines + means @ heads["prior"])
    return np.asarray(scores, dtype=np.float32)
