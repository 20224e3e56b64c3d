"""What the reader learns from: transcripts whose questions know the sentences that answer them.

Every set becomes `Scope`s, a transcript with its sentences and questions, so that training sees the
windows that the program embeds. The public sets are read from a folder that the user gives:

    DIR/interviews/*.txt or DIR/invented_interviews/*.txt   invented interviews (this project)
    DIR/squad2_half/dev-v2.0.cs224n.json                    SQuAD 2.0 dev, half (CC BY-SA 4.0)
    DIR/friendsqa/friendsqa_dev.json                        FriendsQA dev (Apache-2.0)
    DIR/molweni/mrc_test.json                               Molweni test (Apache-2.0)
    DIR/qamr/qamr_*.tsv, wiki-sentences.tsv                 QAMR (MIT)
    DIR/selqa/selqa_*.json                                  SelQA (Apache-2.0)
    DIR/canard/dev.json                                     CANARD dev (CC BY-SA 4.0)

A set that is not there is left out.
"""

import hashlib
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.public import canard_dialogues, read_json
from index.chunks import Window, make_windows
from index.sentences import Sentence
from index.transcript import Role, Transcript, Turn

ANSWERABLE = (
    "fact",
    "why",
    "how",
    "stance",
    "list",
    "yesno",
    "paraphrase",
    "lay",
    "typo",
    "speaker",
    "followup",
    "count",
    "compare",
)
UNANSWERABLE = ("absent", "evaded", "premise", "wrongwho", "foreign")
SPAN_KINDS = frozenset(ANSWERABLE) - {"list", "compare"} | {"squad", "qamr"}
"""Kinds whose short answers are learnt from."""
HELD_OUT_ARTICLES = frozenset(
    [
        "Normans",
        "Huguenot",
        "1973_oil_crisis",
        "Packet_switching",
        "Yuan_dynasty",
        "Scottish_Parliament",
        "Imperialism",
    ]
)
GROUP = 80
"""About how many sentences of an article, or of unrelated sentences, are read in one step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question of a scope. `gold` and `near` are positions of sentences, from 0; no gold means
    that the transcript does not answer it. `short` is a part of a gold sentence."""

    kind: str
    text: str
    gold: tuple[int, ...]
    near: tuple[int, ...] = ()
    short: str | None = None
    history: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One transcript, its sentences, and what is asked of it."""

    name: str
    source: str
    transcript: Transcript
    sentences: tuple[Sentence, ...]
    questions: tuple[Question, ...]

    def words(self, i: int) -> str:
        """The words of sentence `i`."""
        return self.transcript.words(self.sentences[i].start, self.sentences[i].end)

    def windows(self) -> tuple[Window, ...]:
        """What the program embeds for each sentence."""
        return make_windows(self.transcript, self.sentences)

    def windows_of(self, i: int) -> Window:
        """What the program embeds for sentence `i`."""
        first = max(0, i - 1)
        return make_windows(self.transcript, self.sentences[first : i + 2])[i - first]


def make_scope(
    name: str, source: str, lines: Sequence[tuple[str, Role, str]], questions: Iterable[Question]
) -> Scope:
    """A scope from `(speaker, role, words)`, one a sentence; neighbours of one speaker are one turn.

    An empty speaker gives turns without a label; there a sentence that begins with a line feed
    begins a new turn.
    """
    text = ""
    sentences: list[Sentence] = []
    turns: list[Turn] = []
    for speaker, role, raw in lines:
        words = raw.strip()
        fresh = not turns or turns[-1].speaker != speaker or raw.startswith("\n")
        text += ("\n\n" if fresh else " ") if text else ""
        start, end = len(text), len(text) + len(words)
        text += words
        if fresh:
            turns.append(Turn(turn_id=len(turns), speaker=speaker, role=role, start=start, end=end))
        else:
            turns[-1] = replace(turns[-1], end=end)
        sentences.append(Sentence(start=start, end=end, turn_id=len(turns) - 1))
    transcript = Transcript(
        transcript_id=hashlib.sha256(text.encode()).hexdigest(),
        title=name,
        source=name,
        text=text,
        turns=tuple(turns),
    )
    return Scope(
        name=name,
        source=source,
        transcript=transcript,
        sentences=tuple(sentences),
        questions=tuple(questions),
    )


# Invented interviews -----------------------------------------------------------------------


class InterviewError(ValueError):
    """What is wrong with a file of the invented interviews, one line a fault."""


def read_interview(path: Path) -> Scope:
    """Read one invented interview; `InterviewError` lists everything that is wrong with it."""
    parts = re.split(r"(?m)^---\s*$", path.read_text(encoding="utf-8"))
    if len(parts) < 3:
        raise InterviewError(f"{path.name}: needs a head, sentences and questions, divided by ---")
    head, body, asked = parts[:3]
    faults: list[str] = []
    meta = dict(re.split(r"\s*[:=]\s*", line, maxsplit=1) for line in head.splitlines() if line.strip())
    faults += [f"the head lacks {key!r}" for key in ("title", "field", "I", "G") if not meta.get(key)]
    speakers: dict[str, tuple[str, Role]] = {
        "I": (meta.get("I", "Question").split(",")[0].strip(), "interviewer"),
        "G": (meta.get("G", "Answer").split(",")[0].strip(), "interviewee"),
    }
    lines: list[tuple[str, Role, str]] = []
    marks: list[str] = []
    for line in filter(str.strip, body.splitlines()):
        match = re.fullmatch(r"(\d+) ([IG]) (\S.*)", line.strip())
        if not match:
            faults.append(f"not a sentence: {line[:60]!r}")
        elif int(match[1]) != len(lines) + 1:
            faults.append(f"sentence {match[1]} stands at place {len(lines) + 1}")
        else:
            lines.append((*speakers[match[2]], match[3]))
            marks.append(match[2])
    questions = []
    for line in filter(str.strip, asked.splitlines()):
        try:
            question = _question(line)
        except ValueError as exc:
            faults.append(f"{exc}: {line[:80]!r}")
            continue
        faults += [f"{fault}: {question.text!r}" for fault in _faults(question, lines, marks)]
        questions.append(question)
    if faults:
        raise InterviewError("\n".join(f"{path.name}: {fault}" for fault in faults))
    return make_scope(path.stem, "interviews", lines, questions)


def _question(line: str) -> Question:
    kind, text, *rest = (field.strip() for field in line.split(" | "))
    fields = dict(re.split(r":\s*", field, maxsplit=1) for field in rest)
    if unknown := set(fields) - {"history", "gold", "short", "near"}:
        raise ValueError(f"unknown field {sorted(unknown)[0]!r}")

    def numbers(name: str) -> tuple[int, ...]:
        value = fields.get(name, "-").strip()
        return () if value in {"-", ""} else tuple(int(n) - 1 for n in value.split(","))

    short = fields.get("short", "-")
    history = fields.get("history", "")
    return Question(
        kind=kind,
        text=text,
        gold=numbers("gold"),
        near=numbers("near"),
        short=None if short in {"-", ""} else short,
        history=tuple(h.strip() for h in history.split(" // ") if h.strip()),
    )


def _faults(q: Question, lines: Sequence[tuple[str, Role, str]], marks: Sequence[str]) -> Iterator[str]:
    if q.kind not in ANSWERABLE + UNANSWERABLE:
        yield f"unknown kind {q.kind!r}"
    if (q.kind in UNANSWERABLE) == bool(q.gold):
        yield f"kind {q.kind} {'with' if q.gold else 'without'} gold"
    if outside := [n + 1 for n in q.gold + q.near if not 0 <= n < len(lines)]:
        yield f"no sentence {outside[0]}"
        return
    if set(q.gold) & set(q.near):
        yield "a sentence is both gold and near"
    if q.short and not any(q.short in lines[n][2] for n in q.gold):
        yield f"the short answer {q.short!r} is in no gold sentence"
    if (q.kind == "followup") != bool(q.history):
        yield "history belongs to follow-ups, and they need it"
    if any((marks[n] == "I") != (q.kind == "speaker") for n in q.gold):
        yield "a gold sentence is the interviewer's and the kind is not `speaker`, or the reverse"


def held_out(name: str) -> bool:
    """Whether an interview is for validation: every seventh, never trained on."""
    return name.isdigit() and int(name) % 7 == 0


def interviews(folder: Path) -> Iterator[Scope]:
    """The valid interviews of a folder, in order; faulty ones are told on stderr and left out."""
    for path in sorted(folder.glob("[0-9]*.txt")):
        try:
            yield read_interview(path)
        except InterviewError as exc:
            sys.stderr.write(f"{exc}\n")


# Public sets -------------------------------------------------------------------------------

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9])")
_NO_END = re.compile(r"\b(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|etc|c|ca|cf|No|U\.S|e\.g|i\.e)\.$")


def _split(text: str) -> list[tuple[int, int]]:
    cuts = [0]
    for match in _SENTENCE_END.finditer(text):
        if not _NO_END.search(text[cuts[-1] : match.start()]):
            cuts.append(match.end())
    return [(a, b) for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True) if text[a:b].strip()]


Line = tuple[str, Role, str]
"""Speaker, role and words of a sentence, as `make_scope` takes it."""


def _grouped(
    name: str, source: str, parts: Iterable[tuple[list[Line], list[Question]]], least: float = GROUP
) -> Iterator[Scope]:
    """One scope after the other, `name-0`, `name-1`, of parts: their lines, and questions whose positions
    count from the part's first line. A scope takes parts until it has `least` lines."""
    lines: list[Line] = []
    questions: list[Question] = []
    number = 0
    for more, asked in parts:
        first = len(lines)
        lines += more
        questions += [
            replace(q, gold=tuple(first + i for i in q.gold), near=tuple(first + i for i in q.near))
            for q in asked
        ]
        if len(lines) >= least:
            yield make_scope(f"{name}-{number}", source, lines, questions)
            lines, questions, number = [], [], number + 1
    if questions:
        yield make_scope(f"{name}-{number}", source, lines, questions)


