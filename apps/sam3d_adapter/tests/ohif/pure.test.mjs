/** The modules of the panel that know neither viewer nor server. Run by `node --test`. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { predictionOf } from '../../ohif/answering.mjs';
import { maskOfPart, readLabelMap, requireGrid, masksOf, writeNrrd } from '../../ohif/files.mjs';
import { gridOf, isSameGrid, toIndex, toWorld, voxelAt, voxelVolume } from '../../ohif/geometry.mjs';
import * as histories from '../../ohif/history.mjs';
import * as masks from '../../ohif/masks.mjs';
import * as objects from '../../ohif/objects.mjs';
import { nameOf, reviewable, stateOf } from '../../ohif/reviewing.mjs';
import * as submitting from '../../ohif/submitting.mjs';
import { COLOURS } from '../../ohif/viewer.mjs';

const GRID = { shape: [7, 5, 4], origin: [10, -20, 30], steps: [[0, 2, 0], [0, 0, -3], [-4, 0, 0]] };
const SIZE = 7 * 5 * 4;

/** A fixed sequence of numbers below 1. */
function random(seed) {
  let state = seed;
  return () => (state = (state * 16807) % 2147483647) / 2147483647;
}

function bytes(seed, share = 0.3, values = 1) {
  const next = random(seed);
  return Uint8Array.from({ length: SIZE }, () => (next() < share ? 1 + Math.floor(next() * values) : 0));
}

const toBytes = (mask) => {
  const out = new Uint8Array(SIZE);
  for (let n = 0; n < mask.length; n += 2) out.fill(1, mask[n], mask[n + 1]);
  return out;
};

test('masks are the voxels that they were made of', () => {
  for (let seed = 1; seed < 40; seed++) {
    const values = bytes(seed, seed / 40, 3);
    for (const value of [undefined, 1, 2, 3]) {
      const expected = values.map((one) => Number(value === undefined ? one > 0 : one === value));
      const mask = masks.fromBytes(values, value);
      assert.deepEqual(toBytes(mask), expected);
      assert.equal(masks.count(mask), expected.reduce((a, b) => a + b, 0));
      assert.deepEqual(masks.fromBytes(new Uint8Array([9, ...values]).subarray(1), value), mask);
      assert.ok(expected.every((one, n) => masks.has(mask, n) === Boolean(one)));
    }
  }
});

test('union, difference and intersection', () => {
  for (let seed = 1; seed < 40; seed++) {
    const [p, q] = [bytes(seed), bytes(seed + 100, 0.6)];
    const [a, b] = [masks.fromBytes(p), masks.fromBytes(q)];
    assert.deepEqual(toBytes(masks.union(a, b)), p.map((one, n) => one | q[n]));
    assert.deepEqual(toBytes(masks.subtract(a, b)), p.map((one, n) => one & (1 - q[n])));
    assert.deepEqual(toBytes(masks.intersect(a, b)), p.map((one, n) => one & q[n]));
  }
});

test('slices are painted with what is in them', () => {
  const values = bytes(5);
  const mask = masks.fromBytes(values);
  for (let k = 0; k < 4; k++) {
    const slice = new Uint8Array(35);
    masks.paintSlice(mask, slice, k, 1);
    assert.deepEqual(slice, values.slice(35 * k, 35 * k + 35));
  }
  assert.deepEqual(masks.slicesOf(masks.fromBytes(Uint8Array.from({ length: SIZE }, (_, n) => Number(n === 34 || n === 35)))  , GRID), [0, 1]);
});

test('box, middle and diameter', () => {
  const voxels = [[1, 1, 1], [2, 1, 1], [5, 3, 2]];
  const values = new Uint8Array(SIZE);
  for (const ijk of voxels) values[masks.indexOf(GRID, ijk)] = 1;
  const mask = masks.fromBytes(values);
  assert.deepEqual(masks.boxOf(mask, GRID), [[1, 1, 1], [5, 3, 2]]);
  assert.ok(voxels.some((ijk) => String(ijk) === String(masks.middleOf(mask, GRID))));
  assert.ok(Math.abs(masks.diameterOf(mask, GRID) - Math.hypot(8, 6, 4)) < 0.01 * Math.hypot(8, 6, 4));
  assert.equal(masks.diameterOf(masks.EMPTY, GRID), 0);
  assert.equal(masks.boxOf(masks.EMPTY, GRID), null);
});

