/**
 * Masks as runs of voxels: [start, end, start, end, ...], ascending, ends exclusive, of the index i + I * (j + J * k).
 * A lesion takes some kilobytes this way, so that every step of undo can keep its own.
 */

import { toWorld } from './geometry.mjs';

/** @typedef {Uint32Array} Mask */
/** @typedef {import('./geometry.mjs').Grid} Grid */
/** @typedef {import('./geometry.mjs').Triple} Triple */
/** @typedef {[Triple, Triple]} Box first and last voxel, both inside */

/** @type {Mask} */
export const EMPTY = new Uint32Array(0);

/**
 * Where bytes have a value.
 * @param {Uint8Array} bytes @param {number} [value] any but 0 if left out
 * @param {number} [offset] index of the first byte
 * @returns {Mask}
 */
export function fromBytes(bytes, value, offset = 0) {
  /** @type {number[]} */
  const runs = [];
  const isIn = value === undefined ? (/** @type {number} */ byte) => byte !== 0 : (/** @type {number} */ byte) => byte === value;
  const isAligned = bytes.byteOffset % 4 === 0;
  const words = isAligned ? new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2) : null;
  let n = 0;
  while (n < bytes.length) {
    if (words && n % 4 === 0) {
      // Most of an image is background: four voxels at a time.
      let word = n >> 2;
      while (word < words.length && words[word] === 0) word++;
      n = word << 2;
    }
    while (n < bytes.length && !isIn(bytes[n]) && (n % 4 !== 3 || !words)) n++;
    if (n >= bytes.length) break;
    if (!isIn(bytes[n])) {
      n++;
      continue;
    }
    const start = n;
    while (n < bytes.length && isIn(bytes[n])) n++;
    runs.push(start + offset, n + offset);
  }
  return Uint32Array.from(runs);
}

/**
 * Where the bytes of a part of an image are not 0.
 * @param {Uint8Array} bytes of the part @param {Triple} low its first voxel @param {Triple} size of it, in voxels
 * @param {Grid} grid of the image
 * @returns {Mask}
 */
export function fromBox(bytes, low, size, { shape }) {
  /** @type {number[]} */
  const runs = [];
  let n = 0;
  for (let k = low[2]; k < low[2] + size[2]; k++) {
    for (let j = low[1]; j < low[1] + size[1]; j++) {
      const row = low[0] + shape[0] * (j + shape[1] * k);
      for (let i = row; i < row + size[0]; i++, n++) {
        if (!bytes[n]) continue;
        if (runs[runs.length - 1] === i) runs[runs.length - 1] = i + 1;
        else runs.push(i, i + 1);
      }
    }
  }
  return Uint32Array.from(runs);
}

/** @param {Mask} mask @returns {number} voxels */
export function count(mask) {
  let sum = 0;
  for (let n = 0; n < mask.length; n += 2) sum += mask[n + 1] - mask[n];
  return sum;
}

/**
 * @param {Mask} a @param {Mask} b @param {(inA: boolean, inB: boolean) => boolean} keep false for (false, false)
 * @returns {Mask}
 */
function combine(a, b, keep) {
  /** @type {number[]} */
  const out = [];
  let [p, q, wasIn] = [0, 0, false];
  while (p < a.length || q < b.length) {
    const at = Math.min(p < a.length ? a[p] : Infinity, q < b.length ? b[q] : Infinity);
    while (p < a.length && a[p] === at) p++;
    while (q < b.length && b[q] === at) q++;
    const isIn = keep(p % 2 === 1, q % 2 === 1);
    if (isIn !== wasIn) out.push(at);
    wasIn = isIn;
  }
  return Uint32Array.from(out);
}

/** @param {Mask} a @param {Mask} b */
export const union = (a, b) => (a.length ? (b.length ? combine(a, b, (x, y) => x || y) : a) : b);
/** @param {Mask} a @param {Mask} b */
export const subtract = (a, b) => (a.length && b.length ? combine(a, b, (x, y) => x && !y) : a);
/** @param {Mask} a @param {Mask} b */
export const intersect = (a, b) => (a.length && b.length ? combine(a, b, (x, y) => x && y) : EMPTY);

/** @param {Mask} a @param {Mask} b */
export const isSame = (a, b) => a === b || (a.length === b.length && a.every((value, n) => value === b[n]));

/** @param {Grid} grid @param {number[]} ijk */
export const indexOf = ({ shape }, [i, j, k]) => i + shape[0] * (j + shape[1] * k);

/** @param {Mask} mask @param {number} index */
export function has(mask, index) {
  let [low, high] = [0, mask.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (mask[middle] <= index) low = middle + 1;
    else high = middle;
  }
  return low % 2 === 1;
}

/**
 * Each run, cut at the ends of rows.
 * @param {Mask} mask @param {Grid} grid @param {(i: number, j: number, k: number, length: number) => void} visit
 */
export function eachRow(mask, { shape: [columns, rows] }, visit) {
  for (let n = 0; n < mask.length; n += 2) {
    for (let start = mask[n]; start < mask[n + 1]; ) {
      const i = start % columns;
      const line = (start - i) / columns;
      const length = Math.min(mask[n + 1] - start, columns - i);
      visit(i, line % rows, Math.floor(line / rows), length);
      start += length;
    }
  }
}