def _paragraph(text: str, spans: Sequence[tuple[int, int]]) -> list[Line]:
    """The sentences of a text that nobody speaks, as a turn of its own."""
    return [("", "other", ("\n" if k == 0 else "") + text[a:b]) for k, (a, b) in enumerate(spans)]


def squad2(folder: Path, *, held: bool) -> Iterator[Scope]:
    """SQuAD 2.0 by article: the held-out ones whole, the others in groups of paragraphs."""
    for article in read_json(folder / "squad2_half" / "dev-v2.0.cs224n.json")["data"]:
        if (article["title"] in HELD_OUT_ARTICLES) == held:
            parts = map(_squad_part, article["paragraphs"])
            yield from _grouped(article["title"], "squad2", parts, math.inf if held else GROUP)


def _squad_part(paragraph: dict[str, Any]) -> tuple[list[Line], list[Question]]:
    spans = _split(paragraph["context"])
    questions = []
    for asked in paragraph["qas"]:
        marked = [] if asked.get("is_impossible") else asked["answers"]
        starts = [(x["answer_start"], x["answer_start"] + len(x["text"])) for x in marked]
        gold = tuple(
            k for k, (a, b) in enumerate(spans) if any(start < b and stop > a for start, stop in starts)
        )
        questions.append(
            Question(
                kind="squad" if gold else "squad-no",
                text=asked["question"].strip(),
                gold=gold,
                near=tuple(k for k in range(len(spans)) if k not in gold),
                short=min((x["text"] for x in marked), key=len, default=None),
            )
        )
    return _paragraph(paragraph["context"], spans), questions


