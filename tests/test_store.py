"""The index: reference equality, reuse, atomic builds, and every kind of damage."""

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from index.errors import IndexStoreError
from index.late import TokenIndex
from index.lexical import LexicalIndex, stems
from index.store import MANIFEST, build_index, index_directory, make_index, open_index
from index.transcript import Transcript, parse_transcript
from index.vectors import VectorIndex
from tests.conftest import DIALOGUE, HashEncoder


def unit_rows(n: int, d: int, seed: int = 1) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


# The three indexes --------------------------------------------------------------------------


def test_vector_search_equals_brute_force() -> None:
    rows, question = unit_rows(500, 24), unit_rows(1, 24, seed=2)[0]
    ids, scores = VectorIndex.build(rows).search(question, 20)
    expected = np.argsort(-(rows @ question), kind="stable")[:20]
    assert ids.tolist() == expected.tolist()
    np.testing.assert_allclose(scores, (rows @ question)[expected], rtol=1e-5)


def test_asking_for_more_neighbours_than_there_are_gives_all() -> None:
    ids, _ = VectorIndex.build(unit_rows(3, 8)).search(unit_rows(1, 8)[0], 10)
    assert sorted(ids.tolist()) == [0, 1, 2]


def test_the_graph_index_finds_nearly_what_the_exact_one_finds() -> None:
    rows, questions = unit_rows(4_000, 24), unit_rows(50, 24, seed=3)
    exact, graph = VectorIndex.build(rows), VectorIndex.build(rows, exact_up_to=100)
    found = [len(set(exact.search(q, 10)[0]) & set(graph.search(q, 10)[0])) / 10 for q in questions]
    assert np.mean(found) >= 0.95


def test_a_vector_index_survives_its_bytes() -> None:
    rows = unit_rows(30, 8)
    again = VectorIndex.from_bytes(VectorIndex.build(rows).to_bytes())
    np.testing.assert_array_equal(again.rows(), rows)


def test_late_interaction_equals_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, question = unit_rows(40, 8), unit_rows(5, 8, seed=4)
    starts = np.array([0, 3, 4, 17, 40])
    spots = np.zeros((40, 2), dtype=np.int32)
    index = TokenIndex(tokens.astype(np.float16), starts, spots)
    half = tokens.astype(np.float16).astype(np.float32)
    expected = np.stack([(question @ half[a:b].T).max(axis=1) for a, b in itertools.pairwise(starts)], axis=1)
    np.testing.assert_allclose(index.similarities(question), expected, atol=1e-6)
    chosen = np.array([1, 3])
    np.testing.assert_allclose(index.similarities(question, chosen), expected[:, chosen], atol=1e-6)
    monkeypatch.setattr("index.late.BLOCK", 5)
    long = TokenIndex(tokens.astype(np.float16), starts, spots)
    np.testing.assert_allclose(long.similarities(question), expected, atol=1e-6)


def test_a_sentence_without_tokens_cannot_be_indexed() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        TokenIndex(unit_rows(4, 8).astype(np.float16), np.array([0, 2, 2, 4]), np.zeros((4, 2), np.int32))


def test_lexical_scores_follow_shared_stems() -> None:
    index = LexicalIndex.build(["The county pays.", "The ferries complained.", "Nothing here."])
    scores = index.scores("Which ferry complains?")
    assert scores.argmax() == 1
    assert scores[2] == 0
    assert LexicalIndex.build(["...", "!"]).scores("Which ferry?").tolist() == [0, 0]
    assert index.scores("¿?").tolist() == [0, 0, 0]
    assert stems("Who is the one who pays for it?") == ["one", "pay"]


# Building and opening -----------------------------------------------------------------------


def test_an_index_opens_as_it_was_built(
    dialogue: Transcript, hash_encoder: HashEncoder, tmp_path: Path
) -> None:
    built = build_index(dialogue, tmp_path / "i", hash_encoder).index
    opened = open_index(tmp_path / "i")
    assert opened.transcript == built.transcript == dialogue
    assert opened.sentences == built.sentences
    assert opened.chunks == built.chunks
    np.testing.assert_array_equal(opened.vectors.rows(), built.vectors.rows())
    np.testing.assert_array_equal(opened.tokens.tokens, built.tokens.tokens)
    question = "Who pays for the new bridge?"
    np.testing.assert_array_equal(opened.lexical.scores(question), built.lexical.scores(question))


def test_nothing_is_encoded_twice(dialogue: Transcript, hash_encoder: HashEncoder, tmp_path: Path) -> None:
    first = build_index(dialogue, tmp_path / "i", hash_encoder)
    assert first.encoded == len(first.index.sentences)
    assert build_index(dialogue, tmp_path / "i", hash_encoder).encoded == 0
    edited = parse_transcript(DIALOGUE.replace("every week", "every day"), "bridges.md")
    hash_encoder.encoded.clear()
    second = build_index(edited, tmp_path / "i", hash_encoder)
    assert second.encoded == len(hash_encoder.encoded) == 2  # the sentence and the one before it
    fresh = make_index(edited, HashEncoder()).index
    np.testing.assert_allclose(second.index.vectors.rows(), fresh.vectors.rows(), atol=1e-6)
    np.testing.assert_array_equal(second.index.tokens.tokens, fresh.tokens.tokens)
    np.testing.assert_array_equal(second.index.tokens.starts, fresh.tokens.starts)


def test_another_encoder_means_another_index(dialogue: Transcript, tmp_path: Path) -> None:
    build_index(dialogue, tmp_path / "i", HashEncoder(16))
    again = build_index(dialogue, tmp_path / "i", HashEncoder(24))
    assert again.encoded == len(again.index.sentences)


