"""Readers that a user brings: a cross-encoder, or an extractive question-answering model.

Either is a last stage: it reads the question together with the best few windows, each a sentence
between its neighbours, and orders those anew. Models come from a folder or from this machine's
cache; nothing is downloaded unless that is allowed.
"""

from functools import cached_property
from typing import Any

import numpy as np

from index.chunks import make_window
from index.encoder import Floats, model_folder
from index.errors import EncoderError
from index.store import Index
from rag.question import Question
from rag.reader import Reader, Reading, best_span, quote_inside, sigmoid
from rag.replies import Quote
from rag.retrieval import Matches

BEST = 8
"""How many windows a last stage reads."""


def reader_from(name: str, first: Reader, *, allow_download: bool = False) -> Reader:
    """The reader that the model at `name` makes, a `CrossEncoder` or an
    `AutoModelForQuestionAnswering`; `EncoderError` where it is neither."""
    from transformers import AutoConfig

    folder = str(model_folder(name, allow_download=allow_download))
    try:
        architectures = AutoConfig.from_pretrained(folder, local_files_only=True).architectures or []
    except (OSError, ValueError) as exc:
        raise EncoderError(f"{name!r} is not a model that can be loaded: give another reader") from exc
    if any("QuestionAnswering" in a for a in architectures):
        return SpanReader(folder, first)
    if any("SequenceClassification" in a for a in architectures):
        return CrossEncoderReader(folder, first)
    raise EncoderError(
        f"{name!r} neither classifies pairs nor answers questions: give a CrossEncoder or an extractive "
        "question-answering model"
    )


def _best(reading: Reading, matches: Matches) -> tuple["np.ndarray[Any, np.dtype[np.int64]]", list[int]]:
    """Places of the best candidates, best first, and the sentences that they are."""
    places = np.argsort(-reading.scores, kind="stable")[:BEST]
    return places, [int(matches.candidates[p]) for p in places]


def _reordered(reading: Reading, places: "np.ndarray[Any, np.dtype[np.int64]]", logits: Floats) -> Floats:
    """The first stage's scores with `logits` at `places`, and all others below those."""
    combined = reading.scores - reading.scores.max() + logits.min() - 1
    combined[places] = logits
    return np.asarray(combined, dtype=np.float32)


class CrossEncoderReader:
    """A sentence-transformers `CrossEncoder` over the best windows.

    Confidence is the best pair's probability as the model gives it; it is not calibrated here.
    """

    def __init__(self, folder: str, first: Reader) -> None:
        self._folder = folder
        self._first = first

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import CrossEncoder

        return CrossEncoder(self._folder, device="cpu", local_files_only=True)

    def read(self, question: Question, index: Index, matches: Matches) -> Reading:
        """Order the first reader's best sentences by the cross-encoder's scores."""
        import torch

        reading = self._first.read(question, index, matches)
        places, sentences = _best(reading, matches)
        windows = [make_window(index.transcript, index.sentences, i) for i in sentences]
        logits = self._model.predict(
            [(question.text_in_context, window.text) for window in windows],
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
        )
        rows = np.asarray(logits, dtype=np.float64).reshape(len(windows), -1)
        # One output is a relevance logit; of several, the last is the class "relevant".
        relevance = (
            rows[:, 0] if rows.shape[1] == 1 else rows[:, -1] - np.logaddexp.reduce(rows[:, :-1], axis=1)
        )
        return Reading(
            scores=_reordered(reading, places, relevance.astype(np.float32)),
            confidence=sigmoid(float(relevance.max())),
        )


class SpanReader:
    """An `AutoModelForQuestionAnswering`, such as one trained on SQuAD 2.0 (arXiv:1806.03822).

    A sentence's score is its best span's against the null answer at the first token; the best span
    is its short answer. Confidence is that of the best sentence; it is not calibrated here.
    """

    def __init__(self, folder: str, first: Reader) -> None:
        self._folder = folder
        self._first = first

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModelForQuestionAnswering, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
        if not tokenizer.is_fast:
            raise EncoderError(f"the reader in {self._folder} has no fast tokenizer: choose one that has")
        model = AutoModelForQuestionAnswering.from_pretrained(self._folder, local_files_only=True)
        return tokenizer, model.eval()

    def read(self, question: Question, index: Index, matches: Matches) -> Reading:
        """Order the first reader's best sentences by their best span, and mark that span."""
        import torch

        reading = self._first.read(question, index, matches)
        places, sentences = _best(reading, matches)
        windows = [make_window(index.transcript, index.sentences, i) for i in sentences]
        tokenizer, model = self._loaded
        features = tokenizer(
            [question.text_in_context] * len(windows),
            [window.text for window in windows],
            truncation="only_second",
            max_length=min(tokenizer.model_max_length, 512),
            padding=True,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        offsets = features.pop("offset_mapping").numpy()
        with torch.inference_mode():
            out = model(**features)
        logits = np.empty(len(windows), dtype=np.float32)
        found: list[tuple[float, int, Quote]] = []
        for row, (sentence, window) in enumerate(zip(sentences, windows, strict=True)):
            of_window = np.array([s == 1 for s in features.sequence_ids(row)])
            start, end = out.start_logits[row].numpy(), out.end_logits[row].numpy()
            best, span = best_span(start, end, offsets[row], of_window, window.focus[-1])
            logits[row] = max(best - float(start[0] + end[0]), -100.0)
            focus = window.focus[-1][0]
            if span and (quote := quote_inside(index, sentence, span[0] - focus, span[1] - focus)):
                found.append((logits[row], sentence, quote))
        return Reading(
            scores=_reordered(reading, places, logits),
            confidence=sigmoid(float(logits.max())),
            short_answers={sentence: quote for _, sentence, quote in sorted(found, key=lambda f: -f[0])},
        )