test('the diameter is that of the farthest pair of voxels', () => {
  const grid = { shape: [12, 11, 5], origin: [0, 0, 0], steps: [[1, 0, 0], [0, 1.3, 0], [0, 0, 2]] };
  for (let seed = 1; seed < 60; seed++) {
    const [next, share] = [random(seed * 7919), seed % 2 ? 0.02 : 0.4];
    const mask = masks.fromBytes(Uint8Array.from({ length: 12 * 11 * 5 }, () => Number(next() < share)));
    const places = [];
    masks.eachRow(mask, grid, (i, j, k, length) => {
      for (let n = i; n < i + length; n++) places.push(toWorld(grid, [n, j, k]));
    });
    const far = Math.max(0, ...places.flatMap((a) => places.map((b) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]))));
    const found = masks.diameterOf(mask, grid);
    assert.ok(found <= far + 1e-9 && found >= 0.99 * far, `${seed}: ${found} of ${far}`);
  }
});

test('slices are sorted along row x column whatever their order, and voxels lie where they are', () => {
  const [row, column] = [[0, 1, 0], [0, 0, -1]];
  const planes = [2, 0, 3, 1].map((k) => ({ row, column, position: [10 - 4 * k, -20, 30], spacing: [2, 3], size: [7, 5], k }));
  const { grid, sorted } = gridOf(planes);
  assert.deepEqual(sorted.map(({ k }) => k), [0, 1, 2, 3]);
  assert.ok(isSameGrid(grid, GRID));
  assert.equal(voxelVolume(grid), 24);
  for (const ijk of [[0, 0, 0], [6, 4, 3], [3, 1, 2]]) {
    toIndex(grid, toWorld(grid, ijk)).forEach((value, axis) => assert.ok(Math.abs(value - ijk[axis]) < 1e-9));
    assert.deepEqual(voxelAt(grid, toWorld(grid, ijk.map((value) => value + 0.49))), ijk);
  }
  assert.equal(voxelAt(grid, toWorld(grid, [-0.6, 0, 0])), null);
  assert.equal(voxelAt(grid, toWorld(grid, [0, 0, 3.6])), null);
  assert.ok(!isSameGrid(grid, { ...GRID, steps: [GRID.steps[0], GRID.steps[1], [4, 0, 0]] }));
});

test('a label map comes back from its file, whole or cropped', async () => {
  const values = bytes(9, 0.4, 3);
  const parts = [1, 2, 3].map((value) => ({ value, mask: masks.fromBytes(values, value) }));
  const whole = await readLabelMap(await (await writeNrrd(GRID, parts)).arrayBuffer());
  assert.deepEqual(whole.values, values);
  requireGrid(whole, GRID);
  for (const { value, mask } of parts) assert.deepEqual(masksOf(whole).get(value), mask);
  const voxel = new Uint8Array(SIZE);
  for (const ijk of [[2, 1, 1], [4, 3, 2]]) voxel[masks.indexOf(GRID, ijk)] = 1;
  const cropped = await readLabelMap(await (await writeNrrd(GRID, [{ value: 5, mask: masks.fromBytes(voxel) }], true)).arrayBuffer());
  assert.deepEqual(cropped.grid.shape, [3, 3, 2]);
  assert.deepEqual(cropped.grid.origin, toWorld(GRID, [2, 1, 1]));
  assert.equal(cropped.values[0], 5);
  assert.equal(cropped.values[cropped.values.length - 1], 5);
  assert.throws(() => requireGrid(cropped, GRID), /lie elsewhere/);
  assert.deepEqual(maskOfPart(cropped, GRID), masks.fromBytes(voxel));
  assert.deepEqual(maskOfPart(whole, GRID), masks.fromBytes(values));
  for (const off of [[0.5, 0, 0], [9, 0, 0], [-9, 0, 0]]) {
    const moved = { ...cropped, grid: { ...cropped.grid, origin: toWorld(cropped.grid, off) } };
    assert.throws(() => maskOfPart(moved, GRID), /lie elsewhere/);
  }
});

const at = (...ijk) => ({ sign: '+', ijk });
const off = (...ijk) => ({ sign: '-', ijk });
const voxel = (n) => Uint32Array.from([n, n + 1]);