def test_progress_ends_with_the_whole(
    dialogue: Transcript, hash_encoder: HashEncoder, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    build_index(dialogue, tmp_path / "i", hash_encoder, lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == 8


def test_every_file_has_its_own_index(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "talk.md", tmp_path / "b" / "talk.md"
    assert index_directory(one, tmp_path) != index_directory(two, tmp_path)
    assert index_directory(one, tmp_path) == index_directory(one, tmp_path)


def damage(how: str, path: Path) -> None:
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "cut short":
        path.write_bytes(data[: len(data) // 2])
    else:
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


@pytest.mark.parametrize("how", ["missing", "cut short", "one bit flipped"])
def test_damage_to_any_file_is_noticed_and_mended_by_indexing_again(
    how: str, dialogue: Transcript, hash_encoder: HashEncoder, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    build_index(dialogue, whole, hash_encoder)
    files = [p.relative_to(whole) for p in whole.rglob("*") if p.is_file() and p.name != ".lock"]
    assert len(files) >= 10
    for name in files:
        broken = tmp_path / "broken"
        shutil.copytree(whole, broken)
        damage(how, broken / name)
        with pytest.raises(IndexStoreError, match="onrecord index"):
            open_index(broken)
        mended = build_index(dialogue, broken, hash_encoder)
        assert mended.encoded == len(mended.index.sentences)
        assert open_index(broken).transcript == dialogue
        shutil.rmtree(broken)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"sha256": "0"}', b"\xff\xfe"])
def test_a_foreign_manifest_is_not_an_index(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(IndexStoreError, match="damaged"):
        open_index(tmp_path)


def test_a_folder_of_somebody_elses_is_left_alone(
    dialogue: Transcript, hash_encoder: HashEncoder, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(IndexStoreError, match="not an index"):
        build_index(dialogue, tmp_path, hash_encoder)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    with pytest.raises(IndexStoreError, match="not an index"):
        build_index(dialogue, tmp_path / "thesis.txt", hash_encoder)
    with pytest.raises(IndexStoreError, match="there is no index"):
        open_index(tmp_path / "nowhere")


def test_an_index_of_another_version_says_so(
    dialogue: Transcript, hash_encoder: HashEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(dialogue, tmp_path / "i", hash_encoder)
    monkeypatch.setattr("index.store.FORMAT", 99)
    with pytest.raises(IndexStoreError, match="another version"):
        open_index(tmp_path / "i")


def test_a_failed_build_leaves_the_old_index_whole(
    dialogue: Transcript, hash_encoder: HashEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(dialogue, tmp_path / "i", hash_encoder)
    edited = parse_transcript(DIALOGUE.replace("rusted", "snapped"), "bridges.md")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("index.store.os.fsync", full)
    with pytest.raises(IndexStoreError, match="No space left"):
        build_index(edited, tmp_path / "i", hash_encoder)
    monkeypatch.undo()
    assert open_index(tmp_path / "i").transcript == dialogue
    assert len(list((tmp_path / "i").glob("build-*"))) == 1


PROGRAM = """
import os, resource, sys
from pathlib import Path
from index.store import IndexStoreError, build_index
from index.transcript import parse_transcript
from tests.conftest import DIALOGUE, HashEncoder

class Deadly(HashEncoder):
    def encode_windows(self, *args, **kwargs):
        os.kill(os.getpid(), 9)

how, directory, week = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
if how == "little space":
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
transcript = parse_transcript(DIALOGUE.replace("week", week), "bridges.md")
try:
    build_index(transcript, directory, Deadly() if how == "killed" else HashEncoder())
except IndexStoreError:
    sys.exit(7)
"""


def start(how: str, directory: Path, week: str = "week") -> "subprocess.Popen[bytes]":
    root = Path(__file__).parent.parent
    return subprocess.Popen([sys.executable, "-c", PROGRAM, how, str(directory), week], cwd=root)


def test_a_write_that_the_system_refuses_is_one_error(tmp_path: Path) -> None:
    assert start("little space", tmp_path / "i").wait(60) == 7
    with pytest.raises(IndexStoreError, match="there is no index"):
        open_index(tmp_path / "i")


def test_a_killed_build_leaves_the_old_index_whole_and_no_lock(
    dialogue: Transcript, hash_encoder: HashEncoder, tmp_path: Path
) -> None:
    build_index(dialogue, tmp_path / "i", hash_encoder)
    assert start("killed", tmp_path / "i", "day").wait(60) == -9
    assert open_index(tmp_path / "i").transcript == dialogue
    assert build_index(dialogue, tmp_path / "i", hash_encoder).encoded == 0


def test_builds_at_once_do_not_mix(tmp_path: Path) -> None:
    days = ["day", "month", "year"]
    for process in [start("built", tmp_path / "i", day) for day in days]:
        assert process.wait(120) == 0
    opened = open_index(tmp_path / "i")
    assert any(f"every {day}." in opened.transcript.text for day in days)
    assert len(list((tmp_path / "i").glob("build-*"))) == 1


def test_the_manifest_lists_every_file(
    dialogue: Transcript, hash_encoder: HashEncoder, tmp_path: Path
) -> None:
    build_index(dialogue, tmp_path, hash_encoder)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    build = tmp_path / manifest["build"]
    assert set(manifest["files"]) == {
        p.relative_to(build).as_posix() for p in build.rglob("*") if p.is_file()
    }
    assert not any(name.endswith((".pkl", ".pickle")) for name in manifest["files"])