def friendsqa(folder: Path) -> Iterator[Scope]:
    """Scenes of a TV show; an utterance is a sentence here."""
    for scene in read_json(folder / "friendsqa" / "friendsqa_dev.json")["data"]:
        for paragraph in scene["paragraphs"]:
            said = paragraph.get("utterances:") or paragraph["utterances"]
            place = {u["uid"]: i for i, u in enumerate(said)}
            questions = [
                Question(
                    kind="friendsqa",
                    text=asked["question"].replace(" ?", "?"),
                    gold=tuple(sorted({place[a["utterance_id"]] for a in asked["answers"]})),
                )
                for asked in paragraph["qas"]
            ]
            lines: list[tuple[str, Role, str]] = [
                (" & ".join(u["speakers"]), "other", u["utterance"] or "...") for u in said
            ]
            yield make_scope(scene["title"], "friendsqa", lines, questions)


def molweni(folder: Path) -> Iterator[Scope]:
    """Ubuntu chat; gold is the message in which the marked answer begins."""
    for number, dialogue in enumerate(read_json(folder / "molweni" / "mrc_test.json")["data"]["dialogues"]):
        said = dialogue["edus"]
        context = dialogue["context"].lower()
        starts: list[int] = []
        for u in said:
            after = starts[-1] + 1 if starts else 0
            found = context.find(f"{u['speaker'].lower()}: ", after)
            starts.append(found if found >= 0 else after)
        questions = []
        for asked in dialogue["qas"]:
            marked = [] if asked["is_impossible"] else asked["answers"]
            gold = {
                max((i for i, s in enumerate(starts) if s <= a["answer_start"]), default=0) for a in marked
            }
            kind = "molweni" if gold else "molweni-no"
            questions.append(
                Question(kind=kind, text=asked["question"].replace(" ?", "?"), gold=tuple(sorted(gold)))
            )
        lines: list[tuple[str, Role, str]] = [(u["speaker"], "other", u["text"] or "...") for u in said]
        yield make_scope(f"molweni-{number}", "molweni", lines, questions)