function answered(state, mask, mayOverwrite = false) {
  const item = objects.current(state);
  return objects.withAnswer(state, item.id, objects.keyOf(item.prompts, item.start), mask, mayOverwrite);
}

test('prompts ask for an answer, and an old one is not taken', () => {
  const one = objects.addPrompt(objects.begin('lesion'), at(1, 2, 3));
  assert.ok(objects.needsAnswer(objects.current(one)));
  const key = objects.keyOf(objects.current(one).prompts, null);
  const two = objects.addPrompt(one, off(1, 2, 2));
  assert.equal(objects.withAnswer(two, 1, key, voxel(5), false), two);
  const done = answered(two, voxel(5));
  assert.ok(!objects.needsAnswer(objects.current(done)));
  assert.deepEqual(objects.current(done).mask, voxel(5));
  // Without any foreground click nothing can be asked, and nothing is left.
  const none = objects.removePrompt(done, 1, 0);
  assert.equal(objects.current(none).mask.length, 0);
  assert.ok(!objects.needsAnswer(objects.current(none)) && !objects.canBeAsked(objects.current(none)));
});

test('a finished object keeps its voxels unless the user says otherwise, a locked one always', () => {
  let state = answered(objects.addPrompt(objects.begin('lesion'), at(1, 1, 1)), Uint32Array.from([0, 10]));
  state = objects.addPrompt(objects.addItem(state, 'lesion'), at(2, 2, 2));
  assert.equal(objects.current(state).name, 'lesion 2');
  const kept = answered(state, Uint32Array.from([5, 15]));
  assert.deepEqual(kept.items.map((item) => [...item.mask]), [[0, 10], [10, 15]]);
  const taken = answered(state, Uint32Array.from([5, 15]), true);
  assert.deepEqual(taken.items.map((item) => [...item.mask]), [[0, 5], [5, 15]]);
  const locked = answered(objects.describe(state, 1, { locked: true }), Uint32Array.from([5, 15]), true);
  assert.deepEqual(locked.items.map((item) => [...item.mask]), [[0, 10], [10, 15]]);
});

test('clicks go on from what was drawn, and are removed from it', () => {
  let state = answered(objects.addPrompt(objects.begin('lesion'), at(1, 1, 1)), voxel(3));
  state = objects.withDrawing(state, new Map([[1, Uint32Array.from([3, 9])]]));
  assert.ok(!objects.needsAnswer(objects.current(state)));
  const more = objects.addPrompt(state, off(2, 2, 2));
  assert.ok(objects.needsAnswer(objects.current(more)) && objects.canBeAsked(objects.current(more)));
  assert.deepEqual([...objects.current(objects.removePrompt(answered(more, voxel(4)), 1, 1)).mask], [3, 9]);
});

test('a box takes the rectangles on its slices, and is as deep as wide on a single one', () => {
  const grid = { shape: [50, 50, 50], origin: [0, 0, 0], steps: [[1, 0, 0], [0, 1, 0], [0, 0, 5]] };
  const one = objects.boxOf([[[10, 12, 20], [29, 31, 20]]], grid);
  assert.deepEqual([one.ijk, one.to], [[10, 12, 18], [29, 31, 22]]);
  const two = objects.boxOf([...one.drawn, [[12, 8, 27], [20, 20, 27]]], grid);
  assert.deepEqual([two.ijk, two.to], [[10, 8, 20], [29, 31, 27]]);
  const across = objects.boxOf([...one.drawn, [[15, 15, 19], [15, 35, 23]]], grid);
  assert.deepEqual([across.ijk, across.to], [[10, 12, 19], [29, 35, 23]]);
  assert.deepEqual(objects.boxOf([[[10, 12, 0], [29, 31, 0]]], grid).ijk, [10, 12, 0]);
  const state = objects.addPrompt(objects.addPrompt(objects.begin('lesion'), one), two);
  assert.equal(objects.current(state).prompts.length, 1);
});

