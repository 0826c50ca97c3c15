"""The recipe of the small weights: what it lacks is said at once, nobody held out is trained on, nothing is mixed."""

import dataclasses
import itertools
import json
import logging
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
import torch

from lib.cli.weights import run, weights
from lib.evaluation.manifest import from_manifest
from lib.files.lock import file_lock
from lib.learning import rehearsal as rehearsal
from lib.pretraining import run as recipe_run
from lib.pretraining.plan import CPU_BATCH, Machine, agree, read_device, shorter_lengths
from lib.pretraining.recipe import STRUCTURES, check_data, trial
from lib.pretraining.run import Made, _make_some, make_volumes, make_weights
from lib.pretraining.sources import Generated, Labelled, RecipeError
from lib.pretraining.spawning import ProcessFailedError, run_together
from lib.synthesis.tissues import part_of
from lib.training.data_sets import DataSet, case_name
from lib.training.sampling import SamplingConfig
from lib.training.stream import SampleStream
from tests.support.block_volumes import KEPT, TRAINED, names_in, write_data

REPOSITORY = Path(__file__).resolve().parents[4]
HELD_OUT = REPOSITORY / "benchmarks/held_out.txt"
RECIPE = trial(STRUCTURES, 4)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patients in each modality, two of them held out."""
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.fixture
def data(complete: Path, tmp_path: Path) -> Path:
    """A copy to take something away from."""
    return Path(shutil.copytree(complete, tmp_path / "data"))


@pytest.fixture(autouse=True)
def _log_as_before():
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    yield
    for handler in set(root.handlers) - set(before[1]):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(before[0])


def command(*options: object) -> int:
    """Exit status of ``sam3d weights``, without what it sets for its process."""
    return run(**weights.make_context("weights", [*map(str, options)]).params)


def names(data_set: DataSet) -> set[str]:
    return {case_name(file) for file in data_set.files}


def test_the_recipe_in_figures() -> None:
    shares = {preset: sum(s.share for s in STRUCTURES.sources if s.preset == preset) for preset in ("ct", "mr", "pet")}
    assert shares == pytest.approx({"ct": 3.35, "mr": 2.35, "pet": 2.0})
    assert (STRUCTURES.peak_lr, STRUCTURES.minutes, STRUCTURES.precision) == (2e-3, 600.0, "auto")
    assert json.loads(json.dumps(STRUCTURES.to_dict())) == STRUCTURES.to_dict()


def test_an_organ_of_the_learning_loop_stays_unseen() -> None:
    folders = {name for s in STRUCTURES.sources for name in ([s.name] if isinstance(s, Labelled) else s.inputs)}
    assert not any("hippocampus" in folder for folder in folders)
    assert not part_of("L hippocampus").is_object and part_of("L amygdala").is_object


def test_nothing_is_measured_on_what_is_trained_on() -> None:
    most = max(kind.trained for kind in rehearsal.KINDS) + max(kind.held_out for kind in rehearsal.KINDS)
    later = range(rehearsal.FIRST_SEED, rehearsal.FIRST_SEED + most)
    measured = range(100, 200)  # of the benchmarks and of the tests of the shipped weights
    phantoms = [source.seeds for source in STRUCTURES.generated if source.maker == "phantoms"]
    for one, other in itertools.combinations((*phantoms, later, measured), 2):
        assert not set(one) & set(other)


def test_a_trial_is_the_recipe_in_small() -> None:
    assert [source.name for source in RECIPE.sources] == [source.name for source in STRUCTURES.sources]
    assert all(
        set(few.seeds) < set(all_.seeds) for few, all_ in zip(RECIPE.generated, STRUCTURES.generated, strict=True)
    )
    assert (RECIPE.minutes, RECIPE.steps) == (None, 4)
    same = ("labelled", "peak_lr", "seed", "precision", "name")
    assert all(getattr(RECIPE, key) == getattr(STRUCTURES, key) for key in same)


@pytest.mark.parametrize(
    ("take_away", "words"),
    [
        (
            lambda data: shutil.rmtree(data),
            ("sts_ct/images, sts_ct/labels", "labelmaps_brain/labels", "docs/weights.md"),
        ),
        (lambda data: shutil.rmtree(data / "sts_mr_t1"), ("no volumes in sts_mr_t1/images, sts_mr_t1/labels.",)),
        (
            lambda data: [file.unlink() for file in (data / "sts_pet/labels").iterdir()],
            ("no volumes in sts_pet/labels.", "equal names"),
        ),
        (
            lambda data: [f.rename(f.with_name(f"other_{f.name}")) for f in (data / "sts_ct/labels").iterdir()],
            ("sts_ct: no *.npz, and no images/ with labels/ of the same names",),
        ),
        (
            lambda data: [(data / "sts_ct/labels" / f"{name}.nii.gz").unlink() for name in KEPT],
            ("sts_ct holds 2 case(s) to train on and 0 that are held out",),
        ),
        (
            lambda data: [(data / "sts_ct/labels" / f"{name}.nii.gz").unlink() for name in TRAINED],
            ("sts_ct holds 0 case(s) to train on and 2 that are held out",),
        ),
    ],
    ids=["no folder", "a modality missing", "a folder empty", "other names", "nobody held out", "nobody to train on"],
)
def test_what_is_missing_is_said_before_anything_is_made(data, tmp_path, caplog, take_away, words) -> None:
    take_away(data)
    out = tmp_path / "out"
    assert command("--data", data, "--held-out", HELD_OUT, "--out", out) == 1
    assert len(caplog.messages) == 1 and all(word in caplog.text for word in words), caplog.text
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device", "tpu"), "DEVICE=tpu is unknown; choose from: cpu, cuda."),
        (("--held-out", "absent.txt"), "absent.txt is no file"),
    ],
)
def test_other_refusals(complete, tmp_path, caplog, options, words) -> None:
    assert command("--data", complete, "--held-out", HELD_OUT, "--out", tmp_path / "out", *options) == 1
    assert words in caplog.text and len(caplog.messages) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [("--minutes", "0"), ("--minutes", "nan"), ("--steps", "-1"), ("--steps", "many")])
def test_no_time_is_no_training(complete, tmp_path, option) -> None:
    with pytest.raises(click.BadParameter) as refusal:
        command("--data", complete, "--held-out", HELD_OUT, "--out", tmp_path / "out", *option)
    assert option[0] in refusal.value.format_message()


def test_a_gpu_that_is_not_there_is_no_device(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert read_device(None) == "cpu"
    with pytest.raises(RecipeError, match="sees no GPU"):
        read_device("cuda")


def test_nobody_held_out_is_ever_drawn(complete, tmp_path, monkeypatch) -> None:
    """All that training reads, over so many samples that every case of every data set comes."""
    rng = np.random.default_rng(0)
    for source in RECIPE.generated:
        folder = tmp_path / source.name
        folder.mkdir(parents=True)
        for seed in source.seeds:
            labels = np.zeros((20, 20, 20), np.uint8)
            labels[6:12, 6:12, 6:12] = 1
            image = rng.normal(0, 10, labels.shape).astype(np.int16)
            np.savez(folder / f"{seed:06d}.npz", image=image, labels=labels, affine=np.eye(4))
    machine = Machine("cpu", 2, CPU_BATCH, 0, "fp32")
    training = recipe_run._training(RECIPE, complete, HELD_OUT, tmp_path, machine, {})
    read, of_the_disk = set(), DataSet._read
    monkeypatch.setattr(DataSet, "_read", lambda self, file: read.add(file) or of_the_disk(self, file))
    data_sets = [choice.open(training.held_out, validation=False) for choice in training.data_sets]
    assert [data_set.share for data_set in data_sets] == [source.share for source in RECIPE.sources if source.share]
    labelled = [data_set for data_set in data_sets if data_set.folder.parent == complete]
    assert [names(data_set) for data_set in labelled] == [set(TRAINED)] * 3
    small = SamplingConfig(roi_size=8)
    for part in range(2):
        stream = iter(SampleStream(data_sets, small, 1, batch=2, part=part, parts=2))
        for _ in range(150):
            next(stream)
    assert read == {file for data_set in data_sets for file in data_set.files}
    validated = [choice.open(training.held_out, validation=True) for choice in training.validation]
    assert [names(data_set) for data_set in validated[:-1]] == [set(KEPT)] * 7
    assert not read & {file for data_set in validated for file in data_set.files}


def test_the_same_command_goes_on_and_another_is_refused(tmp_path, monkeypatch) -> None:
    facts = {"data_sha256": {"sts_ct": "1"}, "held_out": {"file": "h.txt", "sha256": "2"}}
    begun = agree(tmp_path, STRUCTURES, facts, "cpu")
    plan = (tmp_path / "plan.json").read_bytes()
    # On a machine of another size, or with a GPU, it goes on as it began.
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert agree(tmp_path, STRUCTURES, facts, None) == agree(tmp_path, STRUCTURES, facts, "cpu") == begun
    for recipe, said, device, word in (
        (dataclasses.replace(STRUCTURES, minutes=40.0), facts, None, "minutes"),
        (dataclasses.replace(STRUCTURES, steps=3), facts, None, "steps"),
        (STRUCTURES, facts | {"data_sha256": {"sts_ct": "3"}}, None, "data_sha256"),
        (STRUCTURES, facts | {"held_out": {"file": "h.txt", "sha256": "4"}}, None, "held_out"),
        (STRUCTURES, facts, "cuda", "device"),
    ):
        with pytest.raises(RecipeError, match=rf"begun with other values of {word} \(see plan.json"):
            agree(tmp_path, recipe, said, device)
    assert (tmp_path / "plan.json").read_bytes() == plan
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(RecipeError, match="cannot be read"):
        agree(tmp_path, STRUCTURES, facts, None)


def test_a_longer_training_goes_on_with_a_shorter_one(tmp_path) -> None:
    facts = {"data_sha256": {"sts_ct": "1"}}
    made = tmp_path / "made.json"
    begun = agree(tmp_path, STRUCTURES, facts, "cpu")
    made.touch()
    assert agree(tmp_path, STRUCTURES, facts, None) == begun and made.exists()
    assert shorter_lengths(tmp_path) == []

    longer = dataclasses.replace(STRUCTURES, minutes=900.0)
    assert agree(tmp_path, longer, facts, None) == begun
    assert not made.exists()  # what is there is the shorter one's
    made.touch()
    assert agree(tmp_path, longer, facts, None) == begun and made.exists()
    assert shorter_lengths(tmp_path) == [{"minutes": 600.0, "steps": None}]
    for recipe, word in (
        (STRUCTURES, "minutes"),
        (dataclasses.replace(longer, minutes=None, steps=9), "minutes, steps"),
        (dataclasses.replace(longer, minutes=950.0, seed=2), "seed"),
    ):
        with pytest.raises(
            RecipeError, match=rf"begun with other values of {word} \(see plan.json.*to train for longer"
        ):
            agree(tmp_path, recipe, facts, None)
    assert made.exists()


def test_a_folder_of_another_training_is_not_taken_over(tmp_path) -> None:
    (tmp_path / "tiny_state.pt").touch()
    with pytest.raises(RecipeError, match="tiny_state.pt of another training"):
        agree(tmp_path, STRUCTURES, {}, "cpu")
    assert not (tmp_path / "plan.json").exists()


def test_a_machine_is_used_as_far_as_its_memory_goes(monkeypatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(32)))
    monkeypatch.setattr("lib.pretraining.plan.resolve_precision", lambda *_: torch.bfloat16)

    def with_memory(gib: float) -> None:
        monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": int(gib * 2**30)}))

    with_memory(256)
    assert Machine.here("cpu", STRUCTURES) == Machine("cpu", 8, 2, 0, "bf16")
    assert Machine.here("cuda", STRUCTURES) == Machine("cuda", 1, 16, 12, "bf16")
    with_memory(10)
    assert Machine.here("cpu", STRUCTURES).processes == 3
    with_memory(1)
    assert Machine.here("cpu", STRUCTURES).processes == Machine.here("cuda", STRUCTURES).workers == 1


def test_two_commands_do_not_work_in_one_folder(complete, tmp_path) -> None:
    with file_lock(tmp_path / "make_weights.lock", 0), pytest.raises(RecipeError, match="Another command is making"):
        make_weights(RECIPE, complete, HELD_OUT, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["make_weights.lock"]


def test_the_list_of_held_out_cases_is_one_that_the_evaluation_reads(complete, tmp_path) -> None:
    manifests = recipe_run._manifests(RECIPE, complete, HELD_OUT, tmp_path)
    assert [preset for preset, _ in manifests] == ["ct", "mr", "pet", "ct", "ct", "mr", "mr"]
    for (_, manifest), part in zip(manifests, RECIPE.labelled, strict=True):
        sources = from_manifest(manifest)
        assert {source.patient for source in sources} == set(KEPT)
        assert all(source.image.is_relative_to(complete / part.name / "images") for source in sources)
    made = Made((tmp_path / "a b_base", tmp_path / "weights"), manifests)
    assert len(made.commands()) == 7 and f"BASE='{tmp_path}/a b_base'" in made.commands()[0]


def test_another_family_makes_weights_by_the_same_command(complete, tmp_path, caplog) -> None:
    sizes = recipe_run.pretrained_sizes()
    assert {size: family.name for size, family in sizes.items()} == {"tiny": "sam3d_adapter", "micro": "sam2"}
    manifests = recipe_run._manifests(RECIPE, complete, HELD_OUT, tmp_path, "sam2", "micro")
    # It has a preset for CT alone.
    assert [(preset, path.name) for preset, path in manifests] == [
        ("sam2_micro", f"{name}_held_out.json") for name in ("sts_ct", "organs_ct", "vessels_ct")
    ]
    (first, *_) = Made((tmp_path / "weights",), manifests).commands()
    assert f"PRESET=sam2_micro MANIFEST={tmp_path}/sts_ct_held_out.json MODEL={tmp_path}/weights OUT=" in first
    given = ("--data", complete, "--held-out", HELD_OUT, "--out", tmp_path / "out")
    assert command(*given, "--size", "huge") == 1
    assert "No weights of size 'huge' can be made; choose from: micro, tiny." in caplog.text
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_size_is_refused(tmp_path) -> None:
    agree(tmp_path, STRUCTURES, {"size": None}, "cpu")
    with pytest.raises(RecipeError, match="begun with other values of size"):
        agree(tmp_path, STRUCTURES, {"size": "micro"}, "cpu")


def test_who_is_trained_on(complete) -> None:
    held_out = frozenset(HELD_OUT.read_text().split())
    found = check_data(STRUCTURES, complete, held_out)
    assert found == {source.name: (list(TRAINED) * (source.share > 0), list(KEPT)) for source in STRUCTURES.labelled}
    assert all(
        set(trained) | set(kept) == set(names_in(s)) for s in STRUCTURES.labelled for trained, kept in [found[s.name]]
    )


def test_volumes_that_are_there_are_kept(tmp_path, monkeypatch) -> None:
    """No process is started, and what a killed one left half written goes."""
    monkeypatch.setattr("lib.pretraining.run.run_together", None)
    source = Generated("some", "phantoms", "ct", 1.0, range(5, 7))
    (tmp_path / "some").mkdir()
    for seed in source.seeds:
        (tmp_path / "some" / f"{seed:06d}.npz").touch()
    (tmp_path / "some/000007.npz.123.partial").touch()
    make_volumes(source, tmp_path, tmp_path, frozenset(), 2)
    assert sorted(file.name for file in (tmp_path / "some").iterdir()) == ["000005.npz", "000006.npz"]


@pytest.mark.slow  # starts processes that import everything
def test_a_process_that_cannot_go_on_says_why(tmp_path) -> None:
    source = Generated("file", "phantoms", "ct", 1.0, range(5, 7))
    (tmp_path / "file").touch()
    with pytest.raises(ProcessFailedError, match="File exists"):
        work = (source, tmp_path, tmp_path, frozenset(), range(5, 7), 2)
        run_together(_make_some, work, 2, refused=(OSError,))
