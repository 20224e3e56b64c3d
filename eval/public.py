"""Public sets as transcripts and cases, read from a folder that the user gives.

Nothing of them is part of the program. Each set becomes scopes: one transcript that questions are
asked of (a conversation, a meeting, an article, a paragraph), cut into units, with its cases.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.cases import Case, CaseError, Split
from eval.spans import Span
from index.sentences import Sentence
from index.transcript import Transcript, Turn

_SPLIT: Split = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One transcript, its units (`None`: its sentences) and what is asked of it.

    `rewrites` holds, by case id, the form that a human gave a follow-up so that it stands alone.
    """

    transcript: Transcript
    units: tuple[Sentence, ...] | None
    cases: tuple[Case, ...]
    rewrites: dict[str, str] = field(default_factory=dict)


def read_json(path: Path) -> Any:
    """A data file of a public set; `CaseError` says what is missing."""
    name = f"{path.parent.name}/{path.name}"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise CaseError(
            f"{name} cannot be read ({exc.strerror}): give the folder of the public sets"
        ) from exc
    except ValueError:
        raise CaseError(f"{name} is not JSON: fetch it again") from None


def _files(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise CaseError(f"{folder.name} holds no {pattern}: give the folder of the public sets")
    return found


def as_transcript(
    title: str, passages: Sequence[tuple[str, str]]
) -> tuple[Transcript, tuple[int | None, ...]]:
    """Passages `(speaker, words)` as a transcript, a turn each, and the turn of each passage
    (`None` for one without words). Everybody may be quoted: roles are a press interview's."""
    text = ""
    turns: list[Turn] = []
    places: list[int | None] = []
    for speaker, words in passages:
        stripped = words.strip()
        if not stripped:
            places.append(None)
            continue
        text += f"{speaker}: " if speaker else ""
        start = len(text)
        text += stripped
        places.append(len(turns))
        turns.append(
            Turn(turn_id=len(turns), speaker=speaker, role="interviewee", start=start, end=len(text))
        )
        text += "\n\n"
    transcript_id = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return (
        Transcript(transcript_id=transcript_id, title=title, source=title, text=text, turns=tuple(turns)),
        tuple(places),
    )


def _turns(transcript: Transcript) -> tuple[Sentence, ...]:
    return tuple(Sentence(start=t.start, end=t.end, turn_id=t.turn_id) for t in transcript.turns)


def _span(turn: Turn) -> Span:
    return Span(turn.start, turn.end)


# Conversations -----------------------------------------------------------------------------

_LOCOMO_KINDS = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}


def locomo(data: Path) -> Iterator[Scope]:
    """LoCoMo10: long conversations of two friends; an adversarial question asks one of them for what
    the other said, and has no answer."""
    for path in _files(data / "locomo10", "**/locomo10_v2/*.json"):
        raw = read_json(path)
        sessions = sorted(
            (k for k in raw if re.fullmatch(r"session_\d+", k)), key=lambda k: int(k.split("_")[1])
        )
        said = [turn for key in sessions for turn in raw[key]]
        transcript, places = as_transcript(path.stem, [(t["speaker"], t.get("text") or "") for t in said])
        spans: dict[str, Span] = {}
        for turn, place in zip(said, places, strict=True):
            if place is not None:
                spans.setdefault(turn["dia_id"], _span(transcript.turns[place]))
        cases = []
        for number, qa in enumerate(raw["qa"]):
            kind = _LOCOMO_KINDS[qa["category"]]
            ids = re.findall(r"D\d+:\d+", " ".join(map(str, qa.get("evidence", []))))
            gold = [spans[i] for i in dict.fromkeys(ids) if i in spans]
            if not gold and kind != "adversarial":
                continue
            cases.append(
                _case(f"{path.stem}-{number}", kind, qa["question"], gold, [str(qa.get("answer", ""))])
            )
        yield Scope(transcript=transcript, units=_turns(transcript), cases=tuple(cases))


def _case(case_id: str, kind: str, question: str, gold: Sequence[Span], short: Sequence[str]) -> Case:
    """A case whose every gold span is a part of the evidence; adversarial ones have none."""
    answerable = bool(gold) and kind != "adversarial"
    return Case(
        case_id=case_id,
        kind=kind,
        split=_SPLIT,
        question=question.strip(),
        evidence=tuple((span,) for span in gold) if answerable else (),
        short=tuple(s for s in short if s.strip()) if answerable else (),
        reason=None if answerable else "never_mentioned",
        near=() if answerable else tuple(gold),
    )


_NOISE = re.compile(r"\{[a-z]+[^}]*\}|<[^>]*>")


def qmsum(data: Path, split: str = "val") -> Iterator[Scope]:
    """QMSum's meetings with their specific questions; gold are whole stretches of turns."""
    for path in _files(data / "qmsum" / split, "*.json"):
        raw = read_json(path)
        passages = [
            (t["speaker"].strip(), " ".join(_NOISE.sub(" ", t["content"]).split()))
            for t in raw["meeting_transcripts"]
        ]
        transcript, places = as_transcript(path.stem, passages)
        cases = []
        for number, query in enumerate(raw["specific_query_list"]):
            numbers = {i for a, b in query["relevant_text_span"] for i in range(int(a), int(b) + 1)}
            turns = [places[i] for i in sorted(numbers) if i < len(places)]
            gold = [_span(transcript.turns[t]) for t in turns if t is not None]
            if gold:
                cases.append(
                    _case(f"{path.stem}-{number}", "meeting", query["query"], gold, [query["answer"]])
                )
        yield Scope(transcript=transcript, units=_turns(transcript), cases=tuple(cases))