test('undo and redo, and answers that arrive late', () => {
  let history = histories.open(objects.begin('lesion'));
  history = histories.push(history, objects.addPrompt(history.present, at(1, 1, 1)));
  history = histories.push(history, objects.addPrompt(history.present, at(2, 2, 2)));
  const first = objects.keyOf([at(1, 1, 1)], null);
  history = histories.amend(history, (state) => objects.withAnswer(state, 1, first, voxel(7), false));
  assert.ok(objects.needsAnswer(objects.current(history.present)));
  history = histories.undo(history);
  assert.deepEqual(objects.current(history.present).mask, voxel(7));
  history = histories.redo(history);
  assert.equal(objects.current(history.present).prompts.length, 2);
  history = histories.undo(histories.undo(histories.undo(history)));
  assert.ok(objects.isEmpty(history.present) && history.future.length === 2);
  assert.equal(histories.push(history, history.present).future.length, 0);
});

test('names and what training takes', () => {
  let state = objects.addItem(objects.addItem(objects.begin('lesion'), 'lesion'), 'lesion');
  assert.deepEqual(state.items.map((item) => item.name), ['lesion', 'lesion 2', 'lesion 3']);
  state = objects.addItem(objects.removeItem(state, 2, 'lesion'), 'lesion');
  assert.deepEqual(state.items.map((item) => [item.id, item.name]), [[1, 'lesion'], [3, 'lesion 3'], [2, 'lesion 2']]);
  for (const name of ['lesion', 'Lesion 2', 'lesion_2', 'lesion-02', 'lesion #2', 'lesion (2)']) assert.ok(submitting.isOfLabel(name, 'lesion'), name);
  for (const name of ['cyst', 'lesion2', 'my lesion', 'lesion 2 b']) assert.ok(!submitting.isOfLabel(name, 'lesion'), name);
  assert.equal(objects.removeItem(objects.begin('lesion'), 1, 'lesion').items.length, 1);
});

test('work is stored and comes back with its names and clicks', () => {
  const task = { name: 'ct', label: 'lesion', description: 'Lesions' };
  let state = answered(objects.addPrompt(objects.begin('lesion'), at(1, 1, 1)), voxel(1));
  state = objects.addItem(state, 'lesion'); // stays empty: it is not stored
  state = answered(objects.addPrompt(objects.addItem(state, 'lesion'), at(2, 2, 2)), voxel(8));
  state = objects.withDrawing(objects.describe(state, 3, { name: 'cyst' }), new Map([[3, voxel(9)]]));
  const info = JSON.parse(JSON.stringify(submitting.infoOf(state, task, 'Dr. Roe', () => [1, 2, 3])));
  assert.deepEqual(info.label_info.map((one) => [one.idx, one.name]), [[1, 'lesion'], [2, 'cyst']]);
  const found = new Map(submitting.partsOf(state).map(({ mask, value }) => [value, mask]));
  const back = submitting.stateOf(found, info, task);
  assert.deepEqual(back.items.map((item) => [item.id, item.name, item.prompts.length, [...item.mask]]), [[1, 'lesion', 1, [1, 2]], [2, 'cyst', 1, [9, 10]]]);
  assert.equal(back.current, 2);
  assert.ok(back.items.every((item) => !objects.needsAnswer(item)));
  assert.equal(back.items[0].start, null);
  assert.deepEqual(back.items[1].start, { mask: voxel(9), after: 1 });
  // Of another viewer, which names its segments by their place.
  const foreign = submitting.stateOf(new Map([[4, voxel(2)], [7, voxel(3)]]), { label_info: [{ name: 'a' }, { name: 'b' }] }, task);
  assert.deepEqual(foreign.items.map((item) => item.name), ['a', 'b']);
  assert.match(submitting.learning(state, task), /will learn from "lesion"\. "cyst" will not/);
  assert.match(submitting.learning(state, { ...task, learnsFromAccepted: true }), /"lesion" once a second reader has accepted this label\./);
});

