/** A mask that the server proposes: shown when it is asked for, and the user's own once it was accepted or changed. */

import * as files from './files.mjs';
import * as objects from './objects.mjs';
import * as server from './server.mjs';
import { isOfTask } from './submitting.mjs';

/** @typedef {import('./masks.mjs').Mask} Mask */
/** @typedef {import('./server.mjs').Task} Task */
/** @typedef {import('./session.mjs').Session} Session */
/** @typedef {import('./viewer.mjs').Series} Series */
/** @typedef {import('./work.mjs').Work} Work */
/**
 * @typedef {object} Proposal
 * @property {{structure: string, predicted_dice: any, at: number}} facts what the server says of it
 * @property {Mask | null} mask null before it was asked for
 */

const TAG = 'original';

export class Proposing {
  /** @param {Session} session */
  constructor(session) {
    this._session = session;
  }

  /** What is proposed and not on screen, for a case that nobody has labelled. @returns {Proposal | null} */
  get offer() {
    const { work, reviewing } = this._session;
    if (!work?.proposal || work.history.present.items.some((item) => item.proposal)) return null;
    return work.stored.size || reviewing.labels.length ? null : work.proposal;
  }

  get isShown() {
    return Boolean(this._session.state?.items.some((item) => !objects.isOwn(item)));
  }

  /** @param {Work} work @param {Series} series @param {Task} task whether there is one for it is asked */
  async find(work, series, task) {
    const info = await server.labelInfo(series.uid, TAG);
    // A mask that a batch saved is none, and of one that was rejected the outcome is known.
    if (!info?.proposal || info.proposal.outcome || !isOfTask(info, task)) work.proposal = null;
    else if (work.proposal?.facts.at !== info.proposal.at) work.proposal = { facts: info.proposal, mask: null };
  }

  /** Shows what is offered. */
  async show() {
    const { work, series, chosen: task } = this._session;
    const proposal = this.offer;
    if (!work || !series || !task || !proposal) return;
    try {
      if (!proposal.mask) {
        const map = await server.loadLabel(series.uid, TAG);
        files.requireGrid(map, series.grid);
        proposal.mask = files.masksOf(map).get(1) || null;
      }
      if (!proposal.mask || work !== this._session.work || this.offer !== proposal) return;
      this._session.answering.cancel();
      this._session.step(objects.withProposal(work.history.present, proposal.mask, task.label));
      this._session.editing.jumpTo(work.history.present.current);
      this._session.tell('info', 'This is a proposal; nobody has looked at it. Accept it (A), or correct it with clicks or the brush. Until then it is not submitted.');
    } catch (error) {
      this._session.fail(error);
    }
  }

  /** The proposal on screen is the user's object from now on. */
  accept() {
    const { state } = this._session;
    if (state && this.isShown) this._session.step(objects.withProposalAccepted(state));
  }

  /** Takes it off the screen; it is offered again. */
  hide() {
    const item = this._session.state?.items.find((one) => !objects.isOwn(one));
    if (item) this._session.editing.removeItem(item.id);
  }

  /** Takes it off the screen for good: the server offers it to nobody any more. */
  async reject() {
    const { work, series, saving } = this._session;
    if (!work || !series) return;
    work.proposal = null;
    this.hide();
    try {
      await server.rejectProposal(series.uid, saving.author);
      saving.onStored?.();
    } catch (error) {
      this._session.fail(error);
    }
  }

  /** Shows or hides it. */
  toggle() {
    if (this.isShown) this.hide();
    else void this.show();
  }
}