_NO_ANSWER = {"cannotanswer", "i don't know."}


def canard_dialogues(data: Path) -> Iterator[tuple[str, list[tuple[dict[str, Any], str]]]]:
    """CANARD's development dialogues by name: each question's row, in order, with its answer, "" where
    it got none. Only the answers that a later question's history shows are known; the other questions
    are left out."""
    dialogues: dict[str, list[dict[str, Any]]] = {}
    for row in read_json(data / "canard" / "dev.json"):
        dialogues.setdefault(row["QuAC_dialog_id"], []).append(row)
    for name, rows in dialogues.items():
        rows.sort(key=lambda row: int(row["Question_no"]))
        answers = {
            number: "" if answer.strip().lower() in _NO_ANSWER else answer
            for number, answer in enumerate(rows[-1]["History"][3::2], 1)
        }
        if known := [(row, answers[n]) for row in rows if (n := int(row["Question_no"])) in answers]:
            yield name, known


def canard(data: Path) -> Iterator[Scope]:
    """CANARD's dialogues in one scope: every answer is a passage, and each follow-up asks for its own."""
    passages: list[str] = []
    asked: list[tuple[str, dict[str, Any], tuple[str, ...], int]] = []
    for name, dialogue in canard_dialogues(data):
        for row, answer in dialogue:
            if answer.strip():
                passages.append(answer)
                history = tuple(row["History"][2::2])
                asked.append((f"{name}.{row['Question_no']}", row, history, len(passages) - 1))
    transcript, places = as_transcript("CANARD", [("", p) for p in passages])
    cases, rewrites = [], {}
    for case_id, row, history, passage in asked:
        place = places[passage]
        if place is None:
            continue
        rewrites[case_id] = row["Rewrite"]
        cases.append(
            Case(
                case_id=case_id,
                kind="follow-up" if history else "first",
                split=_SPLIT,
                question=row["Question"].strip(),
                history=history,
                evidence=((_span(transcript.turns[place]),),),
                short=(passages[passage],),
            )
        )
    yield Scope(transcript=transcript, units=_turns(transcript), cases=tuple(cases), rewrites=rewrites)


# Articles ----------------------------------------------------------------------------------

SQUAD2 = Path("squad2_half") / "dev-v2.0.cs224n.json"


def squad2_articles(data: Path) -> Iterator[Scope]:
    """SQuAD 2.0, the half that is labelled: an article is the transcript, its paragraphs the turns."""
    for article in read_json(data / SQUAD2)["data"]:
        yield _squad_scope(article["title"], article["paragraphs"], units=None)


def squad2_paragraphs(data: Path) -> Iterator[Scope]:
    """The same questions, each asked of the paragraph that it was written for."""
    for article in read_json(data / SQUAD2)["data"]:
        for paragraph in article["paragraphs"]:
            yield _squad_scope(article["title"], [paragraph], units=None)


def xquad(data: Path) -> Iterator[Scope]:
    """XQuAD in English: 240 paragraphs in one scope, each question asks for its own."""
    paragraphs = [p for a in read_json(data / "xquad_en" / "xquad.en.json")["data"] for p in a["paragraphs"]]
    transcript, _ = as_transcript("XQuAD", [("", p["context"]) for p in paragraphs])
    cases = tuple(
        _case(qa["id"], "paragraph", qa["question"], [_span(turn)], [qa["answers"][0]["text"]])
        for paragraph, turn in zip(paragraphs, transcript.turns, strict=True)
        for qa in paragraph["qas"]
    )
    yield Scope(transcript=transcript, units=_turns(transcript), cases=cases)


def _squad_scope(
    title: str, paragraphs: Sequence[dict[str, Any]], units: tuple[Sentence, ...] | None
) -> Scope:
    transcript, places = as_transcript(title, [("", p["context"]) for p in paragraphs])
    cases = []
    for paragraph, place in zip(paragraphs, places, strict=True):
        if place is None:
            continue
        context = paragraph["context"]
        shift = transcript.turns[place].start - (len(context) - len(context.lstrip()))
        for qa in paragraph["qas"]:
            answers = [] if qa.get("is_impossible") else qa["answers"]
            spans = {
                Span(shift + a["answer_start"], shift + a["answer_start"] + len(a["text"])) for a in answers
            }
            cases.append(
                Case(
                    case_id=qa["id"],
                    kind="answerable" if answers else "unanswerable",
                    split=_SPLIT,
                    question=qa["question"].strip(),
                    evidence=(tuple(sorted(spans)),) if spans else (),
                    short=tuple(dict.fromkeys(a["text"] for a in answers)),
                    reason=None if spans else "never_mentioned",
                )
            )
    return Scope(transcript=transcript, units=units, cases=tuple(cases))