test('labels that wait for a review come first, and say whose they are', () => {
  const label = (id, state, saved_at, more = {}) =>
    ({ id, tag: 'final', state, author: 'Dr. Roe', saved_at, series: '', is_current: true, review: null, ...more });
  const all = [
    label('a', 'corrected', 9), label('b', 'rejected', 1), label('c', 'accepted', 2), label('d', 'submitted', 3),
    label('e', 'submitted', 4, { tag: 'version_1', author: '' }), label('f', 'draft', 5), label('g', 'submitted', 6, { is_current: false }),
  ];
  assert.deepEqual(reviewable(all).map((one) => one.id), ['e', 'd', 'c', 'b', 'a']);
  assert.match(nameOf(all[3]), /^Final label by Dr. Roe, .*1970/);
  assert.match(nameOf(all[4]), /^Label "version_1" [^b]*1970/);
  assert.equal(stateOf(all[3]), 'submitted, waits for a review decision');
  assert.equal(stateOf(label('h', 'rejected', 1, { review: { by: 'Dr. Poe', comment: 'No tail' } })), 'rejected by Dr. Poe: No tail');
  assert.equal(stateOf(label('i', 'accepted', 1, { review: { by: '', comment: '' } })), 'accepted');
});

test('what the server predicts of an answer is one sentence, or nothing', () => {
  const predicted = { dice: 0.8, at_least: 0.71, share: 0.9, patients: 24 };
  assert.equal(predictionOf({ predicted_dice: predicted }), 'Dice is predicted 0.80: at least 0.71 in 9 of 10 cases like the 24 labelled here.');
  assert.equal(predictionOf({ predicted_dice: null }), '');
  assert.equal(predictionOf({}), '');
});

// Machado et al. 2009, severity 1, for linear RGB: without red, green, blue cones.
const BLIND = {
  none: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protan: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deutan: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritan: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};

/** CIE L*a*b* of sRGB, as somebody sees it. */
function lab(rgb, sight) {
  const linear = rgb.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  const times = (rows, v) => rows.map((row) => row.reduce((sum, factor, n) => sum + factor * v[n], 0));
  const seen = times(BLIND[sight], linear).map((value) => Math.min(1, Math.max(0, value)));
  const xyz = times([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], seen);
  const [x, y, z] = xyz.map((value, n) => value / [0.9505, 1, 1.089][n]).map((value) => (value > 0.008856 ? Math.cbrt(value) : 7.787 * value + 16 / 116));
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

test('colours of objects are told apart by the colour-blind', () => {
  for (const sight of Object.keys(BLIND)) {
    const seen = COLOURS.map((colour) => lab(colour, sight));
    const distances = seen.flatMap((a, n) => seen.slice(n + 1).map((b) => Math.hypot(...a.map((value, axis) => value - b[axis]))));
    assert.ok(Math.min(...distances) > 10, `${sight}: ${Math.min(...distances)}`);
  }
});

test('a proposal is no work of the user before it was accepted or changed', () => {
  const task = { name: 'ct', label: 'lesion', description: '', learnsFromAccepted: false };
  const [empty, mask] = [objects.begin('lesion'), Uint32Array.from([3, 9])];
  const shown = objects.withProposal(empty, mask, 'lesion');
  const [item] = shown.items;
  assert.deepEqual([shown.items.length, item.name, item.mask, objects.needsAnswer(item)], [1, 'lesion', mask, false]);
  assert.ok(objects.isEmpty(shown) && submitting.filled(shown).length === 0);
  assert.ok(submitting.isUnchanged(objects.withProposalAccepted(shown), mask) && !submitting.isUnchanged(shown, mask));
  assert.match(submitting.learning(objects.withProposalAccepted(shown), task, true), /second reader has accepted it/);
  const ways = [objects.withProposalAccepted(shown), objects.addPrompt(shown, { sign: '+', ijk: [1, 1, 1] }), objects.withDrawing(shown, new Map([[1, Uint32Array.from([3, 8])]]))];
  for (const state of ways) assert.ok(!objects.isEmpty(state) && submitting.filled(state).length === 1);
  // What was drawn before stays, is all that counts, and need not give way to it.
  const drawn = objects.withDrawing(empty, new Map([[1, Uint32Array.from([20, 30])]]));
  const beside = objects.withProposal(drawn, mask, 'lesion');
  assert.deepEqual([beside.current, submitting.filled(beside).map((one) => one.name)], [2, ['lesion']]);
  assert.ok(objects.isSameWork(drawn, beside) && !objects.isSameWork(drawn, objects.withProposalAccepted(beside)));
  assert.equal(masks.count(objects.keptFrom(beside, 1, false)), 0);
  assert.equal(masks.count(objects.keptFrom(objects.withProposalAccepted(beside), 1, false)), 6);
});
