"""Submitted labels as cases: found by name, placed in space, and left out with a reason."""

import dataclasses
import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from lib.annotations.made_with import Answer, listed_modalities
from lib.annotations.patients import PatientBook
from lib.annotations.submitted import Learner, SavedLabel, SubmittedError, read_submitted
from lib.presets import load_preset
from lib.volumes.mask_hash import mask_hash
from lib.volumes.volume import ImageError
from tests.support.hostile_images import patched
from tests.support.layered_labels import write_layers

# ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning")

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
KITS, CT, MR = (load_preset(CONFIGS / f"{name}.yaml") for name in ("kits", "ct", "mr"))
SHAPE = (30, 24, 18)
# Flipped, permuted and anisotropic.
AFFINE = np.array([[0, -1.3, 0, 20], [0.9, 0, 0, -31], [0, 0, -2.5, 44], [0, 0, 0, 1]], dtype=float)
PARTS = {"kidney": np.s_[3:20, 4:18, 2:14], "kidney tumor": np.s_[8:14, 6:12, 5:9], "cyst": np.s_[22:26, 18:22, 1:5]}


def truth(name):
    """Where a structure is; the tumour lies in the kidney."""
    mask = np.zeros(SHAPE, bool)
    mask[PARTS[name]] = True
    if name == "kidney":
        mask[PARTS["kidney tumor"]] = False
    return mask


def label_of(*names):
    """As 3D Slicer exports it: the n-th is n."""
    return sum((truth(name) * np.uint8(n) for n, name in enumerate(names, start=1)), np.zeros(SHAPE, np.uint8))


def slicer(*names, hidden=0):
    return {"label_info": [{"name": name, "idx": n + 1 + hidden} for n, name in enumerate(names)], "ts": 1_700_000_000}