_TREEBANK = (("-LRB-", "("), ("-RRB-", ")"), ("``", '"'), ("''", '"'))
_SPACE_BEFORE = re.compile(r" (?=[.,;:?!%)]|'s\b|n't\b|'\w)")


def _prose(treebank: str) -> str:
    for mark, character in _TREEBANK:
        treebank = treebank.replace(mark, character)
    return _SPACE_BEFORE.sub("", treebank).replace("( ", "(")


def qamr(folder: Path, rng: random.Random, per_sentence: int = 4) -> Iterator[Scope]:
    """Questions on single sentences of Wikipedia and Wikinews, read in groups of neighbours."""
    rows = (folder / "qamr" / "wiki-sentences.tsv").read_text(encoding="utf-8").splitlines()
    sentences = {row.split("\t")[0]: _prose(row.split("\t")[1]) for row in rows if "\t" in row}
    tokens = {row.split("\t")[0]: row.split("\t")[1].split(" ") for row in rows if "\t" in row}
    asked: dict[str, list[tuple[str, str]]] = {}
    for name in ("qamr_dev.tsv", "qamr_test.tsv"):
        for row in (folder / "qamr" / name).read_text(encoding="utf-8").splitlines():
            fields = row.split("\t")
            if fields[0] in sentences:
                places = [int(n) for n in fields[6].split()]
                answer = _prose(" ".join(tokens[fields[0]][min(places) : max(places) + 1]))
                asked.setdefault(fields[0], []).append((fields[5], answer))
    keys = sorted(asked)
    for first in range(0, len(keys), GROUP):
        group = keys[first : first + GROUP]
        questions = [
            Question(kind="qamr", text=text, gold=(i,), short=answer if answer in sentences[key] else None)
            for i, key in enumerate(group)
            for text, answer in rng.sample(asked[key], min(per_sentence, len(asked[key])))
            if len(text.split()) > 4
        ]
        yield make_scope(
            f"qamr-{first}", "qamr", [("", "other", "\n" + sentences[k]) for k in group], questions
        )


