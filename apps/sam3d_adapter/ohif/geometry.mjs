/**
 * Voxel indices and places of the patient. A place is LPS in mm, as DICOM and cornerstone have it; a voxel is (i, j, k):
 * column, row, and rank of the slice along (row x column), as the server has it.
 */

/** @typedef {[number, number, number]} Triple */
/**
 * @typedef {object} Grid
 * @property {Triple} shape voxels along i, j, k
 * @property {Triple} origin LPS mm of the centre of voxel (0, 0, 0)
 * @property {[Triple, Triple, Triple]} steps LPS mm from one voxel to the next, along i, j, k
 */
/**
 * @typedef {object} Plane where a slice lies
 * @property {number[]} row unit vector of growing column index
 * @property {number[]} column unit vector of growing row index
 * @property {number[]} position LPS mm of the first pixel's centre
 * @property {[number, number]} spacing mm between columns, between rows
 * @property {[number, number]} size columns, rows
 */

const MOST_OFF_MM = 0.1;

/** @param {number[]} a @param {number[]} b */
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

/** @param {number[]} a @param {number[]} b @returns {Triple} */
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

/** @param {number[]} v @param {number} factor @returns {Triple} */
const times = (v, factor) => [v[0] * factor, v[1] * factor, v[2] * factor];

/**
 * The grid of a series, and its slices in the order of k.
 * @template {Plane} P
 * @param {P[]} planes in any order
 * @returns {{grid: Grid, sorted: P[]}}
 */
export function gridOf(planes) {
  const normal = cross(planes[0].row, planes[0].column);
  const sorted = [...planes].sort((a, b) => dot(a.position, normal) - dot(b.position, normal));
  const [first, last, count] = [sorted[0], sorted[sorted.length - 1], sorted.length];
  const along = first.position.map((from, axis) => (last.position[axis] - from) / Math.max(1, count - 1));
  return {
    grid: {
      shape: [first.size[0], first.size[1], count],
      origin: /** @type {Triple} */ ([...first.position]),
      steps: [
        times(first.row, first.spacing[0]),
        times(first.column, first.spacing[1]),
        count > 1 ? /** @type {Triple} */ (along) : normal,
      ],
    },
    sorted,
  };
}

/** @param {Grid} grid @param {number[]} ijk @returns {Triple} */
export function toWorld(grid, ijk) {
  const place = grid.origin.map((from, axis) => from + grid.steps.reduce((sum, step, n) => sum + step[axis] * ijk[n], 0));
  return /** @type {Triple} */ (place);
}

/** @param {Grid} grid @param {number[]} place @returns {Triple} voxel index, not rounded */
export function toIndex(grid, place) {
  const [a, b, c] = grid.steps;
  const off = place.map((value, axis) => value - grid.origin[axis]);
  const volume = dot(a, cross(b, c));
  return [dot(off, cross(b, c)) / volume, dot(off, cross(c, a)) / volume, dot(off, cross(a, b)) / volume];
}

/**
 * The voxel that a place lies in.
 * @param {Grid} grid @param {number[]} place
 * @returns {Triple | null} null outside of the image
 */
export function voxelAt(grid, place) {
  const ijk = toIndex(grid, place).map(Math.round);
  return ijk.every((value, axis) => value >= 0 && value < grid.shape[axis]) ? /** @type {Triple} */ (ijk) : null;
}

/** @param {Grid} grid @returns {number} mm^3 of a voxel */
export const voxelVolume = ({ steps: [a, b, c] }) => Math.abs(dot(a, cross(b, c)));

/**
 * Whether two grids have their voxels in the same places.
 * @param {Grid} a @param {Grid} b
 */
export function isSameGrid(a, b) {
  if (a.shape.some((count, axis) => count !== b.shape[axis])) return false;
  const far = a.shape.map((count) => count - 1);
  const corners = [[0, 0, 0], [far[0], 0, 0], [0, far[1], 0], [0, 0, far[2]]];
  return corners.every((ijk) => {
    const [p, q] = [toWorld(a, ijk), toWorld(b, ijk)];
    return Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]) <= MOST_OFF_MM;
  });
}
