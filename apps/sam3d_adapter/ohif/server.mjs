/** The server's addresses: the only module that sends requests. */

import { readLabelMap } from './files.mjs';

/** @typedef {import('./objects.mjs').Prompt} Prompt */
/** @typedef {import('./files.mjs').LabelMap} LabelMap */
/**
 * @typedef {object} Task a preset
 * @property {string} name empty where the server has no model
 * @property {string} label of what it segments
 * @property {string} description
 * @property {string | null} problem why it cannot answer
 * @property {string | null} modality of its images, as DICOM has it
 * @property {boolean} isTrainable
 * @property {boolean} learnsFromAccepted labels alone
 * @property {string} version
 */
/**
 * @typedef {object} Answer
 * @property {LabelMap} map of the box around the mask
 * @property {Record<string, any>} said
 * @property {string[]} warnings sentences
 * @property {string[]} codes of the warnings
 */

// .../ohif/sam3d/server.mjs
const ROOT = new URL('../../', import.meta.url);
const MODALITIES = /** @type {Record<string, string>} */ ({ CT: 'CT', MR: 'MR', MRI: 'MR', PET: 'PT', PT: 'PT' });

/**
 * Of a server for second readers, which has no model: labels can be opened, drawn on and reviewed.
 * @type {Task}
 */
const READING = {
  name: '', label: 'structure', description: 'This server is for reading labels: it segments nothing. Brush and eraser work.',
  problem: 'this server is for reading labels', modality: null, isTrainable: false, learnsFromAccepted: false, version: '',
};

