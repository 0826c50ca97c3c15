/** What the browser keeps for this user: work that is not on the server yet, the name, the last task. */

/** @typedef {import('./objects.mjs').State} State */

// A database and not localStorage, which a browser that is killed has not written for some seconds.
const [DATABASE, WORK] = ['sam3d', 'work'];
const MOST = 100;

/** @type {Promise<IDBDatabase> | undefined} */
let opened;

/**
 * @template T @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
const done = (request) => new Promise((resolve, reject) => {
  request.addEventListener('success', () => resolve(request.result));
  request.addEventListener('error', () => reject(request.error));
});

/** @param {IDBTransactionMode} mode @returns {Promise<IDBObjectStore>} */
async function works(mode) {
  if (!opened) {
    const request = indexedDB.open(DATABASE, 1);
    request.addEventListener('upgradeneeded', () => request.result.createObjectStore(WORK, { keyPath: 'key' }).createIndex('time', 'time'));
    opened = done(request);
  }
  return (await opened).transaction(WORK, mode).objectStore(WORK);
}

/** @param {string} key of series and task @param {State} state @param {string} parent id of the label that it goes on from */
export async function keep(key, state, parent) {
  const store = await works('readwrite');
  await done(store.put({ key, state, parent, time: Date.now() }));
  const keys = await done(store.index('time').getAllKeys());
  for (const oldest of keys.slice(0, -MOST)) store.delete(oldest);
}

/** @param {string} key @returns {Promise<{time: number, state: State, parent?: string} | undefined>} */
export const find = async (key) => done((await works('readonly')).get(key));

/** @param {string} key */
export const forget = async (key) => done((await works('readwrite')).delete(key));

export const author = () => localStorage.getItem('sam3d.author') || '';
/** @param {string} name */
export const rememberAuthor = (name) => localStorage.setItem('sam3d.author', name);

/** @param {string} modality */
export const lastTask = (modality) => localStorage.getItem(`sam3d.task.${modality}`);
/** @param {string} modality @param {string} name */
export const rememberTask = (modality, name) => localStorage.setItem(`sam3d.task.${modality}`, name);

/**
 * Whether a section of the panel is open.
 * @param {string} name
 */
export const isOpen = (name) => localStorage.getItem(`sam3d.section.${name}`) !== 'closed';
/** @param {string} name @param {boolean} isNow */
export const rememberOpen = (name, isNow) => localStorage.setItem(`sam3d.section.${name}`, isNow ? 'open' : 'closed');

/** This page, as others tell it from theirs: kept by a reload, not shared with another tab. */
export function client() {
  let id = sessionStorage.getItem('sam3d.client');
  if (!id) {
    id = Array.from(crypto.getRandomValues(new Uint32Array(3)), (part) => part.toString(36)).join('');
    sessionStorage.setItem('sam3d.client', id);
  }
  return id;
}
