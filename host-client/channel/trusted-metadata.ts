import { copyFile, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { digestHex, sha256 } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { parseMetadata, parseTrustAnchor } from '../../shared/tuf/metadata.ts';
import { isDelegatedRole, TOP_ROLES } from '../../shared/tuf/roles.ts';
import { FileLock } from '../system/file-lock.ts';
import { readIfThere, writeFileDurably } from '../system/files.ts';
import { readRecord, writeRecord } from '../system/records.ts';

const LOCK_MS = 120_000;
const WORK = 'work-';
/** Remembers which root of the policy trust began with. */
const ANCHOR = 'anchor.record';
const anchorSchema = v.object({
  /** Hash of the root that trust started from. */
  sha256: v.string(),
});

/**
 * The newest metadata that was accepted under one trust root, in a folder that belongs to no
 * deployment: what was seen once is seen by whatever boots next.
 */
export class TrustedMetadata {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /**
   * Lets `action` work on a copy of what is trusted, which begins with the root of the policy or
   * with a newer one that followed it. `keep` takes over what the copy holds. One at a time.
   */
  async refresh<T>(
    anchor: Uint8Array,
    action: (work: WorkingCopy) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const path = join(this.#dir, 'lock');
    const busy = () =>
      new SnapgateError('ALREADY_RUNNING', 'another snaphost reads channel metadata', {
        where: path,
        hint: 'Try again when it has ended.',
      });
    using _lock = await FileLock.acquire(path, { timeoutMs: LOCK_MS, signal, busy });
    await this.#removeLeftovers();
    await followAnchor(this.#dir, anchor);
    return this.#inCopy(this.#dir, async (work) =>
      action({ dir: work, keep: (names) => this.#keep(work, names) }),
    );
  }

  /** As {@link refresh}, with nothing kept and nothing begun. */
  async rehearse<T>(anchor: Uint8Array, action: (work: WorkingCopy) => Promise<T>): Promise<T> {
    return this.#inCopy(tmpdir(), async (work) => {
      const record = join(this.#dir, ANCHOR);
      await copyFile(record, join(work, ANCHOR)).catch(() => undefined);
      await followAnchor(work, anchor);
      return action({ dir: work, keep: async () => {} });
    });
  }

  /** Copies what is trusted into a new folder beneath `place`. */
  async #inCopy<T>(place: string, action: (work: string) => Promise<T>): Promise<T> {
    const work = await mkdtemp(join(place, WORK));
    try {
      for (const name of await metadataNames(this.#dir)) {
        await copyFile(this.#at(name), join(work, name));
      }
      return await action(work);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  async #keep(work: string, wanted?: readonly string[]): Promise<void> {
    // The root first: what follows is judged by it, after whatever interruption.
    const names = (await readdir(work)).filter(isMetadataFile).sort(rootFirst);
    for (const name of names) {
      if (wanted !== undefined && !wanted.includes(name)) continue;
      const text = await readFile(join(work, name), 'utf8');
      if (text !== (await readIfThere(this.#at(name)))) {
        await writeFileDurably(this.#at(name), text);
      }
    }
  }

  async #removeLeftovers(): Promise<void> {
    for (const name of await readdir(this.#dir)) {
      if (!name.startsWith(WORK) && !name.endsWith('.tmp')) continue;
      await rm(this.#at(name), { recursive: true, force: true });
    }
  }

  #at(name: string): string {
    return join(this.#dir, name);
  }
}

/** A copy of trusted metadata that a client may write to. */
export type WorkingCopy = {
  readonly dir: string;
  /** Takes over these files of the copy, or all. */
  keep(names?: readonly string[]): Promise<void>;
};

function isMetadataFile(name: string): boolean {
  const role = name.endsWith('.json') ? name.slice(0, -'.json'.length) : '';
  return (TOP_ROLES as readonly string[]).includes(role) || isDelegatedRole(role);
}

function rootFirst(a: string, b: string): number {
  return Number(b === 'root.json') - Number(a === 'root.json');
}

async function metadataNames(dir: string): Promise<string[]> {
  return (await readdir(dir).catch(() => [])).filter(isMetadataFile);
}

/**
 * A root of the policy that is newer than what is trusted takes its place. One that is another and
 * not newer means that the owner begins anew.
 */
async function followAnchor(dir: string, anchor: Uint8Array): Promise<void> {
  const { version } = parseTrustAnchor(anchor, 'the root of the policy').signed;
  const hash = digestHex(sha256(anchor));
  const record = join(dir, ANCHOR);
  const known = await readRecord(record, anchorSchema).catch(() => undefined);
  const current = await rootVersion(join(dir, 'root.json'));
  if (known?.sha256 === hash && current !== undefined && current >= version) return;
  if (current === undefined || current >= version) {
    for (const name of await metadataNames(dir)) await rm(join(dir, name), { force: true });
  }
  await writeFileDurably(join(dir, 'root.json'), anchor);
  await writeRecord(record, { sha256: hash });
}

async function rootVersion(path: string): Promise<number | undefined> {
  try {
    return parseMetadata('root', await readFile(path), path).signed.version;
  } catch {
    // None, or one that is damaged: trust begins at the policy's again.
    return undefined;
  }
}
