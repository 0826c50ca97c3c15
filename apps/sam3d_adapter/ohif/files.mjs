/** Label maps as files: NRRD is written, NRRD and NIfTI are read. */

import * as masks from './masks.mjs';
import { isSameGrid, toIndex, toWorld } from './geometry.mjs';

/** @typedef {import('./geometry.mjs').Grid} Grid */
/** @typedef {import('./geometry.mjs').Triple} Triple */
/** @typedef {import('./masks.mjs').Mask} Mask */
/**
 * @typedef {object} LabelMap
 * @property {Grid} grid
 * @property {Uint8Array} values i runs fastest
 */

/** A file that cannot be read, in a sentence for the user. */
export class FileError extends Error {}

/** @param {BlobPart} data @param {'gzip' | 'gunzip'} how @returns {Promise<Uint8Array>} */
async function squeeze(data, how) {
  const { CompressionStream, DecompressionStream } = /** @type {any} */ (globalThis); // newer than the type checker's lists
  const through = how === 'gzip' ? new CompressionStream('gzip') : new DecompressionStream('gzip');
  return new Uint8Array(await new Response(new Blob([data]).stream().pipeThrough(through)).arrayBuffer());
}

/**
 * A label map as a compressed NRRD file.
 * @param {Grid} grid of the image
 * @param {{mask: Mask, value: number}[]} objects later ones lie on top
 * @param {boolean} [isCropped] whether only the part with something in it is written
 * @returns {Promise<Blob>}
 */
export async function writeNrrd(grid, objects, isCropped = false) {
  const box = isCropped ? masks.boxOf(objects.reduce((all, { mask }) => masks.union(all, mask), masks.EMPTY), grid) : null;
  const low = box ? box[0] : [0, 0, 0];
  const size = box ? box[1].map((last, axis) => last - low[axis] + 1) : grid.shape;
  const bytes = new Uint8Array(size[0] * size[1] * size[2]);
  for (const { mask, value } of objects) {
    masks.eachRow(mask, grid, (i, j, k, length) => {
      const at = i - low[0] + size[0] * (j - low[1] + size[1] * (k - low[2]));
      bytes.fill(value, at, at + length);
    });
  }
  const vector = (/** @type {number[]} */ v) => `(${v.join(',')})`;
  const header = [
    'NRRD0004', 'type: unsigned char', 'dimension: 3', 'space: left-posterior-superior', `sizes: ${size.join(' ')}`,
    `space directions: ${grid.steps.map(vector).join(' ')}`, 'kinds: domain domain domain', 'encoding: gzip',
    `space origin: ${vector(toWorld(grid, low))}`, '', '',
  ];
  return new Blob([header.join('\n'), await squeeze(bytes, 'gzip')]);
}

/**
 * @param {ArrayBuffer} file NRRD or NIfTI, compressed or not
 * @returns {Promise<LabelMap>}
 * @throws {FileError}
 */
export async function readLabelMap(file) {
  let bytes = new Uint8Array(file);
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) bytes = await squeeze(bytes, 'gunzip');
  if (String.fromCharCode(...bytes.subarray(0, 4)) === 'NRRD') return readNrrd(bytes);
  return readNifti(bytes);
}

/** @param {Uint8Array} bytes @returns {Promise<LabelMap>} */
async function readNrrd(bytes) {
  let end = 0;
  while (end < bytes.length && !(bytes[end] === 10 && bytes[end + 1] === 10)) end++;
  /** @type {Map<string, string>} */
  const fields = new Map();
  for (const line of new TextDecoder().decode(bytes.subarray(0, end)).split('\n')) {
    const colon = line.indexOf(': ');
    if (colon > 0 && !line.startsWith('#')) fields.set(line.slice(0, colon), line.slice(colon + 2).trim());
  }
  const numbers = (/** @type {string} */ text) => (text.match(/[-+0-9.eE]+/g) || []).map(Number);
  const field = (/** @type {string} */ name) => fields.get(name) || '';
  const sizes = numbers(field('sizes'));
  if (sizes.length !== 3) throw new FileError('The stored label has overlapping segments. Go on with it in 3D Slicer.');
  const to_lps = field('space').startsWith('right') ? [-1, -1, 1] : [1, 1, 1];
  const flipped = (/** @type {number[]} */ v) => /** @type {Triple} */ (v.map((value, axis) => value * to_lps[axis]));
  const all = numbers(field('space directions'));
  const raw = bytes.subarray(end + 2);
  const data = field('encoding').startsWith('gz') ? await squeeze(raw, 'gunzip') : raw;
  const grid = {
    shape: /** @type {Triple} */ (sizes),
    origin: flipped(numbers(field('space origin'))),
    steps: /** @type {[Triple, Triple, Triple]} */ ([0, 3, 6].map((at) => flipped(all.slice(at, at + 3)))),
  };
  return { grid, values: asBytes(data, data.length / (sizes[0] * sizes[1] * sizes[2]), /float|double/.test(field('type'))) };
}

