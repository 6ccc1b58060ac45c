import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import * as v from 'valibot';
import { SnapgateError } from '../../shared/errors.ts';
import { readIfThere, syncFolder, writeFileDurably } from '../system/files.ts';

const schema = v.object({ layers: v.array(v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/))) });

/**
 * Which layers were being put into Podman's storage: written before the first of them, emptied when
 * their image is safe. What it names after a crash is half-made, or used by no image.
 */
export class Journal {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** Ids of the layers. Throws STORAGE_INVALID. */
  async read(): Promise<string[]> {
    const text = await readIfThere(this.#path);
    if (text === undefined) return [];
    try {
      return v.parse(schema, JSON.parse(text)).layers;
    } catch (cause) {
      throw new SnapgateError('STORAGE_INVALID', 'the journal is damaged', {
        where: this.#path,
        hint: 'Remove this file; podman system check shows layers that no image uses.',
        cause,
      });
    }
  }

  async write(layers: readonly string[]): Promise<void> {
    if (layers.length > 0) {
      await writeFileDurably(this.#path, JSON.stringify({ layers }));
      return;
    }
    await rm(this.#path, { force: true });
    await syncFolder(dirname(this.#path));
  }
}