class Site:
    """A folder of images with labels, in place of a data store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.saved = folder, []

    def add(self, image_id, labels, info=None, affine=AFFINE, suffix=".nii.gz", image=None, texts=None):
        (self.folder / "final").mkdir(exist_ok=True)
        path = self.folder / f"{image_id}.nii.gz"
        if image is None:
            image = np.random.default_rng(len(self.saved)).normal(40, 60, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(image, AFFINE), path)
        label = self.folder / "final" / f"{image_id}{suffix}"
        if suffix == ".nrrd":
            write_nrrd(label, labels, affine, texts or {})
        else:
            nib.save(nib.Nifti1Image(labels, affine), label)
        self.saved.append(SavedLabel(image_id, path, label, info or {}))
        return label

    def read(self, preset=KITS, **options):
        return read_submitted(self.saved, Learner(preset, **options), PatientBook().patient_of)

    def only(self, preset=KITS, **options):
        submitted = self.read(preset, **options)
        assert submitted.skipped == ()
        (case,) = submitted.cases
        return case

    def reason(self, preset=KITS, **options):
        submitted = self.read(preset, **options)
        assert submitted.cases == ()
        (skipped,) = submitted.skipped
        assert skipped.sentence.endswith(f"{skipped.reason}.") and not skipped.reason.endswith(".")
        return skipped.reason


def write_nrrd(path, labels, affine, texts):
    image = sitk.GetImageFromArray(labels.transpose())
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    for key, text in texts.items():
        image.SetMetaData(key, text)
    sitk.WriteImage(image, str(path), True)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.mark.parametrize("order", list(itertools.permutations(PARTS)))
@pytest.mark.parametrize("hidden", [0, 2])
def test_specialised_preset_takes_the_segment_of_its_name(site, order, hidden):
    site.add("a", label_of(*order), slicer(*order, hidden=hidden))
    case = site.only()
    volume = case.read()
    assert case.names == ("kidney tumor",) and volume.objects() == [1]
    np.testing.assert_array_equal(volume.labels == 1, truth("kidney tumor"))
    assert case.voxels == (int(truth("kidney tumor").sum()),)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)
    assert volume.image.dtype == np.int16 and volume.labels.dtype == np.uint8
    assert case.saved_at == 1_700_000_001


@pytest.mark.parametrize("order", list(itertools.permutations(PARTS)))
def test_general_preset_takes_them_all(site, order):
    site.add("a", label_of(*order), slicer(*order))
    case = site.only(CT)
    volume = case.read()
    assert case.names == order
    for number, name in enumerate(case.names, start=1):
        np.testing.assert_array_equal(volume.labels == number, truth(name))
    case = site.only(CT, label_name="Cyst")
    np.testing.assert_array_equal(case.read().labels == 1, truth("cyst"))


def test_missing_class_shifts_no_name(site):
    labels = label_of("cyst", "kidney", "kidney tumor")
    labels[labels == 2] = 0
    site.add("a", labels, slicer("cyst", "kidney", "kidney tumor"))
    np.testing.assert_array_equal(site.only().read().labels > 0, truth("kidney tumor"))
    labels = labels.copy()
    labels[labels == 3] = 0
    site.saved.clear()
    site.add("a", labels, slicer("cyst", "kidney", "kidney tumor"))
    assert "(cyst)" in site.reason()


def test_renamed_segment_is_not_guessed(site):
    site.add("a", label_of("kidney"), slicer("Tumour left"))
    assert site.reason() == "none of its structures (Tumour left) is a 'kidney tumor'"
    assert site.only(CT).names == ("Tumour left",)


def test_two_segments_of_the_name(site):
    site.add("a", label_of("kidney tumor", "cyst"), slicer("Kidney_Tumor", "kidney tumor"))
    case = site.only()
    assert case.names == ("kidney tumor", "kidney tumor")
    np.testing.assert_array_equal(case.read().labels, label_of("kidney tumor", "cyst"))
    assert site.only(CT).names == ("Kidney_Tumor", "kidney tumor")


@pytest.mark.parametrize(
    "second", ["kidney tumor 2", "Kidney_Tumor_2", "kidney tumor #2", "kidney-tumor-02", "Kidney tumor (2)"]
)
def test_numbered_instances_are_objects_of_one_label(site, second):
    site.add("a", label_of("kidney tumor", "cyst", "kidney"), slicer("kidney tumor", second, "kidney"))
    case = site.only()
    assert case.names == ("kidney tumor", "kidney tumor") and case.values == ((1,), (2,))
    labels = case.read().labels
    np.testing.assert_array_equal(labels == 1, truth("kidney tumor"))
    np.testing.assert_array_equal(labels == 2, truth("cyst"))
    assert site.read().notes == ("The label of a: 'kidney' is left out: kits does not learn it.",)


@pytest.mark.parametrize("name", ["kidney tumor2", "kidney tumor T2", "kidney 2 tumor", "kidney tumors 2", "2"])
def test_other_names_with_numbers_are_not(site, name):
    site.add("a", label_of("kidney tumor"), slicer(name))
    assert "is a 'kidney tumor'" in site.reason()


def test_seg_nrrd_states_its_values(site):
    texts = {}
    # Umlauts and a background that is drawn; values that are no ranks.
    for n, (name, value) in enumerate((("Kidney Tumor", 7), ("Zyste groß", 2), ("background", 9))):
        texts |= {f"Segment{n}_Name": name, f"Segment{n}_LabelValue": str(value), f"Segment{n}_Layer": "0"}
    labels = np.select([truth("kidney tumor"), truth("cyst"), truth("kidney")], [7, 2, 9]).astype(np.uint8)
    site.add("a", labels, slicer("Zyste groß", "Kidney Tumor"), suffix=".nrrd", texts=texts)
    np.testing.assert_array_equal(site.only().read().labels > 0, truth("kidney tumor"))
    assert site.only(CT).names == ("Kidney Tumor", "Zyste groß")
    np.testing.assert_array_equal(site.only(CT).read().labels == 2, truth("cyst"))


def whole(name):
    """As a segment that may overlap others: the kidney with its tumour."""
    return truth(name) | truth("kidney tumor") if name == "kidney" else truth(name)


def add_layers(site, *segments):
    """A label of 3D Slicer whose segments overlap: each in a layer of its own, of value 1."""
    site.add("a", label_of("cyst"), slicer(*segments))
    (saved,) = site.saved
    path = saved.label.with_name("a.seg.nrrd")
    named = [(name, layer, 1) for layer, name in enumerate(segments)]
    write_layers(path, [whole(name) * 1 for name in segments], named, AFFINE)
    site.saved[:] = [dataclasses.replace(saved, label=path)]


@pytest.mark.parametrize("order", list(itertools.permutations(PARTS)))
def test_each_overlapping_segment_is_an_object_with_all_its_voxels(site, order):
    add_layers(site, *order)
    case = site.only(CT)
    volume, labels = case.read(), case.read_labels()
    assert case.names == order and volume.objects() == [1, 2, 3]
    for number, name in enumerate(order, start=1):
        box = volume.box(number)
        found = np.zeros(SHAPE, bool)
        found[box] = volume.mask(number, box)
        np.testing.assert_array_equal(found, whole(name))
        np.testing.assert_array_equal(case.mask(labels, number), whole(name))
        assert case.voxels[number - 1] == whole(name).sum()


def test_overlapping_segment_of_a_name(site):
    add_layers(site, "kidney", "kidney tumor")
    case = site.only()
    assert case.names == ("kidney tumor",) and case.unions is None
    np.testing.assert_array_equal(case.read().labels == 1, truth("kidney tumor"))


@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
def test_label_that_was_saved_with_scaling(site, dtype):
    site.add("a", label_of("kidney", "kidney tumor"), slicer("kidney", "kidney tumor"))
    (saved,) = site.saved
    image = nib.Nifti1Image(label_of("kidney", "kidney tumor").astype(float), AFFINE)
    image.set_data_dtype(dtype)
    nib.save(image, saved.label)
    assert not np.array_equal(np.asarray(nib.load(saved.label).dataobj), label_of("kidney", "kidney tumor"))
    np.testing.assert_array_equal(site.only().read().labels == 1, truth("kidney tumor"))


@pytest.mark.parametrize("positions", ["qform", "sform", "both"])
def test_header_with_qfac_0_in_image_and_label(site, positions):
    site.add("a", label_of("kidney tumor"), slicer("kidney tumor"))
    (saved,) = site.saved
    for path in (saved.image, saved.label):
        image = nib.load(path)
        image.header["qform_code"], image.header["sform_code"] = positions != "sform", positions != "qform"
        pixdim = [0, *image.header.get_zooms()]
        path.write_bytes(gzip.compress(patched(image.to_bytes(), pixdim=pixdim)))
    np.testing.assert_array_equal(site.only().read().labels == 1, truth("kidney tumor"))


def test_nrrd_and_nifti_are_one(site):
    site.add("a", label_of("kidney", "kidney tumor"), slicer("kidney", "kidney tumor"), suffix=".nrrd")
    np.testing.assert_array_equal(site.only().read().labels > 0, truth("kidney tumor"))


@pytest.mark.parametrize("preset", [KITS, CT])
def test_one_value_without_a_name_is_the_object(site, preset):
    site.add("a", truth("cyst").astype(np.uint8) * 5)
    np.testing.assert_array_equal(site.only(preset).read().labels == 1, truth("cyst"))


def test_values_without_names(site):
    site.add("a", label_of("kidney", "cyst") * 3)
    assert "2 structures and no names" in site.reason()
    case = site.only(CT)
    assert case.names == ("structure", "structure")
    np.testing.assert_array_equal(case.read().labels, label_of("kidney", "cyst"))
    assert site.read(CT).notes == ("The label of a: It has no names; each of its 2 values is an object.",)


def test_one_name_for_all_values_of_a_general_preset(site):
    site.add("a", label_of("kidney", "cyst"), slicer("organ"))
    assert "do not fit the names" in site.reason()
    case = site.only(CT)
    assert case.names == ("organ", "organ")
    np.testing.assert_array_equal(case.read().labels, label_of("kidney", "cyst"))


def test_equal_names_are_objects_of_their_own(site):
    site.add("a", label_of("kidney", "cyst"), slicer("lesion", "lesion"))
    assert site.only(CT).names == ("lesion", "lesion") and site.only(CT).values == ((1,), (2,))


def turned(seed):
    affine = AFFINE.copy()
    affine[:3, :3] = Rotation.from_euler("xyz", [12, -25, 33 + seed], degrees=True).as_matrix() @ affine[:3, :3]
    return affine


def test_flipped_label_lands_where_it_is_in_space(site):
    labels = label_of("kidney", "kidney tumor")
    flips = [axes for n in range(4) for axes in itertools.combinations(range(3), n)]
    for n, axes in enumerate(flips):
        move = np.eye(4)
        for axis in axes:
            move[axis, axis], move[axis, 3] = -1, SHAPE[axis] - 1
        site.add(f"i{n}", np.flip(labels, axes), slicer("kidney", "kidney tumor"), affine=AFFINE @ move)
    for case in site.read().cases:
        np.testing.assert_array_equal(case.read().labels > 0, truth("kidney tumor"))
    assert len(site.read().cases) == 8


def test_permuted_and_cropped_label_lands_where_it_is_in_space(site):
    # As a DICOM SEG that was cut to its frames, its axes in another order.
    labels = label_of("kidney", "kidney tumor")[:, :, 5:9].transpose(2, 0, 1)
    permute = np.eye(4)[:, [2, 0, 1, 3]]
    permute[2, 3] = 5
    site.add("a", labels, slicer("kidney", "kidney tumor"), affine=AFFINE @ permute, suffix=".nrrd")
    case = site.only()
    assert case.shape == SHAPE
    np.testing.assert_array_equal(case.read().labels > 0, truth("kidney tumor"))


@pytest.mark.parametrize("header", ["no position", "two positions"])
@pytest.mark.parametrize("drawn_in", ["viewer", "viewer, as NRRD", "nibabel"])
def test_what_is_drawn_is_learned_whatever_the_image_s_header_leaves_open(site, header, drawn_in):
    site.add("a", label_of("kidney tumor"), slicer("kidney tumor"))
    (saved,) = site.saved
    image = nib.Nifti1Image(np.asarray(nib.load(saved.image).dataobj), None)
    image.header.set_zooms((0.9, 1.3, 2.5))
    if header == "two positions":
        moved = AFFINE.copy()
        moved[:3, 3] += (4, -3, 2)
        image.set_qform(AFFINE, 1)
        image.set_sform(moved, 2)
    nib.save(image, saved.image)
    label = saved.label
    if drawn_in == "nibabel":
        nib.save(nib.Nifti1Image(label_of("kidney tumor"), nib.load(saved.image).affine), label)
    else:
        drawn = sitk.GetImageFromArray(label_of("kidney tumor").transpose())
        drawn.CopyInformation(sitk.ReadImage(str(saved.image)))
        label = label if drawn_in == "viewer" else label.with_name("a.nrrd")
        sitk.WriteImage(drawn, str(label))
        site.saved[:] = [dataclasses.replace(saved, label=label)]
    case = site.only()
    assert case.voxels == (int(truth("kidney tumor").sum()),)
    np.testing.assert_array_equal(case.read().labels > 0, truth("kidney tumor"))


@pytest.mark.parametrize("seed", range(3))
def test_oblique_and_finer_label_is_resampled(site, seed):
    # A ball, so that its truth is known on any grid.
    centre_mm, radius_mm = (AFFINE @ [15, 12, 9, 1])[:3], 8.0
    finer = turned(seed) @ np.diag([0.5, 0.6, 0.3, 1])
    shape = (60, 50, 60)
    finer[:3, 3] += centre_mm - (finer @ [*(np.array(shape) / 2), 1])[:3]

    def ball(affine, shape):
        mm = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
        return np.linalg.norm(mm - centre_mm, axis=-1)

    site.add("a", (ball(finer, shape) < radius_mm).astype(np.uint8), affine=finer)
    placed, distance = site.only().read().labels > 0, ball(AFFINE, SHAPE)
    # A nearest voxel is at most half the finer grid's diagonal away.
    slack = np.linalg.norm(np.linalg.norm(finer[:3, :3], axis=0)) / 2
    assert placed[distance < radius_mm - slack].all() and not placed[distance > radius_mm + slack].any()


def test_label_of_elsewhere(site):
    far = AFFINE.copy()
    far[:3, 3] += 500
    site.add("a", label_of("kidney tumor"), affine=far)
    assert site.reason() == "it lies elsewhere in space than its image"


def test_object_that_is_outside_is_no_object(site):
    labels = np.concatenate([label_of("kidney")] * 2)
    labels[SHAPE[0] :] *= 2
    site.add("a", labels, slicer("kidney", "cyst"))
    assert site.only(CT).names == ("kidney",)
    site.saved.clear()
    site.add("a", labels, slicer("kidney", "kidney tumor"))
    assert "elsewhere" in site.reason()


@pytest.mark.parametrize(
    ("labels", "info", "words"),
    [
        (np.zeros(SHAPE, np.uint8), None, "it is empty"),
        (label_of("kidney", "cyst"), slicer("kidney tumor"), "do not fit the names sent with it (kidney tumor)"),
        (label_of("kidney"), slicer("background"), "nothing but background"),
        (np.full(SHAPE, 0.5, np.float32), None, "no label"),
        (np.full(SHAPE, -1, np.int16), None, "no label"),
        (np.full(SHAPE, np.nan, np.float32), None, "no label"),
        (np.zeros((*SHAPE, 2), np.uint8), None, "4 axes"),
    ],
)
def test_labels_that_are_left_out(site, labels, info, words):
    site.add("a", labels, info)
    assert words in site.reason()


def test_label_as_float_is_a_label(site):
    site.add("a", label_of("kidney", "kidney tumor").astype(np.float64), slicer("kidney", "kidney tumor"))
    np.testing.assert_array_equal(site.only().read().labels > 0, truth("kidney tumor"))


def test_too_many_objects(site):
    names = slicer(*(f"part {n}" for n in range(1, 301)))
    site.add("a", (np.arange(np.prod(SHAPE), dtype=np.int32) % 301).reshape(SHAPE), names)
    assert "at most 255" in site.reason(CT)


def test_damaged_files_are_left_out_and_the_others_stay(site):
    for name in "abcdef":
        site.add(name, label_of("kidney tumor"))
    files = {saved.image_id: saved for saved in site.saved}
    files["a"].label.write_bytes(files["a"].label.read_bytes()[:60])
    files["b"].label.unlink()
    files["c"].image.write_bytes(b"")
    files["d"].image.unlink()
    files["e"].label.write_bytes(b"no gzip")
    submitted = site.read()
    assert [case.image_id for case in submitted.cases] == ["f"]
    reasons = {skipped.image_id: skipped.reason for skipped in submitted.skipped}
    assert sorted(reasons) == list("abcde") and all(len(reason) > 10 for reason in reasons.values())
    assert "does not exist" in reasons["b"] and "does not exist" in reasons["d"]
    assert not any(str(site.folder) in reason for reason in reasons.values())


def test_hashes_change_with_the_files(site):
    label = site.add("a", label_of("kidney tumor"))
    before = site.only()
    nib.save(nib.Nifti1Image(label_of("kidney"), AFFINE), label)
    with pytest.raises(SubmittedError, match="replaced"):
        before.read()
    after = site.only()
    assert after.image_sha256 == before.image_sha256 and after.label_sha256 != before.label_sha256
    after.image.write_bytes(after.image.read_bytes()[:-40])
    with pytest.raises((ImageError, OSError)):
        after.read()


def test_values_that_are_not_finite_do_not_spread(site):
    image = np.full(SHAPE, 7, np.float32)
    image[:3], image[5] = np.nan, np.inf
    image[8] = 3
    site.add("a", label_of("kidney tumor"), image=image)
    read = site.only().read().image
    assert np.isfinite(read).all() and read[0, 0, 0] == 0 and read[8, 0, 0] == 3 and read[9, 0, 0] == 7


TUMOR_CLICK, ELSEWHERE = ((10, 8, 6),), ((1, 1, 1),)
PRESETS = {preset.name: preset for preset in (CT, MR, KITS)}


def answer(preset, clicks=TUMOR_CLICK, mask=None, time=1_600_000_000.0, background=()):
    return Answer(preset, time, "" if mask is None else mask_hash(mask), clicks, background)


def learns(site, preset, *answers, **options):
    """Whether a preset learns from the one label, and why not."""
    found = site.read(preset, presets=PRESETS, answers={"a": answers}, **options)
    return bool(found.cases), [skipped.reason for skipped in found.skipped] + list(found.notes)


def test_a_label_counts_for_the_modality_of_the_clicks_that_led_to_it(site):
    site.add("a", label_of("cyst", "kidney tumor"), slicer("cyst", "Tumour left"))
    assert learns(site, CT, answer("ct")) == (True, [])
    assert learns(site, MR, answer("ct")) == (False, ["it was made with ct, which is for CT; mr is for MR"])
    # The names of other presets' structures are theirs.
    assert learns(site, KITS, answer("ct"))[0] is False


@pytest.mark.parametrize(
    "trial",
    [
        answer("mr", ELSEWHERE),
        answer("mr", background=TUMOR_CLICK),
        answer("mr", ((10, 8, 6), (23, 19, 2))),  # in two objects
        answer("mr", ((99, 8, 6),)),
        answer("mr", ((-1, -1, -1),)),
        answer("mr", time=1_800_000_000.0),  # after the label was saved
    ],
)
def test_a_trial_click_is_no_case(site, trial):
    site.add("a", label_of("cyst", "kidney tumor"), slicer("cyst", "lesion"))
    for answers in ((trial, answer("ct")), (answer("ct"), trial)):
        assert learns(site, CT, *answers)[0]
        assert not learns(site, MR, *answers)[0]


def test_the_answer_that_was_saved_counts_before_one_that_only_agrees_with_it(site):
    site.add("a", label_of("cyst", "kidney tumor"), slicer("cyst", "lesion"))
    answers = (answer("mr"), answer("ct", mask=truth("kidney tumor")), answer("mr"))
    assert learns(site, CT, *answers)[0] and not learns(site, MR, *answers)[0]


def test_two_modalities_that_agree_with_a_label_are_not_guessed_between(site):
    site.add("a", label_of("kidney tumor"), slicer("lesion"))
    for preset in (CT, MR):
        is_case, (reason,) = learns(site, preset, answer("mr"), answer("ct"))
        assert not is_case and '"model": "ct"' in reason
    # As the reason says.
    site.saved[:] = [dataclasses.replace(site.saved[0], info={**site.saved[0].info, "model": "ct"})]
    assert learns(site, CT, answer("mr"), answer("ct"))[0] and not learns(site, MR, answer("mr"), answer("ct"))[0]


def test_the_source_says_the_modality_whatever_was_clicked(site):
    site.add("a", label_of("kidney tumor"), slicer("lesion") | {"model": "mr"})
    site.saved[:] = [dataclasses.replace(site.saved[0], image_info={"Modality": "CT"})]
    assert learns(site, CT, answer("mr"))[0]
    assert learns(site, MR, answer("mr")) == (False, ["its image is CT, and mr is for MR"])
    site.saved[:] = [dataclasses.replace(site.saved[0], image_info={"Modality": "XA"})]
    assert learns(site, CT) == (False, ["its image is XA, and ct is for CT"])
    site.saved[:] = [dataclasses.replace(site.saved[0], image_info={})]
    assert learns(site, MR, answer("ct"), modalities={"a": "MR"})[0]
    assert not learns(site, CT, answer("ct"), modalities={"a": "MR"})[0]


def test_a_modality_that_nobody_knows_is_said(site):
    site.add("a", label_of("kidney tumor"), slicer("lesion"))
    for preset in (CT, MR):
        is_case, (note,) = learns(site, preset)
        assert is_case and f"it is taken for {preset.modality}" in note
    assert site.read(CT, presets={"ct": CT}).notes == ()  # only one modality is served here


def test_a_preset_without_a_modality_learns_from_what_was_clicked_with_it(site):
    own = dataclasses.replace(MR, name="own", modality=None)
    site.add("a", label_of("kidney tumor"), slicer("lesion"))
    assert learns(site, own)[0] and learns(site, own, answer("own"))[0]
    assert learns(site, own, answer("ct")) == (False, ["its image was segmented with ct, not with own"])


def test_structures_of_other_presets_are_theirs(site):
    site.add("a", label_of("kidney", "kidney tumor"), slicer("kidney", "kidney tumor"))
    found = site.read(CT, presets=PRESETS, answers={"a": [answer("ct")]})
    assert found.cases[0].names == ("kidney",)
    assert found.notes == ("The label of a: 'kidney tumor' is left out: ct does not learn it.",)
    assert site.read(KITS, presets=PRESETS, answers={"a": [answer("ct")]}).cases[0].names == ("kidney tumor",)
    site.add("a", label_of("kidney tumor"), slicer("kidney tumor 2"))
    assert "those of other presets" in site.read(CT, presets=PRESETS).skipped[0].reason


def test_manifest_tells_modalities(tmp_path):
    for name in ("a", "b", "c"):
        nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / f"{name}.nii.gz")
    rows = ["image,label,modality", "a.nii.gz,a.nii.gz,mri", "b.nii.gz,b.nii.gz,PT", "c.nii.gz,c.nii.gz,"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    assert listed_modalities(tmp_path) == {"a": "MR", "b": "PET"}
    assert listed_modalities(tmp_path / "none") == {} and listed_modalities(None) == {}
    (tmp_path / "patients.csv").write_text("image,patient,modality\na.nii.gz,p1,ct\nb,p2,\n")
    assert listed_modalities(tmp_path) == {"a": "CT"}


def test_a_task_that_is_not_served_says_nothing(site):
    site.add("a", label_of("kidney tumor"), slicer("lesion") | {"model": "3D Slicer", "notes": "mine"})
    assert learns(site, CT, answer("ct")) == (True, []) and not learns(site, MR, answer("ct"))[0]


def test_order_of_the_labels_plays_no_part(site):
    for name in "cab":
        site.add(name, label_of("kidney tumor"))
    found = site.read()
    site.saved.reverse()
    assert [dataclasses.replace(case) for case in site.read().cases] == list(found.cases)
    assert [case.image_id for case in found.cases] == ["a", "b", "c"]
