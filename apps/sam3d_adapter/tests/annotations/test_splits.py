"""Splits: a person never moves, nobody is on both sides, damage is never mended by a new draw."""

import json
import multiprocessing
import stat

import numpy as np
import pytest

from lib.annotations.patients import Patient
from lib.annotations.splits import ENOUGH, TRAIN, VALIDATION, Splits, SplitsError


def visible(*names):
    return {name: Patient(name, "test", is_visible=True) for name in names}


def people(count, start=0):
    return visible(*(f"p{n:04d}" for n in range(start, start + count)))


@pytest.fixture
def splits(tmp_path):
    return Splits(tmp_path / "learning")


def arrive(splits, rng, patients):
    """In random order and in batches of random size, each time with some who were there before."""
    order = list(patients)
    rng.shuffle(order)
    sides = {}
    while len(sides) < len(order):
        new = order[len(sides) : len(sides) + int(rng.integers(1, 9))]
        again = [name for name in sides if rng.random() < 0.3]
        found = splits.assign({name: patients[name] for name in (*again, *new)})
        assert {name: found[name] for name in again} == {name: sides[name] for name in again}
        sides |= found
    return sides


# The file is written and synced for each of some 5000 batches.
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_orders_of_arrival(tmp_path):
    for seed in range(1000):
        check_one_order(tmp_path / str(seed), seed)


@pytest.mark.parametrize("seed", range(20))
def test_orders_of_arrival(tmp_path, seed):
    check_one_order(tmp_path, 5000 + seed)


def check_one_order(folder, seed):
    rng = np.random.default_rng(seed)
    splits = Splits(folder)
    sides = arrive(splits, rng, people(20))
    assert list(sides.values()).count(VALIDATION) == 8
    later = arrive(splits, rng, people(30))
    assert {name: later[name] for name in sides} == sides
    assert list(later.values()).count(VALIDATION) == 10
    assert splits.counts() == {TRAIN: 20, VALIDATION: 10} and splits.moves() == []


@pytest.mark.parametrize(
    ("count", "validated"),
    [(1, 0), (2, 1), (3, 1), (5, 2), (10, 4), (20, 8), (25, 9), (40, 12), (100, 24)],
)
def test_how_many_are_validated_on(splits, count, validated):
    sides = splits.assign(people(count))
    assert list(sides.values()).count(VALIDATION) == validated
    assert (validated >= ENOUGH) == (count >= 20)


def test_first_patient_is_trained_on(splits):
    assert list(splits.assign(people(1)).values()) == [TRAIN]


def test_order_of_names_plays_no_part(splits, tmp_path):
    splits.assign({})
    for number, names in enumerate((sorted(people(12)), sorted(people(12), reverse=True))):
        other = Splits(tmp_path / str(number))
        other.folder.mkdir()
        (other.folder / "splits.key").write_bytes((splits.folder / "splits.key").read_bytes())
        assert other.assign(visible(*names)) == splits.assign(people(12))
    # Nor do the names themselves: whoever numbers his patients has not the second and fourth in validation always.
    drawn = {tuple(sorted(n for n, s in Splits(tmp_path / f"x{i}").assign(people(5)).items() if s == VALIDATION))
             for i in range(20)}  # fmt: skip
    assert len(drawn) > 3


def test_all_images_of_a_person_are_on_one_side(splits):
    rng = np.random.default_rng(1)
    images = {f"scan{n}": Patient(f"person {rng.integers(12)}", "test") for n in range(80)}
    sides = splits.assign(dict(list(images.items())[:30])) | splits.assign(images)
    for person in set(images.values()):
        assert len({sides[image] for image, shown in images.items() if shown == person}) == 1


def test_corrected_validation_case_stays_there(splits):
    sides = splits.assign(people(6))
    for _ in range(3):
        assert splits.assign(people(6)) == sides == Splits(splits.folder).assign(people(6))


def one_of(sides, side):
    return next(name for name in sides if sides[name] == side)


def test_merged_patients_are_validated_on(splits):
    sides = splits.assign(people(10))
    trained, validated = one_of(sides, TRAIN), one_of(sides, VALIDATION)
    one = Patient("MRN 7", "patients.csv")
    after = splits.assign(people(10) | {trained: one, validated: one})
    assert after == sides | {trained: VALIDATION}
    (move,) = splits.moves()
    assert move["images"] == [trained] and move["to"] == VALIDATION
    # What the two ids stand for is known from now on, also where only one of them is named.
    assert splits.assign({trained: one}) == {trained: VALIDATION}
    assert splits.assign(people(10)) == after
    assert len(splits.moves()) == 1


def test_other_images_of_a_merged_patient_move_too(splits):
    known = {f"s{n}": Patient(f"P{n // 3}", "test") for n in range(30)}
    sides = splits.assign(known)
    trained, validated = one_of(sides, TRAIN), one_of(sides, VALIDATION)
    after = splits.assign({trained: known[validated]})
    assert after[trained] == VALIDATION
    of_trained = [image for image in known if known[image] == known[trained]]
    assert len(of_trained) == 3
    assert all(splits.assign({image: known[image]})[image] == VALIDATION for image in of_trained)
    assert splits.moves()[0]["images"] == sorted(of_trained)