/** What the server refused, or that it does not answer: `message` is a sentence for the user. */
export class ServerError extends Error {
  /** @param {string} message @param {number} status 0 where there was no answer */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** @param {string} path @param {RequestInit & {query?: Record<string, string>}} [options] */
async function send(path, options = {}) {
  const { query, ...rest } = options;
  const url = new URL(path, ROOT);
  for (const [key, value] of Object.entries(query || {})) url.searchParams.set(key, value);
  /** @type {Response} */
  let response;
  try {
    response = await fetch(url, rest);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ServerError('The server does not answer. Your work is kept here; try again in a moment.', 0);
  }
  if (!response.ok) throw new ServerError(await reasonOf(response), response.status);
  return response;
}

/** @param {Response} response */
async function reasonOf(response) {
  const text = await response.text();
  try {
    const { detail } = JSON.parse(text);
    if (typeof detail === 'string') return detail;
  } catch {
    // not JSON: no sentence of the server
  }
  return `The server answered with status ${response.status} and no reason. Try again; its log says more.`;
}

/** @param {string} path @param {RequestInit & {query?: Record<string, string>}} [options] */
const json = async (path, options) => (await send(path, options)).json();

/** @param {string} path @param {unknown} body */
const post = (path, body, method = 'POST') =>
  json(path, { method, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });

/** @param {Record<string, unknown>} params @param {Blob} [label] */
function form(params, label) {
  const data = new FormData();
  data.set('params', JSON.stringify(params));
  if (label) data.set('label', label, 'label.nrrd');
  return data;
}

/**
 * `code: Sentence.` without its code.
 * @param {string} warning
 */
export const sentenceOf = (warning) => warning.replace(/^[a-z][a-z-]*: /, '');
/** @param {string} warning */
export const codeOf = (warning) => (/^([a-z][a-z-]*): /.exec(warning) || ['', ''])[1];

/** @returns {Promise<{tasks: Task[], info: any}>} */
export async function listTasks() {
  const info = await json('info/');
  // Others read no prompts; they are there for viewers that know nothing else.
  const prompted = Object.entries(info.models || {}).filter(([, model]) => model.type === 'deepgrow');
  const tasks = prompted.map(([name, model]) => {
    const problem = / \[not available, (.*)\]$/.exec(model.description);
    return {
      name,
      label: Object.keys(model.labels)[0],
      description: model.description.replace(/ \[(not available|another version answers), .*\]$/, ''),
      problem: problem ? problem[1] : null,
      modality: MODALITIES[String(model.modality || '').toUpperCase()] || null,
      isTrainable: name in (info.trainers || {}),
      learnsFromAccepted: info.trainers?.[name]?.train_on === 'accepted',
      version: model.version,
    };
  });
  return { tasks: tasks.length ? tasks : [READING], info };
}

/**
 * Has the server fetch a series, so that the first click need not wait for it.
 * @param {string} series
 */
export const prepare = (series) => send('datastore/image', { method: 'HEAD', query: { image: series } });

/**
 * @param {string} task @param {string} series @param {Record<string, unknown>} params
 * @param {Blob | undefined} label @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 */
export async function infer(task, series, params, label, signal) {
  const body = form({ ...params, result_extension: '.nrrd', result_compress: true, result_crop: true }, label);
  const response = await send(`infer/${encodeURIComponent(task)}`, {
    method: 'POST', query: { image: series, output: 'all' }, body, signal,
  });
  const parts = await response.formData();
  const said = JSON.parse(String(parts.get('params')));
  const file = /** @type {File} */ (parts.get('image'));
  const warnings = /** @type {string[]} */ (said.warnings || []);
  return {
    map: await readLabelMap(await file.arrayBuffer()),
    said,
    warnings: warnings.map(sentenceOf),
    codes: warnings.map(codeOf),
  };
}

/** @param {string} series @param {'draft' | 'final'} tag @param {Record<string, unknown>} info @param {Blob} label */
export async function saveLabel(series, tag, info, label) {
  const answer = await json('datastore/label', { method: 'PUT', query: { image: series, tag }, body: form(info, label) });
  return /** @type {string[]} */ (answer.warnings || []).map(sentenceOf);
}

/** @param {string} series @param {string} tag @returns {Promise<any | null>} null where there is none */
export async function labelInfo(series, tag) {
  try {
    return await json('datastore/label/info', { query: { label: series, tag } });
  } catch (error) {
    if (error instanceof ServerError && error.status === 404) return null;
    throw error;
  }
}

/** @param {string} series @param {string} tag @returns {Promise<LabelMap>} */
export async function loadLabel(series, tag) {
  const response = await send('datastore/label', { query: { label: series, tag } });
  return readLabelMap(await response.arrayBuffer());
}

/**
 * DICOM SEG of the PACS that were drawn on a series, the newest first.
 * @param {string} series
 * @returns {Promise<{series: string, segments: string[], by: string, ts: number}[]>}
 */
export const listSegmentations = async (series) => (await json(`cases/${encodeURIComponent(series)}/segmentations`)).segmentations;

/** @param {string} series @param {string} segmentation its SeriesInstanceUID @returns {Promise<LabelMap>} */
export async function loadSegmentation(series, segmentation) {
  const response = await send(`cases/${encodeURIComponent(series)}/segmentations/${encodeURIComponent(segmentation)}`);
  return readLabelMap(await response.arrayBuffer());
}

/** @param {string} series @returns {Promise<any[]>} */
export const listLabels = async (series) => (await json('labels/', { query: { image: series } })).labels;

/** @param {{label: string, decision: string, by: string, comment: string}} said @returns {Promise<any>} */
export const review = (said) => post('reviews/', said);

/** @returns {Promise<any>} */
export const info = () => json('info/');

/**
 * @param {string} client that asks
 * @returns {Promise<any[]>}
 */
export const listCases = async (client) => (await json('cases/', { query: { client } })).cases;

/** @param {string} series @param {string} by @returns {Promise<any>} */
export const rejectProposal = (series, by) => post(`cases/${encodeURIComponent(series)}/proposal`, { rejected: true, by }, 'PUT');

/** @param {string} series @param {string} by @param {string} client @returns {Promise<any>} */
export const openCase = (series, by, client) => post(`cases/${encodeURIComponent(series)}/open`, { by, client }, 'PUT');

/** @param {string} study */
export const showStudy = (study) => location.assign(new URL(`ohif/monai-label?StudyInstanceUIDs=${encodeURIComponent(study)}`, ROOT));

/** @param {string} task */
export const reportAddress = (task) => new URL(`versions/${encodeURIComponent(task)}/page`, ROOT).href;

/** @param {string} strategy @param {string} client @returns {Promise<any>} */
export const nextSample = (strategy, client) =>
  post(`activelearning/${encodeURIComponent(strategy)}`, { client_id: client });

/** @param {string} task @param {Record<string, unknown>} settings @returns {Promise<any>} */
export const startTraining = (task, settings) => post(`train/${encodeURIComponent(task)}`, settings);

/** @returns {Promise<any>} */
export const stopTraining = () => json('train/', { method: 'DELETE' });

/** @returns {Promise<any | null>} null where there never was one */
export async function trainingStatus() {
  try {
    return await json('train/');
  } catch (error) {
    if (error instanceof ServerError && error.status === 404) return null;
    throw error;
  }
}

/** @param {string} task @returns {Promise<any>} */
export const listVersions = (task) => json(`versions/${encodeURIComponent(task)}`);

/** @param {string} task @param {string} by @param {string} reason @returns {Promise<any>} */
export const rollBack = (task, by, reason) => post(`versions/${encodeURIComponent(task)}/roll_back`, { by, reason });