/** @param {Mask} mask @param {Grid} grid @returns {Box | null} null of an empty one */
export function boxOf(mask, grid) {
  if (!mask.length) return null;
  /** @type {Triple} */
  const low = [...grid.shape];
  /** @type {Triple} */
  const high = [-1, -1, -1];
  eachRow(mask, grid, (i, j, k, length) => {
    low[0] = Math.min(low[0], i);
    low[1] = Math.min(low[1], j);
    low[2] = Math.min(low[2], k);
    high[0] = Math.max(high[0], i + length - 1);
    high[1] = Math.max(high[1], j);
    high[2] = Math.max(high[2], k);
  });
  return [low, high];
}

/** @param {Mask} mask @param {Grid} grid @returns {number[]} slices that it has voxels in */
export function slicesOf(mask, { shape }) {
  const found = new Set();
  const size = shape[0] * shape[1];
  for (let n = 0; n < mask.length; n += 2) {
    const last = Math.floor((mask[n + 1] - 1) / size);
    for (let k = Math.floor(mask[n] / size); k <= last; k++) found.add(k);
  }
  return [...found];
}

/**
 * Writes a value into the bytes of one slice.
 * @param {Mask} mask @param {Uint8Array} slice @param {number} k @param {number} value
 */
export function paintSlice(mask, slice, k, value) {
  const [from, to] = [k * slice.length, (k + 1) * slice.length];
  let [low, high] = [0, mask.length / 2];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (mask[2 * middle + 1] <= from) low = middle + 1;
    else high = middle;
  }
  for (let n = 2 * low; n < mask.length && mask[n] < to; n += 2) {
    slice.fill(value, Math.max(0, mask[n] - from), Math.min(slice.length, mask[n + 1] - from));
  }
}

/** @param {Mask} mask @param {Grid} grid @returns {Triple | null} the voxel of it that is nearest to its middle */
export function middleOf(mask, grid) {
  const sum = [0, 0, 0];
  eachRow(mask, grid, (i, j, k, length) => {
    sum[0] += length * (i + (length - 1) / 2);
    sum[1] += length * j;
    sum[2] += length * k;
  });
  const total = count(mask);
  if (!total) return null;
  const middle = sum.map((value) => value / total);
  /** @type {Triple | null} */
  let best = null;
  let least = Infinity;
  eachRow(mask, grid, (i, j, k, length) => {
    const nearest = Math.min(Math.max(Math.round(middle[0]), i), i + length - 1);
    const off = (nearest - middle[0]) ** 2 + (j - middle[1]) ** 2 + 9 * (k - middle[2]) ** 2;
    if (off < least) [least, best] = [off, [nearest, j, k]];
  });
  return best;
}

const DIRECTIONS = directions(240);

/** @param {number} number @returns {Triple[]} spread evenly over half a sphere */
function directions(number) {
  return Array.from({ length: number }, (_, n) => {
    const z = (n + 0.5) / number;
    const [radius, angle] = [Math.sqrt(1 - z * z), n * Math.PI * (3 - Math.sqrt(5))];
    return [radius * Math.cos(angle), radius * Math.sin(angle), z];
  });
}

/**
 * Adds a voxel to one side of the convex outline of a slice; those that it leaves inside go.
 * @param {Triple[]} side by ascending j @param {Triple} next @param {1 | -1} towards where i grows outwards
 */
function bend(side, next, towards) {
  for (let last = side.length - 1; last >= 0; last--) {
    const [a, b] = [side[last - 1], side[last]];
    const isSameRow = b[1] === next[1];
    if (isSameRow && towards * (b[0] - next[0]) >= 0) return;
    const isInside = a && towards * ((b[0] - a[0]) * (next[1] - a[1]) - (b[1] - a[1]) * (next[0] - a[0])) <= 0;
    if (!isSameRow && !isInside) break;
    side.pop();
  }
  side.push(next);
}

/**
 * The longest straight line between two voxels, in mm: the farthest pair along each of many directions, which is at
 * most 1 % too short.
 * @param {Mask} mask @param {Grid} grid
 */
export function diameterOf(mask, grid) {
  // The farthest voxels are corners of the convex outline of a slice.
  /** @type {Map<number, {left: Triple[], right: Triple[]}>} by slice */
  const outlines = new Map();
  eachRow(mask, grid, (i, j, k, length) => {
    const { left, right } = outlines.get(k) || { left: [], right: [] };
    outlines.set(k, { left, right });
    bend(left, [i, j, k], -1);
    bend(right, [i + length - 1, j, k], 1);
  });
  const places = [...outlines.values()].flatMap(({ left, right }) => [...left, ...right].map((ijk) => toWorld(grid, ijk)));
  let longest = 0;
  for (const [x, y, z] of places.length > 1 ? DIRECTIONS : []) {
    let [least, most, first, last] = [Infinity, -Infinity, places[0], places[0]];
    for (const place of places) {
      const along = x * place[0] + y * place[1] + z * place[2];
      if (along < least) [least, first] = [along, place];
      if (along > most) [most, last] = [along, place];
    }
    longest = Math.max(longest, Math.hypot(last[0] - first[0], last[1] - first[1], last[2] - first[2]));
  }
  return longest;
}