def test_merge_on_one_side_moves_nobody(splits):
    sides = splits.assign(people(10))
    for side in (TRAIN, VALIDATION):
        names = [name for name in sides if sides[name] == side]
        merged = dict.fromkeys(names, Patient(f"all of {side}", "test"))
        assert set(splits.assign(merged).values()) == {side}
    assert splits.moves() == []


def test_patient_taken_apart_keeps_the_side(splits):
    splits.assign(people(7))
    lumped = {"a_1": Patient("a", "test"), "a_2": Patient("a", "test")}
    side = splits.assign(lumped)["a_1"]
    apart = splits.assign(visible("a_1", "a_2"))
    assert set(apart.values()) == {side}


@pytest.mark.parametrize("seed", range(10))
def test_any_history_of_merges_keeps_persons_together_and_validation_cases_out_of_training(tmp_path, seed):
    rng = np.random.default_rng(seed)
    splits, said, sides = Splits(tmp_path), {}, {}
    for _ in range(25):
        for image in (f"i{n}" for n in rng.integers(40, size=6)):
            said[image] = Patient(f"p{rng.integers(15)}", "test", is_visible=bool(rng.integers(2)))
        asked = {image: said[image] for image in said if rng.random() < 0.7}
        found = splits.assign(asked)
        for patient in set(asked.values()):
            assert len({found[image] for image, shown in asked.items() if shown == patient}) == 1
        for image, side in found.items():
            assert sides.get(image, side) == side or side == VALIDATION
        sides |= found


def test_names_of_persons_are_not_in_the_file(splits):
    splits.assign({"scan_1": Patient("Müller^Erika", "DICOM PatientID"), "b": Patient("b", "test", is_visible=True)})
    for path in (splits.file, splits.backup):
        text = path.read_text()
        assert "Erika" not in text and "id:b" in text
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((splits.folder / "splits.key").stat().st_mode) == 0o600
    assert not list(splits.folder.glob("*.partial"))


def test_pseudonyms_last_as_long_as_the_key(splits, tmp_path):
    splits.assign(people(3))
    names = [f"MRN-{n}" for n in range(200)]
    before = [splits.pseudonyms()(name) for name in names]
    assert len(set(before)) == 200 and not any("MRN" in one for one in before)
    assert [Splits(splits.folder).pseudonyms()(name) for name in names] == before
    assert not set(before) & {Splits(tmp_path / "elsewhere").pseudonyms()(name) for name in names}
    (splits.folder / "splits.key").unlink()
    with pytest.raises(SplitsError, match="is gone"):
        splits.pseudonyms()


def _state(text):
    return json.loads(text)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "null",
        lambda text: text.replace("train", "test"),
        lambda text: json.dumps({k: v for k, v in _state(text).items() if k != "patients"}),
        lambda text: json.dumps(_state(text) | {"patients": None}),
        lambda text: json.dumps(_state(text) | {"patients": {}}),
        lambda text: json.dumps(_state(text) | {"format": 2}),
        lambda text: "\udcff",
    ],
)
def test_damaged_file_is_refused_and_the_copy_mends_it(splits, damage):
    sides = splits.assign(people(9))
    splits.file.write_text(damage(splits.file.read_text()), encoding="utf-8", errors="surrogateescape")
    damaged = splits.file.read_bytes()
    for ask in (lambda: splits.assign(people(12)), splits.counts, splits.moves):
        with pytest.raises(SplitsError, match=r"splits\.backup\.json"):
            ask()
    assert splits.file.read_bytes() == damaged
    splits.file.write_bytes(splits.backup.read_bytes())
    assert splits.assign(people(9)) == sides


@pytest.mark.parametrize("name", ["splits.json", "splits.key"])
def test_lost_file_is_refused(splits, name):
    splits.assign(people(9))
    (splits.folder / name).unlink()
    with pytest.raises(SplitsError, match="gone"):
        splits.assign(people(9))


def test_foreign_key_is_refused(splits):
    splits.assign(people(9))
    (splits.folder / "splits.key").write_text("0" * 64)
    with pytest.raises(SplitsError, match="not the key"):
        splits.assign(people(9))


def test_file_is_whole_when_writing_fails(splits, monkeypatch):
    sides = splits.assign(people(9))
    before = splits.file.read_bytes()

    def fail(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        splits.assign(people(20))
    monkeypatch.undo()
    assert splits.file.read_bytes() == before and not list(splits.folder.glob("*.partial"))
    assert splits.assign(people(9)) == sides


ROUNDS, PROCESSES = 10, 6


def _assign_in_process(folder, number, start, queue):
    start.wait(60)
    answers = {}
    for turn in range(ROUNDS):
        # A patient that no other process names, and one that all name at this moment.
        answers |= Splits(folder).assign(visible(f"own {number} {turn}", f"common {turn}"))
    queue.put(answers)


@pytest.mark.slow
def test_processes_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    queue, start = context.Queue(), context.Barrier(PROCESSES)
    workers = [
        context.Process(target=_assign_in_process, args=(tmp_path, number, start, queue)) for number in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=100) for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    everybody = {name: side for answer in answers for name, side in answer.items()}
    assert all(everybody[name] == side for answer in answers for name, side in answer.items())
    assert Splits(tmp_path).assign(visible(*everybody)) == everybody
    # 20 patients with 8, then one of five of the other 50.
    assert Splits(tmp_path).counts() == {TRAIN: 52, VALIDATION: 18}