/** @param {Uint8Array} bytes @returns {LabelMap} */
function readNifti(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 352 || view.getInt32(0, true) !== 348) {
    throw new FileError('The stored label is of a kind that this panel cannot read. Go on with it in 3D Slicer.');
  }
  const shape = [1, 2, 3].map((axis) => view.getInt16(40 + 2 * axis, true));
  const affine = [0, 1, 2].map((row) => [0, 1, 2, 3].map((column) => view.getFloat32(280 + 16 * row + 4 * column, true)));
  // RAS -> LPS
  const column = (/** @type {number} */ n) => /** @type {Triple} */ ([-affine[0][n], -affine[1][n], affine[2][n]]);
  const [kind, bits, offset] = [view.getInt16(70, true), view.getInt16(72, true), view.getFloat32(108, true)];
  const grid = { shape: /** @type {Triple} */ (shape), origin: column(3), steps: /** @type {[Triple, Triple, Triple]} */ ([column(0), column(1), column(2)]) };
  const size = (shape[0] * shape[1] * shape[2] * bits) / 8;
  return { grid, values: asBytes(bytes.subarray(offset, offset + size), bits / 8, kind === 16 || kind === 64) };
}

/** @param {Uint8Array} data little endian @param {number} width bytes a value @param {boolean} isFloat */
function asBytes(data, width, isFloat) {
  if (width === 1) return data;
  const own = data.slice().buffer;
  /** @type {ArrayLike<number>} */
  const values = isFloat
    ? width === 4 ? new Float32Array(own) : new Float64Array(own)
    : width === 2 ? new Uint16Array(own) : new Uint32Array(own);
  return Uint8Array.from(values, (value) => Math.round(value));
}

/**
 * @param {LabelMap} map @param {Grid} grid of the image
 * @throws {FileError} its voxels lie elsewhere
 */
export function requireGrid(map, grid) {
  if (!isSameGrid(map.grid, grid)) {
    throw new FileError(
      `The mask has ${map.grid.shape.join(' x ')} voxels that lie elsewhere than the ${grid.shape.join(' x ')} of the ` +
        'series on screen, so it is not shown. Reload the page; if that does not help, use 3D Slicer for this series.',
    );
  }
}

/**
 * @param {LabelMap} map of a part of an image, 0 or not @param {Grid} grid of the image
 * @returns {Mask}
 * @throws {FileError} its voxels lie elsewhere
 */
export function maskOfPart(map, grid) {
  const low = /** @type {Triple} */ (toIndex(grid, map.grid.origin).map(Math.round));
  const isWithin = low.every((first, axis) => first >= 0 && first + map.grid.shape[axis] <= grid.shape[axis]);
  requireGrid(map, isWithin ? { ...grid, shape: map.grid.shape, origin: toWorld(grid, low) } : grid);
  return masks.fromBox(map.values, low, map.grid.shape, grid);
}

/** @param {LabelMap} map @returns {Map<number, Mask>} by value */
export function masksOf({ values }) {
  const seen = new Uint8Array(256);
  for (const value of values) seen[value] = 1;
  const found = new Map();
  for (let value = 1; value < 256; value++) if (seen[value]) found.set(value, masks.fromBytes(values, value));
  return found;
}