def selqa(folder: Path) -> Iterator[Scope]:
    """Questions on sections of Wikipedia, half of them paraphrased; several sections a scope."""
    rows = [row for name in ("dev", "test") for row in read_json(folder / "selqa" / f"selqa_{name}.json")]
    rows.sort(key=lambda r: (r["article"], r["section"]))
    lines: list[tuple[str, Role, str]] = []
    questions: list[Question] = []
    place: dict[tuple[str, ...], int] = {}
    part = 0
    for row in rows:
        section = tuple(row["candidates"])
        if section not in place:
            place[section] = len(lines)
            lines += [
                ("", "other", ("\n" if k == 0 else "") + (s.strip() or "...")) for k, s in enumerate(section)
            ]
        gold = tuple(place[section] + k for k in row["answers"])
        questions.append(Question(kind="selqa", text=row["question"], gold=gold))
        if len(lines) >= GROUP:
            yield make_scope(f"selqa-{part}", "selqa", lines, questions)
            lines, questions, place, part = [], [], {}, part + 1
    if questions:
        yield make_scope(f"selqa-{part}", "selqa", lines, questions)


def canard(folder: Path, *, held: bool) -> Iterator[Scope]:
    """Dialogues about articles of Wikipedia by somebody who did not see them, several a scope; the
    answers that were given are its sentences. About a fifth of the articles, by a hash of their titles,
    is held out."""
    yield from _grouped(
        "canard",
        "canard",
        (
            _canard_part(dialogue)
            for _, dialogue in canard_dialogues(folder)
            if (hashlib.sha256(dialogue[0][0]["History"][0].encode()).digest()[0] % 5 == 0) == held
        ),
    )


def _canard_part(dialogue: Sequence[tuple[dict[str, Any], str]]) -> tuple[list[Line], list[Question]]:
    """Every other question is read as a human wrote it anew to stand alone, the others after those
    before them."""
    lines: list[Line] = []
    questions = []
    for number, (row, answer) in enumerate(dialogue):
        spans = _split(answer)
        alone = number % 2 == 0
        questions.append(
            Question(
                kind="canard" if spans else "canard-no",
                text=row["Rewrite"] if alone else row["Question"],
                gold=tuple(range(len(lines), len(lines) + len(spans))),
                history=() if alone else tuple(row["History"][2::2]),
            )
        )
        lines += _paragraph(answer, spans)
    return lines, questions


def training_scopes(folder: Path, own: Path, sets: Sequence[str], seed: int) -> list[Scope]:
    """Every scope of the named sets that may be trained on."""
    rng = random.Random(seed)
    readers: dict[str, Callable[[], Iterator[Scope]]] = {
        "interviews": lambda: (s for s in interviews(own) if not held_out(s.name)),
        "squad2": lambda: squad2(folder, held=False),
        "friendsqa": lambda: friendsqa(folder),
        "molweni": lambda: molweni(folder),
        "qamr": lambda: qamr(folder, rng),
        "selqa": lambda: selqa(folder),
        "canard": lambda: canard(folder, held=False),
    }
    if unknown := set(sets) - set(readers):
        raise ValueError(f"no set {sorted(unknown)[0]!r}: choose from {', '.join(readers)}")
    return [
        s
        for name in sets
        if name == "interviews" or (folder / _FOLDERS[name]).is_dir()
        for s in readers[name]()
    ]


_FOLDERS = {
    "squad2": "squad2_half",
    "friendsqa": "friendsqa",
    "molweni": "molweni",
    "qamr": "qamr",
    "selqa": "selqa",
    "canard": "canard",
}


def validation_scopes(folder: Path, own: Path) -> list[Scope]:
    """The held-out interviews, and the held-out SQuAD articles where the set is there."""
    scopes = [s for s in interviews(own) if held_out(s.name)]
    if (folder / "squad2_half").is_dir():
        scopes += squad2(folder, held=True)
    return scopes


if __name__ == "__main__":
    for argument in map(Path, sys.argv[1:]):
        for scope in interviews(argument) if argument.is_dir() else [read_interview(argument)]:
            kinds = Counter(q.kind for q in scope.questions)
            sys.stdout.write(
                f"{scope.name}: {len(scope.sentences)} sentences, {len(scope.questions)} questions "
                f"({', '.join(f'{kind} {count}' for kind, count in kinds.most_common())})\n"
            )
